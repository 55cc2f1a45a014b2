// M6 across lives of the gateway: what a later one knows of the workers that were lost to a job.
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

JobSpec with_prompt(std::uint64_t n, const std::string& text) {
  JobSpec spec = spec_of(n);
  auto payload = std::make_shared<JobPayload>();
  payload->prompt.text = text;
  spec.payload = std::move(payload);
  return spec;
}

// One life with two replicas of two slots each; job 1, "poison".
struct Life : JournalBench {
  Life() : JournalBench() {
    attach();
    commit();
  }
  explicit Life(const Life& before, Duration later = ms(100)) : JournalBench(before, later) {}
  void attach() {
    manager_up({ready_replica("r1"), ready_replica("r2")});
    renew();
  }
  void renew() {
    grant(2, {1, 1}, "r1");
    grant(2, {1, 2}, "r2");
  }
  void first_attempt() {
    submit(with_prompt(1, "poison"));
    commit_one();
    ASSERT_EQ(dispatches.size(), 1u);
  }
  // The worker of the job's last dispatch dies; its manager says so.
  void dies(const Dispatch& d) {
    step(DispatchBroken{d.dispatch});
    reaped(d, "killed_by_signal");
  }
  void reaped(const Dispatch& d, const std::string& how) {
    ReplicaView view = ready_replica(d.endpoint.substr(6));
    view.inc = d.fence.inc;
    view.state = ReplicaState::backoff;
    view.has_process = false;
    view.last_end = ProcessEnd{d.fence.inc, how};
    step(ReplicaChanged{kLink, view});
  }
  // A lease's life in which both workers go on.
  void outlive() {
    for (int s = 0; s < 20; ++s) {
      advance(Duration::seconds(1));
      commit();
      renew();
    }
    commit();
  }
  const Job& job() const { return *core.find_job(job_id(1)); }
  std::string end() const { return ends.empty() ? "none" : outcome_code(ends.at(0).failure); }
};

TEST(Aboard, OC_MIGR_M6_a_second_attempt_begins_when_its_record_is_durable) {
  Life life;
  life.first_attempt();
  life.commit();
  life.dies(life.dispatches[0]);
  EXPECT_EQ(life.dispatches.size(), 1u);
  life.refuse();
  EXPECT_EQ(life.dispatches.size(), 1u);
  life.advance(ms(1000));
  life.commit();
  EXPECT_EQ(life.dispatches.size(), 2u);
}

TEST(Aboard, OC_MIGR_M6_the_first_attempt_waits_for_no_record) {
  Life life;
  life.first_attempt();
  EXPECT_EQ(life.writes.size(), 1u) << "it is under way";
}

TEST(Aboard, OC_MIGR_M6_a_later_life_knows_the_deaths) {
  Life first;
  first.first_attempt();
  first.commit();
  first.dies(first.dispatches[0]);
  first.commit();
  ASSERT_EQ(first.dispatches.size(), 2u);
  first.commit();
  for (const bool died : {true, false}) {
    Life second(first);
    EXPECT_EQ(second.job().deaths, 1u);
    EXPECT_EQ(second.job().losses, 1u);
    second.attach();
    if (died) second.reaped(first.dispatches[1], "stalled");
    second.commit();
    EXPECT_TRUE(second.dispatches.empty()) << "what became of the second worker is not known yet, or it died";
    if (!died) second.outlive();
    second.commit();
    EXPECT_EQ(second.dispatches.size(), died ? 0u : 1u);
    EXPECT_EQ(second.end(), died ? "WORKER_RESET" : "none");
    if (died) {
      EXPECT_FALSE(second.ends.at(0).failure->retriable());
      EXPECT_EQ(refused(second, with_prompt(2, "poison")).field, "prompt");
    } else {
      second.submit(with_prompt(2, "b"));
      second.commit();
      ASSERT_EQ(second.dispatches.size(), 2u);
      EXPECT_NE(second.dispatches[1].endpoint, second.dispatches[0].endpoint) << "it runs alone";
    }
  }
}

TEST(Aboard, OC_MIGR_M6_a_second_worker_of_which_nobody_speaks_is_the_last) {
  Life first;
  first.first_attempt();
  first.commit();
  first.dies(first.dispatches[0]);
  first.commit();
  first.commit();
  Life second(first);
  for (int s = 0; s < 30; ++s) {
    second.advance(Duration::seconds(1));
    second.commit();
  }
  EXPECT_TRUE(second.dispatches.empty());
  ASSERT_EQ(second.end(), "WORKER_RESET");
  EXPECT_TRUE(second.ends[0].failure->retriable());
}

TEST(Aboard, OC_MIGR_M6_an_attempt_that_the_journal_does_not_know_may_have_been_one) {
  Life first;
  first.first_attempt();  // its record does not make it
  Life second(first);
  second.attach();
  second.over("r1");
  second.over("r2");
  EXPECT_TRUE(second.dispatches.empty()) << "this one has to be known";
  second.commit_one();
  ASSERT_EQ(second.dispatches.size(), 1u);
  for (const bool known : {false, true}) {
    if (known) second.commit();
    Life third(second);
    third.attach();
    third.commit();
    EXPECT_TRUE(third.dispatches.empty());
    EXPECT_EQ(third.end(), known ? "none" : "WORKER_RESET");
    if (!known) continue;
    third.outlive();
    EXPECT_EQ(third.dispatches.size(), 1u) << "the second worker lives";
  }
  second.step(DispatchBroken{second.dispatches[0].dispatch});
  second.commit();
  EXPECT_EQ(second.dispatches.size(), 1u);
  EXPECT_EQ(second.end(), "WORKER_RESET");
}

