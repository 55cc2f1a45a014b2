#include "sim/job_watch.h"

#include <utility>
#include <variant>

namespace orch::sim {
namespace {

JobPhase phase_of(gateway::JobState state) {
  switch (state) {
    case gateway::JobState::admitting:
      return JobPhase::admitting;
    case gateway::JobState::committing:
      return JobPhase::committing;
    case gateway::JobState::waiting:
      return JobPhase::waiting;
    case gateway::JobState::dispatching:
      return JobPhase::dispatching;
    case gateway::JobState::running:
      return JobPhase::running;
    case gateway::JobState::concluding:
      return JobPhase::concluding;
    case gateway::JobState::ended:
      return JobPhase::ended;
  }
  return JobPhase::gone;
}

}  // namespace

void JobWatch::fault(const std::string& what, JobId id) {
  world_.violation(who_ + ": " + what + " (job " + std::to_string(id.value.lo) + ")");
}

void JobWatch::move(JobId id, JobPhase to) {
  Shadow& job = jobs_[id];
  if (!may_change(job.phase, to))
    return fault(std::string("a job goes from ") + phase_name(job.phase) + " to " + phase_name(to), id);
  world_.coverage().edge(job.phase, to);
  job.phase = to;
}

JobWatch::Shadow* JobWatch::open_call(DispatchId dispatch, const Fence& fence) {
  const auto it = jobs_.find(dispatch.job);
  if (it == jobs_.end()) return nullptr;
  Shadow& job = it->second;
  const bool in_flight = job.phase == JobPhase::dispatching || job.phase == JobPhase::running;
  return in_flight && job.attempt == dispatch.attempt && job.fence == fence ? &job : nullptr;
}

void JobWatch::before(const gateway::Event& event, const gateway::Orchestrator& core, Instant now) {
  closed_speaks_ = false;
  const auto answered = [&](DispatchId dispatch, const Fence& fence) {
    speaker_ = dispatch.job;
    Shadow* job = open_call(dispatch, fence);
    const gateway::Job* real = core.find_job(dispatch.job);
    // Its end is decided, and the journal has not been asked to keep it yet.
    if (real != nullptr && real->state == gateway::JobState::concluding) job = nullptr;
    closed_speaks_ = job == nullptr;
    if (job != nullptr && job->phase == JobPhase::dispatching) move(dispatch.job, JobPhase::running);
    return job;
  };
  if (std::holds_alternative<gateway::Submit>(event)) fair_.before_submit(core);
  if (const auto* started = std::get_if<gateway::DispatchStarted>(&event)) {
    if (Shadow* job = answered(started->dispatch, started->fence))
      charge_input(core, speaker_, *job, started->prompt_tokens - started->cached_prompt_tokens);
  } else if (const auto* tokens = std::get_if<gateway::DispatchTokens>(&event)) {
    if (Shadow* job = answered(tokens->dispatch, tokens->fence); job != nullptr && tokens->index == job->accepted) {
      std::uint32_t told = 0;
      for (std::size_t k = 0; k < tokens->text_ends.size(); ++k) {
        if (tokens->text_ends[k] > told) job->shown = job->accepted + k + 1;
        told = tokens->text_ends[k];
      }
      job->accepted += tokens->ids.size();
      charge_output(core, speaker_, *job);
    }
  } else if (const auto* finished = std::get_if<gateway::DispatchFinished>(&event)) {
    if (Shadow* job = answered(finished->dispatch, finished->fence))
      charge_input(core, speaker_, *job, finished->prompt_tokens);
  } else if (const auto* failed = std::get_if<gateway::DispatchFailed>(&event)) {
    speaker_ = failed->dispatch.job;
    closed_speaks_ = open_call(failed->dispatch, failed->fence) == nullptr;
  } else if (const auto* drain = std::get_if<gateway::DrainBegin>(&event)) {
    if (drain_end_.is_never()) drain_end_ = now + drain->deadline;  // a second one changes nothing
  }
}

void JobWatch::after(const gateway::Event& event, const gateway::Effects& effects, const gateway::Orchestrator& core,
                     Instant now) {
  if (const auto* submit = std::get_if<gateway::Submit>(&event)) {
    const gateway::Job* job = core.find_job(submit->spec.id);
    if (job != nullptr && job->state == gateway::JobState::admitting && admitting_.insert(submit->spec.id).second) {
      jobs_[submit->spec.id].tenant = submit->spec.tenant;
      move(submit->spec.id, JobPhase::admitting);
    }
  }
  if (std::holds_alternative<gateway::Submit>(event)) fair_.after_submit(core);
  if (std::holds_alternative<gateway::JournalFailed>(event)) notice_taken_back(core);  // it may run again at once
  for (const gateway::Effect& effect : effects) {
    if (const auto* write = std::get_if<gateway::JournalWrite>(&effect)) {
      for (const gateway::JournalRecord& record : write->records) on(record);
    } else if (const auto* recovered = std::get_if<gateway::NotedRecovered>(&effect)) {
      on(*recovered, core);
    } else if (const auto* noted = std::get_if<gateway::NotedAdmitted>(&effect)) {
      admitting_.erase(noted->job);
      jobs_[noted->job].tenant = noted->tenant;
      move(noted->job, JobPhase::waiting);
    } else if (const auto* dispatched = std::get_if<gateway::NotedDispatched>(&effect)) {
      move(dispatched->job, JobPhase::dispatching);
      Shadow& job = jobs_[dispatched->job];
      if (dispatched->attempt <= job.attempt) fault("an attempt is not newer than the one before", dispatched->job);
      job.attempt = dispatched->attempt;
    } else if (const auto* dispatch = std::get_if<gateway::Dispatch>(&effect)) {
      Shadow& job = jobs_[dispatch->dispatch.job];
      job.fence = dispatch->fence;
      if (dispatch->resume_ids.size() != job.shown)
        fault("an attempt goes on at another token", dispatch->dispatch.job);
      job.accepted = job.shown;
    } else if (const auto* retried = std::get_if<gateway::NotedRetried>(&effect)) {
      move(retried->job, JobPhase::waiting);
      jobs_[retried->job].accepted = jobs_[retried->job].shown;  // what nobody saw is not counted (M7)
    } else if (const auto* preempted = std::get_if<gateway::NotedPreempted>(&effect)) {
      if (preempted->mode != gateway::PreemptionMode::hard) continue;
      if (jobs_[preempted->job].shown > 0) fault("a job that has shown tokens is preempted", preempted->job);
      move(preempted->job, JobPhase::waiting);
      jobs_[preempted->job].accepted = 0;
    } else if (const auto* ended = std::get_if<gateway::NotedEnded>(&effect)) {
      on(*ended, now);
    } else if (const auto* deliver = std::get_if<gateway::Deliver>(&effect)) {
      const bool token = std::holds_alternative<gateway::TokenEvent>(deliver->event->body);
      if (token && closed_speaks_) fault("a token of a closed attempt is shown", speaker_);
    }
  }
  notice_gone(core);
  check_bounds(core);
}

void JobWatch::on(const gateway::JournalRecord& record) {
  if (const auto* admit = std::get_if<gateway::AdmitRecord>(&record)) {
    admitting_.erase(admit->spec.id);
    jobs_[admit->spec.id].tenant = admit->spec.tenant;
    move(admit->spec.id, JobPhase::committing);
  } else if (const auto* end = std::get_if<gateway::EndRecord>(&record)) {
    if (jobs_[end->job].phase != JobPhase::concluding) move(end->job, JobPhase::concluding);  // else written again
  }
}

// What an earlier life left is taken over as it stands on the disk (J4).
void JobWatch::on(const gateway::NotedRecovered& recovered, const gateway::Orchestrator& core) {
  const gateway::Job* job = core.find_job(recovered.job);
  Shadow& shadow = jobs_[recovered.job];
  shadow.counted = job != nullptr;  // else forgotten in the same step
  if (job != nullptr) {
    shadow.tenant = job->spec.tenant;
    shadow.accepted = shadow.shown = shadow.output_charged = job->tokens_seen;
    shadow.attempt = job->attempt;
  }
  const bool ended = recovered.way == gateway::NotedRecovered::Way::replayed;
  move(recovered.job, ended ? JobPhase::ended : JobPhase::waiting);
}

// An eviction that could not be journaled has not happened.
void JobWatch::notice_taken_back(const gateway::Orchestrator& core) {
  for (auto& [id, shadow] : jobs_) {
    const gateway::Job* job = shadow.phase == JobPhase::concluding ? core.find_job(id) : nullptr;
    if (job != nullptr && job->live()) move(id, JobPhase::waiting);
  }
}

void JobWatch::on(const gateway::NotedEnded& ended, Instant now) {
  move(ended.job, JobPhase::ended);
  Shadow& job = jobs_[ended.job];
  if (job.phase != JobPhase::ended || !job.counted) return;
  if (ended.tokens_out != job.accepted) {
    return fault("it is settled with " + std::to_string(ended.tokens_out) + " tokens, accepted were " +
                     std::to_string(job.accepted),
                 ended.job);
  }
  if (ended.cancel_reason == "drain" && now < drain_end_)
    return fault("a drain ends it before its deadline", ended.job);
  Ledger& ledger = tenants_[job.tenant];
  ledger.accepted += job.accepted;
  ledger.settled += ended.tokens_out;
  if (ledger.accepted != ledger.settled) fault("tenant " + job.tenant + " is settled for other tokens", ended.job);
}

void JobWatch::charge_input(const gateway::Orchestrator& core, JobId id, Shadow& job, std::uint64_t uncached) {
  const gateway::Job* real = core.find_job(id);
  if (real == nullptr || std::exchange(job.input_charged, true)) return;
  fair_.served(real->flow, uncached);
}

void JobWatch::charge_output(const gateway::Orchestrator& core, JobId id, Shadow& job) {
  const gateway::Job* real = core.find_job(id);
  if (real == nullptr || job.accepted <= job.output_charged) return;
  fair_.served(real->flow, 2 * (job.accepted - std::exchange(job.output_charged, job.accepted)));
}

void JobWatch::notice_gone(const gateway::Orchestrator& core) {
  for (auto it = admitting_.begin(); it != admitting_.end();) {
    const JobId id = *it++;
    if (core.find_job(id) != nullptr) continue;
    admitting_.erase(id);
    move(id, JobPhase::gone);
    jobs_.erase(id);
  }
  if (core.jobs().size() == jobs_.size()) return;
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    const JobId id = it->first;
    ++it;
    if (core.find_job(id) != nullptr) continue;
    move(id, JobPhase::gone);
    jobs_.erase(id);
  }
  if (core.jobs().size() != jobs_.size()) world_.violation(who_ + ": a job appeared that nobody admitted");
}

