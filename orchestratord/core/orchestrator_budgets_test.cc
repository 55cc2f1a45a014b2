// Budgets through the whole core: what replies say, which refusals there are, and that none of them leaves a charge
// (OC-ADMIT-1004): neither on the budgets nor on the quotas.
#include <gtest/gtest.h>

#include <functional>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

JobSpec in_session(std::uint64_t n, const std::string& session = "s") {
  JobSpec spec = spec_of(n);
  spec.session = session;
  return spec;
}

Config limited(BudgetLimits session, BudgetLimits tenant = {}) {
  Config config;
  config.budgets.session = session;
  config.tenants.defaults.budget = tenant;
  return config;
}

BudgetLeft told(const Effects& effects) {
  for (const AdmissionReply& reply : all_of<AdmissionReply>(effects)) {
    if (const auto* admitted = std::get_if<Admitted>(&reply.result)) return admitted->budget;
  }
  ADD_FAILURE() << "it was not admitted";
  return {};
}

TEST(Budgets, ORCH_3099_a_reply_and_the_dispatch_say_what_is_left) {
  Config config = limited({8, 100, Duration::seconds(10), 1'000'000}, {0, 50, {}, 0});
  config.budgets.output_price = 1000;
  Bench bench{config};
  bench.manager_up();
  const Effects admitted = bench.submit(in_session(1));  // 6 of prompt and 10 to write
  const BudgetLeft left = told(admitted);
  EXPECT_EQ(left.turns, 7);
  EXPECT_EQ(left.tokens, 34);  // the tenant has less than the session
  EXPECT_EQ(left.time, Duration::seconds(10));
  EXPECT_EQ(left.cost, 990'000);
  bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt});
  bool in_metrics = false;
  for (const Deliver& each : all_of<Deliver>(bench.grant(1))) {
    const auto* metrics = std::get_if<MetricsEvent>(&each.event->body);
    in_metrics = in_metrics || (metrics != nullptr && metrics->budget.tokens == 34);
  }
  EXPECT_TRUE(in_metrics);
  bench.started(bench.dispatches[0]);
  bench.now = bench.now + ms(2000);
  bench.finished(bench.dispatches[0], 3);  // 7 of prompt, 3 written
  const BudgetLeft settled = bench.core.budget_left("default", "s", bench.now);
  EXPECT_EQ(settled.turns, 7);
  EXPECT_EQ(settled.tokens, 40);
  EXPECT_EQ(settled.time, ms(8000));
  EXPECT_EQ(settled.cost, 997'000);
}

TEST(Budgets, ORCH_3021_the_ninth_turn_is_refused_and_says_when_to_come_back) {
  Bench bench;
  bench.ready();
  for (std::uint64_t n = 1; n <= 8; ++n) {
    EXPECT_FALSE(refusal(bench.submit(in_session(n))));
    bench.finished(bench.dispatches.back(), 1);
  }
  const auto failure = refusal(bench.submit(in_session(9)));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->outcome, Outcome::BUDGET_EXHAUSTED);
  EXPECT_EQ(failure->field, "session_id");
  EXPECT_EQ(failure->message, "the budget of turns of session s is 8 and too little of it is left");
  EXPECT_EQ(failure->retry_after, Duration::seconds(600));
  EXPECT_FALSE(refusal(bench.submit(in_session(9, "another"))));
  EXPECT_FALSE(refusal(bench.submit(spec_of(10))));  // without a session
  bench.now = bench.now + Duration::seconds(600);
  EXPECT_TRUE(refusal(bench.submit(in_session(9, "another"))));  // its task 9 is still there
}

