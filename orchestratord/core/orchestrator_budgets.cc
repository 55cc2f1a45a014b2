// Budgets in the control flow (OC-BUDGET-1001 to 1006): reserved in admission behind the token quota, settled where a
// job ends, taken over from the journal's jobs at a start.
#include <algorithm>
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

BudgetLedger::Account Orchestrator::budget_account(const JobSpec& spec) const {
  return {spec.tenant, spec.session, tenants_.policy(spec.tenant).budget};
}

BudgetLeft Orchestrator::budget_left(const std::string& tenant, const std::string& session, Instant now) const {
  return budgets_.left({tenant, session, tenants_.policy(tenant).budget}, now);
}

// Tokens as for the quota. Time that was not measured reserves nothing: a default refuses nobody (E4).
BudgetUse Orchestrator::budget_wanted(const Job& job) const {
  const std::uint64_t input = expected_work(job).input;
  BudgetUse wanted;
  wanted.tokens = static_cast<std::int64_t>(input + job.spec.max_tokens);
  wanted.cost = budgets_.cost(input, job.spec.max_tokens);
  if (!job.forecast.estimated) wanted.time = job.forecast.service;
  return wanted;
}

std::optional<Failure> Orchestrator::reserve_budget(Job& job) {
  const bool timed = config_.budgets.session.time.ns > 0 || tenants_.policy(job.spec.tenant).budget.time.ns > 0;
  if (timed) predict_service(job, domain_load(job.lane));
  const auto refusal = budgets_.reserve(budget_account(job.spec), budget_wanted(job), job.budget, now_);
  if (!refusal) return std::nullopt;
  const std::string limit = std::to_string(refusal->limit);
  if (refusal->budget == Budget::sessions) {
    Failure failure = failure_for(Outcome::ADMISSION_REJECT,
                                  "sessions.sessions_max = " + limit + " sessions have tasks under way", job);
    failure.field = "session_id";
    failure.policy_label = "reject";
    failure.retry_after = refusal->retry_after;
    return failure;
  }
  const std::string whose = refusal->of_tenant ? "tenant " + job.spec.tenant : "session " + job.spec.session;
  const std::string what = std::string(budget_name(refusal->budget)) + " of " + whose + " is " + limit;
  if (refusal->never) {  // waiting does not help
    Failure failure =
        failure_for(Outcome::INVALID_PARAMS, "the budget of " + what + "; this task alone may need more", job);
    failure.field = "max_tokens";
    return failure;
  }
  Failure failure =
      failure_for(Outcome::BUDGET_EXHAUSTED, "the budget of " + what + " and too little of it is left", job);
  failure.field = refusal->of_tenant ? "tenant" : "session_id";
  failure.policy_label = "reject";
  failure.retry_after = std::clamp(refusal->retry_after, Duration::milliseconds(1), config_.limits.budget_retry_max);
  return failure;
}

// A task that no worker was given has used nothing.
void Orchestrator::settle_budget(Job& job, const NotedEnded& noted, Duration held) {
  BudgetUse used;
  if (job.attempt > 0) {
    used.turns = 1;
    used.tokens = std::int64_t{noted.tokens_in} + noted.tokens_out;
    used.time = held;
    used.cost = budgets_.cost(noted.tokens_in, noted.tokens_out);
  }
  budgets_.settle(job.spec.tenant, job.budget, used, now_);
}

// What the journal still has of the last life: ended tasks as they were counted, those under way reserved anew. A null
// `terminal`: under way.
void Orchestrator::restore_budget(Job& job, const StreamEvent* terminal) {
  if (terminal == nullptr) return budgets_.assume(budget_account(job.spec), budget_wanted(job), job.budget, now_);
  if (job.attempt == 0) return;
  const auto* end = std::get_if<EndEvent>(&terminal->body);
  BudgetUse used;
  used.turns = 1;
  const std::uint64_t input = end == nullptr ? 0 : end->prompt_tokens;
  const std::uint64_t output = end == nullptr ? job.shown_ids.size() : end->tokens_out;
  used.tokens = static_cast<std::int64_t>(input + output);
  used.cost = budgets_.cost(input, output);
  if (end != nullptr) used.time = end->decode;
  budgets_.restore(budget_account(job.spec), used, job.ended_at, now_);
}

void Orchestrator::on(const EndSession& event) {
  emit(SessionEnded{event.request, budgets_.end_session(tenants_.admit(event.tenant), event.session, now_)});
}

}  // namespace orch::gateway
