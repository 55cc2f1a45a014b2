#include "orchestratord/core/orchestrator.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/check.h"
#include "orchestratord/core/admission.h"

namespace orch::gateway {

Orchestrator::Orchestrator(const Config& config)
    : config_(config),
      fleet_(config.limits),
      leases_(config.limits, config.mutation),
      queue_(config.queue),
      scheduler_(config.limits.interactive_weight, config.limits.batch_weight, 256, config.mutation),
      others_(config.mutation),
      tenants_(config.tenants),
      budgets_(config.budgets),
      streams_(config.streams, config.mutation),
      times_(config.limits),
      lifecycle_(config.models),
      sessions_(config.limits.session_ttl),
      journal_(config.limits),
      results_(config.limits.finished_max, config.limits.finished_bytes_max) {}

void Orchestrator::step(const Event& event, Instant now, Effects& out) {
  now_ = std::max(now_, now);
  out_ = &out;
  settle_needed_ = true;
  std::visit([this](const auto& typed) { on(typed); }, event);
  // F4: tokens alone change counters that the others wait for. At most once an interval: then a wakeup stands.
  const Duration interval = config_.limits.fair_interval;
  if (!settle_needed_ && !drained_ && now_ + interval < wakeup_) {
    for (const auto& [id, link] : fleet_.links()) wakeup_ = std::min(wakeup_, link.fair_told_at + interval);
  }
  if (settle_needed_ || wakeup_ <= now_) settle();
  out_ = nullptr;
  ORCH_DCHECK(check_invariants().empty());
}

const Job* Orchestrator::find_job(JobId id) const {
  const auto it = jobs_.find(id);
  return it == jobs_.end() ? nullptr : &it->second;
}

std::uint32_t Orchestrator::in_flight() const {
  return static_cast<std::uint32_t>(
      std::count_if(calls_.begin(), calls_.end(), [](const auto& entry) { return entry.second.open; }));
}

// Everything that follows from the new state, whatever the event was. Heartbeats come before dispatches, so that a
// worker knows its holder before the holder's first job arrives (L5).
void Orchestrator::settle() {
  fire_timers();
  give_up_overdue();
  while (!closing_.empty() && closing_.begin()->first <= now_) call_ended(closing_.begin()->second);
  leases_.remove_dead(now_);
  if (fleet_.forget_old(now_)) fleet_changed_ = true;
  if (recovery_over_ <= now_) {  // whoever has not attached by now does not count
    recovery_over_ = Instant::never();
    fleet_changed_ = true;
  }
  if (fleet_changed_) {
    other_gateways_.keep_only([this](ManagerId manager) { return fleet_.managers().contains(manager); });
    end_hopeless_jobs();
  }
  fleet_changed_ = false;
  end_refused_jobs();
  finish_drain();  // before dispatching: at the deadline nothing more is started
  end_fence_waits();
  end_earlier_life();
  load_and_unload();
  beat_workers();
  dispatch_waiting();
  send_updates();
  send_fair();
  note_depths();
  trim_finished();
  keys_.expire(now_);
  write_journal();
  plan_wakeup();
}

// --- ends ---

void Orchestrator::end(Job& job, const EndEvent& event) {
  EndEvent told = event;
  told.migrated = job.migrations > 0;  // M3: on a replica of the same set alone, see may_continue()
  finish(job, std::nullopt, {}, told);
}

void Orchestrator::fail(Job& job, Failing failing) {
  finish(job, std::move(failing.failure), failing.cancel_reason, {});
}

Failure Orchestrator::failure_for(Outcome outcome, std::string message, const Job& job) const {
  Failure failure;
  failure.outcome = outcome;
  failure.message = std::move(message);
  failure.engine = job.engine;
  failure.pool_id = job.pool_id;
  return failure;
}

// The only place where a job ends (ORCH-3017): out of the queue, its call closed, then one terminal event and one
// NotedEnded, which wait for the journal when the job is journaled (J1).
void Orchestrator::finish(Job& job, std::optional<Failure> failure, const std::string& cancel_reason,
                          const EndEvent& event) {
  conclude(job, {std::move(failure), cancel_reason, event, now_, {}});
  if (job.journal.wanted) return stage_end(job);
  tell_end(job);
}

void Orchestrator::conclude(Job& job, Conclusion conclusion) {
  ORCH_CHECK(job.live());
  settle_needed_ = true;
  ++load_version_;
  unqueue(job);
  stop_meter(job);
  note_recomputed(job);
  if (job.in_flight()) {
    conclusion.held = now_ - job.dispatched_at;
    close_call(job.dispatch_id());
  }
  fence_waits_.erase(job.spec.id);
  forget_suspect(job.spec.id);
  job.conclusion = std::move(conclusion);
  job.move_to(JobState::concluding);
  disarm(job);
}

void Orchestrator::tell_end(Job& job) {
  Conclusion conclusion = std::move(*job.conclusion);
  note_outcome(job, conclusion);
  job.conclusion.reset();
  job.move_to(JobState::ended);
  job.ended_at = now_;
  settle_needed_ = true;

  streams_.release(job.spec.id, *out_);
  const bool read = streams_.heard(job.spec.id);  // OC-JOB-J7: who is behind is given the end later
  decltype(StreamEvent::body) terminal = conclusion.end;
  if (conclusion.failure) terminal = ErrorEvent{*conclusion.failure};
  streams_.publish(job.spec.id, terminal, *out_);
  if (mutated(Mutation::double_terminal)) streams_.publish(job.spec.id, terminal, *out_);
  if (mutated(Mutation::deliver_after_close))
    streams_.publish(job.spec.id, TokenEvent{job.token_events, {}, "late"}, *out_);

  NotedEnded noted;
  noted.job = job.spec.id;
  noted.tenant = job.spec.tenant;
  noted.failure = std::move(conclusion.failure);
  noted.cancel_reason = conclusion.cancel_reason;
  noted.replica_id = job.replica_id;
  noted.pool_id = job.pool_id;
  noted.engine = job.engine;
  noted.engine_version = job.engine_version;
  noted.priority = job.spec.priority;
  noted.tokens_in = job.prompt_tokens;
  noted.cached_tokens_in = job.cached_prompt_tokens;
  noted.tokens_out = noted.failure ? job.tokens_seen : conclusion.end.tokens_out;
  const bool dispatched = !job.first_dispatched_at.is_never();
  noted.queued = (dispatched ? job.first_dispatched_at : conclusion.at) - job.admitted_at;
  if (!job.first_token_at.is_never()) noted.decode = conclusion.at - job.first_token_at;
  noted.total = conclusion.at - job.admitted_at;
  if (!mutated(Mutation::forget_quota_settle))
    quotas_.settle(job.spec.tenant, job.quota, std::int64_t{noted.tokens_in} + noted.tokens_out, now_);
  settle_budget(job, noted, conclusion.held);
  const bool left = noted.failure && noted.failure->outcome == Outcome::CANCELED;
  if (job.spec.deadline && !left) noted.deadline_met = !noted.failure;
  emit(std::move(noted));

  job.spec.payload.reset();  // prompts are not kept longer than they are needed
  // Lived with its reader; nobody can come back for it.
  if (job.spec.attachment == Attachment::attached && !job.journal.wanted) return let_go(job.spec.id);
  job.journal.unsaved.clear();
  job.journal.unsaved_bytes = 0;
  results_.add(job.spec.id, {job.spec.tenant, now_, streams_.bytes(job.spec.id), read});
  arm(job);
}

void Orchestrator::forget(JobId id) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return;
  disarm(it->second);
  read_out_.erase({it->second.read_out_until, id});
  results_.remove(id);
  streams_.forget(id, *out_);
  if (it->second.journal.wanted && !it->second.before_admission()) {
    journal_.erases.insert(id);
    journal_.checkpoint_by(now_ + config_.limits.checkpoint_interval);
  }
  jobs_.erase(it);
}

