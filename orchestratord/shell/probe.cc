#include "orchestratord/shell/probe.h"

#include <utility>
#include <vector>

#include "common/runtime/clock.h"
#include "common/runtime/log.h"
#include "gen/metrics.h"

namespace orch::gateway {
namespace {

using runtime::MetricLabels;

std::vector<runtime::Metrics::Family> own_families() {
  std::vector<runtime::Metrics::Family> out;
  for (const metrics::FamilyRow& row : metrics::kFamilies) {
    if (row.process != metrics::Process::orchestratord || !row.built) continue;
    runtime::Metrics::Family family;
    family.name = std::string(row.name);
    family.help = std::string(row.help);
    family.kind = row.type == metrics::Type::counter ? runtime::Metrics::Kind::counter
                  : row.type == metrics::Type::gauge ? runtime::Metrics::Kind::gauge
                                                     : runtime::Metrics::Kind::histogram;
    family.buckets.assign(row.buckets.begin(), row.buckets.end());
    family.series_max = row.series_max;
    out.push_back(std::move(family));
  }
  return out;
}

std::string_view priority_name(Priority priority) {
  return priority == Priority::interactive ? "interactive" : "batch";
}
std::string_view code_of(const Failure& failure) { return outcome_row(failure.outcome).code; }

template <typename Noted>
MetricLabels replica_labels(const Noted& noted) {
  return {{"engine", noted.engine},
          {"engine_version", noted.engine_version},
          {"pool_id", noted.pool_id},
          {"replica_id", noted.replica_id}};
}

template <typename Noted>
MetricLabels pool_labels(const Noted& noted) {
  return {{"engine", noted.engine},
          {"engine_version", noted.engine_version},
          {"pool_id", noted.pool_id},
          {"priority", priority_name(noted.priority)}};
}

}  // namespace

Probe::Probe(const Orchestrator& core) : core_(core), metrics_(own_families()) {}

Probe::Pool Probe::pool_of(const std::string& pool_id) const {
  for (const auto& [manager, record] : core_.fleet().managers()) {
    for (const auto& [id, view] : record.replicas) {
      if (view.pool_id == pool_id) return {view.engine, view.engine_version};
    }
  }
  return {};
}

void Probe::note(const NotedAdmitted& noted) {
  metrics_.add("tasks_enqueued_total", pool_labels(noted).with("replica_id", ""));
  runtime::log_info("task_admitted", {{"job_id", noted.job.to_string()},
                                      {"tenant_id", noted.tenant},
                                      {"priority", priority_name(noted.priority)},
                                      {"pool_id", noted.pool_id},
                                      {"engine", noted.engine},
                                      {"queue_position", noted.queue_position},
                                      {"predicted_start_ms", noted.predicted_start.ms()}});
}

void Probe::note(const NotedRefused& noted) {
  metrics_.add("tasks_rejected_total", {{"engine", noted.engine}, {"reason", code_of(noted.failure)}});
  if (!noted.failure.policy_label.empty()) {
    metrics_.add("admission_backpressure_events_total",
                 {{"engine", noted.engine}, {"policy", noted.failure.policy_label}});
  }
  runtime::log_info("task_refused", {{"job_id", noted.job ? noted.job->to_string() : std::string()},
                                     {"tenant_id", noted.tenant},
                                     {"reason", code_of(noted.failure)},
                                     {"field", noted.failure.field}});
}

void Probe::note(const NotedDispatched& noted) {
  if (noted.resumed) metrics_.add("resumptions_total", {{"engine", noted.engine}});
  if (noted.attempt <= 1)
    metrics_.add("tasks_started_total", replica_labels(noted).with("priority", priority_name(noted.priority)));
  runtime::log_debug("task_dispatched", {{"job_id", noted.job.to_string()},
                                         {"attempt", noted.attempt},
                                         {"replica_id", noted.replica_id},
                                         {"queue_time_ms", noted.queued.ms()}});
}

void Probe::note(const NotedFirstToken& noted) {
  metrics_.observe("latency_first_token_ms", pool_labels(noted), noted.since_admission.ms_double());
}

void Probe::note(const NotedEnded& noted) {
  const std::string_view outcome = noted.failure ? code_of(*noted.failure) : "end";
  metrics_.add("tasks_finished_total", pool_labels(noted).with("outcome", outcome));
  const MetricLabels replica = replica_labels(noted);
  if (noted.tokens_in > 0) metrics_.add("tokens_in_total", replica, noted.tokens_in);
  if (noted.cached_tokens_in > 0) metrics_.add("cached_prompt_tokens_total", replica, noted.cached_tokens_in);
  if (noted.tokens_out > 0) metrics_.add("tokens_out_total", replica, noted.tokens_out);
  if (!noted.failure) metrics_.observe("latency_decode_ms", pool_labels(noted), noted.decode.ms_double());
  if (noted.deadline_met) {
    auto& [met, all] = deadlines_[noted.priority];
    met += *noted.deadline_met ? 1 : 0;
    ++all;
    metrics_.set("deadlines_met_ratio", {{"priority", priority_name(noted.priority)}},
                 static_cast<double>(met) / static_cast<double>(all));
  }
  if (!noted.cancel_reason.empty()) metrics_.add("tasks_canceled_total", replica.with("reason", noted.cancel_reason));
  if (noted.failure && !noted.failure->policy_label.empty()) {  // evicted from the queue
    metrics_.add("tasks_rejected_total", {{"engine", noted.engine}, {"reason", outcome}});
    metrics_.add("admission_backpressure_events_total",
                 {{"engine", noted.engine}, {"policy", noted.failure->policy_label}});
  }
  runtime::log_info("task_ended", {{"job_id", noted.job.to_string()},
                                   {"tenant_id", noted.tenant},
                                   {"outcome", outcome},
                                   {"engine", noted.engine},
                                   {"engine_version", noted.engine_version},
                                   {"pool_id", noted.pool_id},
                                   {"replica_id", noted.replica_id},
                                   {"priority", priority_name(noted.priority)},
                                   {"queue_time_ms", noted.queued.ms()},
                                   {"decode_time_ms", noted.decode.ms()},
                                   {"tokens_in", noted.tokens_in},
                                   {"tokens_out", noted.tokens_out}});
}

void Probe::note(const NotedPreempted& noted) {
  const char* mode = noted.mode == PreemptionMode::hard ? "hard" : "soft";
  metrics_.add("preemptions_total", {{"mode", mode}, {"engine", noted.engine}});
  runtime::log_info("preempted", {{"job_id", noted.job.to_string()}, {"by", noted.by.to_string()}, {"mode", mode}});
}

void Probe::note(const NotedPoisoned& noted) {
  metrics_.add("tasks_poisoned_total", {{"pool_id", noted.pool_id}, {"replica_id", noted.replica_id}});
  runtime::log_warn("task_poisoned",
                    {{"job_id", noted.job.to_string()}, {"pool_id", noted.pool_id}, {"replica_id", noted.replica_id}});
}

void Probe::note(const NotedWarmStart& noted) {
  metrics_.add("warm_dispatches_total", {{"engine", noted.engine},
                                         {"pool_id", noted.pool_id},
                                         {"replica_id", noted.replica_id},
                                         {"result", noted.found ? "hit" : "miss"}});
}

void Probe::note(const NotedRecomputed& noted) {
  metrics_.add("tokens_recomputed_total",
               {{"engine", noted.engine},
                {"engine_version", noted.engine_version},
                {"pool_id", noted.pool_id},
                {"replica_id", noted.replica_id}},
               static_cast<double>(noted.tokens));
}

void Probe::note(const NotedQuota& noted) {
  const char* mode = noted.enforced ? "enforce" : "dry-run";
  metrics_.add("quota_refusals_total", {{"tenant", noted.tenant}, {"quota", quota_name(noted.quota)}, {"mode", mode}});
  if (!noted.enforced)
    runtime::log_info("quota_exceeded",
                      {{"tenant_id", noted.tenant}, {"quota", quota_name(noted.quota)}, {"mode", mode}});
}

// Counted as the core charged it, read at a scrape: the hot path of a token says nothing.
void Probe::refresh_tenants(Instant now) {
  for (const ServiceShare& row : core_.shares().rows(now)) {
    const MetricLabels labels{{"tenant", row.tenant}, {"priority", priority_name(row.priority)}};
    metrics_.set("admission_share", labels, row.share);
    std::uint64_t& shown = service_[{row.tenant, row.priority}];
    metrics_.add("tenant_service_tokens_total", labels, static_cast<double>(row.tokens - shown));
    shown = row.tokens;
  }
  for (const Priority priority : kPriorities) {
    FairnessGap widest;
    for (const std::string& model : core_.queue().models()) {
      const FairnessGap gap = core_.fairness().gap(model, priority);
      if (gap.tenants > 1 && gap.gap >= widest.gap) widest = gap;
    }
    metrics_.set("fairness_gap_tokens", {{"priority", priority_name(priority)}}, widest.gap);
    metrics_.set("fairness_bound_tokens", {{"priority", priority_name(priority)}}, widest.bound);
  }
}

void Probe::note(const NotedQueueDepth& noted) { depth_[{noted.pool_id, noted.priority}] = noted.depth; }

void Probe::note(const NotedRetried& noted) {
  const Job* job = core_.find_job(noted.job);
  metrics_.add("dispatch_retries_total", {{"engine", job == nullptr ? "" : job->engine},
                                          {"pool_id", job == nullptr ? "" : job->pool_id},
                                          {"reason", outcome_row(noted.outcome).code}});
}

void Probe::note(const NotedJournal& noted) {
  if (noted.failing) {
    runtime::log_error("journal_failing", {{"reason", noted.reason}});
  } else {
    runtime::log_info("journal_well");
  }
}

void Probe::note(const NotedRecovered& noted) {
  static constexpr std::string_view kWays[] = {"replayed", "resumed", "run_again", "reset"};
  metrics_.add("journal_recovered_total", {{"way", kWays[static_cast<std::size_t>(noted.way)]}});
  runtime::log_info("task_recovered",
                    {{"job_id", noted.job.to_string()}, {"way", kWays[static_cast<std::size_t>(noted.way)]}});
}

void Probe::journal_answered(const JournalAnswer& answer) {
  metrics_.add("journal_commits_total", {{"result", answer.refused ? "fail" : "pass"}});
  if (answer.refused) return;
  metrics_.add("journal_records_total", {}, static_cast<double>(answer.records));
  metrics_.observe("journal_commit_ms", {}, answer.took.ms_double());
  metrics_.set("journal_bytes", {}, static_cast<double>(answer.file_bytes));
}

void Probe::http_answered(std::string_view route, int status) {
  metrics_.add("http_requests_total", {{"route", route}, {"status", std::to_string(status)}});
}

void Probe::refresh_replica_info() {
  std::set<runtime::SeriesLabels> now;
  for (const auto& [manager, record] : core_.fleet().managers()) {
    if (!record.link) continue;
    for (const auto& [id, view] : record.replicas) {
      if (view.state != ReplicaState::ready) continue;
      now.insert({{"engine", view.engine},
                  {"engine_version", view.engine_version},
                  {"pool_id", view.pool_id},
                  {"replica_id", view.replica_id},
                  {"model_id", view.model_name},
                  {"model_digest", view.model_digest},
                  {"accelerator", view.accelerator},
                  {"numeric_class", view.numeric_class}});
    }
  }
  for (const runtime::SeriesLabels& labels : replica_info_) {
    if (!now.contains(labels)) metrics_.remove("replica_info", labels);
  }
  for (const runtime::SeriesLabels& labels : now) metrics_.set("replica_info", labels, 1);
  replica_info_ = std::move(now);
}

// OC-MODEL-1001: one series per known model that has loaded once, for the state it is in.
void Probe::refresh_model_state() {
  std::set<runtime::SeriesLabels> now;
  ModelStandings all = core_.lifecycle().all();
  for (const auto& [manager, record] : core_.fleet().managers()) {
    for (const auto& [id, view] : record.replicas) {
      const ModelKey key{view.model_name, view.model_digest};
      if (!key.name.empty()) all.try_emplace(key, core_.lifecycle().of(key));
    }
  }
  for (const auto& [model, standing] : all) {
    const std::string id = model.digest.empty() ? model.name : model.name + "@" + model.digest;
    now.insert({{"model_id", id}, {"state", model_state_name(standing.state)}});
  }
  for (const runtime::SeriesLabels& labels : model_state_) {
    if (!now.contains(labels)) metrics_.remove("model_state", labels);
  }
  for (const runtime::SeriesLabels& labels : now) metrics_.set("model_state", labels, 1);
  model_state_ = std::move(now);
}

// Every known pool has both series from its first scrape on: an empty queue reads 0, not as absent.
void Probe::refresh_queue_depth() {
  for (const auto& [manager, record] : core_.fleet().managers()) {
    for (const auto& [id, view] : record.replicas) {
      for (const Priority priority : {Priority::interactive, Priority::batch})
        depth_.try_emplace({view.pool_id, priority}, 0);
    }
  }
  for (const auto& [key, depth] : depth_) {
    const Pool pool = pool_of(key.first);
    metrics_.set("queue_depth",
                 {{"engine", pool.engine},
                  {"engine_version", pool.engine_version},
                  {"pool_id", key.first},
                  {"priority", priority_name(key.second)}},
                 depth);
  }
}

std::string Probe::text(std::size_t readers, std::size_t managers) {
  refresh_replica_info();
  refresh_model_state();
  refresh_queue_depth();
  refresh_tenants(runtime::now());
  metrics_.set("streams_open", {}, static_cast<double>(readers));
  metrics_.set("managers_attached", {}, static_cast<double>(managers));
  metrics_.set("prefix_index_entries", {}, static_cast<double>(core_.prefixes().size()));
  metrics_.set("journal_failing", {}, core_.journal().failing() ? 1 : 0);
  return metrics_.text();
}

}  // namespace orch::gateway
