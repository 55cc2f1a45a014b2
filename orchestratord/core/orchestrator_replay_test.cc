// What late readers of a journaled task are given of it when its buffer has let the beginning go (OC-JOB-1018).
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

constexpr ReaderId kEager{1};
constexpr ReaderId kLate{2};

std::string text(std::uint64_t id) { return std::string(90, static_cast<char>('0' + id % 10)); }

// Room for `started`, or for four tokens; portions of two.
Config narrow() {
  Config config = journaled();
  config.streams.buffer_bytes_max = 400;
  config.streams.replay_bytes = 200;
  config.limits.unsaved_bytes_max = 20'000;
  return config;
}

class ReplayBench : public JournalBench {
 public:
  ReplayBench() : JournalBench(narrow()) { ready(); }
  // A task that somebody reads from the start.
  void begin(bool store = true) {
    JobSpec spec = spec_of(1);
    spec.store = store;
    spec.max_tokens = 500;
    submit(spec);
    commit();
    commit();
    open(kEager.value, 1);
  }
  void tokens(std::uint32_t count) {
    for (; count > 0; --count, ++told) token(dispatches.back(), told, text(told + 2));
  }
  void stored() {
    advance(ms(300));
    commit();
  }
  // All that `reader` is shown from `effects` on, while it and the journal answer whatever is asked of them.
  std::string reads_on(Effects effects, ReaderId reader = kLate) {
    Effects all = effects;
    for (int turns = 0; turns < 1000 && !effects.empty(); ++turns) {
      Effects next;
      for (const ReadJournal& wanted : all_of<ReadJournal>(effects)) next = next + step(disk.read(wanted));
      for (const AwaitReader& await : all_of<AwaitReader>(effects)) next = next + step(ReaderDrained{await.reader});
      all = all + next;
      effects = std::move(next);
    }
    return shown(all, reader);
  }
  std::uint32_t told = 0;
};

std::string numbers(std::uint64_t from, std::uint64_t upto) {
  std::string out;
  for (std::uint64_t id = from; id <= upto; ++id)
    out += (id == 1 ? "1 started" : std::to_string(id) + " token " + text(id)) + ", ";
  return out.substr(0, out.size() - 2);
}

TEST(Replay, OC_JOB_1018_a_late_reader_of_a_running_task_is_given_all_of_it) {
  ReplayBench bench;
  bench.begin();
  bench.tokens(40);
  bench.stored();
  bench.tokens(2);
  EXPECT_EQ(bench.reads_on(bench.open(kLate.value, 1)), "opened, " + numbers(1, 43));
  EXPECT_EQ(bench.reads_on(bench.open(3, 1, 20), ReaderId{3}), "opened, " + numbers(21, 43));
  Effects live = bench.token(bench.dispatches.back(), bench.told, "x");
  EXPECT_EQ(shown(live, kLate), "44 token x") << "from then on it hears what the others hear";
}

TEST(Replay, OC_JOB_1018_and_of_one_that_has_ended) {
  ReplayBench bench;
  bench.begin();
  bench.tokens(40);
  bench.finished(bench.dispatches.back(), 40);
  bench.commit();
  EXPECT_EQ(bench.reads_on(bench.open(kLate.value, 1)), "opened, " + numbers(1, 41) + ", 42 end, closed");
}

TEST(Replay, OC_JOB_1018_it_waits_for_a_write_that_is_under_way) {
  ReplayBench bench;
  bench.begin();
  bench.tokens(40);
  EXPECT_EQ(bench.reads_on(bench.open(kLate.value, 1)), "opened, 1 started");
  bench.advance(ms(300));
  EXPECT_EQ(bench.reads_on(bench.commit()), numbers(2, 41));
}

TEST(Replay, OC_JOB_1018_a_reader_is_cut_off_when_the_journal_gives_up_and_later_ones_are_refused) {
  ReplayBench bench;
  bench.begin();
  bench.tokens(20);
  EXPECT_EQ(bench.reads_on(bench.open(kLate.value, 1)), "opened, 1 started");
  bench.step(ReaderGone{kEager});
  Effects effects;
  while (all_of<CutReader>(effects).empty() && bench.told < 400) {
    effects = bench.token(bench.dispatches.back(), bench.told, text(0));
    ++bench.told;
  }
  EXPECT_EQ(shown(effects, kLate), "cut");
  bench.step(ReaderGone{kLate, true});
  EXPECT_TRUE(bench.ends.empty()) << "it may come back";
  EXPECT_EQ(shown(bench.open(3, 1), ReaderId{3}), "refused SLOW_CONSUMER");
  bench.advance(Config{}.streams.reconnect_grace);
  bench.commit();
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].cancel_reason, "disconnect") << "its last reader has left";
}

TEST(Replay, OC_JOB_1018_what_is_not_to_be_stored_is_refused) {
  ReplayBench bench;
  bench.begin(false);
  bench.tokens(40);
  bench.stored();
  EXPECT_EQ(shown(bench.open(kLate.value, 1), kLate), "refused SLOW_CONSUMER");
}

TEST(Replay, OC_JOB_1018_a_later_life_gives_what_the_earlier_one_stored) {
  ReplayBench first;
  first.begin();
  first.tokens(40);
  first.stored();
  JournalBench second(first, ms(100), narrow());
  second.ready();
  Effects effects = second.open(kLate.value, 1);
  Effects all = effects;
  for (int turns = 0; turns < 100 && !effects.empty(); ++turns) {
    Effects next;
    for (const ReadJournal& wanted : all_of<ReadJournal>(effects)) next = next + second.step(second.disk.read(wanted));
    for (const AwaitReader& await : all_of<AwaitReader>(effects))
      next = next + second.step(ReaderDrained{await.reader});
    all = all + next;
    effects = std::move(next);
  }
  EXPECT_EQ(shown(all, kLate), "opened, " + numbers(1, 41));
}

}  // namespace
}  // namespace orch::gateway
