// A job that has shown tokens goes on elsewhere: same digest, same numeric class, same versions, prompt and shown ids,
// the same positions of the random counter, so the client sees neither a gap nor a repetition nor other bytes (M1, M2,
// M3, M5, M6).
#include <algorithm>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// M4: what cannot be computed again ends. M5, M6: not for ever, and not through ever more workers.
bool Orchestrator::may_continue(const Job& job) const {
  return job.token_events > 0 && !job.replica_set.empty() && job.spec.payload != nullptr && !drain_end_ &&
         job.migrations < config_.limits.migrations_max && job.losses < config_.limits.losses_max &&
         !mutated(Mutation::retry_after_token);
}

void Orchestrator::continue_elsewhere(Job& job, Outcome outcome) {
  ++job.migrations;
  job.lane.exact = job.replica_set;
  put_back(job, outcome);
}

// M1: a broken stream is no proof that the attempt has stopped. The proof is its worker's word (then nothing waits
// here), the next incarnation of its process, or a lease's life without a heartbeat of ours on that stream.
void Orchestrator::wait_for_fence(Job& job, const Call& old, AttemptEnd how) {
  fence_waits_[job.spec.id] = {old.replica, old.fence.inc, now_ + leases_.ttl(), how};
}

// The process that the waiting jobs ran on is gone, and so are their attempts.
void Orchestrator::fenced(ManagerId manager, const ReplicaView& replica) {
  std::vector<JobId> over;
  for (const auto& [id, wait] : fence_waits_) {
    if (wait.replica != ReplicaKey{manager, replica.replica_id}) continue;
    const bool reaped = wait.inc == replica.inc && !replica.has_process;
    if (reaped || wait.inc < replica.inc || replica.state == ReplicaState::stopped) over.push_back(id);
  }
  for (const JobId id : over) {
    const FenceWait wait = fence_waits_.extract(id).mapped();
    Job& job = jobs_.at(id);
    const bool died = died_by_itself(replica, wait.inc);
    const bool told = replica.last_end && replica.last_end->inc == wait.inc;
    const bool ended_as_wanted = told && replica.last_end->code.empty();
    if (wait.how == AttemptEnd::in_doubt) {
      doubt_over(job, died, ended_as_wanted);
      continue;
    }
    if (wait.how == AttemptEnd::taken_back && !ended_as_wanted) ++job.losses;
    if (died && !note_death(job)) continue;
    if (job.verdict_due || lost_too_often(job)) {
      fail_lost(job);  // one that nobody can come back for is forgotten by that
      continue;
    }
    note_aboard(job);
  }
}

// A lease's life without a heartbeat is over: nothing of the attempt runs any more, whatever became of its worker. An
// attempt that was taken back waits on for a sign that its worker outlived it, as long as a renewal needs to be told.
void Orchestrator::end_fence_waits() {
  std::vector<JobId> over;
  for (const auto& [id, wait] : fence_waits_) {
    if (wait.ends(leases_.ttl()) <= now_ || (wait.until <= now_ && outlived(wait))) over.push_back(id);
  }
  for (const JobId id : over) {
    const FenceWait wait = fence_waits_.extract(id).mapped();
    Job& job = jobs_.at(id);
    if (wait.how == AttemptEnd::in_doubt) {
      if (outlived(wait)) doubt_over(job, false, true);
      continue;
    }
    if (wait.how == AttemptEnd::taken_back && !outlived(wait)) ++job.losses;
    if (job.verdict_due || lost_too_often(job)) {
      fail_lost(job);  // one that nobody can come back for is forgotten by that
      continue;
    }
    note_aboard(job);
  }
}

// M6: the worker applied a table with a renewal that was sent when nothing of the attempt could run any more (L2).
bool Orchestrator::outlived(const FenceWait& wait) const {
  const auto& leases = leases_.all();
  return std::any_of(leases.begin(), leases.end(), [&](const auto& entry) {
    const HeldLease& lease = entry.second;
    return lease.replica == wait.replica && lease.inc == wait.inc && lease.counted_from >= wait.until;
  });
}

bool Orchestrator::lost_too_often(const Job& job) const { return job.losses >= config_.limits.losses_max; }

void Orchestrator::fail_lost(Job& job) {
  fail(job, {failure_for(Outcome::WORKER_RESET, "its worker was lost", job), {}});
}

// Suspects have a way of their own (M6).
bool Orchestrator::may_dispatch(const Job& job) const { return job.deaths == 0 && attempt_may_begin(job); }

bool Orchestrator::attempt_may_begin(const Job& job) const {
  const auto wait = fence_waits_.find(job.spec.id);
  if (wait != fence_waits_.end() && wait->second.how != AttemptEnd::in_doubt) return false;
  if (!mutated(Mutation::skip_recovered_fence)) {
    if (wait != fence_waits_.end() && wait->second.until > now_) return false;
    if (job.anywhere == job.attempt && job.anywhere > 0 && !earlier_.over()) return false;
  }
  if (job.migrations == 0) return true;
  std::size_t running = 0;
  std::size_t migrated = 0;
  for (const auto& [dispatch, call] : calls_) {
    if (!call.open) continue;
    ++running;
    if (jobs_.at(dispatch.job).migrations > 0) ++migrated;
  }
  const std::size_t bound = running * config_.limits.migrating_percent_max / 100;
  return migrated < std::max<std::size_t>(bound, 1);
}

std::string Orchestrator::check_migration() const {
  for (const auto& [id, wait] : fence_waits_) {
    const auto job = jobs_.find(id);
    if (job == jobs_.end() || !job->second.live()) return "a job that is over waits for a fence";
    if (wait.how != AttemptEnd::in_doubt && job->second.state != JobState::waiting)
      return "only a waiting job waits for a fence";
  }
  for (const auto& [id, job] : jobs_) {
    if (job.migrations > config_.limits.migrations_max) return "a job migrated too often";
    if (job.in_flight() && job.losses >= config_.limits.losses_max) return "a job is aboard a third worker";
  }
  return check_suspects();
}

}  // namespace orch::gateway
