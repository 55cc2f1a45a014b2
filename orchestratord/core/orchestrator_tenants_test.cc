// Tenants through the whole core: quotas, caps, shares of a full queue, changes at run time, and a run at weights 1:2:4
// with an aggressor.
#include <gtest/gtest.h>

#include <map>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

JobSpec spec_from(const std::string& tenant, std::uint64_t n, Priority priority = Priority::interactive) {
  JobSpec spec = spec_of(n, priority);
  spec.tenant = tenant;
  return spec;
}

TenantPolicy policy(const std::string& name, std::int64_t weight = 1) {
  TenantPolicy out;
  out.name = name;
  out.weight = weight;
  return out;
}

TEST(TenantQuota, OC_QUOTA_1002_over_the_rate_is_429_with_the_buckets_own_time) {
  Config config;
  config.tenants.defaults.quotas.requests_per_second = 1;
  Bench bench{config};
  bench.ready();
  EXPECT_FALSE(refusal(bench.submit(spec_of(1))));
  const Effects effects = bench.submit(spec_of(2));
  const auto failure = refusal(effects);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->outcome, Outcome::ADMISSION_REJECT);
  EXPECT_EQ(failure->field, "requests_per_second");
  EXPECT_EQ(failure->retry_after, Duration::seconds(1));
  ASSERT_EQ(all_of<NotedQuota>(effects).size(), 1u);
  bench.advance(Duration::seconds(1));
  EXPECT_FALSE(refusal(bench.submit(spec_of(2))));
}

TEST(TenantQuota, OC_QUOTA_1003_a_later_refusal_returns_everything) {
  Config config;
  config.tenants.defaults.quotas.requests_per_second = 1;
  config.tenants.defaults.quotas.tokens_per_minute = 100;
  config.queue.interactive_capacity = 1;
  Bench bench{config};
  bench.manager_up();
  JobSpec nobody = spec_of(1);
  nobody.model_ref = "nobody";
  for (int i = 0; i < 5; ++i) EXPECT_EQ(refusal(bench.submit(nobody))->outcome, Outcome::MODEL_NOT_FOUND);
  EXPECT_FALSE(refusal(bench.submit(spec_of(2))));
  bench.advance(Duration::seconds(2));
  const double left = *bench.core.quotas().tokens_left("default", bench.now);
  EXPECT_EQ(refusal(bench.submit(spec_of(3)))->message, "the queue is full: queue.interactive_capacity = 1");
  EXPECT_EQ(*bench.core.quotas().tokens_left("default", bench.now), left);
  EXPECT_EQ(*bench.core.quotas().requests_left("default", bench.now), 1);
  EXPECT_EQ(bench.core.quotas().live("default"), 1);
}

TEST(TenantQuota, OC_QUOTA_1003_tokens_are_settled_by_what_was_counted) {
  Config config;
  config.tenants.defaults.quotas.tokens_per_minute = 100;
  Bench bench{config};
  bench.ready();
  bench.submit(spec_of(1));  // 6 of prompt, 10 to write
  EXPECT_EQ(*bench.core.quotas().tokens_left("default", bench.now), 84);
  bench.started(bench.dispatches[0]);
  bench.finished(bench.dispatches[0], 2);  // 7 and 2
  EXPECT_EQ(*bench.core.quotas().tokens_left("default", bench.now), 91);
  JobSpec large = spec_of(2);
  large.max_tokens = 200;
  const auto failure = refusal(bench.submit(large));
  EXPECT_EQ(failure->outcome, Outcome::INVALID_PARAMS);  // no time makes room for it
  EXPECT_EQ(failure->field, "max_tokens");
}

TEST(TenantQuota, OC_QUOTA_1001_concurrent_jobs_of_a_tenant_are_its_own) {
  Config config;
  config.tenants.tenants = {policy("small")};
  config.tenants.tenants[0].quotas.concurrent_jobs = 2;
  Bench bench{config};
  bench.ready();
  bench.submit(spec_from("small", 1));
  bench.submit(spec_from("small", 2));
  EXPECT_EQ(refusal(bench.submit(spec_from("small", 3)))->field, "concurrent_jobs");
  EXPECT_FALSE(refusal(bench.submit(spec_from("large", 4))));
  bench.finished(bench.dispatches[0], 1);
  EXPECT_FALSE(refusal(bench.submit(spec_from("small", 5))));
}