TEST(Budgets, OC_BUDGET_1003_every_budget_is_refused_by_name) {
  const struct {
    BudgetLimits session;
    BudgetLimits tenant;
    std::string field;
    std::string message;
  } cases[] = {
      {{0, 20, {}, 0}, {}, "session_id", "the budget of tokens of session s is 20 and too little of it is left"},
      {{0, 0, ms(1500), 0},
       {},
       "session_id",
       "the budget of time_ms of session s is 1500 and too little of it is left"},
      {{0, 0, {}, 25}, {}, "session_id", "the budget of cost of session s is 25 and too little of it is left"},
      {{}, {0, 20, {}, 0}, "tenant", "the budget of tokens of tenant default is 20 and too little of it is left"},
      {{},
       {0, 0, ms(1500), 0},
       "tenant",
       "the budget of time_ms of tenant default is 1500 and too little of it is left"},
      {{}, {0, 0, {}, 25}, "tenant", "the budget of cost of tenant default is 25 and too little of it is left"},
  };
  for (const auto& each : cases) {
    Config config = limited(each.session, each.tenant);
    config.budgets.output_price = 1;
    config.budgets.input_price = 1;
    Bench bench{config};
    bench.ready();
    EXPECT_FALSE(refusal(bench.submit(in_session(1)))) << each.message;
    bench.started(bench.dispatches[0]);
    bench.now = bench.now + ms(1500);
    bench.finished(bench.dispatches[0], 8);
    const auto failure = refusal(bench.submit(in_session(2)));
    ASSERT_TRUE(failure) << each.message;
    EXPECT_EQ(failure->outcome, Outcome::BUDGET_EXHAUSTED);
    EXPECT_EQ(failure->field, each.field);
    EXPECT_EQ(failure->message, each.message);
    EXPECT_EQ(failure->policy_label, "reject");
    EXPECT_TRUE(failure->retry_after);
  }
  Bench bench{limited({0, 15, {}, 0})};
  bench.ready();
  const auto failure = refusal(bench.submit(in_session(1)));  // 16 and more
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->outcome, Outcome::INVALID_PARAMS);
  EXPECT_EQ(failure->field, "max_tokens");
}

TEST(Budgets, OC_BUDGET_1004_a_table_full_of_busy_sessions_refuses_a_new_one) {
  Config config;
  config.budgets.sessions_max = 1;
  Bench bench{config};
  bench.ready();
  EXPECT_FALSE(refusal(bench.submit(in_session(1, "one"))));
  const auto failure = refusal(bench.submit(in_session(2, "two")));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->outcome, Outcome::ADMISSION_REJECT);
  EXPECT_EQ(failure->field, "session_id");
  bench.finished(bench.dispatches[0], 1);
  EXPECT_FALSE(refusal(bench.submit(in_session(2, "two"))));
}

TEST(Budgets, OC_BUDGET_1002_a_task_that_no_worker_was_given_uses_nothing) {
  Bench bench{limited({8, 100, {}, 0})};
  bench.manager_up();
  bench.submit(in_session(1));
  bench.step(CancelJob{RequestId{99}, job_id(1)});
  const BudgetLeft left = bench.core.budget_left("default", "s", bench.now);
  EXPECT_EQ(left.turns, 8);
  EXPECT_EQ(left.tokens, 100);
}

TEST(Budgets, OC_BUDGET_1006_a_session_is_forgotten_by_its_own_tenant) {
  Bench bench;
  bench.ready();
  bench.submit(in_session(1));
  const auto ended = [&](const std::string& tenant) {
    const auto replies = all_of<SessionEnded>(bench.step(EndSession{RequestId{7}, tenant, "s"}));
    return replies.size() == 1 && replies[0].request == RequestId{7} && replies[0].found;
  };
  EXPECT_FALSE(ended("stranger"));
  EXPECT_TRUE(ended("default"));
}

// --- OC-ADMIT-1004: after each refusal everything is as it was before the request ---

struct Standing {
  double requests = 0;
  double tokens = 0;
  std::int64_t live = 0;
  BudgetLeft session;
  std::size_t sessions = 0;
};

class Ledgers {
 public:
  explicit Ledgers(const Bench& bench) : bench_(bench), before_(read()) {}
  void expect_unchanged(const std::string& step) const {
    const Standing after = read();
    EXPECT_EQ(after.requests, before_.requests) << step;
    EXPECT_EQ(after.tokens, before_.tokens) << step;
    EXPECT_EQ(after.live, before_.live) << step;
    EXPECT_EQ(after.session.turns, before_.session.turns) << step;
    EXPECT_EQ(after.session.tokens, before_.session.tokens) << step;
    EXPECT_EQ(after.session.cost, before_.session.cost) << step;
    EXPECT_EQ(after.sessions, before_.sessions) << step;
  }