// Waiting and admitting jobs, those in flight, what was put back (it has left a slot) and what is kept for late
// readers.
void JobWatch::check_bounds(const gateway::Orchestrator& core) {
  const gateway::Config& config = core.config();
  std::size_t slots = 0;
  for (const auto& [key, lease] : core.leases().all()) slots += std::max(lease.slots, lease.in_use);
  const std::size_t bound = config.queue.capacity + config.limits.admitting_max + config.limits.finished_max +
                            config.limits.read_out_jobs_max + 8 * slots + 64 +
                            (config.journal.enabled ? 512 : 0);  // ends that are not durable yet
  if (core.jobs().size() > bound)
    world_.violation(who_ + ": " + std::to_string(core.jobs().size()) + " jobs in memory, the bound is " +
                     std::to_string(bound));
}

void JobWatch::look(const gateway::Orchestrator& core, Instant now, Duration slack) {
  fair_.look(core);
  for (const auto& [id, job] : core.jobs()) {
    const auto shadow = jobs_.find(id);
    if (shadow == jobs_.end()) return fault("nobody admitted it", id);
    // The end of a job that is not journaled, or that a failing journal has not taken yet, is seen when it is told.
    if (job.state == gateway::JobState::concluding) continue;
    if (shadow->second.phase != phase_of(job.state))
      return fault(std::string("it is ") + gateway::job_state_name(job.state) + ", its events say " +
                       phase_name(shadow->second.phase),
                   id);
    if (job.live() && !job.deadline_at.is_never() && job.deadline_at + slack < now)
      return fault("no verdict, " + std::string(gateway::job_state_name(job.state)) +
                       ", though its deadline was over " + std::to_string((now - job.deadline_at).ms()) +
                       " ms ago; its timer is " + std::to_string((job.timer_at - now).ms()) + " ms ahead",
                   id);
  }
  // A journal has a little longer, to take the ends (J6).
  const Duration journal = core.config().journal.enabled ? core.config().limits.journal_drain : Duration{};
  if (core.draining() && !core.drained() && drain_end_ + journal + slack < now)
    world_.violation(who_ + ": the drain's deadline is over and it has not ended");
}

}  // namespace orch::sim
