// M6 across gateways: what one of them has seen of a prompt, the others act upon (proposal 0012).
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

PromptDigest digest_of(const std::string& text) {
  Prompt prompt;
  prompt.text = text;
  return prompt_digest("m", prompt);
}

// Two replicas with one slot each.
struct Gateway : Bench {
  Gateway() {
    manager_up({ready_replica("r1"), ready_replica("r2")});
    grant(1, {1, 1}, "r1");
    grant(1, {1, 2}, "r2");
  }
  Effects hears(const std::string& text, Duration rest) {
    OthersReport others;
    others.refused.push_back({digest_of(text), rest});
    return step(OthersReported{kLink, std::move(others)});
  }
  Effects dies(const Dispatch& d) {
    step(DispatchBroken{d.dispatch});
    return gone(d, d.fence.inc);
  }
  // The worker of `d` died; its replica's newest process is `newest`.
  Effects gone(const Dispatch& d, Incarnation newest) {
    ReplicaView view = ready_replica(d.endpoint.substr(6));
    view.inc = newest;
    view.state = ReplicaState::backoff;
    view.has_process = false;
    view.last_end = ProcessEnd{d.fence.inc, "killed_by_signal"};
    return step(ReplicaChanged{kLink, view});
  }
};

std::vector<RefusedPrompt> told(const Effects& effects) {
  const auto reports = all_of<SendFair>(effects);
  return reports.empty() ? std::vector<RefusedPrompt>{} : reports.back().report.refused;
}

TEST(RefusedElsewhere, OC_MIGR_M8_a_prompt_that_took_down_two_workers_is_told_with_its_rest) {
  Gateway gateway;
  gateway.submit(asking(1, "poison"), ReaderId{1});
  gateway.dies(gateway.dispatches.at(0));
  gateway.advance(ms(200));
  const Effects second = gateway.dies(gateway.dispatches.at(1));
  const auto prompts = told(second + gateway.advance(ms(200)));
  ASSERT_EQ(prompts.size(), 1u);
  EXPECT_EQ(prompts[0].prompt, digest_of("poison"));
  EXPECT_GT(prompts[0].rest, Duration::seconds(599));
  EXPECT_LE(prompts[0].rest, Duration::seconds(600));
}

TEST(RefusedElsewhere, OC_MIGR_M8_what_was_heard_is_refused_and_not_told_again) {
  Gateway gateway;
  gateway.hears("poison", Duration::seconds(60));
  const Failure failure = refused(gateway, asking(1, "poison"));
  EXPECT_EQ(failure.outcome, Outcome::WORKER_RESET);
  EXPECT_FALSE(failure.retriable());
  EXPECT_FALSE(refusal(gateway.submit(asking(2, "poison "))).has_value()) << "another prompt is another matter";
  const Effects later = gateway.advance(ms(500));
  EXPECT_FALSE(all_of<SendFair>(later).empty());
  EXPECT_TRUE(told(later).empty()) << "or two gateways would refuse it for ever";
  gateway.advance(Duration::seconds(60));
  EXPECT_FALSE(gateway.core.find_job(job_id(1)));
  gateway.manager_up({ready_replica("r1")}, 2);
  EXPECT_FALSE(refusal(gateway.submit(asking(3, "poison"))).has_value()) << "its time is over";
}

TEST(RefusedElsewhere, OC_MIGR_M8_no_word_holds_for_longer_than_an_own_one) {
  Gateway gateway;
  gateway.hears("poison", Duration::seconds(1'000'000));
  gateway.hears("other", Duration::seconds(-1));
  EXPECT_FALSE(refusal(gateway.submit(asking(1, "other"))).has_value());
  EXPECT_EQ(refused(gateway, asking(2, "poison")).outcome, Outcome::WORKER_RESET);
  gateway.advance(Duration::seconds(601));
  gateway.manager_up({ready_replica("r1")}, 2);
  EXPECT_FALSE(refusal(gateway.submit(asking(3, "poison"))).has_value());
}

TEST(RefusedElsewhere, OC_MIGR_M8_jobs_that_wait_with_it_are_not_dispatched_any_more) {
  Gateway gateway;
  gateway.submit(asking(1, "a"), ReaderId{1});
  gateway.submit(asking(2, "b"), ReaderId{2});
  gateway.submit(asking(3, "poison"), ReaderId{3});
  gateway.submit(asking(4, "c"), ReaderId{4});
  ASSERT_EQ(gateway.dispatches.size(), 2u);
  gateway.hears("poison", Duration::seconds(60));
  ASSERT_EQ(gateway.ends.size(), 1u);
  EXPECT_EQ(gateway.ends[0].job, job_id(3));
  ASSERT_TRUE(gateway.ends[0].failure.has_value());
  EXPECT_EQ(gateway.ends[0].failure->outcome, Outcome::WORKER_RESET);
  EXPECT_FALSE(gateway.ends[0].failure->retriable());
  gateway.finished(gateway.dispatches[0], 0);
  ASSERT_EQ(gateway.dispatches.size(), 3u);
  EXPECT_EQ(gateway.dispatches[2].dispatch.job, job_id(4));
}

