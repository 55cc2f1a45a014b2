// M1 across lives of the gateway: a recovered job is sent on when its last attempt is over.
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

const ManagerId kOther{{0xB0, 2}};
constexpr LinkId kOtherLink{7};

// Two replicas of one manager, and another manager with one when it is asked for.
struct Life : JournalBench {
  explicit Life(const Config& config = journaled()) : JournalBench(config) {
    attach();
    commit();
  }
  explicit Life(const Life& before, const Config& config = journaled()) : JournalBench(before, ms(100), config) {}
  void attach() {
    manager_up({ready_replica("r1"), ready_replica("r2")});
    renew();
  }
  void renew() {
    grant(2, {1, 1}, "r1");
    grant(2, {1, 2}, "r2");
  }
  void other_attaches() { step(ManagerUp{kOtherLink, kOther, 1, {ready_replica("o1")}}); }
  void other_grants(Duration ttl) {
    LeaseGranted event;
    event.link = kOtherLink;
    event.lease = {1, 9};
    event.replica_id = "o1";
    event.inc = {1, 1};
    event.slots = 1;
    event.secret = {1, 2, 3};
    event.update_seq = 1;
    event.ttl = ttl;
    event.number = ++others;
    step(event);
  }
  void reaped(const std::string& replica) {
    ReplicaView view = ready_replica(replica);
    view.state = ReplicaState::backoff;
    view.has_process = false;
    step(ReplicaChanged{kLink, view});
  }
  // The journal has the job and where its attempt is.
  std::string aboard() {
    submit(spec_of(1));
    commit();
    commit();
    EXPECT_EQ(dispatches.size(), 1u);
    return dispatches.at(0).endpoint.substr(6);
  }
  // The journal has the job alone.
  void admitted() {
    submit(spec_of(1));
    commit_one();
    ASSERT_EQ(dispatches.size(), 1u);
  }
  std::size_t sent() {
    commit();
    return dispatches.size();
  }
  std::uint64_t others = 0;
};

std::string not_this(const std::string& replica) { return replica == "r1" ? "r2" : "r1"; }

TEST(RecoveredFence, OC_MIGR_M1_the_word_of_its_manager_lets_a_job_go_on) {
  Life first;
  const std::string where = first.aboard();
  Life second(first);
  second.attach();
  EXPECT_EQ(second.sent(), 0u);
  second.over(not_this(where));
  EXPECT_EQ(second.sent(), 0u) << "of another process";
  second.over(where, {1, 2});
  EXPECT_EQ(second.sent(), 0u) << "of another life of it";
  second.over(where);
  ASSERT_EQ(second.sent(), 1u);
  EXPECT_EQ(second.dispatches[0].dispatch.attempt, 2u);
  EXPECT_EQ(second.core.find_job(job_id(1))->losses, 0u) << "its worker outlived it (M6)";
}

TEST(RecoveredFence, OC_MIGR_M1_so_does_the_end_of_its_process) {
  Life first;
  const std::string where = first.aboard();
  for (const bool its_own : {false, true}) {
    Life second(first);
    second.attach();
    EXPECT_EQ(second.sent(), 0u);
    second.reaped(its_own ? where : not_this(where));
    EXPECT_EQ(second.sent(), its_own ? 1u : 0u);
  }
}