TEST(TenantQuota, OC_QUOTA_1004_a_dry_run_only_reports) {
  Config config;
  config.tenants.defaults.quotas.concurrent_jobs = 1;
  config.tenants.dry_run = true;
  Bench bench{config};
  bench.ready();
  bench.submit(spec_of(1));
  const Effects effects = bench.submit(spec_of(2));
  EXPECT_FALSE(refusal(effects));
  const auto noted = all_of<NotedQuota>(effects);
  ASSERT_EQ(noted.size(), 1u);
  EXPECT_FALSE(noted[0].enforced);
}

TEST(TenantQuota, OC_TENANT_1005_a_tenant_of_batch_alone_is_refused_interactive) {
  Config config;
  config.tenants.tenants = {policy("night")};
  config.tenants.tenants[0].highest = Priority::batch;
  Bench bench{config};
  bench.ready();
  const auto failure = refusal(bench.submit(spec_from("night", 1)));
  EXPECT_EQ(failure->outcome, Outcome::FORBIDDEN);
  EXPECT_EQ(failure->field, "priority");
  EXPECT_FALSE(refusal(bench.submit(spec_from("night", 2, Priority::batch))));
}

TEST(FullQueue, OC_QUEUE_1002_the_victim_is_told_its_code_and_when_to_return) {
  Config config;
  config.queue.interactive_capacity = 3;
  Bench bench{config};
  bench.manager_up();
  for (std::uint64_t n = 1; n <= 3; ++n) bench.submit(spec_from("greedy", n));
  const ReaderId reader{9};
  bench.step(OpenStream{reader, job_id(3), std::nullopt});
  const Effects effects = bench.submit(spec_from("modest", 4));
  EXPECT_FALSE(refusal(effects));  // under `reject`
  EXPECT_EQ(shown(effects, reader), "2 ADMISSION_REJECT, closed");
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_TRUE(bench.ends[0].failure->retry_after);
  EXPECT_EQ(bench.core.quotas().live("greedy"), 2);
}

TEST(FullQueue, OC_QUEUE_1007_only_waiting_jobs_are_victims) {
  Config config;
  config.queue.interactive_capacity = 1;
  Bench bench{config};
  bench.ready(3);
  for (std::uint64_t n = 1; n <= 3; ++n) bench.submit(spec_from("greedy", n));  // all are dispatched
  bench.submit(spec_from("modest", 4));
  EXPECT_TRUE(refusal(bench.submit(spec_from("third", 5))));  // modest has one place, its own
  EXPECT_TRUE(bench.ends.empty());
}

TEST(TenantCap, running_max_holds_a_tenant_and_leaves_the_slots_to_others) {
  Config config;
  config.tenants.tenants = {policy("capped")};
  config.tenants.tenants[0].running_max = 1;
  Bench bench{config};
  bench.ready(3);
  for (std::uint64_t n = 1; n <= 3; ++n) bench.submit(spec_from("capped", n));
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.submit(spec_from("free", 4));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].tenant, "free");
  bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(bench.dispatches.size(), 3u);
}

TEST(TenantsChange, OC_TENANT_1003_is_in_force_at_once_or_refused_whole) {
  Bench bench;
  bench.ready();
  TenantsConfig config;
  config.tenants = {policy("a", 5), policy("b", 0)};
  auto replies = all_of<TenantsReply>(bench.step(TenantsChanged{RequestId{7}, config}));
  ASSERT_EQ(replies.size(), 1u);
  ASSERT_TRUE(replies[0].failure);
  EXPECT_EQ(replies[0].failure->field, "tenants[1].weight");
  EXPECT_EQ(bench.core.tenants().weight("a"), 1u);
  config.tenants[1].weight = 2;
  config.tenants[1].quotas.concurrent_jobs = 1;
  replies = all_of<TenantsReply>(bench.step(TenantsChanged{RequestId{8}, config}));
  EXPECT_FALSE(replies.at(0).failure);
  EXPECT_EQ(bench.core.tenants().weight("a"), 5u);
  bench.submit(spec_from("b", 1));
  EXPECT_EQ(refusal(bench.submit(spec_from("b", 2)))->field, "concurrent_jobs");
}