// --- time ---

Instant Orchestrator::due(const Job& job) const {
  const Limits& limits = config_.limits;
  switch (job.state) {
    case JobState::admitting:
      return job.submitted_at + limits.count_timeout;
    case JobState::committing:
    case JobState::concluding:
      return Instant::never();  // the journal answers every write
    case JobState::waiting:
      return std::min({job.deadline_at, job.forecast.latest_start, job.grace_end,
                       job.admitted_at + job.held + limits.queue_wait_max});
    case JobState::dispatching:
    case JobState::running: {
      const bool silent = job.tokens_seen == job.resumed_from && job.events_in_attempt == 0;
      const Duration idle = silent ? limits.first_token_max : limits.idle_max;
      return std::min({job.deadline_at, job.grace_end, job.dispatched_at + limits.wall_max, job.progress_at + idle});
    }
    case JobState::ended:
      return job.being_read_out() ? job.read_out_until : job.ended_at + config_.result_ttl;
  }
  return Instant::never();
}

// Tokens after the first move a job's due time only further away and do not touch the set: a timer that fires early is
// armed again.
void Orchestrator::arm(Job& job) {
  const Instant at = due(job);
  if (at == job.timer_at) return;
  disarm(job);
  job.timer_at = at;
  if (!at.is_never()) timers_.emplace(at, job.spec.id);
  wakeup_ = std::min(wakeup_, at);  // for steps that end without settling
}

