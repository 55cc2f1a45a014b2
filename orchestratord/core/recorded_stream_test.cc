// Streams whose buffer has let go what the journal has (OC-JOB-1018): examples, and any order of writes, commits and
// portions against the plain list of events.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/event_log.h"
#include "orchestratord/core/stream_registry.h"

namespace orch::gateway {
namespace {

using testing::all_of;
using testing::job_id;
using testing::shown;

constexpr ReaderId kLive{1};
constexpr ReaderId kLate{2};
using Events = std::vector<std::shared_ptr<const StreamEvent>>;

// Four of them take the room of `started`, without which there is no stream.
std::string text(std::uint64_t id) {
  const std::uint64_t room = event_bytes({1, StartedEvent{}});
  return std::string(room / 4 - 5, static_cast<char>('0' + id % 10));
}
TokenEvent token(std::uint64_t id) {
  const auto i = static_cast<std::uint32_t>(id - 2);
  return {i, {i}, text(id)};
}
std::string tokens(std::uint64_t from, std::uint64_t upto) {
  std::string out;
  for (std::uint64_t id = from; id <= upto; ++id)
    out += (out.empty() ? "" : ", ") + std::to_string(id) + " token " + text(id);
  return out;
}

// A stream that somebody reads from the start, with room for the last four tokens, two in a portion.
struct Recorded {
  static StreamLimits narrow() {
    StreamLimits limits;
    limits.buffer_bytes_max = event_bytes({1, StartedEvent{}});
    limits.replay_bytes = limits.buffer_bytes_max / 2;
    return limits;
  }
  explicit Recorded(std::uint64_t tokens) {
    registry.open(job_id(1));
    registry.record(job_id(1), 1);
    registry.publish(job_id(1), StartedEvent{}, out);
    registry.add_reader(kLive, job_id(1), std::nullopt, out);
    write(tokens);
    out.clear();
  }
  void write(std::uint64_t tokens) {
    for (std::uint64_t n = 0; n < tokens; ++n) registry.publish(job_id(1), token(++last), out);
    EXPECT_EQ(registry.check_invariants(), "");
  }
  // What `reader` is shown by that.
  std::string after(const std::function<void()>& act, ReaderId reader = kLate) {
    out.clear();
    act();
    EXPECT_EQ(registry.check_invariants(), "");
    return shown(out, reader);
  }
  std::string open(std::optional<std::uint64_t> behind = std::nullopt, ReaderId reader = kLate) {
    return after([&] { opened = registry.add_reader(reader, job_id(1), behind, out); }, reader);
  }
  std::string drained() {
    return after([&] { registry.drained(kLate, out); });
  }
  // The journal brings these.
  std::string read(std::uint64_t from, std::uint64_t upto) {
    Events events;
    for (std::uint64_t id = from; id <= upto; ++id)
      events.push_back(std::make_shared<StreamEvent>(StreamEvent{id, token(id)}));
    return after([&] { registry.read(kLate, events, out); });
  }
  std::string wanted() const {
    std::string all;
    for (const ReadJournal& each : all_of<ReadJournal>(out))
      all += std::to_string(each.from) + "-" + std::to_string(each.upto) + " ";
    return all;
  }
  StreamRegistry registry{narrow(), Mutation::none};
  Effects out;
  StreamRegistry::Opened opened = StreamRegistry::Opened::live;
  std::uint64_t last = 1;
};

TEST(RecordedStream, OC_JOB_1018_a_late_reader_goes_from_the_journal_over_to_the_buffer) {
  Recorded stream(10);
  ASSERT_EQ(stream.registry.first_kept(job_id(1)), 8u);
  stream.registry.stored(job_id(1), 9, stream.out);
  EXPECT_EQ(stream.open(), "opened, 1 started");
  EXPECT_EQ(stream.opened, StreamRegistry::Opened::live);
  EXPECT_EQ(stream.wanted(), "2-7 ");
  EXPECT_EQ(stream.read(2, 4), tokens(2, 4));
  EXPECT_EQ(all_of<AwaitReader>(stream.out).size(), 1u) << "the next one when it has taken this";
  EXPECT_EQ(stream.drained(), "");
  EXPECT_EQ(stream.wanted(), "5-7 ");
  EXPECT_EQ(stream.read(5, 7), tokens(5, 7));
  EXPECT_EQ(stream.drained(), tokens(8, 9));
  EXPECT_EQ(stream.wanted(), "");
  EXPECT_EQ(stream.drained(), tokens(10, 11));
  EXPECT_EQ(stream.after([&] { stream.write(1); }), tokens(12, 12)) << "it has caught up";
}

TEST(RecordedStream, OC_JOB_1018_a_buffer_that_was_faster_sends_it_back_to_the_journal) {
  Recorded stream(10);
  stream.registry.stored(job_id(1), 11, stream.out);
  stream.open(6);
  EXPECT_EQ(stream.wanted(), "7-7 ");
  EXPECT_EQ(stream.read(7, 7), tokens(7, 7));
  EXPECT_EQ(stream.after([&] { stream.write(2); }), "") << "what goes is in the journal";
  stream.registry.stored(job_id(1), 12, stream.out);
  EXPECT_EQ(stream.drained(), "");
  EXPECT_EQ(stream.wanted(), "8-9 ");
}

TEST(RecordedStream, OC_JOB_1018_what_is_not_stored_yet_is_waited_for) {
  Recorded stream(10);
  stream.registry.stored(job_id(1), 3, stream.out);
  stream.open(3);
  EXPECT_EQ(stream.opened, StreamRegistry::Opened::live);
  EXPECT_EQ(stream.wanted(), "");
  stream.after([&] { stream.registry.stored(job_id(1), 5, stream.out); });
  EXPECT_EQ(stream.wanted(), "4-5 ");
  stream.read(4, 5);
  stream.drained();
  EXPECT_EQ(stream.wanted(), "");
  stream.after([&] { stream.registry.stored(job_id(1), 11, stream.out); });
  EXPECT_EQ(stream.wanted(), "6-7 ");
}

TEST(RecordedStream, OC_JOB_1018_who_waits_for_what_is_given_up_is_cut_off_and_others_are_refused) {
  Recorded stream(10);
  stream.registry.stored(job_id(1), 3, stream.out);
  stream.open(3);
  EXPECT_EQ(stream.after([&] { stream.registry.record_no_more(job_id(1), stream.out); }), "cut");
  EXPECT_EQ(stream.after([&] { stream.write(5); }), "") << "nothing more";
  stream.registry.remove_reader(kLate);
  EXPECT_EQ(stream.open(3), "");
  EXPECT_EQ(stream.opened, StreamRegistry::Opened::gone);
  EXPECT_EQ(stream.open(stream.last), "opened") << "at the end of the buffer";
}

TEST(RecordedStream, OC_JOB_1018_what_cannot_be_read_cuts_the_reader_off) {
  Recorded stream(10);
  stream.registry.stored(job_id(1), 9, stream.out);
  stream.open();
  EXPECT_EQ(stream.read(2, 1), "cut");
  EXPECT_EQ(stream.drained(), "");
  stream.registry.remove_reader(kLate);
  stream.open();
  EXPECT_EQ(stream.read(3, 4), "cut") << "not what it asked for";
}

TEST(RecordedStream, OC_JOB_1018_an_answer_that_has_ended_is_read_from_its_start) {
  Recorded stream(10);
  stream.registry.stored(job_id(1), 11, stream.out);
  stream.registry.publish(job_id(1), EndEvent{}, stream.out);
  EXPECT_EQ(stream.open(), "opened, 1 started");
  EXPECT_EQ(stream.opened, StreamRegistry::Opened::replaying);
  stream.read(2, 7);
  stream.drained();
  stream.drained();
  EXPECT_EQ(stream.after([&] { EXPECT_EQ(stream.registry.drained(kLate, stream.out), job_id(1)); }), "12 end, closed");
}

TEST(RecordedStream, OC_JOB_1018_without_a_record_it_is_refused) {
  StreamRegistry registry{Recorded::narrow(), Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  registry.add_reader(kLive, job_id(1), std::nullopt, out);
  for (std::uint64_t id = 2; id < 12; ++id) registry.publish(job_id(1), token(id), out);
  EXPECT_EQ(registry.add_reader(kLate, job_id(1), std::nullopt, out), StreamRegistry::Opened::gone);
}

// --- against the plain list ---

struct ModelReader {
  std::uint64_t seen = 0;
  enum class Waits : std::uint8_t { no, drain, journal } waits = Waits::no;
  ReadJournal wanted;
  bool open = true;
};

TEST(RecordedStream, OC_JOB_1018_agrees_with_a_plain_list_of_events) {
  const bool holds = rc::check([] {
    const auto script =
        *rc::gen::container<std::vector<std::uint32_t>>(300, rc::gen::inRange<std::uint32_t>(0, 1u << 30));
    StreamLimits limits;
    limits.buffer_bytes_max = 400;
    limits.replay_bytes = 60;
    limits.readers_per_job_max = 4;
    StreamRegistry registry{limits, Mutation::none};
    registry.open(job_id(1));
    registry.record(job_id(1), 1);
    Events events;  // by id, from 1
    std::uint64_t stored = 1;
    bool closed = false;
    std::map<ReaderId, ModelReader> readers;
    std::uint64_t next_reader = 1;
    const auto take = [&](const Effects& out) {
      for (const Effect& effect : out) {
        if (const auto* deliver = std::get_if<Deliver>(&effect)) {
          ModelReader& reader = readers.at(deliver->reader);
          RC_ASSERT(reader.open);
          RC_ASSERT(deliver->event->id == reader.seen + 1);
          reader.seen = deliver->event->id;
          const auto* told = std::get_if<TokenEvent>(&deliver->event->body);
          if (told != nullptr) RC_ASSERT(told->text == std::get<TokenEvent>(events.at(reader.seen - 1)->body).text);
        } else if (const auto* await = std::get_if<AwaitReader>(&effect)) {
          readers.at(await->reader).waits = ModelReader::Waits::drain;
        } else if (const auto* wanted = std::get_if<ReadJournal>(&effect)) {
          ModelReader& reader = readers.at(wanted->reader);
          RC_ASSERT(reader.waits != ModelReader::Waits::journal);
          RC_ASSERT(wanted->from == reader.seen + 1);
          RC_ASSERT(wanted->upto >= wanted->from);
          RC_ASSERT(wanted->upto <= stored);
          reader.waits = ModelReader::Waits::journal;
          reader.wanted = *wanted;
        } else if (const auto* end = std::get_if<StreamClosed>(&effect)) {
          RC_ASSERT(readers.at(end->reader).seen == events.size());
          readers.at(end->reader).open = false;
        } else {
          RC_ASSERT(!std::holds_alternative<CutReader>(effect));
        }
      }
    };
    const auto publish = [&](const decltype(StreamEvent::body)& body) {
      events.push_back(std::make_shared<StreamEvent>(StreamEvent{events.size() + 1, body}));
      Effects out;
      RC_ASSERT(registry.publish(job_id(1), body, out) == StreamRegistry::Published::delivered);
      take(out);
    };
    const auto add_reader = [&](std::optional<std::uint64_t> behind) {
      const ReaderId id{next_reader++};
      readers[id].seen = behind.value_or(0);
      Effects out;
      const auto opened = registry.add_reader(id, job_id(1), behind, out);
      const bool taken = opened == StreamRegistry::Opened::live || opened == StreamRegistry::Opened::replaying ||
                         opened == StreamRegistry::Opened::replayed_whole;
      RC_ASSERT(taken || opened == StreamRegistry::Opened::too_many_readers);
      if (!taken) readers.erase(id);
      take(out);
    };
    publish(StartedEvent{});
    add_reader(std::nullopt);  // it stays, and the oldest events go
    const auto turn = [&](ModelReader& reader, ReaderId id, std::uint64_t most) {
      Effects out;
      if (reader.waits == ModelReader::Waits::drain) {
        reader.waits = ModelReader::Waits::no;
        registry.drained(id, out);
      } else if (reader.waits == ModelReader::Waits::journal) {
        reader.waits = ModelReader::Waits::no;
        const std::uint64_t upto = std::min(reader.wanted.upto, reader.wanted.from + most);
        registry.read(id,
                      {events.begin() + static_cast<std::ptrdiff_t>(reader.wanted.from - 1),
                       events.begin() + static_cast<std::ptrdiff_t>(upto)},
                      out);
      }
      take(out);
    };
    for (const std::uint32_t roll : script) {
      const std::uint32_t detail = roll / 16;
      switch (roll % 16) {
        case 0:
          add_reader(detail % 2 == 0 ? std::nullopt : std::optional<std::uint64_t>(detail / 2 % events.size()));
          break;
        case 1:
        case 2: {
          Effects out;
          stored = std::min<std::uint64_t>(stored + detail % 40, closed ? events.size() - 1 : events.size());
          registry.stored(job_id(1), stored, out);
          take(out);
          break;
        }
        case 3:
        case 4:
        case 5:
        case 6:
          for (auto& [id, reader] : readers) {
            if (reader.open && (detail + id.value) % 2 == 0) turn(reader, id, detail / 2 % 8);
          }
          break;
        case 7:
          if (closed || detail % 16 != 0) break;
          stored = events.size();  // its end is told when all of it is stored
          {
            Effects out;
            registry.stored(job_id(1), stored, out);
            take(out);
          }
          publish(EndEvent{});
          closed = true;
          break;
        default:
          if (!closed) publish(TokenEvent{0, {1}, std::string(1 + detail % 40, static_cast<char>('a' + detail % 26))});
      }
      RC_ASSERT(registry.check_invariants().empty());
    }
    Effects out;
    registry.stored(job_id(1), closed ? events.size() - 1 : events.size(), out);
    stored = std::max<std::uint64_t>(stored, closed ? events.size() - 1 : events.size());
    take(out);
    for (int rounds = 0; rounds < 2000; ++rounds) {
      for (auto& [id, reader] : readers) {
        if (reader.open) turn(reader, id, 5);
      }
    }
    for (const auto& [id, reader] : readers) RC_ASSERT(reader.seen == events.size());
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace orch::gateway
