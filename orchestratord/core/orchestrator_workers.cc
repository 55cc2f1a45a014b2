// The workers' side of the orchestrator: the one dispatcher and everything a dispatch can answer.
#include <algorithm>
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// --- dispatching ---

void Orchestrator::dispatch_waiting() {
  dispatch_suspects();
  for (const std::string& model : queue_.models()) {
    while (dispatch_one(model)) {
    }
    preempt_dispatched(model);
  }
}

// F1: class, then tenant, then job. Who comes first and fits no free replica is skipped, and said to be.
bool Orchestrator::dispatch_one(const std::string& model) {
  if (take_the_turn(model)) return true;
  std::optional<Priority> class_skipped;
  for (const Priority priority : scheduler_.order(model)) {
    std::set<Lane> open;  // lanes with a free replica for a job of any size
    for (const auto& [lane, tenants] : queue_.lanes(model, priority)) {
      if (place_any(lane)) open.insert(lane);
    }
    std::vector<const std::string*> skipped;
    const bool dispatched = !open.empty() && scheduler_.in_order(model, priority, [&](const std::string& tenant) {
      if (dispatch_of(tenant, priority, open)) return true;
      skipped.push_back(&tenant);
      return false;
    });
    if (dispatched) {
      for (const std::string* tenant : skipped) scheduler_.skipped({model, priority, *tenant});
      if (class_skipped) scheduler_.class_skipped(model, *class_skipped);
      return true;
    }
    if (queue_.depth(model, priority) > 0) class_skipped = priority;
  }
  return false;
}

// The tenant's first head with a free replica. A head whose context fits none is stepped over.
bool Orchestrator::dispatch_of(const std::string& tenant, Priority priority, const std::set<Lane>& open) {
  if (capped(tenant)) return false;
  for (const Lane& lane : queue_.lanes_of(open.begin()->model, priority, tenant)) {
    if (!open.contains(lane)) continue;
    for (const JobId id : queue_.heads(lane, priority, tenant, config_.limits.scan_ahead_max)) {
      Job& job = jobs_.at(id);
      PlacementDecision decision = place(job);
      if (decision.lacks_memory && !decision.lease) note_lacks_memory(job, *decision.lacks_memory);
      if (!decision.lease || !may_dispatch(job) || !boarded(job, *decision.lease)) continue;
      dispatch(job, std::move(decision));
      return true;
    }
  }
  return false;
}

// Is there a free replica for a job of any size?
bool Orchestrator::place_any(const Lane& lane) {
  static const std::string no_session;
  const auto& entries = placement_index_.of(lane.model, fleet_, leases_, speeds_);
  return decide({.lane = lane,
                 .entries = entries,
                 .session = no_session,
                 .now = now_,
                 .candidates_max = 0,
                 .mutation = config_.mutation,
                 .reserved = &reserved_})
      .lease.has_value();
}

PlacementDecision Orchestrator::place(Job& job, const ReplicaKey* only) {
  const std::vector<WarmStart> warm = warm_starts(job);
  return decide({.lane = job.lane,
                 .entries = placement_index_.of(job.lane.model, fleet_, leases_, speeds_),
                 .tokens_bound = job.tokens_bound,
                 .session = job.spec.session,
                 .prompt_tokens = prompt_now(job),
                 .expected_tokens = expected_tokens(job),
                 .service = service_by_fill(job, 0),
                 .warm = warm,
                 .now = now_,
                 .candidates_max = config_.limits.placement_candidates_max,
                 .mutation = config_.mutation,
                 .reserved = &reserved_,
                 .only = only,
                 .held = only == nullptr ? held_from(job) : nullptr});
}