TEST(RefusedElsewhere, OC_MIGR_M8_identical_jobs_of_one_gateway_wait_for_nothing_either) {
  Gateway gateway;
  gateway.submit(asking(1, "poison"), ReaderId{1});
  gateway.submit(asking(2, "b"), ReaderId{2});
  gateway.submit(asking(3, "poison"), ReaderId{3});
  gateway.finished(gateway.dispatches.at(1), 0);
  gateway.ends.clear();
  ASSERT_EQ(gateway.dispatches.size(), 3u);
  ASSERT_EQ(gateway.dispatches[2].dispatch.job, job_id(3));
  gateway.submit(asking(4, "poison"), ReaderId{4});
  gateway.hears("poison", Duration::seconds(60));  // it runs in two of them, and waits in one
  ASSERT_EQ(gateway.ends.size(), 1u);
  EXPECT_EQ(gateway.ends[0].job, job_id(4));
  gateway.dies(gateway.dispatches[0]);
  ASSERT_EQ(gateway.ends.size(), 2u) << "no second worker for it";
  EXPECT_EQ(gateway.ends[1].job, job_id(1));
  EXPECT_FALSE(gateway.ends[1].failure->retriable());
  gateway.finished(gateway.dispatches[2], 0);
  ASSERT_EQ(gateway.ends.size(), 3u);
  EXPECT_FALSE(gateway.ends[2].failure.has_value()) << "what runs may end well";
  EXPECT_EQ(gateway.dispatches.size(), 3u);
}

TEST(RefusedElsewhere, OC_MIGR_M8_its_first_death_is_its_last) {
  Gateway gateway;
  gateway.submit(asking(1, "poison"), ReaderId{1});
  gateway.hears("poison", Duration::seconds(60));
  const Effects death = gateway.gone(gateway.dispatches.at(0), {1, 2});  // told before the stream breaks
  EXPECT_EQ(all_of<NotedPoisoned>(death).size(), 1u);
  ASSERT_EQ(gateway.ends.size(), 1u);
  EXPECT_FALSE(gateway.ends[0].failure->retriable());
  EXPECT_EQ(told(death + gateway.advance(ms(200))).size(), 1u) << "it has seen for itself";
}

TEST(RefusedElsewhere, OC_MIGR_M8_one_that_comes_back_from_a_broken_stream_is_not_sent_again) {
  Gateway gateway;
  gateway.submit(asking(1, "poison"), ReaderId{1});
  gateway.hears("poison", Duration::seconds(60));
  EXPECT_TRUE(gateway.ends.empty());
  gateway.failed(gateway.dispatches.at(0), Outcome::SLOT_BUSY);  // back to the queue
  EXPECT_EQ(gateway.dispatches.size(), 1u);
  ASSERT_EQ(gateway.ends.size(), 1u);
  EXPECT_FALSE(gateway.ends[0].failure->retriable());
}

TEST(RefusedElsewhere, OC_MIGR_M8_a_flood_of_words_pushes_no_own_refusal_out_and_refuses_nothing_else) {
  Quarantine quarantine;
  const Instant now{1'000'000'000};
  quarantine.add({7, 7}, now + Duration::seconds(10));
  for (std::uint64_t n = 0; n < 5000; ++n) quarantine.hear({n, ~n}, now + Duration::seconds(600));
  EXPECT_TRUE(quarantine.until({7, 7}, now).has_value());
  std::size_t refused = 0;
  for (std::uint64_t n = 0; n < 5000; ++n) refused += quarantine.until({n, ~n}, now) ? 1 : 0;
  EXPECT_EQ(refused, Quarantine::kPromptsMax);
  EXPECT_FALSE(quarantine.until({9999, 1}, now).has_value());
  const auto told = quarantine.told(now);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].rest, Duration::seconds(10));
}

TEST(RefusedElsewhere, OC_MIGR_M8_of_many_own_ones_those_that_end_last_are_told) {
  Quarantine quarantine;
  const Instant now{1'000'000'000};
  for (std::uint64_t n = 1; n <= kRefusedPromptsMax + 10; ++n)
    quarantine.add({n, n}, now + Duration::seconds(static_cast<std::int64_t>(n)));
  const auto told = quarantine.told(now);
  ASSERT_EQ(told.size(), kRefusedPromptsMax);
  EXPECT_EQ(told.back().prompt[0], 11u);
}

}  // namespace
}  // namespace orch::gateway
