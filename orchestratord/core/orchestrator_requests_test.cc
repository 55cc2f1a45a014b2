// Requests by their heads: what is reserved, what becomes of it, and what comes back.
#include <gtest/gtest.h>

#include <cmath>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

// What tenant `default` has left, as one text.
std::string left(const Bench& bench) {
  const QuotaBook& quotas = bench.core.quotas();
  const double requests = quotas.requests_left("default", bench.now).value_or(-1);
  return std::to_string(quotas.live("default")) + " live, " + std::to_string(std::lround(requests)) + " requests";
}

// A rate that time does not fill up again within a test.
Config limited(std::int64_t concurrent_jobs, std::int64_t burst) {
  Config config = journaled();
  config.tenants.defaults.quotas = {
      .concurrent_jobs = concurrent_jobs, .requests_per_second = 1, .request_burst = burst, .tokens_per_minute = 0};
  return config;
}

TEST(RequestHead, OC_ADMIT_1005_a_head_over_the_concurrent_jobs_is_refused_and_named_by_its_tenant) {
  Bench bench{limited(1, 100)};
  bench.ready();
  EXPECT_FALSE(head_refusal(bench.head()));
  const Effects effects = bench.head();
  const auto failure = head_refusal(effects);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->outcome, Outcome::ADMISSION_REJECT);
  EXPECT_EQ(failure->field, "concurrent_jobs");
  EXPECT_EQ(failure->policy_label, "reject");
  const auto refused = all_of<NotedRefused>(effects);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].tenant, "default");
  EXPECT_FALSE(refused[0].job);
  EXPECT_EQ(all_of<NotedQuota>(effects).size(), 1u);
  EXPECT_TRUE(all_of<AdmissionReply>(effects).empty());
  EXPECT_FALSE(head_refusal(bench.head("other"))) << "its own quota";
}

TEST(RequestHead, OC_QUOTA_1002_a_head_over_the_rate_is_told_its_buckets_own_time) {
  Bench bench{limited(100, 1)};
  bench.ready();
  EXPECT_FALSE(head_refusal(bench.head()));
  const auto failure = head_refusal(bench.head());
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->field, "requests_per_second");
  EXPECT_EQ(failure->retry_after, Duration::seconds(1));
}

TEST(RequestHead, OC_QUOTA_1002_over_the_concurrent_jobs_it_is_told_the_time_of_a_job_by_those_under_way) {
  Bench bench{limited(2, 100)};
  bench.ready();
  for (std::uint64_t n = 100; n < 120; ++n) {
    bench.submit(attached(n));
    const Dispatch dispatch = bench.dispatches.back();
    bench.started(dispatch);
    bench.advance(ms(400));
    bench.finished(dispatch, 10);
  }
  bench.submit(attached(1));
  bench.head();
  const auto failure = head_refusal(bench.head());
  ASSERT_TRUE(failure && failure->retry_after);
  EXPECT_EQ(failure->retry_after, bench.core.service_times().service("m", Priority::interactive) / 2);
  EXPECT_LT(*failure->retry_after, ms(300)) << "by what was measured";
}

TEST(RequestHead, OC_ADMIT_1005_what_a_head_reserves_is_its_jobs_until_that_ends) {
  Bench bench{limited(4, 10)};
  bench.ready();
  EXPECT_FALSE(head_refusal(bench.head()));
  EXPECT_EQ(left(bench), "1 live, 9 requests");
  EXPECT_FALSE(refusal(bench.submit_body(attached(1))));
  EXPECT_EQ(left(bench), "1 live, 9 requests");
  EXPECT_TRUE(bench.core.open_requests().all().empty());
  bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(left(bench), "0 live, 9 requests");
}

TEST(RequestHead, OC_ADMIT_1005_a_body_that_is_refused_or_never_comes_returns_the_reservation) {
  Bench bench{limited(1, 1)};
  bench.ready();
  EXPECT_FALSE(head_refusal(bench.head()));
  bench.step(RequestDropped{RequestId{bench.requests}});
  EXPECT_EQ(left(bench), "0 live, 1 requests");
  bench.step(RequestDropped{RequestId{bench.requests}});
  bench.step(RequestDropped{RequestId{12345}});
  EXPECT_EQ(left(bench), "0 live, 1 requests") << "once";
  JobSpec nobody = spec_of(1);
  nobody.model_ref = "nobody";
  EXPECT_FALSE(head_refusal(bench.head()));
  EXPECT_EQ(refusal(bench.submit_body(nobody))->outcome, Outcome::MODEL_NOT_FOUND);
  EXPECT_EQ(left(bench), "0 live, 1 requests");
}

