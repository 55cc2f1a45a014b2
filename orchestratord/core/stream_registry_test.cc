// The stream registry against a naive model: the whole list of events, and what each reader must have seen of it.
#include "orchestratord/core/stream_registry.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <vector>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using testing::job_id;
using testing::shown;

constexpr ReaderId kReader{1};

StreamLimits roomy() { return {}; }
TokenEvent token(std::uint32_t i, std::string text = "x") { return {i, {i}, std::move(text)}; }
ErrorEvent canceled() {
  Failure failure;
  failure.outcome = Outcome::CANCELED;
  return {failure};
}

TEST(StreamRegistry, ORCH2002_a_late_reader_gets_everything_in_order) {
  StreamRegistry registry{roomy(), Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  registry.publish(job_id(1), token(0, "a"), out);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(registry.add_reader(kReader, job_id(1), std::nullopt, out), StreamRegistry::Opened::live);
  registry.publish(job_id(1), EndEvent{}, out);
  EXPECT_EQ(shown(out, kReader), "opened, 1 started, 2 token a, 3 end, closed");
}

TEST(StreamRegistry, J2_last_event_id_resumes_behind_it) {
  StreamRegistry registry{roomy(), Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  for (std::uint32_t i = 0; i < 3; ++i) registry.publish(job_id(1), token(i, std::to_string(i)), out);
  EXPECT_EQ(registry.add_reader(kReader, job_id(1), 3, out), StreamRegistry::Opened::live);
  EXPECT_EQ(shown(out, kReader), "opened, 4 token 2");
  EXPECT_EQ(registry.add_reader(ReaderId{2}, job_id(1), 4, out), StreamRegistry::Opened::live);
  EXPECT_EQ(registry.add_reader(ReaderId{3}, job_id(1), 5, out), StreamRegistry::Opened::beyond);
}

TEST(StreamRegistry, ORCH3026_nothing_follows_the_terminal) {
  StreamRegistry registry{roomy(), Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  EXPECT_EQ(registry.publish(job_id(1), canceled(), out), StreamRegistry::Published::delivered);
  EXPECT_EQ(registry.publish(job_id(1), token(0), out), StreamRegistry::Published::closed);
  EXPECT_EQ(registry.publish(job_id(1), EndEvent{}, out), StreamRegistry::Published::closed);
  EXPECT_EQ(registry.add_reader(kReader, job_id(1), std::nullopt, out), StreamRegistry::Opened::replayed_whole);
  EXPECT_EQ(shown(out, kReader), "opened, 1 started, 2 CANCELED, closed");
}

TEST(StreamRegistry, unread_buffer_is_bounded_and_the_terminal_always_fits) {
  StreamLimits limits;
  limits.buffer_bytes_max = 2000;
  StreamRegistry registry{limits, Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  std::uint32_t stored = 0;
  while (registry.publish(job_id(1), token(stored), out) == StreamRegistry::Published::delivered) ++stored;
  EXPECT_GT(stored, 0u);
  EXPECT_LE(registry.bytes(job_id(1)), 2000u);
  EXPECT_EQ(registry.publish(job_id(1), canceled(), out), StreamRegistry::Published::delivered);
  EXPECT_EQ(registry.check_invariants(), "");
}

TEST(StreamRegistry, with_a_reader_the_oldest_events_go_and_a_resume_behind_them_is_refused) {
  StreamLimits limits;
  limits.buffer_bytes_max = 500;
  StreamRegistry registry{limits, Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.add_reader(kReader, job_id(1), std::nullopt, out);
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(registry.publish(job_id(1), token(i), out), StreamRegistry::Published::delivered);
  }
  EXPECT_LE(registry.bytes(job_id(1)), 500u);
  EXPECT_EQ(registry.add_reader(ReaderId{2}, job_id(1), std::nullopt, out), StreamRegistry::Opened::gone);
  EXPECT_EQ(registry.add_reader(ReaderId{2}, job_id(1), 99, out), StreamRegistry::Opened::live);
}

TEST(StreamRegistry, readers_of_one_job_are_bounded) {
  StreamRegistry registry{roomy(), Mutation::none};
  registry.open(job_id(1));
  Effects out;
  for (std::uint64_t r = 1; r <= roomy().readers_per_job_max; ++r) {
    EXPECT_EQ(registry.add_reader(ReaderId{r}, job_id(1), std::nullopt, out), StreamRegistry::Opened::live);
  }
  EXPECT_EQ(registry.add_reader(ReaderId{99}, job_id(1), std::nullopt, out), StreamRegistry::Opened::too_many_readers);
}

TEST(StreamRegistry, OC_JOB_1017_an_event_is_charged_what_it_takes) {
  StreamRegistry registry{roomy(), Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  const std::uint64_t started = registry.bytes(job_id(1));
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    ASSERT_EQ(registry.publish(job_id(1), TokenEvent{i, {30'000 + i % 20'000}, " five"}, out),
              StreamRegistry::Published::delivered);
  }
  EXPECT_LE(registry.bytes(job_id(1)) - started, 1'600'000u) << "16 bytes each";
  EXPECT_EQ(registry.check_invariants(), "");
}

TEST(StreamRegistry, OC_JOB_1017_a_late_reader_is_given_portions) {
  StreamLimits limits;
  limits.replay_bytes = 12;  // two tokens
  StreamRegistry registry{limits, Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  for (std::uint32_t i = 0; i < 4; ++i) registry.publish(job_id(1), token(i, std::to_string(i)), out);
  EXPECT_EQ(registry.add_reader(kReader, job_id(1), std::nullopt, out), StreamRegistry::Opened::live);
  EXPECT_EQ(shown(out, kReader), "opened, 1 started") << "an event alone may be larger than a portion";
  EXPECT_EQ(testing::all_of<AwaitReader>(out).size(), 1u);
  out.clear();
  registry.publish(job_id(1), token(4, "4"), out);
  EXPECT_TRUE(out.empty()) << "what is new stands behind what is missing";
  registry.drained(kReader, out);
  EXPECT_EQ(shown(out, kReader), "2 token 0, 3 token 1");
  registry.publish(job_id(1), EndEvent{}, out);
  registry.drained(kReader, out);
  EXPECT_EQ(shown(out, kReader), "2 token 0, 3 token 1, 4 token 2, 5 token 3");
  registry.drained(kReader, out);
  registry.drained(kReader, out);
  EXPECT_EQ(shown(out, kReader), "2 token 0, 3 token 1, 4 token 2, 5 token 3, 6 token 4, 7 end, closed");
  out.clear();
  registry.drained(kReader, out);
  EXPECT_TRUE(out.empty());
}

TEST(StreamRegistry, OC_JOB_1017_nobody_waits_for_a_reader_that_is_behind) {
  StreamLimits limits;
  limits.buffer_bytes_max = 400;
  limits.replay_bytes = 1;
  StreamRegistry registry{limits, Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  registry.publish(job_id(1), token(0, "a"), out);
  registry.add_reader(kReader, job_id(1), std::nullopt, out);
  std::uint32_t i = 1;
  while (shown(out, kReader) == "opened, 1 started" && i < 100) {
    ASSERT_EQ(registry.publish(job_id(1), token(i++, "b"), out), StreamRegistry::Published::delivered);
    ASSERT_EQ(registry.check_invariants(), "");
  }
  EXPECT_LT(i, 100u) << "what goes is given to it";
  EXPECT_EQ(shown(out, kReader), "opened, 1 started, 2 token a") << "and no more";
  EXPECT_EQ(testing::all_of<AwaitReader>(out).size(), 1u) << "the first portion is still awaited";
  out.clear();
  registry.drained(kReader, out);
  EXPECT_EQ(shown(out, kReader), "3 token b");
  out.clear();
  registry.add_reader(ReaderId{2}, job_id(1), i, out);
  registry.forget(job_id(1), out);
  EXPECT_EQ(shown(out, kReader), "cut") << "it would be more than its connection may hold";
  EXPECT_EQ(shown(out, ReaderId{2}), "opened, " + std::to_string(i + 1) + " token b, closed");
}

// A reader that takes a portion for each event that is written is never given more than it can hold.
TEST(StreamRegistry, OC_JOB_1017_a_late_reader_of_a_full_buffer_is_given_portions_too) {
  StreamLimits limits;
  limits.buffer_bytes_max = 64u << 10;
  limits.replay_bytes = 1u << 10;
  StreamRegistry registry{limits, Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  registry.add_reader(ReaderId{2}, job_id(1), std::nullopt, out);
  std::uint32_t i = 0;
  while (registry.first_kept(job_id(1)) < 1'000) registry.publish(job_id(1), token(i++), out);
  const std::uint64_t first = registry.first_kept(job_id(1));
  out.clear();
  EXPECT_EQ(registry.add_reader(kReader, job_id(1), first - 1, out), StreamRegistry::Opened::live);
  std::uint64_t seen = first - 1;
  std::size_t most = 0;
  const auto take = [&] {
    std::size_t given = 0;
    for (const Deliver& each : testing::all_of<Deliver>(out)) {
      if (each.reader != kReader) continue;
      ASSERT_EQ(each.event->id, seen + 1);
      ++seen;
      ++given;
    }
    most = std::max(most, given);
    out.clear();
  };
  take();
  while (seen < registry.last_id(job_id(1)) && i < 100'000) {
    ASSERT_EQ(registry.publish(job_id(1), token(i++), out), StreamRegistry::Published::delivered);
    take();
    registry.drained(kReader, out);
    take();
  }
  EXPECT_EQ(seen, registry.last_id(job_id(1))) << "it has caught up";
  EXPECT_LE(most, limits.replay_bytes / 5) << "a portion of tokens of five bytes or more";
}

TEST(StreamRegistry, OC_JOB_J7_a_replay_says_when_it_has_given_the_end) {
  StreamLimits limits;
  limits.replay_bytes = 1;
  StreamRegistry registry{limits, Mutation::none};
  registry.open(job_id(1));
  Effects out;
  registry.publish(job_id(1), StartedEvent{}, out);
  EXPECT_FALSE(registry.heard(job_id(1)));
  registry.add_reader(kReader, job_id(1), std::nullopt, out);
  EXPECT_TRUE(registry.heard(job_id(1)));
  registry.publish(job_id(1), token(0), out);
  registry.add_reader(ReaderId{2}, job_id(1), std::nullopt, out);
  registry.remove_reader(kReader);
  EXPECT_FALSE(registry.heard(job_id(1))) << "the other is behind";
  registry.publish(job_id(1), EndEvent{}, out);
  EXPECT_EQ(registry.add_reader(ReaderId{3}, job_id(1), 1, out), StreamRegistry::Opened::replaying);
  EXPECT_EQ(registry.add_reader(ReaderId{4}, job_id(1), 2, out), StreamRegistry::Opened::replayed_whole);
  EXPECT_EQ(registry.drained(ReaderId{3}, out), job_id(1));
  EXPECT_FALSE(registry.drained(ReaderId{2}, out));
  EXPECT_EQ(registry.drained(ReaderId{2}, out), job_id(1));
  EXPECT_FALSE(registry.drained(ReaderId{2}, out));
}

// --- against the model ---

struct ModelReader {
  std::uint64_t seen = 0;  // highest id
  bool open = true;
  bool behind = false;
};

TEST(StreamRegistry, J2_agrees_with_a_plain_list_of_events) {
  const bool holds = rc::check([] {
    const auto script =
        *rc::gen::container<std::vector<std::uint32_t>>(150, rc::gen::inRange<std::uint32_t>(0, 1u << 30));
    StreamLimits limits;
    limits.buffer_bytes_max = 1500;
    limits.replay_bytes = 100;
    limits.readers_per_job_max = 3;
    StreamRegistry registry{limits, Mutation::none};
    registry.open(job_id(1));
    std::uint64_t last = 0;
    bool closed = false;
    std::map<ReaderId, ModelReader> readers;
    std::uint64_t next_reader = 1;
    const auto open_readers = [&] {
      return std::count_if(readers.begin(), readers.end(), [](const auto& r) { return r.second.open; });
    };
    for (const std::uint32_t roll : script) {
      Effects out;
      switch (roll % 16) {
        case 0:
        case 1: {
          const std::optional<std::uint64_t> from =
              roll / 16 % 2 == 0 ? std::nullopt : std::optional<std::uint64_t>(roll / 32 % (last + 2));
          const ReaderId id{next_reader++};
          const std::uint64_t first = registry.first_kept(job_id(1));
          const auto opened = registry.add_reader(id, job_id(1), from, out);
          if (from.value_or(0) > last) {
            RC_ASSERT(opened == StreamRegistry::Opened::beyond);
          } else if (from.value_or(0) + 1 < first) {
            RC_ASSERT(opened == StreamRegistry::Opened::gone);
          } else if (closed) {
            const bool awaited = !testing::all_of<AwaitReader>(out).empty();
            RC_ASSERT(opened == (awaited ? StreamRegistry::Opened::replaying : StreamRegistry::Opened::replayed_whole));
            readers[id] = {from.value_or(0), true};
          } else if (open_readers() >= 3) {
            RC_ASSERT(opened == StreamRegistry::Opened::too_many_readers);
          } else {
            RC_ASSERT(opened == StreamRegistry::Opened::live);
            readers[id] = {from.value_or(0), true};
          }
          break;
        }
        case 2:
          if (!readers.empty()) {
            auto it = readers.begin();
            std::advance(it, roll / 16 % readers.size());
            RC_ASSERT(registry.remove_reader(it->first).has_value() == it->second.open);
            it->second.open = false;
          }
          break;
        case 4:
        case 5:
        case 6:
          for (const auto& [id, reader] : readers) {
            if (reader.open && reader.behind && (roll / 16 + id.value) % 2 == 0) registry.drained(id, out);
          }
          for (auto& [id, reader] : readers) {
            if ((roll / 16 + id.value) % 2 == 0) reader.behind = false;
          }
          break;
        case 3: {
          const auto result = registry.publish(job_id(1), EndEvent{}, out);
          RC_ASSERT((result == StreamRegistry::Published::closed) == closed);
          if (!closed) ++last;
          closed = true;
          break;
        }
        default: {
          const auto result = registry.publish(job_id(1), token(0, std::string(roll / 16 % 64, 'x')), out);
          RC_ASSERT((result == StreamRegistry::Published::closed) == closed);
          if (result == StreamRegistry::Published::buffer_full) RC_ASSERT(open_readers() == 0);
          if (result == StreamRegistry::Published::delivered) ++last;
        }
      }
      for (const Effect& effect : out) {
        if (const auto* deliver = std::get_if<Deliver>(&effect)) {
          ModelReader& reader = readers.at(deliver->reader);
          RC_ASSERT(reader.open);
          RC_ASSERT(deliver->event->id == reader.seen + 1);
          RC_ASSERT(!reader.behind || deliver->event->id < registry.first_kept(job_id(1)));  // what goes, no more
          reader.seen = deliver->event->id;
        } else if (const auto* await = std::get_if<AwaitReader>(&effect)) {
          readers.at(await->reader).behind = true;
        } else if (const auto* end = std::get_if<StreamClosed>(&effect)) {
          RC_ASSERT(readers.at(end->reader).seen == last);
          readers.at(end->reader).open = false;
        }
      }
      for (const auto& [id, reader] : readers) {
        if (reader.open && !reader.behind) RC_ASSERT(reader.seen == last);  // up to date after every step
      }
      RC_ASSERT(registry.check_invariants().empty());
      RC_ASSERT(registry.last_id(job_id(1)) == last);
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace orch::gateway