TEST(Deadlines, ORCH3081_an_end_says_whether_its_deadline_was_met) {
  Bench bench;
  bench.ready(1);
  JobSpec spec = spec_of(1);
  spec.deadline = Duration::seconds(10);
  bench.submit(spec);
  bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(bench.ends.at(0).deadline_met, true);
  bench.submit(spec_of(2));
  bench.finished(bench.dispatches[1], 1);
  EXPECT_EQ(bench.ends.at(1).deadline_met, std::nullopt);
  spec.id = job_id(3);
  bench.submit(spec);
  bench.advance(Duration::seconds(11));
  EXPECT_EQ(bench.ends.at(2).deadline_met, false);
}

// One replica of two is the pinned tenant's; the other serves everybody.
TEST(TenantRun, OC_FAIR_F7_a_pinned_tenant_is_charged_alike_and_stands_outside_once_it_is_passed_over) {
  Bench bench;
  ReplicaView other = ready_replica("r2");
  other.pool_id = "p2";
  other.endpoint = "unix:/r2";
  bench.manager_up({ready_replica(), other});
  bench.grant(1, {1, 1}, "r1");
  bench.grant(1, {1, 2}, "r2");
  std::uint64_t next = 1;
  const auto offer = [&](const std::string& tenant, const std::string& pin) {
    JobSpec spec = spec_from(tenant, next++);
    spec.wish.pin = pin;
    EXPECT_FALSE(refusal(bench.submit(spec)));
  };
  const auto standing = [&](const std::string& tenant) {
    for (const FlowStanding& each : bench.core.fairness().standings()) {
      if (each.flow.tenant == tenant && each.flow.priority == Priority::interactive) return each;
    }
    return FlowStanding{};
  };
  offer("pinned", "p2");
  offer("free", "");
  ASSERT_EQ(bench.dispatches.size(), 2u);
  for (int i = 0; i < 3; ++i) offer("pinned", "p2");
  EXPECT_FALSE(standing("pinned").outside);  // nobody was served in its place
  const auto gap = [&] { return bench.core.fairness().gap("m", Priority::interactive); };
  double widest = 0;
  for (int i = 0; i < 60; ++i) {  // p2 stays busy with one long job; r1 serves the others
    offer("free", "");
    offer("third", "");
    const Dispatch& last = bench.dispatches.back();
    ASSERT_EQ(last.endpoint, "unix:/r1");
    bench.started(last);
    bench.finished(last, 10);
    widest = std::max(widest, gap().gap / std::max(gap().bound, 1.0));
  }
  EXPECT_TRUE(standing("pinned").outside);
  EXPECT_EQ(gap().tenants, 2u);  // the gap is between the others, and within B1
  EXPECT_LE(widest, 1.0);
  EXPECT_GT(standing("free").v - standing("pinned").v, gap().bound);
  const double before = standing("pinned").v;
  bench.started(bench.dispatches[0]);
  EXPECT_EQ(standing("pinned").v, before + 7);
}