TEST(RecoveredFence, OC_MIGR_M1_and_that_its_manager_has_no_such_replica_any_more) {
  Life first;
  const std::string where = first.aboard();
  Life second(first);
  second.manager_up({ready_replica("r3")});
  second.grant(2, {1, 3}, "r3");
  EXPECT_EQ(second.sent(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_it_waits_one_and_a_quarter_of_a_leases_life_at_most) {
  for (const bool known : {true, false}) {
    Life first;
    known ? static_cast<void>(first.aboard()) : first.admitted();
    Life second(first);
    const Instant from = second.now;
    second.attach();
    while (second.now < from + ms(18'500)) {
      second.advance(ms(500));
      second.renew();
      EXPECT_EQ(second.sent(), 0u) << (second.now - from).ms();
    }
    second.advance(from + ms(18'749) - second.now);
    EXPECT_EQ(second.sent(), 0u);
    second.advance(ms(1));
    EXPECT_EQ(second.sent(), 1u) << known;
  }
}

TEST(RecoveredFence, OC_MIGR_M1_the_time_is_that_of_the_leases_of_then) {
  Life first;
  first.other_attaches();
  first.other_grants(ms(4000));
  first.other_grants(ms(60'000));  // it came back with another configuration
  first.commit();
  first.admitted();
  Life second(first);
  const Instant from = second.now;
  second.attach();
  second.over("r1");
  second.over("r2");
  while (second.now < from + ms(74'000)) {
    second.advance(ms(1000));
    second.renew();
    ASSERT_EQ(second.sent(), 0u) << (second.now - from).ms();
  }
  second.advance(from + ms(75'000) - second.now);
  EXPECT_EQ(second.sent(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_what_may_have_run_anywhere_waits_for_each_process_of_each_manager) {
  Life first;
  first.other_attaches();
  first.other_grants(ms(15'000));
  first.commit();
  first.admitted();
  Life second(first);
  second.attach();
  second.over("r1");
  EXPECT_EQ(second.sent(), 0u);
  second.reaped("r2");
  EXPECT_EQ(second.sent(), 0u) << "a manager is missing";
  second.other_attaches();
  EXPECT_EQ(second.sent(), 0u);
  second.step(EarlierOver{kOtherLink, "o1", {1, 1}});
  ASSERT_EQ(second.sent(), 1u);
  EXPECT_EQ(second.dispatches[0].dispatch.attempt, 2u) << "the first one may have been used";
}

TEST(RecoveredFence, OC_MIGR_M1_a_job_of_a_gateway_that_never_had_a_lease_waits_for_nobody) {
  Config config = journaled();
  JournalBench first{config};
  first.manager_up();
  first.submit(spec_of(1));
  first.commit();
  JournalBench second{first, ms(100), config};
  second.manager_up();
  second.grant();
  second.commit();
  second.commit();
  EXPECT_EQ(second.dispatches.size(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_no_journaled_job_goes_where_the_journal_does_not_know_the_manager) {
  JournalBench bench;
  bench.manager_up();
  bench.grant();
  bench.submit(spec_of(1));
  ASSERT_EQ(bench.writes.size(), 2u);
  const JournalWrite manager = bench.writes.front();
  bench.writes.pop_front();
  bench.step(JournalFailed{manager.ticket, manager.ticket, "disk full"});
  bench.commit_one();
  EXPECT_TRUE(bench.dispatches.empty());
  bench.commit();
  EXPECT_EQ(bench.dispatches.size(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_a_record_of_managers_that_fails_is_written_again) {
  JournalBench bench;
  bench.manager_up();
  bench.grant();
  ASSERT_EQ(bench.writes.size(), 1u);
  bench.refuse();
  bench.advance(ms(1000));
  bench.commit();
  EXPECT_EQ(bench.disk.recover(bench.now).managers.size(), 1u);
  bench.submit(spec_of(1));
  bench.commit();
  EXPECT_EQ(bench.dispatches.size(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_plain_requests_ask_the_journal_nothing) {
  JournalBench bench;
  bench.manager_up();
  bench.grant();
  bench.submit(attached(1), ReaderId{1});
  EXPECT_EQ(bench.dispatches.size(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_a_manager_that_never_comes_back_is_forgotten_when_its_time_is_over) {
  Life first;
  first.other_attaches();
  first.other_grants(ms(15'000));
  first.commit();
  ASSERT_EQ(first.disk.recover(first.now).managers.size(), 2u);
  Life second(first);
  second.attach();
  second.commit();
  EXPECT_EQ(second.disk.recover(second.now).managers.size(), 2u);
  second.advance(ms(18'750));
  second.commit();
  EXPECT_EQ(second.disk.recover(second.now).managers.size(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_a_job_that_waited_for_a_fence_waits_on) {
  Life first;
  const std::string where = first.aboard();
  first.step(DispatchBroken{first.dispatches[0].dispatch});
  first.commit();
  ASSERT_EQ(first.dispatches.size(), 1u);
  Life second(first);
  second.attach();
  second.over(not_this(where));
  EXPECT_EQ(second.sent(), 0u);
  second.over(where);
  EXPECT_EQ(second.sent(), 1u);
}

TEST(RecoveredFence, OC_MIGR_M1_a_migrated_job_waits_for_its_last_worker_alone) {
  Life first;
  const std::string where = first.aboard();
  first.token(first.dispatches[0], 0, "a");
  first.advance(ms(250));
  first.commit();
  first.step(DispatchBroken{first.dispatches[0].dispatch});
  first.reaped(where);
  first.commit();
  first.commit();
  ASSERT_EQ(first.dispatches.size(), 2u);
  const std::string last = first.dispatches[1].endpoint.substr(6);
  ASSERT_NE(last, where);
  first.commit();
  Life second(first);
  second.attach();
  second.over(where);
  EXPECT_EQ(second.sent(), 0u);
  second.over(last);
  ASSERT_EQ(second.sent(), 1u);
  EXPECT_EQ(second.dispatches[0].resume_ids, std::vector<std::uint32_t>{100});
  EXPECT_EQ(second.dispatches[0].dispatch.attempt, 3u);
}

}  // namespace
}  // namespace orch::gateway