void Orchestrator::dispatch(Job& job, PlacementDecision decision) {
  const LeaseKey key = *decision.lease;
  const HeldLease& lease = *leases_.find(key);
  const ReplicaView& replica = *fleet_.find(lease.replica);

  unqueue(job);
  start_meter(job);

  job.move_to(JobState::dispatching);
  ++job.attempt;
  job.dispatched_at = now_;
  job.first_dispatched_at = std::min(job.first_dispatched_at, now_);
  job.progress_at = now_;
  job.resumed_from = static_cast<std::uint32_t>(job.shown_ids.size());
  job.tokens_seen = job.resumed_from;
  job.events_in_attempt = 0;
  if (job.token_events == 0) job.replica_set = replica_set_key(replica);  // later attempts continue on an equal one
  job.replica_id = replica.replica_id;
  job.pool_id = replica.pool_id;
  const std::uint64_t cached_tokens = decision.cached_tokens;
  const std::optional<bool> warmth = kv_warmth(job, lease.replica);
  decisions_.add_placement(
      job.spec.id, {job.attempt, now_, job.replica_id, job.pool_id, std::move(decision), std::nullopt, {}, warmth});
  job.engine = replica.engine;
  job.engine_version = replica.engine_version;

  Call call;
  call.lease = key;
  call.fence = {key.manager, lease.inc, key.lease, lease.secret};
  call.replica = lease.replica;
  call.kv_pages = replica.kv.pages_for(expected_tokens(job));
  job.lacks_memory_since = Instant::never();
  leases_.take_slot(key, call.kv_pages);
  note_dispatched(job, lease, replica);
  call.lease_slots = lease.slots;
  call.model = job.lane.model;
  call.cached_tokens = cached_tokens;
  call.expected_end = job.forecast.expected_end;

  Dispatch effect;
  effect.dispatch = job.dispatch_id();
  effect.endpoint = lease.endpoint;
  effect.fence = call.fence;
  effect.payload = job.spec.payload;
  effect.max_tokens = job.spec.max_tokens;
  if (!job.deadline_at.is_never()) effect.deadline = job.deadline_at - now_;
  effect.tenant = job.spec.tenant;
  effect.lease_slots = lease.slots;
  effect.resume_ids = job.shown_ids;  // M2
  if (mutated(Mutation::resume_one_short) && !effect.resume_ids.empty()) effect.resume_ids.pop_back();
  calls_.emplace(effect.dispatch, std::move(call));

  emit(NotedDispatched{job.spec.id, job.attempt, job.replica_id, job.pool_id, job.engine, job.engine_version,
                       job.spec.priority, now_ - job.admitted_at, std::exchange(job.resumes, false)});
  emit(std::move(effect));
  if (job.journal.wanted && job.token_events == 0) hold_for_dispatch_record(job);
  note_aboard(job);
  MetricsEvent metrics{static_cast<std::uint32_t>(queue_.size())};
  metrics.budget = budgets_.left(budget_account(job.spec), now_);
  metrics.kv_warmth = warmth;
  streams_.publish_metrics(job.spec.id, metrics, *out_);
  arm(job);
}

void Orchestrator::close_call(DispatchId dispatch) {
  const auto it = calls_.find(dispatch);
  if (it == calls_.end() || !it->second.open) return;
  it->second.open = false;
  it->second.closed_at = now_;
  closing_.emplace(now_ + config_.limits.cancel_settle, dispatch);
  emit(CancelDispatch{dispatch});
  settle_needed_ = true;
}

// The slot comes back to our count alone; whether it is idle is the worker's word (L3, L6), which answers SLOT_BUSY.
void Orchestrator::call_ended(DispatchId dispatch) {
  const auto it = calls_.find(dispatch);
  if (it == calls_.end()) return;
  if (!it->second.open) closing_.erase({it->second.closed_at + config_.limits.cancel_settle, dispatch});
  leases_.return_slot(it->second.lease, it->second.kv_pages, it->second.admitted_at);
  forget_expected_end(it->second.model, it->second.expected_end, dispatch);
  calls_.erase(it);
  ++load_version_;
  settle_needed_ = true;
}

// --- what a dispatch answers ---

// L10: the one guard every worker event passes. A closed (fence, attempt) changes nothing, whenever it speaks.
Job* Orchestrator::job_of_open_call(DispatchId dispatch, const Fence& fence) {
  const auto call = calls_.find(dispatch);
  if (mutated(Mutation::skip_fence_check)) {
    const auto job = jobs_.find(dispatch.job);
    return job != jobs_.end() && job->second.in_flight() ? &job->second : nullptr;
  }
  if (call == calls_.end()) {
    ++ignored_.unknown_dispatch;
    return nullptr;
  }
  if (!call->second.open || call->second.fence != fence) {
    ++ignored_.closed_fence;
    return nullptr;
  }
  return &jobs_.at(dispatch.job);
}