// Three tenants at weights 1:2:4, always backlogged; the one of weight 1 sends ten jobs for each of the others', five
// times as long. The counts of the ends are the journal that the shares are held against.
TEST(TenantRun, F5_weights_1_2_4_under_an_aggressor_of_ten_to_one) {
  Config config;
  config.queue = {.capacity = 400, .interactive_capacity = 400, .batch_capacity = 400};
  config.tenants.tenants = {policy("a", 1), policy("b", 2), policy("c", 4)};
  LongBench bench{config};
  ReplicaView replica = ready_replica();
  replica.slots = 8;
  bench.manager_up({replica});
  bench.grant(8);
  const std::map<std::string, std::uint64_t> weights{{"a", 1}, {"b", 2}, {"c", 4}};
  std::map<std::string, double> counted;
  std::map<JobId, std::uint32_t> length;
  std::uint64_t next = 1;
  std::uint64_t roll = 42;
  const auto random = [&](std::uint64_t below) {
    roll = roll * 6364136223846793005ull + 1442695040888963407ull;
    return (roll >> 33) % below;
  };
  const auto offer = [&](const std::string& tenant, std::uint64_t jobs, std::uint32_t factor) {
    for (std::uint64_t i = 0; i < jobs; ++i) {
      JobSpec spec = spec_from(tenant, next);
      spec.max_tokens = 20 * factor;
      length[spec.id] = static_cast<std::uint32_t>(1 + random(spec.max_tokens));
      if (!refusal(bench.submit(spec))) ++next;
    }
  };
  double worst = 0;
  double bound = 0;
  std::size_t done = 0;
  const auto held = [&] { return bench.core.quotas().live("a") > 60; };
  std::map<DispatchId, std::uint32_t> written;
  std::vector<Dispatch> running;
  std::size_t seen = 0;
  for (int round = 0; round < 2500; ++round) {
    if (round % 500 == 499) bench.grant(8);  // the lease goes on
    while (bench.core.queue().size_of("b") < 8) offer("b", 4, 1);
    while (bench.core.queue().size_of("c") < 8) offer("c", 4, 1);
    if (!held()) offer("a", 40, 5);
    for (; seen < bench.dispatches.size(); ++seen) {
      running.push_back(bench.dispatches[seen]);
      bench.started(bench.dispatches[seen]);
    }
    bench.now = bench.now + ms(10);
    for (std::size_t i = 0; i < running.size();) {
      const Dispatch dispatch = running[i];
      const std::uint32_t tokens = written[dispatch.dispatch]++;
      if (tokens < length.at(dispatch.dispatch.job)) {
        bench.token(dispatch, tokens, "x");
        ++i;
      } else {
        running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
        bench.finished(dispatch, tokens);
      }
    }
    for (; done < bench.ends.size(); ++done) {
      const NotedEnded& ended = bench.ends[done];
      if (!ended.failure) counted[ended.tenant] += ended.tokens_in + 2.0 * ended.tokens_out;
    }
    const FairnessGap gap = bench.core.fairness().gap("m", Priority::interactive);
    if (gap.tenants == 3 && gap.bound > 0 && gap.gap / gap.bound > worst) {
      worst = gap.gap / gap.bound;
      bound = gap.bound;
    }
  }
  double sum = 0;
  double squares = 0;
  double total = 0;
  for (const auto& [tenant, service] : counted) {
    const double normal = service / static_cast<double>(weights.at(tenant));
    sum += normal;
    squares += normal * normal;
    total += service;
  }
  const double jain = sum * sum / (3 * squares);
  // Into the report of the run (gtest's XML).
  RecordProperty("gap_over_bound", std::to_string(worst));
  RecordProperty("bound", std::to_string(bound));
  RecordProperty("jain", std::to_string(jain));
  RecordProperty("charged_tokens", std::to_string(total));
  const double largest = 7 + 2 * 100;  // charge of the aggressor's longest job
  EXPECT_GE(total, 200 * largest);
  EXPECT_GE(jain, 0.98);
  EXPECT_LE(worst, 1.0);
  EXPECT_GT(worst, 0.0);
  double shown = 0;
  for (const ServiceShare& row : bench.core.shares().rows(bench.now)) shown += static_cast<double>(row.tokens);
  for (const ServiceShare& row : bench.core.shares().rows(bench.now)) {
    EXPECT_NEAR(static_cast<double>(row.tokens) / shown, counted.at(row.tenant) / total, 0.02) << row.tenant;
    EXPECT_NEAR(row.share, static_cast<double>(weights.at(row.tenant)) / 7.0, 0.05) << row.tenant;
  }
}

TEST(Gateways, OC_FAIR_F4_tokens_alone_are_reported_within_an_interval) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1), ReaderId{1});
  bench.started(bench.dispatches.at(0));
  bench.advance(ms(1000));
  const Instant from = bench.now;
  const Effects at_once = bench.token(bench.dispatches[0], 0, "a");
  std::uint32_t index = 1;
  Effects later;
  while (bench.now < from + ms(300)) {  // nothing else happens
    bench.now = bench.now + ms(30);
    later = later + bench.token(bench.dispatches[0], index++, "a");
  }
  EXPECT_EQ(all_of<SendFair>(at_once).size(), 1u) << "the last report is longer ago than an interval";
  EXPECT_GE(all_of<SendFair>(later).size(), 2u);
  bench.token(bench.dispatches[0], index, "a");
  EXPECT_LE(bench.core.next_wakeup(), bench.now + ms(100)) << "and the last of them is, though no token follows";
}

}  // namespace
}  // namespace orch::gateway
