// M6: a prompt takes down at most two workers. M1: a job does not run twice. M7: what is computed again is told.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"
#include "orchestratord/core/quarantine.h"

namespace orch::gateway {
namespace {

using namespace testing;

JobSpec asking(std::uint64_t n, const std::string& text) {
  JobSpec spec = spec_of(n);
  auto payload = std::make_shared<JobPayload>();
  payload->prompt.text = text;
  spec.payload = std::move(payload);
  return spec;
}

// Two replicas with two slots each; job 1, "poison", runs on one of them.
struct Site : Bench {
  explicit Site(bool shows_a_token = false, Attachment attachment = Attachment::task) {
    manager_up({ready_replica("r1"), ready_replica("r2")});
    grant(2, {1, 1}, "r1");
    JobSpec first = asking(1, "poison");
    first.attachment = attachment;
    submit(std::move(first), ReaderId{1});
    if (shows_a_token) token(dispatches.at(0), 0, "a");
    grant(2, {1, 2}, "r2");
  }
  // The worker of the job's last dispatch dies; its manager says so a moment later.
  Effects dies(const Dispatch& d, const std::string& how = "killed_by_signal") {
    step(DispatchBroken{d.dispatch});
    return reaped(d, how);
  }
  Effects reaped(const Dispatch& d, const std::string& how) {
    ReplicaView view = ready_replica(d.endpoint.substr(6));
    view.inc = d.fence.inc;
    view.state = ReplicaState::backoff;
    view.has_process = false;
    view.last_end = ProcessEnd{d.fence.inc, how};
    return step(ReplicaChanged{kLink, view});
  }
  void returns(const std::string& id, std::uint64_t counter) {
    ReplicaView view = ready_replica(id);
    view.inc = {1, counter};
    step(ReplicaChanged{kLink, view});
    grant(2, {1, 10 + counter}, id, {1, counter});
  }
};

TEST(Fence, M1_before_the_first_token_too_the_next_attempt_waits_for_the_old_one) {
  Site site;
  site.step(DispatchBroken{site.dispatches[0].dispatch});
  site.advance(Duration::seconds(10));
  EXPECT_EQ(site.dispatches.size(), 1u) << "its worker may still compute";
  site.reaped(site.dispatches[0], "killed_by_signal");
  ASSERT_EQ(site.dispatches.size(), 2u) << "the process is gone, before another has taken its place";
  EXPECT_EQ(site.dispatches[1].endpoint, "unix:/r2");
}

TEST(Fence, M1_a_replica_that_still_has_its_process_proves_nothing) {
  Site site;
  site.step(DispatchBroken{site.dispatches[0].dispatch});
  ReplicaView view = ready_replica("r1");
  view.state = ReplicaState::backoff;
  view.last_error = "silent: no report for 15000 ms";
  site.step(ReplicaChanged{kLink, view});
  EXPECT_EQ(site.dispatches.size(), 1u) << "it is being killed, and not reaped yet";
}

TEST(Poison, M6_after_one_death_the_job_runs_alone) {
  Site site;
  site.submit(asking(2, "b"));  // on r1 or r2
  site.submit(asking(3, "c"));
  ASSERT_EQ(site.dispatches.size(), 3u);
  site.dies(site.dispatches[0]);
  for (std::size_t i = 1; i < 3; ++i) {  // whoever runs beside it elsewhere has to end first
    if (site.dispatches[i].endpoint == "unix:/r1") site.dies(site.dispatches[i], "exited");
  }
  const std::size_t before = site.dispatches.size();
  std::vector<Dispatch> on_r2;
  for (const Dispatch& d : site.dispatches) {
    if (d.endpoint == "unix:/r2") on_r2.push_back(d);
  }
  ASSERT_FALSE(on_r2.empty());
  EXPECT_NE(on_r2.back().dispatch.job, job_id(1)) << "not beside another job";
  site.submit(asking(4, "d"));
  EXPECT_EQ(site.dispatches.size(), before) << "r2 is kept for the suspect";
  for (const Dispatch& d : on_r2) site.finished(d, 1);
  ASSERT_GT(site.dispatches.size(), before);
  EXPECT_EQ(site.dispatches[before].dispatch.job, job_id(1));
  EXPECT_EQ(site.dispatches.size(), before + 1) << "and nobody joins it";
  site.finished(site.dispatches[before], 1);
  EXPECT_GT(site.dispatches.size(), before + 1) << "afterwards the others go on";
}

TEST(Poison, M6_after_two_deaths_it_ends_for_good_and_its_prompt_is_refused) {
  for (const bool shown : {false, true}) {
    Site site(shown);
    site.dies(site.dispatches[0]);
    ASSERT_EQ(site.dispatches.size(), 2u) << shown;
    site.returns("r1", 2);
    const Effects told = site.dies(site.dispatches[1], "stalled");
    EXPECT_EQ(site.dispatches.size(), 2u) << "no third worker";
    ASSERT_EQ(site.ends.size(), 1u);
    ASSERT_TRUE(site.ends[0].failure.has_value());
    EXPECT_EQ(site.ends[0].failure->outcome, Outcome::WORKER_RESET);
    EXPECT_FALSE(site.ends[0].failure->retriable());
    EXPECT_EQ(all_of<NotedPoisoned>(told).size(), 1u);
    const Failure again = refused(site, asking(2, "poison"));
    EXPECT_EQ(again.outcome, Outcome::WORKER_RESET);
    EXPECT_FALSE(again.retriable());
    EXPECT_EQ(again.field, "prompt");
    EXPECT_FALSE(refusal(site.submit(asking(3, "poison "))).has_value()) << "another prompt is another matter";
    site.advance(Duration::seconds(601));
    site.manager_up({ready_replica("r1")}, 2);
    EXPECT_FALSE(refusal(site.submit(asking(4, "poison"))).has_value()) << "ten minutes later";
  }
}

// The worker's word that its device is lost, then its manager's that it is gone.
Effects loses_its_device(Site& site, const Dispatch& d) {
  Failure failure;
  failure.outcome = Outcome::WORKER_RESET;
  failure.message = "the device is lost";
  site.step(DispatchFailed{d.dispatch, d.fence, failure, true});
  return site.reaped(d, "device_lost");
}

TEST(Poison, OC_DEVICE_1004_a_job_whose_device_was_lost_goes_on_elsewhere_when_its_worker_is_gone) {
  for (const bool shown : {false, true}) {
    Site site(shown);
    Failure failure;
    failure.outcome = Outcome::WORKER_RESET;
    site.step(DispatchFailed{site.dispatches[0].dispatch, site.dispatches[0].fence, failure, true});
    site.advance(ms(500));
    EXPECT_TRUE(site.ends.empty()) << "the client hears nothing of it";
    EXPECT_EQ(site.dispatches.size(), 1u) << "whether it was a death is still to be told (M6)";
    site.submit(asking(2, "b"));
    ASSERT_EQ(site.dispatches.size(), 2u);
    EXPECT_EQ(site.dispatches[1].endpoint, "unix:/r2") << "nobody else follows to that worker";
    site.finished(site.dispatches[1], 1);
    site.reaped(site.dispatches[0], "device_lost");
    ASSERT_EQ(site.dispatches.size(), 3u) << shown;
    EXPECT_EQ(site.dispatches[2].dispatch.job, job_id(1));
    EXPECT_EQ(site.dispatches[2].endpoint, "unix:/r2");
    EXPECT_EQ(site.dispatches[2].resume_ids.size(), shown ? 1u : 0u);
  }
}

TEST(Poison, M6_a_lost_device_is_a_death_and_the_second_one_the_last) {
  for (const bool shown : {false, true}) {
    Site site(shown);
    loses_its_device(site, site.dispatches[0]);
    ASSERT_EQ(site.dispatches.size(), 2u) << shown;
    site.returns("r1", 2);
    const Effects told = loses_its_device(site, site.dispatches[1]);
    EXPECT_EQ(site.dispatches.size(), 2u) << "no third device";
    ASSERT_EQ(site.ends.size(), 1u);
    EXPECT_EQ(site.ends[0].failure->outcome, Outcome::WORKER_RESET);
    EXPECT_FALSE(site.ends[0].failure->retriable());
    EXPECT_EQ(all_of<NotedPoisoned>(told).size(), 1u);
    EXPECT_EQ(refused(site, asking(2, "poison")).field, "prompt");
  }
}

TEST(Poison, OC_DEVICE_1004_a_broken_step_is_the_jobs_own_end) {
  Site site(true);
  site.failed(site.dispatches[0], Outcome::INTERNAL);
  ASSERT_EQ(site.ends.size(), 1u);
  EXPECT_EQ(site.ends[0].failure->outcome, Outcome::INTERNAL);
  EXPECT_EQ(site.dispatches.size(), 1u);
}

TEST(Poison, M6_a_broken_stream_alone_is_no_death) {
  Site site(true);
  for (int i = 0; i < 2; ++i) {
    const Dispatch last = site.dispatches.back();
    site.step(DispatchBroken{last.dispatch});
    for (int s = 0; s < 16; ++s) {  // nobody speaks of a death; a lease's life passes
      site.advance(Duration::seconds(1));
      site.grant(2, {1, 1}, "r1");
      site.grant(2, {1, 2}, "r2");
    }
  }
  ASSERT_EQ(site.ends.size(), 1u);
  EXPECT_EQ(site.ends[0].failure->outcome, Outcome::WORKER_RESET);
  EXPECT_TRUE(site.ends[0].failure->retriable());
  EXPECT_FALSE(refusal(site.submit(asking(2, "poison"))).has_value());
}

TEST(Poison, M6_a_suspect_whose_second_stream_broke_waits_for_the_word_about_its_worker) {
  // What lives with its reader is forgotten with its end (the address sanitizer sees who looks at it then).
  for (const Attachment attachment : {Attachment::task, Attachment::attached}) {
    Site site(true, attachment);
    site.dies(site.dispatches[0]);
    ASSERT_EQ(site.dispatches.size(), 2u);
    site.step(DispatchBroken{site.dispatches[1].dispatch});
    EXPECT_TRUE(site.ends.empty()) << "it may have been the network";
    for (int s = 0; s < 16 && site.ends.empty(); ++s) site.advance(Duration::seconds(1));
    ASSERT_EQ(site.ends.size(), 1u) << "and was";
    EXPECT_TRUE(site.ends[0].failure->retriable());
    EXPECT_FALSE(refusal(site.submit(asking(2, "poison"))).has_value());
  }
}

TEST(Poison, M6_a_drained_worker_is_no_death) {
  Site site;
  site.dies(site.dispatches[0], "");
  ASSERT_EQ(site.dispatches.size(), 2u);
  site.submit(asking(2, "b"));
  EXPECT_EQ(site.dispatches.size(), 3u) << "not alone";
}

TEST(Recomputed, M7_tells_what_a_later_attempt_computes_again) {
  Site site(true);
  site.token(site.dispatches[0], 1, "b");
  EXPECT_TRUE(all_of<NotedRecomputed>(site.started(site.dispatches[0])).empty());
  site.dies(site.dispatches[0]);
  ASSERT_EQ(site.dispatches.size(), 2u);
  EXPECT_TRUE(all_of<NotedRecomputed>(site.started(site.dispatches[1])).empty());
  const Effects end = site.finished(site.dispatches[1], 2);
  const auto told = all_of<NotedRecomputed>(end);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].tokens, 9u) << "a prompt of 7 and two tokens";
  EXPECT_EQ(site.ends.at(0).tokens_out, 2u);
  bool migrated = false;
  for (const Deliver& each : all_of<Deliver>(end)) {
    if (const auto* told_end = std::get_if<EndEvent>(&each.event->body)) migrated = told_end->migrated;
  }
  EXPECT_TRUE(migrated) << "M3";
}