 private:
  Standing read() const {
    const Orchestrator& core = bench_.core;
    Standing out;
    out.requests = core.quotas().requests_left("default", bench_.now).value_or(-1);
    out.tokens = core.quotas().tokens_left("default", bench_.now).value_or(-1);
    out.live = core.quotas().live("default");
    out.session = core.budget_left("default", "s", bench_.now);
    out.sessions = core.budgets().sessions();
    return out;
  }
  const Bench& bench_;
  const Standing before_;
};

Config with_every_ledger() {
  Config config = journaled();
  config.queue.interactive_capacity = 1;
  config.tenants.defaults.quotas = {
      .concurrent_jobs = 4, .requests_per_second = 100, .request_burst = 1000, .tokens_per_minute = 3000};
  config.tenants.defaults.budget = {0, 100'000, {}, 1'000'000};
  config.budgets.session = {100, 2000, {}, 500'000};
  config.budgets.output_price = 1;
  return config;
}

TEST(Refund, OC_ADMIT_1004_each_refusing_step_leaves_no_charge) {
  JournalBench bench{with_every_ledger()};
  bench.ready(1);
  for (std::uint64_t n = 1000; n < 1020; ++n) {  // measured: 190 ms a job
    bench.submit(in_session(n));
    bench.commit();
    bench.commit();
    bench.serve_measured();
    bench.commit();
  }
  bench.advance(Duration::seconds(120));  // the buckets are full again
  const auto refuse_with = [&](const std::string& step, Outcome outcome, const std::function<void(JobSpec&)>& change) {
    const Ledgers ledgers(bench);
    JobSpec spec = in_session(5000);
    change(spec);
    const auto failure = refusal(bench.submit(spec));
    ASSERT_TRUE(failure) << step;
    EXPECT_EQ(outcome_row(failure->outcome).code, outcome_row(outcome).code) << step << ": " << failure->message;
    ledgers.expect_unchanged(step);
  };
  refuse_with("task id", Outcome::CONFLICT, [](JobSpec& spec) { spec.id = job_id(1019); });
  refuse_with("schema", Outcome::INVALID_PARAMS, [](JobSpec& spec) { spec.max_tokens = 0; });
  refuse_with("model", Outcome::MODEL_NOT_FOUND, [](JobSpec& spec) { spec.model_ref = "nobody"; });
  refuse_with("device", Outcome::POOL_UNAVAILABLE, [](JobSpec& spec) { spec.require_gpu = true; });
  refuse_with("wish", Outcome::INVALID_PARAMS, [](JobSpec& spec) { spec.wish.pin = "nowhere"; });
  refuse_with("context", Outcome::CONTEXT_OVERFLOW, [](JobSpec& spec) { spec.max_tokens = 1000; });
  refuse_with("deadline", Outcome::DEADLINE_UNMET, [](JobSpec& spec) { spec.deadline = ms(20); });
  {
    const Ledgers ledgers(bench);  // behind an exact count, which comes before tokens and budgets
    JobSpec spec = in_session(5001);
    spec.max_tokens = 966;
    const auto counts = all_of<CountTokens>(bench.submit(spec));
    ASSERT_EQ(counts.size(), 1u);
    EXPECT_TRUE(refusal(bench.step(TokensCounted{counts[0].request, 35})));
    ledgers.expect_unchanged("exact count");
    const auto again = all_of<CountTokens>(bench.submit(spec));
    ASSERT_EQ(again.size(), 1u);
    bench.step(CancelJob{RequestId{77}, spec.id});
    ledgers.expect_unchanged("cancel while it is counted");
  }
  {
    const Ledgers ledgers(bench);
    bench.submit(in_session(5002));
    EXPECT_TRUE(refusal(bench.refuse()));  // its admission could not be made durable
    ledgers.expect_unchanged("journal");
  }
  refuse_with("failing journal", Outcome::JOURNAL_UNAVAILABLE, [](JobSpec&) {});
}

TEST(Refund, OC_ADMIT_1004_a_quota_budget_or_queue_that_refuses_takes_nothing_from_the_others) {
  JournalBench bench{with_every_ledger()};
  bench.ready(1);
  const auto submit = [&](std::uint64_t n, const std::string& session, std::uint32_t max_tokens) {
    JobSpec spec = in_session(n, session);
    spec.max_tokens = max_tokens;
    Effects effects = bench.submit(spec);
    const Effects committed = bench.commit();
    effects.insert(effects.end(), committed.begin(), committed.end());
    return effects;
  };
  EXPECT_FALSE(refusal(submit(1, "s", 900)));  // dispatched
  EXPECT_FALSE(refusal(submit(2, "s", 900)));  // waits: the queue of one is full
  {
    const Ledgers ledgers(bench);
    EXPECT_EQ(refusal(submit(3, "t", 10))->message, "the queue is full: queue.interactive_capacity = 1");
    ledgers.expect_unchanged("queue");
  }
  {
    const Ledgers ledgers(bench);
    EXPECT_EQ(refusal(submit(3, "s", 200))->outcome, Outcome::BUDGET_EXHAUSTED);
    ledgers.expect_unchanged("budget");
  }
  {
    const Ledgers ledgers(bench);  // 1812 of the quota's 3000 are reserved; session u has room for it
    JobSpec long_one = in_session(3, "u");
    long_one.max_tokens = 960;
    EXPECT_EQ(refusal(bench.submit(long_one))->field, "");  // the queue
    long_one.prompt_bytes = 4;
    ledgers.expect_unchanged("queue behind a large reservation");
  }
}

TEST(Refund, OC_ADMIT_1004_concurrent_jobs_and_tokens_a_minute) {
  Config config = with_every_ledger();
  config.tenants.defaults.quotas.concurrent_jobs = 1;
  config.tenants.defaults.quotas.tokens_per_minute = 100;
  config.journal.enabled = false;
  Bench bench{config};
  bench.ready(1);
  JobSpec nobody = in_session(9);
  nobody.model_ref = "nobody";
  EXPECT_TRUE(refusal(bench.submit(nobody)));  // the tenant's buckets exist from its first request on
  {
    const Ledgers ledgers(bench);
    JobSpec large = in_session(1);
    large.max_tokens = 200;
    EXPECT_EQ(refusal(bench.submit(large))->field, "max_tokens");
    ledgers.expect_unchanged("tokens a minute");
  }
  EXPECT_FALSE(refusal(bench.submit(in_session(1))));
  const Ledgers ledgers(bench);
  EXPECT_EQ(refusal(bench.submit(in_session(2)))->field, "concurrent_jobs");
  ledgers.expect_unchanged("concurrent jobs");
  bench.finished(bench.dispatches[0], 1);
  const Ledgers done(bench);
  bench.step(DrainBegin{Duration::seconds(30)});
  EXPECT_EQ(refusal(bench.submit(in_session(3)))->outcome, Outcome::POOL_UNREADY);
  done.expect_unchanged("drain");
}

// --- OC-BUDGET-1007 ---

TEST(Budgets, OC_BUDGET_1007_a_restart_keeps_what_the_journal_s_tasks_have_used) {
  Config config = journaled();
  config.budgets.session = {8, 100, {}, 0};
  JournalBench bench{config};
  bench.ready(1);
  bench.submit(in_session(1));
  bench.commit();
  bench.commit();
  bench.started(bench.dispatches[0]);
  bench.finished(bench.dispatches[0], 5);  // 7 and 5
  bench.commit();
  bench.submit(in_session(2));  // 16 reserved, under way
  bench.commit();
  bench.commit();
  const JournalBench next{bench, Duration::seconds(30), config};
  const BudgetLeft left = next.core.budget_left("default", "s", next.now);
  EXPECT_EQ(left.turns, 6);
  EXPECT_EQ(left.tokens, 100 - 12 - 16);
  const JournalBench later{bench, Duration::seconds(5000), config};
  EXPECT_EQ(later.core.budget_left("default", "s", later.now).turns, 7);  // only the one under way
}

}  // namespace
}  // namespace orch::gateway
