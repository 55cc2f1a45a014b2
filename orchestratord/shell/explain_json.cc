#include "orchestratord/shell/explain_json.h"

#include <algorithm>
#include <utility>

#include "common/runtime/json_text.h"

namespace orch::gateway {
namespace {

using runtime::JsonObject;

std::uint64_t ms_of(Duration duration) { return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.ms(), 0)); }

const char* priority_text(Priority priority) { return priority == Priority::interactive ? "interactive" : "batch"; }

// `write(each, out)` appends one element.
template <typename Range, typename Write>
void append_list(std::string& out, const Range& range, Write write) {
  out.push_back('[');
  bool first = true;
  for (const auto& each : range) {
    if (!std::exchange(first, false)) out.push_back(',');
    write(each, out);
  }
  out.push_back(']');
}

void append_candidate(const PlacementCandidate& candidate, std::string& out) {
  JsonObject json(out);
  json.string("replica_id", candidate.replica_id)
      .string("verdict", verdict_name(candidate.verdict))
      .number("free_slots", std::uint64_t{candidate.free_slots})
      .number("predicted_ms", ms_of(candidate.predicted))
      .boolean("session_home", candidate.session_home)
      .boolean("preferred", candidate.preferred);
  if (candidate.cached_tokens > 0) json.number("cached_tokens", candidate.cached_tokens);
  if (candidate.free_kv_tokens) json.number("free_kv_tokens", *candidate.free_kv_tokens);
  json.close();
}

void append_placement(const PlacementRecord& placement, Instant since, std::string& out) {
  JsonObject json(out);
  json.number("attempt", std::uint64_t{placement.attempt})
      .number("at_ms", ms_of(placement.at - since))
      .string("replica_id", placement.replica_id)
      .string("pool_id", placement.pool_id)
      .number("considered", std::uint64_t{placement.decision.considered})
      .number("feasible", std::uint64_t{placement.decision.feasible})
      .string("decided_by", decided_by_name(placement.decision.decided_by))
      .boolean("fallback", placement.decision.fallback);
  if (placement.kv_warmth) json.boolean("kv_warmth", *placement.kv_warmth);
  if (placement.put_back) json.string("put_back", outcome_row(*placement.put_back).code);
  if (placement.preempted_by) json.string("preempted_by", placement.preempted_by->to_string());
  append_list(json.key("candidates"), placement.decision.candidates, append_candidate);
  json.close();
}

void append_admission(const DecisionRecord& record, std::string& out) {
  const Forecast& forecast = record.forecast;
  JsonObject json(out);
  json.number("queue_position", std::uint64_t{record.queue_position})
      .number("predicted_start_ms", ms_of(forecast.start))
      .number("predicted_service_ms", ms_of(forecast.service))
      .boolean("estimated", forecast.estimated)
      .number("prompt_tokens", forecast.prompt_tokens)
      .number("output_tokens", forecast.output_tokens);
  if (forecast.on_time) json.number("on_time_probability", *forecast.on_time);
  if (!record.deadline_at.is_never()) {
    json.number("deadline_ms", ms_of(record.deadline_at - record.submitted_at))
        .number("latest_start_ms", ms_of(forecast.latest_start - record.submitted_at));
  }
  if (!record.order_by.is_never()) json.number("order_by_ms", ms_of(record.order_by - record.submitted_at));
  json.close();
}

void append_outcome(const DecisionRecord& record, std::string& out) {
  JsonObject json(out);
  json.string("code", record.failure ? outcome_row(record.failure->outcome).code : "end")
      .number("at_ms", ms_of(*record.ended_at - record.submitted_at));
  if (record.failure) {
    json.string("message", record.failure->message);
    if (!record.failure->field.empty()) json.string("field", record.failure->field);
    if (record.failure->retry_after) json.number("retry_after_ms", ms_of(*record.failure->retry_after));
    if (!record.failure->policy_label.empty()) json.string("policy_label", record.failure->policy_label);
  }
  json.close();
}

const char* state_text(const Orchestrator& core, const DecisionRecord& record) {
  if (record.ended_at) return record.admitted ? "ended" : "refused";
  const Job* job = core.find_job(record.job);
  return job == nullptr ? "forgotten" : job_state_name(job->state);
}

// A model and class with waiting jobs.
struct QueueClass {
  std::string model;
  Priority priority = Priority::interactive;
};