void Orchestrator::on(const DispatchStarted& event) {
  if (const auto sent = calls_.find(event.dispatch); sent != calls_.end() && sent->second.fence == event.fence) {
    note_admitted(sent->second);
    ++load_version_;
  }
  Job* job = job_of_open_call(event.dispatch, event.fence);
  if (job == nullptr || job->state != JobState::dispatching) return;
  job->move_to(JobState::running);
  job->progress_at = now_;
  if (std::exchange(job->computed, true)) job->computed_again = std::uint64_t{event.prompt_tokens} + job->resumed_from;
  job->prompt_tokens = event.prompt_tokens;
  job->cached_prompt_tokens = event.cached_prompt_tokens;
  note_input(*job, event.prompt_tokens, event.cached_prompt_tokens);
  const auto call = calls_.find(event.dispatch);
  if (call == calls_.end()) return;
  leases_.started(call->second.lease);
  note_prefix(*job, call->second, event);
  const ReplicaView* replica = fleet_.find(call->second.replica);
  if (replica == nullptr) return;
  streams_.set_served_by(job->spec.id, served_by(*replica), *out_);
}

// M7. When the attempt ends: what of its prompt need not be computed is known only then (OC-ENGINE-1026).
void Orchestrator::note_recomputed(Job& job) {
  const std::uint64_t again = std::exchange(job.computed_again, 0);
  if (again == 0) return;
  emit(NotedRecomputed{job.replica_id, job.pool_id, job.engine, job.engine_version,
                       again - std::min<std::uint64_t>(again, job.cached_prompt_tokens)});
}

void Orchestrator::on(const DispatchTokens& event) {
  settle_needed_ = false;  // the hot path: unless something ends below, nothing else follows from a token
  Job* job = job_of_open_call(event.dispatch, event.fence);
  if (job == nullptr) return;
  if (job->state == JobState::dispatching) job->move_to(JobState::running);
  job->computed = true;
  accept_tokens(*job, event);
}

void Orchestrator::accept_tokens(Job& job, const DispatchTokens& event) {
  if (!event.ids.empty() && !mutated(Mutation::skip_fence_check)) {
    if (event.index < job.tokens_seen) {
      ++ignored_.duplicate_tokens;
      return;
    }
    if (event.index > job.tokens_seen) {  // a stream is ordered: a gap means that it is not the stream we opened
      const JobId id = job.spec.id;
      const Call old = calls_.at(event.dispatch);
      attempt_lost(job, Outcome::WORKER_RESET, "tokens are missing from the worker's stream");
      return wait_if_put_back(id, old, AttemptEnd::taken_back);
    }
  }
  const bool first = job.tokens_seen == job.resumed_from && job.events_in_attempt == 0;
  job.progress_at = now_;
  job.tokens_seen += static_cast<std::uint32_t>(event.ids.size());
  // An engine that names no ids is charged by its events until it counts. One that does releases text without an id at
  // its end token, which is no token of the answer (OC-MIGR-M2).
  const bool names_ids = job.tokens_seen > 0;
  note_output(job, !names_ids && !event.text.empty() ? 1 : event.ids.size());
  if (first) arm(job);  // the watchdog between tokens is stricter than the one before the first
  if (job.tokens_seen > job.spec.max_tokens && !mutated(Mutation::skip_fence_check)) {
    return fail(
        job, {failure_for(Outcome::INTERNAL,
                          "the worker wrote more than max_tokens (" + std::to_string(job.spec.max_tokens) + ")", job),
              {}});
  }
  // One event per token that releases text, however many came in one batch: an attempt that goes on behind event n
  // numbers its events like the one it continues (J2, J4, M2).
  std::size_t told = 0;
  const bool split = event.text_ends.size() == event.ids.size();
  for (std::size_t k = 0; k < event.ids.size(); ++k) {
    job.pending_ids.push_back(event.ids[k]);
    if (k < event.log_probs.size()) job.pending_log_probs.push_back(event.log_probs[k]);
    const std::size_t end = split ? std::min<std::size_t>(event.text_ends[k], event.text.size()) : told;
    if (end <= told) continue;
    if (!show(job, event.text.substr(told, end - told))) return;
    told = end;
  }
  if (told < event.text.size()) show(job, event.text.substr(told));
}

