// OC-ADMIT-1002: a request that breaks two rules hears of the earlier one, whichever two they are. What each rule is
// broken by is a request, a configuration or a state of the fleet; every pair of them is tried.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

// One way to break one rule, and what is heard then.
struct Rule {
  std::string name;
  Outcome outcome;
  std::string says;  // part of the message
  std::function<void(Config&)> configure = {};
  std::function<void(Bench&)> happen = {};  // before the request
  std::function<void(JobSpec&)> ask = {};
};

void fail_the_pool(Bench& bench) {
  ReplicaView view = ready_replica();
  view.state = ReplicaState::failed;
  bench.step(ReplicaChanged{kLink, view});
}

// A job of another model, which has a replica and no lease, waits in the only place.
void fill_the_queue(Bench& bench) {
  bench.step(ReplicaChanged{kLink, ready_replica("r2", "other")});
  JobSpec waiting = spec_of(900);
  waiting.tenant = "filler";
  waiting.model_ref = "other";
  EXPECT_FALSE(refusal(bench.submit(waiting)));
}

// Another request of the tenant takes what there is.
void take_the_quota(Bench& bench) { EXPECT_FALSE(head_refusal(bench.head("asking"))); }

// In the order of the specification.
std::vector<Rule> rules() {
  return {
      {.name = "concurrency",
       .outcome = Outcome::ADMISSION_REJECT,
       .says = "concurrent_jobs",
       .configure = [](Config& config) { config.tenants.tenants[0].quotas.concurrent_jobs = 1; },
       .happen = take_the_quota},
      {.name = "rate",
       .outcome = Outcome::ADMISSION_REJECT,
       .says = "requests_per_second",
       .configure = [](Config& config) { config.tenants.tenants[0].quotas.requests_per_second = 1; },
       .happen = [](Bench& bench) { bench.head("asking"); }},
      {.name = "schema",
       .outcome = Outcome::INVALID_PARAMS,
       .says = "max_tokens must be at least 1",
       .ask = [](JobSpec& spec) { spec.max_tokens = 0; }},
      {.name = "life cycle",
       .outcome = Outcome::MODEL_NOT_FOUND,
       .says = "'nobody'",
       .ask = [](JobSpec& spec) { spec.model_ref = "nobody"; }},
      {.name = "context",
       .outcome = Outcome::CONTEXT_OVERFLOW,
       .says = "the context of 1000 tokens",
       .ask = [](JobSpec& spec) { spec.max_tokens = spec.max_tokens > 0 ? 1000 : 0; }},
      {.name = "token quota",
       .outcome = Outcome::INVALID_PARAMS,
       .says = "tokens_per_minute",
       .configure = [](Config& config) { config.tenants.tenants[0].quotas.tokens_per_minute = 1; }},
      {.name = "budget",
       .outcome = Outcome::INVALID_PARAMS,
       .says = "the budget of tokens",
       .configure = [](Config& config) { config.tenants.tenants[0].budget.tokens = 1; }},
      {.name = "deadline",
       .outcome = Outcome::DEADLINE_UNMET,
       .says = "deadline_ms (20 ms)",
       .ask = [](JobSpec& spec) { spec.deadline = ms(20); }},
      {.name = "pool", .outcome = Outcome::POOL_UNREADY, .says = "no replica of 'm' is ready", .happen = fail_the_pool},
      {.name = "queue",
       .outcome = Outcome::ADMISSION_REJECT,
       .says = "the queue is full",
       .configure = [](Config& config) { config.queue.interactive_capacity = 1; },
       .happen = fill_the_queue},
  };
}

// The one refusal of a request that breaks all of these.
Failure heard(const std::vector<Rule>& broken) {
  Config config;
  config.tenants.tenants = {{.name = "asking"}};
  for (const Rule& rule : broken) {
    if (rule.configure) rule.configure(config);
  }
  Bench bench{config};
  bench.ready(1);
  for (std::uint64_t n = 1000; n < 1020; ++n) {  // measured: 190 ms a job
    JobSpec measured = spec_of(n);
    measured.attachment = Attachment::detached;
    bench.submit(measured);
    bench.serve_measured();
  }
  JobSpec spec = spec_of(1);
  spec.tenant = "asking";
  for (const Rule& rule : broken) {
    if (rule.happen) rule.happen(bench);
    if (rule.ask) rule.ask(spec);
  }
  if (std::optional<Failure> failure = head_refusal(bench.head(spec.tenant))) return *failure;
  return refusal(bench.submit_body(spec)).value_or(Failure{});
}

TEST(AdmissionOrder, OC_ADMIT_1002_each_rule_is_told_when_it_alone_is_broken) {
  for (const Rule& rule : rules()) {
    const Failure failure = heard({rule});
    EXPECT_EQ(code(failure), outcome_row(rule.outcome).code) << rule.name << ": " << failure.message;
    EXPECT_NE(failure.message.find(rule.says), std::string::npos) << rule.name << ": " << failure.message;
  }
}

TEST(AdmissionOrder, OC_ADMIT_1002_of_two_broken_rules_the_earlier_one_is_told) {
  const std::vector<Rule> all = rules();
  for (std::size_t first = 0; first < all.size(); ++first) {
    for (std::size_t second = first + 1; second < all.size(); ++second) {
      const Failure failure = heard({all[first], all[second]});
      const std::string pair = all[first].name + " and " + all[second].name + ": " + failure.message;
      EXPECT_EQ(code(failure), outcome_row(all[first].outcome).code) << pair;
      EXPECT_NE(failure.message.find(all[first].says), std::string::npos) << pair;
    }
  }
}

}  // namespace
}  // namespace orch::gateway
