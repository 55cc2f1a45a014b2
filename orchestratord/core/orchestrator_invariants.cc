// The orchestrator's invariants in words: run after every step by tests and simulator.
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

std::string Orchestrator::check_invariants() const {
  if (out_ == nullptr && now_ > Instant{} && wakeup_ <= now_) return "the next wakeup is not ahead";
  if (std::string fault = queue_.check_invariants(); !fault.empty()) return fault;
  if (std::string fault = scheduler_.check_invariants(); !fault.empty()) return fault;
  if (std::string fault = streams_.check_invariants(); !fault.empty()) return fault;
  if (std::string fault = budgets_.check_invariants(); !fault.empty()) return fault;

  std::size_t waiting = 0;
  std::size_t admitting = 0;
  std::size_t open_calls = 0;
  std::size_t armed = 0;
  for (const auto& [id, job] : jobs_) {
    // Only a fault is worth a text: this runs after every step of the simulator.
    const auto name = [&] { return " (job " + id.to_string() + ", " + job_state_name(job.state) + ")"; };
    if (queue_.contains(id) != (job.state == JobState::waiting)) return "a job is in the queue iff it waits" + name();
    if (queue_.holds(id) != (job.state == JobState::committing)) return "a place is held iff a job commits" + name();
    if (job.conclusion.has_value() != (job.state == JobState::concluding))
      return "a job has a conclusion iff it concludes" + name();
    if (job.state == JobState::waiting) ++waiting;
    if (job.state == JobState::admitting) ++admitting;
    const auto call = calls_.find(job.dispatch_id());
    const bool has_call = call != calls_.end() && call->second.open;
    if (has_call != job.in_flight()) return "a job has an open call iff it is in flight" + name();
    if (has_call) ++open_calls;
    if (streams_.exists(id) == job.before_admission()) return "a job has a stream iff it was admitted" + name();
    if (streams_.exists(id) && streams_.closed(id) != (job.state == JobState::ended))
      return "a stream is closed iff its job ended" + name();
    if (!job.timer_at.is_never()) {
      ++armed;
      if (!timers_.contains({job.timer_at, id})) return "an armed timer is not in the set" + name();
    }
    if (due(job) < job.timer_at) return "a timer would fire too late" + name();
  }
  if (waiting != queue_.size()) return "the queue holds a job that does not exist";
  if (armed != timers_.size()) return "a timer without a job";
  if (counting_.size() > config_.limits.admitting_max || counting_.size() > admitting)
    return "too many jobs being admitted";

  std::uint64_t in_sessions = 0;
  std::map<std::string, std::int64_t> live;
  std::map<std::string, std::int64_t> metered;
  for (const auto& [id, job] : jobs_) {
    if (job.quota.live) ++live[job.spec.tenant];
    if (job.meter.open) ++metered[job.spec.tenant];
    if (job.budget.open && job.state == JobState::ended)
      return "an ended job holds a budget (job " + id.to_string() + ")";
    if (job.budget.open && !job.budget.session.empty()) ++in_sessions;
    if (job.meter.open != job.in_flight()) return "a job's meter runs iff it is in flight (job " + id.to_string() + ")";
  }
  for (const auto& [id, request] : open_requests_.all()) {
    if (request.hold.live) ++live[request.tenant];
    if (request.until <= now_ && out_ == nullptr) return "a request is open behind its end";
  }
  if (open_requests_.all().size() > OpenRequests::kRequestsMax) return "too many open requests";
  if (in_sessions != budgets_.live()) return "live tasks of sessions differ from the jobs that hold their budgets";
  if (metered != running_) return "dispatches of a tenant differ from its jobs in flight";
  for (const std::string& tenant : tenants_.names()) {
    const auto of = live.find(tenant);
    if (quotas_.live(tenant) != (of == live.end() ? 0 : of->second))
      return "live jobs and requests of tenant " + tenant;
  }

  std::map<LeaseKey, std::uint32_t> in_use;
  std::size_t open_total = 0;
  for (const auto& [dispatch, call] : calls_) {
    ++in_use[call.lease];
    if (call.open) ++open_total;
  }
  if (open_total != open_calls) return "an open call whose job is gone or dispatched anew";
  for (const auto& [key, lease] : leases_.all()) {
    const auto used = in_use.find(key);
    if (lease.in_use != (used == in_use.end() ? 0 : used->second))
      return "slots in use differ from the calls in flight";
    in_use.erase(key);
  }
  if (!in_use.empty()) return "a call under a lease that was removed";
  if (leases_.all().size() > config_.limits.leases_max) return "too many leases";

  std::size_t ended = 0;
  for (const auto& [id, job] : jobs_) ended += job.state == JobState::ended && results_.contains(id) ? 1 : 0;
  if (ended != results_.size()) return "a finished job that is not ended";
  if (results_.size() > config_.limits.finished_max) return "too many finished jobs";
  std::size_t read_out = 0;
  for (const auto& [id, job] : jobs_) {
    if (!job.being_read_out()) continue;
    if (job.state != JobState::ended || results_.contains(id) || streams_.readers(id) == 0)
      return "a job is read out that is not gone, or by nobody";
    ++read_out;
  }
  if (read_out != read_out_.size() || read_out > config_.limits.read_out_jobs_max) return "jobs that are read out";
  if (fleet_.managers().size() > config_.limits.managers_max) return "too many managers";
  for (const auto& [id, link] : fleet_.links()) {
    if (link.sent.size() > config_.limits.updates_remembered_max) return "too many remembered updates";
  }
  if (std::string fault = check_journal(); !fault.empty()) return fault;
  if (std::string fault = prefixes_.check(); !fault.empty()) return fault;
  if (std::string fault = check_migration(); !fault.empty()) return fault;
  return check_queue_bounds();
}

// Jobs that were put back, or whose eviction did not happen, had their place once and stand outside the bounds of the
// queue. What outlives its job is bounded by number.
std::string Orchestrator::check_queue_bounds() const {
  std::size_t fresh[2] = {0, 0};
  std::uint64_t bytes = 0;
  for (const auto& [id, job] : jobs_) {
    if (job.state == JobState::committing
            ? false
            : job.state != JobState::waiting || job.attempt > 0 || job.recovered || job.taken_back)
      continue;
    ++fresh[static_cast<std::size_t>(job.spec.priority)];
    bytes += job.spec.prompt_bytes;
  }
  const QueueLimits& limits = queue_.limits();
  if (fresh[0] + fresh[1] > limits.capacity) return "the queue is over its capacity";
  if (fresh[0] > limits.interactive_capacity) return "too many interactive jobs wait";
  if (fresh[1] > limits.batch_capacity) return "too many batch jobs wait";
  if (bytes > limits.bytes_max) return "the waiting prompts are over their bytes";
  if (decisions_.size() > DecisionLog::kJobsMax) return "too many decisions";
  if (sessions_.size() > SessionBook::kSessionsMax) return "too many sessions";
  if (drains_.flows() > DrainRates::kFlowsMax) return "too many drain rates";
  if (prefixes_.size() > PrefixIndex::kEntriesMax) return "too many prefixes";
  if (times_.models() > ServiceTimes::kModelsMax) return "too many models measured";
  if (times_.tenants() > ServiceTimes::kTenantsMax) return "too many outputs measured";
  if (tenants_.names().size() > kTenantNamesMax) return "too many tenants";
  return {};
}

}  // namespace orch::gateway