void Orchestrator::disarm(Job& job) {
  if (!job.timer_at.is_never()) timers_.erase({job.timer_at, job.spec.id});
  job.timer_at = Instant::never();
}

void Orchestrator::fire_timers() {
  while (!timers_.empty() && timers_.begin()->first <= now_) {
    Job& job = jobs_.at(timers_.begin()->second);
    disarm(job);
    fire(job);
  }
}

void Orchestrator::fire(Job& job) {
  if (due(job) > now_) {
    arm(job);
    return;
  }
  const Limits& limits = config_.limits;
  const auto ms = [](Duration duration) { return std::to_string(duration.ms()) + " ms"; };
  switch (job.state) {
    case JobState::admitting:
      finish_admission(job);
      return;  // not counted in time: the worker decides
    case JobState::ended:
      if (job.being_read_out()) return forget(job.spec.id);
      return let_go(job.spec.id);
    case JobState::committing:
    case JobState::concluding:
      return;
    case JobState::waiting:
      if (std::min(job.deadline_at, job.forecast.latest_start) <= now_) {  // E5
        const std::string deadline = "deadline_ms (" + ms(job.deadline_at - job.admitted_at) + ")";
        fail(job, {failure_for(Outcome::DEADLINE_UNMET,
                               job.deadline_at <= now_ ? deadline + " passed while the job waited"
                                                       : deadline + " cannot be met any more: such a job takes " +
                                                             ms(job.deadline_at - job.forecast.latest_start),
                               job),
                   {}});
      } else if (job.grace_end <= now_) {
        cancel(job, "disconnect", "no reader came back within " + ms(config_.streams.reconnect_grace));
      } else {
        Failure failure = failure_of_standing(job.lane, fleet_.status(job.lane), fleet_, limits);
        failure.message += "; waited " + ms(limits.queue_wait_max);
        if (!outcome_row(failure.outcome).sse) failure.outcome = Outcome::POOL_UNAVAILABLE;
        fail(job, {std::move(failure), {}});
      }
      return;
    case JobState::dispatching:
    case JobState::running:
      if (job.deadline_at <= now_) {
        fail(job,
             {failure_for(Outcome::DECODE_TIMEOUT,
                          "the running job passed deadline_ms (" + ms(job.deadline_at - job.admitted_at) + ")", job),
              {}});
      } else if (job.grace_end <= now_) {
        cancel(job, "disconnect", "no reader came back within " + ms(config_.streams.reconnect_grace));
      } else if (job.dispatched_at + limits.wall_max <= now_) {  // ORCH-3016
        fail(job, {failure_for(Outcome::DECODE_TIMEOUT, "the job ran longer than " + ms(limits.wall_max), job), {}});
      } else {
        fail(job, {failure_for(Outcome::DECODE_TIMEOUT, "no token came for " + ms(now_ - job.progress_at), job), {}});
      }
      return;
  }
}