TEST(Quarantine, M6_is_bounded_and_ends) {
  Quarantine quarantine;
  Prompt prompt;
  for (std::size_t i = 0; i <= Quarantine::kPromptsMax; ++i) {
    prompt.text = std::to_string(i);
    quarantine.add(prompt_digest("m", prompt), Instant{static_cast<std::int64_t>(i) + 1});
  }
  prompt.text = "0";
  EXPECT_FALSE(quarantine.until(prompt_digest("m", prompt), Instant{0}).has_value()) << "it made room";
  prompt.text = "7";
  EXPECT_TRUE(quarantine.until(prompt_digest("m", prompt), Instant{7}).has_value());
  EXPECT_FALSE(quarantine.until(prompt_digest("m", prompt), Instant{8}).has_value());
  quarantine.expire(Instant{1 << 20});
  EXPECT_TRUE(quarantine.empty());
}

TEST(Quarantine, M6_tells_model_roles_and_borders_apart) {
  Prompt text;
  text.text = "ab";
  Prompt chat;
  chat.messages = {{"a", "b"}};
  Prompt other;
  other.messages = {{"", "ab"}};
  Prompt joined;
  joined.messages = {{"ab", ""}};
  const std::set<PromptDigest> all{prompt_digest("m", text), prompt_digest("n", text), prompt_digest("m", chat),
                                   prompt_digest("m", other), prompt_digest("m", joined)};
  EXPECT_EQ(all.size(), 5u);
}

}  // namespace
}  // namespace orch::gateway