// False: the job ended over it.
bool Orchestrator::show(Job& job, std::string text) {
  TokenEvent token{job.token_events, std::exchange(job.pending_ids, {}), std::move(text),
                   std::exchange(job.pending_log_probs, {})};
  job.shown_ids.insert(job.shown_ids.end(), token.ids.begin(), token.ids.end());
  if (streams_.publish(job.spec.id, token, *out_) == StreamRegistry::Published::buffer_full) {
    const std::string limit = std::to_string(config_.streams.buffer_bytes_max);
    fail(job, {failure_for(Outcome::SLOW_CONSUMER,
                           "nobody reads the stream and its buffer of " + limit + " bytes is full", job),
               {}});
    return false;
  }
  ++job.events_in_attempt;
  if (job.token_events++ == 0) {
    job.first_token_at = now_;
    emit(NotedFirstToken{job.spec.id, job.pool_id, job.engine, job.engine_version, job.spec.priority,
                         now_ - job.admitted_at});
  }
  if (job.journal.wanted) note_token(job);
  return true;
}

void Orchestrator::on(const DispatchFinished& event) {
  Job* job = job_of_open_call(event.dispatch, event.fence);
  const auto call = calls_.find(event.dispatch);
  std::optional<ReplicaKey> replica;
  if (call != calls_.end() && call->second.fence == event.fence) {
    replica = call->second.replica;
    call_ended(event.dispatch);
    stopped(event.dispatch);
  }
  if (job == nullptr) return;
  job->prompt_tokens = event.prompt_tokens;
  job->cached_prompt_tokens = std::max(job->cached_prompt_tokens, event.cached_prompt_tokens);  // OC-ENGINE-1026
  note_served(*job, event, replica);
  note_input(*job, event.prompt_tokens, job->cached_prompt_tokens);
  if (event.completion_tokens > job->meter.output_seen)
    note_output(*job, event.completion_tokens - job->meter.output_seen);
  EndEvent ended{event.reason,    event.prompt_tokens, event.completion_tokens,
                 event.estimated, event.decode,        event.cached_prompt_tokens};
  if (job->state == JobState::dispatching) job->move_to(JobState::running);
  end(*job, ended);
}

void Orchestrator::on(const DispatchFailed& event) {
  Job* job = job_of_open_call(event.dispatch, event.fence);
  const auto call = calls_.find(event.dispatch);
  if (call == calls_.end() || call->second.fence != event.fence) return;
  const Call old = call->second;
  const LeaseKey lease = old.lease;
  call_ended(event.dispatch);
  // OC-DEVICE-1004: no fence is lifted before the manager has said that the worker died (M6).
  if (event.worker_ends) return worker_lost(event.dispatch, old, event.failure.message);
  stopped(event.dispatch);
  const Outcome outcome = event.failure.outcome;
  // What the refusal says about the lease holds whether or not the job still cares.
  if (outcome == Outcome::STALE_LEASE) leases_.mark_stale(lease);
  if (outcome == Outcome::SLOT_BUSY) leases_.busy(lease, now_);
  const bool refused = outcome == Outcome::NO_PAGES || outcome == Outcome::DUPLICATE_ATTEMPT;
  if (refused || outcome == Outcome::REPLICA_EXHAUSTED) leases_.pause(lease, now_);
  if (job == nullptr) return;
  switch (outcome) {
    case Outcome::STALE_LEASE:
    case Outcome::SLOT_BUSY:
    case Outcome::NO_PAGES:
    case Outcome::DUPLICATE_ATTEMPT:
    case Outcome::REPLICA_EXHAUSTED:
      if (job->events_in_attempt > 0) {
        const char* why = "the worker refused the job behind its first token";
        return fail(*job, {failure_for(Outcome::WORKER_RESET, why, *job), {}});
      }
      return put_back(*job, outcome);  // L3: its own limits end its waiting, no count of refusals does
    case Outcome::CANCELED:            // not by us: the worker lost its holder's heartbeat or its lease was stopped
    case Outcome::POOL_UNREADY:        // drained away under the job
    case Outcome::WORKER_RESET:
      return attempt_lost(*job, outcome, event.failure.message);
    default: {
      Failure failure = event.failure;
      if (!outcome_row(outcome).sse) failure.outcome = Outcome::INTERNAL;
      failure.engine = job->engine;
      failure.pool_id = job->pool_id;
      return fail(*job, {std::move(failure), {}});
    }
  }
}