void Orchestrator::plan_wakeup() {
  Instant next = Instant::never();
  const auto consider = [&](Instant at) { next = std::min(next, at); };
  if (!timers_.empty()) consider(timers_.begin()->first);
  if (!closing_.empty()) consider(closing_.begin()->first);
  consider(recovery_over_);
  consider(open_requests_.next_end());
  consider(earlier_.until());
  for (const auto& [endpoint, at] : beats_) consider(at);
  for (const auto& [id, link] : fleet_.links()) {
    if (drained_) break;
    consider(link.last_renew_at + leases_.bid_every());
    if (link.fair_told != fair_version()) consider(link.fair_told_at + config_.limits.fair_interval);
    if (link.bids_checked != load_version_) consider(link.last_update_at + config_.limits.update_interval_min);
  }
  consider(leases_.next_change(now_, queue_.size() > 0));
  consider(fleet_.next_forget());
  if (drain_end_ && !drained_) consider(*drain_end_ > now_ ? *drain_end_ : *drain_end_ + config_.limits.journal_drain);
  consider(journal_.next_change(now_));
  for (const auto& [id, wait] : fence_waits_) consider(wait.until > now_ ? wait.until : wait.ends(leases_.ttl()));
  consider(keys_.next_expiry());
  consider(results_.next_expiry());
  if (!drain_end_) consider(ask_again_at_);
  wakeup_ = next;
}

// --- drain ---

// OC-JOB-1014
void Orchestrator::finish_drain() {
  if (!drain_end_ || drained_) return;
  if (*drain_end_ <= now_) {
    std::vector<JobId> rest;
    for (const auto& [id, job] : jobs_) {
      if (job.state != JobState::ended) rest.push_back(id);
    }
    for (const JobId id : rest) {
      Job& job = jobs_.at(id);
      if (job.live()) {
        cancel(job, "drain", "the service is shutting down");
      } else if (job.state == JobState::admitting) {
        refuse_admitting(job, failure_for(Outcome::CANCELED, "the service is shutting down", job));
      } else if (job.state == JobState::concluding && !job.journal.wanted) {
        // Evicted for a newcomer that is not durable yet, and no next start knows it.
        job.conclusion = {failure_for(Outcome::CANCELED, "the service is shutting down", job), "drain", {}, now_, {}};
        tell_end(job);
      }
    }
  }
  // What the journal does not take by then is not told; the next start finds it as it was.
  const bool journal_had_its_time = *drain_end_ + config_.limits.journal_drain <= now_;
  for (const auto& [id, job] : jobs_) {
    if (job.state != JobState::ended && !journal_had_its_time) return;
  }
  drained_ = true;
  for (auto& [id, link] : fleet_.links()) {  // L7: a clean shutdown gives back at once
    link.release = leases_.renewable(link.manager);
    for (const LeaseId lease : link.release) leases_.close({link.manager, lease});
    send_update(id, link, false);
  }
  emit(Drained{});
}

// --- estimates ---

// Its tenant's own jobs ahead, each with those of the other tenants that are served meanwhile at their weights.
std::uint32_t Orchestrator::position_of(const Job& job) const {
  const std::string& model = job.lane.model;
  const std::size_t own = queue_.ahead_of(model, job.spec.priority, job.spec.tenant, {job.order_by, job.seq}).jobs;
  const double share = scheduler_.weight_share(flow_of(job), weight_of(job.spec.tenant));
  const double waiting = static_cast<double>(queue_.depth(model, job.spec.priority));
  double ahead = std::min(static_cast<double>(own) / share, waiting);
  if (job.spec.priority == Priority::batch) ahead += static_cast<double>(queue_.depth(model, Priority::interactive));
  return static_cast<std::uint32_t>(std::lround(ahead));
}

void Orchestrator::note_depths() {
  std::map<std::pair<std::string, Priority>, std::uint32_t> depths;
  for (const std::string& model : queue_.models()) {
    const ModelStatus status = fleet_.status({model, {}, false, false});
    const ReplicaView* primary = status.primary ? fleet_.find(*status.primary) : nullptr;
    const std::string pool = primary == nullptr ? std::string() : primary->pool_id;
    for (const Priority priority : kPriorities) {
      const std::size_t depth = queue_.depth(model, priority);
      if (depth > 0) depths[{pool, priority}] += static_cast<std::uint32_t>(depth);
    }
  }
  if (depths == depths_noted_) return;
  for (const auto& [key, depth] : depths_noted_) {
    if (!depths.contains(key)) emit(NotedQueueDepth{key.first, key.second, 0});
  }
  for (const auto& [key, depth] : depths) {
    const auto before = depths_noted_.find(key);
    if (before == depths_noted_.end() || before->second != depth) emit(NotedQueueDepth{key.first, key.second, depth});
  }
  depths_noted_ = std::move(depths);
}

}  // namespace orch::gateway
