// Preemption of batch work by an interactive job whose deadline is at stake (OC-PREEMPT-1001 to 1004): soft, the turn
// of batch work that waits; hard, the slot of a dispatched batch job before its first token. Only the interactive job
// that is next in order is looked at, so that the order between tenants (F1) is kept.
#include <algorithm>
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// The head of the first tenant of the class in order.
Job* Orchestrator::next_of(const std::string& model, Priority priority) {
  std::optional<RankedLine::Item> head;
  scheduler_.in_order(model, priority, [&](const std::string& tenant) {
    if (capped(tenant)) return false;
    head = queue_.first_of(model, priority, tenant);
    return true;
  });
  return head ? &jobs_.at(head->job) : nullptr;
}

// OC-PREEMPT-1001: too late when it waits for the slot that comes free at `next_slot`, in time with one `after` now.
bool Orchestrator::saved_by_a_slot(const Job& job, Instant next_slot, Duration after) const {
  const Instant latest = job.forecast.latest_start;
  return job.spec.deadline && now_ + after <= latest && next_slot > latest;
}

// When a slot of the model is expected to come free by itself. OC-ADMIT-E3: a job past its expected end is taken to go
// on for as long again as it is over already; of all that are over, the one that is least so ends first.
Instant Orchestrator::next_free_slot(const std::string& model) const {
  const auto found = expected_ends_.find(model);
  if (found == expected_ends_.end()) return Instant::never();
  const auto& ends = found->second;
  const auto ahead = ends.lower_bound({now_, DispatchId{}});
  const Instant in_time = ahead == ends.end() ? Instant::never() : ahead->first;
  if (ahead == ends.begin()) return in_time;
  return std::min(in_time, now_ + (now_ - std::prev(ahead)->first));
}

// Soft: the last free slot goes to the interactive job although it is the batch class's turn.
bool Orchestrator::take_the_turn(const std::string& model) {
  if (config_.preemption.mode == PreemptionMode::disabled) return false;
  if (scheduler_.order(model)[0] != Priority::batch) return false;
  const Job* batch = next_of(model, Priority::batch);
  Job* job = next_of(model, Priority::interactive);
  if (batch == nullptr || job == nullptr || !may_dispatch(*job)) return false;
  const Instant if_batch_goes = std::min(next_free_slot(model), now_ + batch->forecast.service);
  if (!saved_by_a_slot(*job, if_batch_goes, {})) return false;
  const DomainLoad load = domain_load(job->lane);
  if (load.busy + 1 < load.slots) return false;  // batch may go first: another slot is free
  PlacementDecision decision = place(*job);
  if (!decision.lease || !boarded(*job, *decision.lease) || !may_preempt()) return false;
  const JobId passed = batch->spec.id;
  const JobId by = job->spec.id;
  dispatch(*job, std::move(decision));
  scheduler_.class_skipped(model,
                           Priority::batch);  // out of turn: the bound between the classes is void until it rests
  emit(NotedPreempted{passed, by, jobs_.at(by).engine, PreemptionMode::soft});
  tell_preempted(passed);
  return true;
}

// OC-PREEMPT-1004.
void Orchestrator::tell_preempted(const JobId& job) {
  MetricsEvent told{static_cast<std::uint32_t>(queue_.size())};
  told.preempted = true;
  streams_.publish_metrics(job, told, *out_);
}

// A dispatched batch job without a token whose slot the interactive one could use: the one dispatched last, which loses
// least.
Job* Orchestrator::preemptable_for(const Job& job) {
  Job* victim = nullptr;
  for (auto& [dispatch, call] : calls_) {
    if (!call.open) continue;
    Job& other = jobs_.at(dispatch.job);
    if (other.spec.priority != Priority::batch || other.lane.model != job.lane.model) continue;
    const bool silent = other.token_events == 0 && other.tokens_seen == 0 && other.pending_ids.empty();
    if (!silent || other.preemptions >= config_.preemption.per_job) continue;
    if (other.deaths > 0) continue;  // M6: its replica is its own, and what becomes of it is to be seen
    // One deadline is not saved by another: behind this job it could not begin in time any more (E5).
    if (other.forecast.latest_start <= now_ + config_.limits.preempt_settle + job.forecast.service) continue;
    const ReplicaView* replica = fleet_.find(call.replica);
    if (replica == nullptr || !serves(*replica, job.lane) || job.tokens_bound > room_of(*replica)) continue;
    const HeldLease* lease = leases_.find(call.lease);
    if (lease == nullptr || !lease->live(now_) || lease->stale || lease->in_use > lease->slots) continue;
    if (victim == nullptr || other.dispatched_at >= victim->dispatched_at) victim = &other;
  }
  return victim;
}

// OC-PREEMPT-1003: a bucket of its own, per gateway.
bool Orchestrator::may_preempt() {
  const std::int64_t rate = config_.preemption.per_minute;
  if (rate == 0) return false;
  if (!preemptions_) preemptions_.emplace(rate, rate, 1, now_);
  return !preemptions_->take(1, now_);
}

// Hard, when no slot is free and none is on its way from a cancelled call.
void Orchestrator::preempt_dispatched(const std::string& model) {
  if (config_.preemption.mode != PreemptionMode::hard || drain_end_) return;
  const Job* job = next_of(model, Priority::interactive);
  if (job == nullptr || !may_dispatch(*job)) return;
  if (!saved_by_a_slot(*job, next_free_slot(model), config_.limits.preempt_settle)) return;
  const DomainLoad load = domain_load(job->lane);
  if (load.busy < load.slots) return;
  const bool coming = std::any_of(closing_.begin(), closing_.end(),
                                  [&](const auto& entry) { return calls_.at(entry.second).model == model; });
  if (coming) return;
  Job* victim = preemptable_for(*job);
  if (victim != nullptr && may_preempt()) preempt(*victim, *job);
}

void Orchestrator::preempt(Job& victim, const Job& by) {
  ++victim.preemptions;
  victim.resumes = true;
  emit(NotedPreempted{victim.spec.id, by.spec.id, victim.engine, PreemptionMode::hard});
  decisions_.preempted(victim.spec.id, victim.attempt, by.spec.id);
  wait_for_fence(victim, calls_.at(victim.dispatch_id()), AttemptEnd::taken_back);  // M1
  close_call(victim.dispatch_id());
  back_to_queue(victim);
  scheduler_.class_skipped(victim.lane.model, Priority::batch);
  tell_preempted(victim.spec.id);
}

// The worker's word that an attempt has ended (M1): the next one may start.
void Orchestrator::stopped(DispatchId dispatch) {
  const auto job = jobs_.find(dispatch.job);
  if (job == jobs_.end() || job->second.attempt != dispatch.attempt) return;
  const auto wait = fence_waits_.find(dispatch.job);
  if (wait != fence_waits_.end() && wait->second.how != AttemptEnd::in_doubt) fence_waits_.erase(wait);
}

}  // namespace orch::gateway