TEST(RequestHead, OC_ADMIT_1005_a_reservation_is_given_up_after_a_while) {
  Bench bench{limited(1, 100)};
  bench.ready();
  EXPECT_FALSE(head_refusal(bench.head()));
  const RequestId slow{bench.requests};
  EXPECT_LE(bench.core.next_wakeup(), bench.now + Duration::seconds(60)) << "by itself";
  bench.advance(Duration::milliseconds(59'999));
  EXPECT_EQ(bench.core.quotas().live("default"), 1);
  bench.advance(ms(1));
  EXPECT_EQ(left(bench), "0 live, 100 requests");
  EXPECT_FALSE(head_refusal(bench.head())) << "somebody else has the place";
  EXPECT_EQ(refusal(bench.step(Submit{slow, attached(1), std::nullopt}))->field, "concurrent_jobs");
  bench.step(RequestDropped{RequestId{bench.requests}});
  EXPECT_FALSE(refusal(bench.step(Submit{slow, attached(1), std::nullopt}))) << "judged anew";
}

TEST(RequestHead, OC_ADMIT_1005_a_further_choice_is_judged_when_it_is_submitted) {
  Bench bench{limited(2, 100)};
  bench.ready();
  EXPECT_FALSE(head_refusal(bench.head()));
  EXPECT_FALSE(refusal(bench.submit_body(attached(1))));
  EXPECT_FALSE(refusal(bench.submit(attached(2))));
  EXPECT_EQ(refusal(bench.submit(attached(3)))->field, "concurrent_jobs");
  EXPECT_EQ(left(bench), "2 live, 98 requests");
}

TEST(RequestHead, OC_QUOTA_1004_a_dry_run_reports_a_request_once) {
  Config config = limited(1, 1);
  config.tenants.dry_run = true;
  Bench bench{config};
  bench.ready();
  bench.head();
  Effects effects = bench.head();
  EXPECT_FALSE(head_refusal(effects));
  effects = effects + bench.submit_body(attached(1));
  const auto noted = all_of<NotedQuota>(effects);
  ASSERT_EQ(noted.size(), 1u);
  EXPECT_FALSE(noted[0].enforced);
  EXPECT_EQ(bench.core.quotas().live("default"), 2);
}

// --- Idempotency-Key ---

TEST(RequestHead, OC_ADMIT_1006_a_kept_key_finds_its_job_whatever_the_concurrency) {
  JournalBench bench{limited(1, 10)};
  bench.ready();
  const JobSpec first = keyed(1, 1, 1);
  EXPECT_FALSE(head_refusal(bench.head("default", first.idempotency)));
  bench.submit_body(first);
  bench.commit();
  EXPECT_EQ(left(bench), "1 live, 9 requests");
  EXPECT_TRUE(head_refusal(bench.head())) << "without the key there is no place";
  EXPECT_FALSE(head_refusal(bench.head("default", first.idempotency)));
  EXPECT_EQ(left(bench), "1 live, 8 requests") << "the rate alone";
  const auto again = admissions(bench.submit_body(keyed(2, 1, 1)));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].job, job_id(1));
  EXPECT_TRUE(again[0].repeated);
  EXPECT_EQ(left(bench), "1 live, 8 requests") << "which stays spent";
  EXPECT_FALSE(head_refusal(bench.head("default", first.idempotency)));
  EXPECT_EQ(outcome_code(refusal(bench.submit_body(keyed(3, 1, 2)))), "CONFLICT");
  EXPECT_EQ(left(bench), "1 live, 8 requests") << "a refusal gives it back";
}

TEST(RequestHead, OC_ADMIT_1006_a_repeat_is_a_request_of_the_rate) {
  JournalBench bench{limited(10, 1)};
  bench.ready();
  const JobSpec first = keyed(1, 1, 1);
  bench.head("default", first.idempotency);
  bench.submit_body(first);
  bench.commit();
  const auto failure = head_refusal(bench.head("default", first.idempotency));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->field, "requests_per_second");
  bench.advance(*failure->retry_after);
  EXPECT_FALSE(head_refusal(bench.head("default", first.idempotency)));
  EXPECT_EQ(admissions(bench.submit_body(keyed(2, 1, 1))).at(0).job, job_id(1));
}

TEST(RequestHead, OC_ADMIT_1006_a_key_that_came_while_the_body_was_on_its_way_gives_the_place_back) {
  for (const bool committed : {true, false}) {
    JournalBench bench{limited(10, 10)};
    bench.ready();
    const JobSpec first = keyed(1, 1, 1);
    bench.head("default", first.idempotency);
    const RequestId slow{bench.requests};
    bench.head("default", first.idempotency);
    EXPECT_EQ(left(bench), "2 live, 8 requests");
    bench.submit_body(first);
    EXPECT_TRUE(all_of<AdmissionReply>(bench.step(Submit{slow, keyed(2, 1, 1), std::nullopt})).empty());
    EXPECT_EQ(left(bench), "1 live, 8 requests") << "it waits for the other's commit";
    const Effects told = committed ? bench.commit() : bench.refuse();
    EXPECT_EQ(all_of<AdmissionReply>(told).size(), 2u);
    EXPECT_EQ(left(bench), committed ? "1 live, 8 requests" : "0 live, 10 requests");
  }
}

// What was promised to be a repeat and is none any more needs a place like any other.
TEST(RequestHead, OC_ADMIT_1006_a_key_that_was_forgotten_while_the_body_was_on_its_way_is_judged_anew) {
  for (const std::int64_t places : {1, 2}) {
    Config config = limited(places, 10);
    config.journal.idempotency_ttl = Duration::seconds(5);
    JournalBench bench{config};
    bench.ready();
    const JobSpec first = keyed(1, 1, 1);
    bench.head("default", first.idempotency);
    bench.submit_body(first);
    bench.commit();
    bench.commit();
    bench.advance(ms(4900));
    EXPECT_FALSE(head_refusal(bench.head("default", first.idempotency)));
    bench.advance(ms(200));
    const Effects effects = bench.submit_body(keyed(2, 1, 1));
    EXPECT_EQ(bench.core.quotas().live("default"), places);
    if (places == 1) EXPECT_EQ(refusal(effects)->field, "concurrent_jobs");
  }
}

}  // namespace
}  // namespace orch::gateway