void Orchestrator::on(const DispatchBroken& event) {
  const auto call = calls_.find(event.dispatch);
  if (call == calls_.end()) {
    ++ignored_.unknown_dispatch;
    return;
  }
  const Call old = call->second;
  call_ended(event.dispatch);
  worker_lost(event.dispatch, old, "the stream to the worker broke");
}

// Its call has ended without a word of what became of the job, or with the word that the worker ends over it.
void Orchestrator::worker_lost(DispatchId dispatch, const Call& old, const std::string& why) {
  if (!old.open) return;
  // The worker may be dead and its manager's word still under way: the second attempt must not go to the same process.
  leases_.suspect(old.lease, now_);
  Job& job = jobs_.at(dispatch.job);
  ++job.losses;
  if (may_continue(job)) {
    continue_elsewhere(job, Outcome::WORKER_RESET);
  } else if (job.deaths > 0) {
    job.verdict_due = true;
    put_back(job, Outcome::WORKER_RESET);
  } else {
    attempt_lost(job, Outcome::WORKER_RESET, why);
  }
  wait_if_put_back(dispatch.job, old, AttemptEnd::lost);
}

void Orchestrator::wait_if_put_back(JobId id, const Call& old, AttemptEnd how) {
  const auto job = jobs_.find(id);
  if (job != jobs_.end() && job->second.state == JobState::waiting) wait_for_fence(job->second, old, how);
}

// Before its first token the job runs again once, unseen; after it another replica goes on where the bytes will be the
// same (M2), and otherwise there is one typed error, for the client has text that another attempt need not repeat.
void Orchestrator::attempt_lost(Job& job, Outcome outcome, const std::string& why) {
  close_call(job.dispatch_id());
  const bool shown = job.token_events > 0 && !mutated(Mutation::retry_after_token);
  if (!shown && job.broken_retries < config_.limits.broken_retries_max && !lost_too_often(job)) {
    ++job.broken_retries;
    return put_back(job, outcome);
  }
  if (shown && may_continue(job)) return continue_elsewhere(job, outcome);
  fail(job, {failure_for(Outcome::WORKER_RESET, why.empty() ? "the worker gave the job up" : why, job), {}});
}

// Back to where it stood, with what was reserved for it undone; work that is done again is not charged (F2).
void Orchestrator::put_back(Job& job, Outcome outcome) {
  emit(NotedRetried{job.spec.id, job.attempt, outcome});
  decisions_.put_back(job.spec.id, job.attempt, outcome);
  back_to_queue(job);
}

void Orchestrator::back_to_queue(Job& job) {
  stop_meter(job);
  note_recomputed(job);
  job.held = job.held + (now_ - job.dispatched_at);  // OC-CORE-1022
  job.move_to(JobState::waiting);
  if (job.deaths > 0) suspects_.insert(job.spec.id);
  if (mutated(Mutation::retry_after_token)) job.shown_ids.clear();
  if (mutated(Mutation::repeat_token_on_resume) && !job.shown_ids.empty()) job.shown_ids.pop_back();
  job.tokens_seen = static_cast<std::uint32_t>(job.shown_ids.size());
  if (job.token_events == 0) {  // else the record stands for tokens that wait for it
    job.journal.dispatch_due = 0;
    job.journal.dispatch_sent = 0;
  }
  job.pending_ids.clear();
  job.pending_log_probs.clear();
  job.prompt_tokens = 0;
  if (!mutated(Mutation::lose_put_back)) enqueue(job);
  arm(job);
  settle_needed_ = true;
}

}  // namespace orch::gateway