TEST(Aboard, OC_MIGR_M6_an_attempt_in_doubt_is_no_loss_when_its_worker_outlived_it) {
  Life first;
  first.first_attempt();
  first.commit();
  Life second(first);
  EXPECT_EQ(second.job().losses, 1u);
  second.attach();
  second.outlive();
  EXPECT_EQ(second.job().losses, 0u);
  EXPECT_EQ(second.dispatches.size(), 1u);
  ASSERT_TRUE(second.disk.job(job_id(1)).aboard.has_value());
  EXPECT_EQ(second.disk.job(job_id(1)).aboard->losses, 0u);
  second.dies(second.dispatches[0]);
  second.commit();
  EXPECT_EQ(second.dispatches.size(), 2u) << "it may be lost once more";
}

TEST(Aboard, OC_MIGR_M6_a_death_in_doubt_that_is_told_while_the_job_runs_again_counts) {
  Life first;
  first.first_attempt();
  first.commit();
  Life second(first);
  second.manager_up({ready_replica("r1"), ready_replica("r2")});
  for (int s = 0; s < 19; ++s) {
    second.grant(2, {1, 2}, "r2");
    second.advance(Duration::seconds(1));
    second.commit();
  }
  ASSERT_EQ(second.dispatches.size(), 1u);
  ASSERT_NE(second.dispatches[0].endpoint, first.dispatches[0].endpoint);
  second.reaped(first.dispatches[0], "device_lost");
  EXPECT_EQ(second.job().deaths, 1u);
  EXPECT_EQ(second.end(), "none") << "it runs on";
  second.dies(second.dispatches[0]);
  second.commit();
  EXPECT_EQ(second.dispatches.size(), 1u);
  ASSERT_EQ(second.end(), "WORKER_RESET");
  EXPECT_FALSE(second.ends[0].failure->retriable());
}

TEST(Aboard, OC_MIGR_M6_a_worker_that_ended_as_wanted_is_no_loss) {
  Life first;
  first.first_attempt();
  first.commit();
  Life second(first);
  second.attach();
  second.reaped(first.dispatches[0], "");
  EXPECT_EQ(second.job().losses, 0u);
}

// Of a reload that came to nothing, or of a worker that is there by now.
TEST(Aboard, OC_MIGR_M6_another_error_of_the_replica_hides_no_death) {
  Life first;
  first.first_attempt();
  first.commit();
  Life second(first);
  second.attach();
  ReplicaView view = ready_replica(first.dispatches[0].endpoint.substr(6));
  view.inc.counter = first.dispatches[0].fence.inc.counter + 1;
  view.last_error = "reload: r1b: digest: another";
  view.last_end = ProcessEnd{first.dispatches[0].fence.inc, "killed_by_signal"};
  second.step(ReplicaChanged{kLink, view});
  EXPECT_EQ(second.job().losses, 1u);
  EXPECT_EQ(second.job().deaths, 1u);
}

TEST(Aboard, OC_MIGR_M6_how_another_process_ended_is_no_word_on_this_one) {
  for (const std::string how : {"killed_by_signal", ""}) {
    Life first;
    first.first_attempt();
    first.commit();
    Life second(first);
    second.attach();
    ReplicaView view = ready_replica(first.dispatches[0].endpoint.substr(6));
    view.inc.counter = first.dispatches[0].fence.inc.counter + 2;
    view.last_end = ProcessEnd{{view.inc.boot, view.inc.counter - 1}, how};
    second.step(ReplicaChanged{kLink, view});
    EXPECT_EQ(second.job().losses, 1u) << how;
    EXPECT_EQ(second.job().deaths, 0u) << how;
  }
}

TEST(Aboard, OC_MIGR_M6_a_prompt_is_refused_as_long_as_the_record_of_its_job_is_kept) {
  Life first;
  first.first_attempt();
  first.commit();
  first.dies(first.dispatches[0]);
  first.commit();
  ASSERT_EQ(first.dispatches.size(), 2u);
  first.dies(first.dispatches[1]);
  first.commit();
  ASSERT_EQ(first.end(), "WORKER_RESET");
  Life second(first, Duration::seconds(300));
  second.attach();
  const Failure again = refused(second, with_prompt(2, "poison"));
  EXPECT_EQ(again.field, "prompt");
  EXPECT_FALSE(again.retriable());
  second.submit(with_prompt(3, "another"));
  EXPECT_EQ(admissions(second.commit()).size(), 1u);
  Life third(first, Duration::seconds(601));
  third.attach();
  third.submit(with_prompt(2, "poison"));
  EXPECT_EQ(admissions(third.commit()).size(), 1u);
}

}  // namespace
}  // namespace orch::gateway