void append_tenant(const Orchestrator& core, const QueueClass& of, const std::string& tenant, std::size_t waiting,
                   const std::vector<FlowStanding>& standings, Instant now, std::string& out) {
  JsonObject json(out);
  json.string("tenant", tenant).number("waiting", std::uint64_t{waiting});
  if (const auto head = core.queue().first_of(of.model, of.priority, tenant)) {
    json.string("head", head->job.to_string());
    if (const Job* job = core.find_job(head->job)) json.number("head_age_ms", ms_of(now - job->admitted_at));
  }
  for (const FlowStanding& standing : standings) {
    if (standing.flow.domain != of.model || standing.flow.priority != of.priority || standing.flow.tenant != tenant)
      continue;
    json.number("weight", std::uint64_t{standing.weight})
        .number("v", standing.v)
        .number("rho", standing.rho)
        .number("in_flight", standing.in_flight)
        .boolean("outside_bound", standing.outside);
  }
  json.close();
}

}  // namespace

std::optional<std::string> explain_json(const Orchestrator& core, JobId job, Instant now) {
  const DecisionRecord* record = core.decisions().find(job);
  if (record == nullptr) return std::nullopt;
  std::string out;
  JsonObject json(out);
  json.string("task_id", job.to_string())
      .string("tenant", record->tenant)
      .string("model", record->model)
      .string("priority", priority_text(record->priority))
      .string("state", state_text(core, *record))
      .number("age_ms", ms_of(now - record->submitted_at));
  if (!record->session.empty()) json.string("session_id", record->session);
  if (record->admitted) append_admission(*record, json.key("admission"));
  append_list(json.key("placements"), record->placements,
              [&](const PlacementRecord& each, std::string& to) { append_placement(each, record->submitted_at, to); });
  if (record->placements_left_out > 0) json.number("placements_left_out", std::uint64_t{record->placements_left_out});
  if (record->ended_at) append_outcome(*record, json.key("outcome"));
  json.close();
  return out;
}

std::string queue_json(const Orchestrator& core, Instant now) {
  const JobQueue& queue = core.queue();
  std::vector<QueueClass> classes;
  for (const std::string& model : queue.models()) {
    for (const Priority priority : kPriorities) {
      if (queue.depth(model, priority) > 0) classes.push_back({model, priority});
    }
  }
  const std::vector<FlowStanding> standings = core.fairness().standings();
  std::string out;
  JsonObject json(out);
  json.number("jobs", std::uint64_t{queue.size()})
      .number("jobs_max", std::uint64_t{queue.limits().capacity})
      .number("bytes", queue.bytes())
      .number("bytes_max", queue.limits().bytes_max);
  append_list(json.key("classes"), classes, [&](const QueueClass& each, std::string& to) {
    const FairnessGap gap = core.fairness().gap(each.model, each.priority);
    JsonObject row(to);
    row.string("model", each.model)
        .string("priority", priority_text(each.priority))
        .number("waiting", std::uint64_t{queue.depth(each.model, each.priority)})
        .number("gap", gap.gap)
        .number("bound", gap.bound);
    append_list(row.key("tenants"), queue.tenants(each.model, each.priority), [&](const auto& tenant, std::string& in) {
      append_tenant(core, each, tenant.first, tenant.second, standings, now, in);
    });
    row.close();
  });
  json.close();
  return out;
}

std::string leases_json(const Orchestrator& core, Instant now) {
  std::string out;
  JsonObject json(out);
  append_list(json.key("leases"), core.leases().all(), [&](const auto& entry, std::string& to) {
    const auto& [key, lease] = entry;
    JsonObject row(to);
    row.string("manager_id", key.manager.to_string())
        .string("lease", std::to_string(key.lease.boot) + "." + std::to_string(key.lease.counter))
        .string("replica_id", lease.replica.replica_id)
        .string("inc", std::to_string(lease.inc.boot) + "." + std::to_string(lease.inc.counter))
        .number("slots", std::uint64_t{lease.slots})
        .number("in_use", std::uint64_t{lease.in_use})
        .string("state", lease.closed       ? "closed"
                         : !lease.live(now) ? "lapsed"
                         : lease.stale      ? "stale"
                                            : "live")
        .number("ends_in_ms", ms_of(lease.end - now))
        .number("paused_ms", ms_of(lease.not_before - now));
    row.close();
  });
  json.close();
  return out;
}

}  // namespace orch::gateway
