// What a later life must know of the workers that were lost to a job, so that a prompt takes down at most two of them
// however often its gateway begins anew (M6, OC-MIGR-M6).
//
// Nobody can tell the worker of an attempt that was under way when a life ended: it may have died of the job. So the
// attempt is a loss until its worker is known to have outlived it. The first attempt is dispatched and recorded at the
// same time; every later one waits for its record. So one that the journal does not know of can only be the first, and
// what it does know is the last.
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

void Orchestrator::note_aboard(Job& job) {
  if (!job.journal.wanted || !job.live()) return;
  job.journal.aboard_due = true;
  journal_.urgent.insert(job.spec.id);
}

AboardRecord Orchestrator::aboard_of(const Job& job) const {
  AboardRecord record{job.spec.id, job.attempt, job.losses, job.deaths, false, {}, {}, {}};
  const auto at = [&](const ReplicaKey& replica, Incarnation inc) {
    record.open = true;
    record.manager = replica.manager;
    record.replica_id = replica.replica_id;
    record.inc = inc;
  };
  const auto wait = fence_waits_.find(job.spec.id);
  if (job.in_flight()) {
    const Call& call = calls_.at(job.dispatch_id());
    at(call.replica, call.fence.inc);
  } else if (job.journal.boarding > job.attempt) {
    record.open = true;
    record.attempt = job.journal.boarding;
  } else if (wait != fence_waits_.end()) {
    at(wait->second.replica, wait->second.inc);
    if (wait->second.how != AttemptEnd::taken_back) --record.losses;
  }
  return record;
}

// False: not before the record of the attempt is durable.
bool Orchestrator::boarded(Job& job) {
  JournalProgress& journal = job.journal;
  const std::uint32_t next = job.attempt + 1;
  if (!journal.wanted || (job.losses == 0 && job.attempt == 0) || journal.boarded == next) return true;
  if (std::exchange(journal.boarding, next) != next) note_aboard(job);
  return false;
}

// False: it may have been aboard as many lost workers as it may at all.
bool Orchestrator::restore_aboard(Job& job, const std::optional<AboardRecord>& found) {
  if (mutated(Mutation::forget_deaths)) return true;
  AboardRecord aboard;
  aboard.open = true;  // unknown to the journal: the first attempt may have begun
  if (found) aboard = *found;
  job.attempt = std::max(job.attempt, aboard.attempt);
  job.losses = aboard.losses;
  job.deaths = aboard.deaths;
  if (aboard.open) {
    const bool known = !aboard.replica_id.empty();
    const bool last = aboard.losses + 1 >= config_.limits.losses_max;
    if (!known || !last) ++job.losses;
    if (known) {
      fence_waits_[job.spec.id] = {{aboard.manager, aboard.replica_id},
                                   aboard.inc,
                                   now_ + leases_.ttl(),
                                   last ? AttemptEnd::taken_back : AttemptEnd::in_doubt};
    }
  }
  if (lost_too_often(job)) return false;
  if (job.deaths > 0) suspects_.insert(job.spec.id);
  return true;
}

// What became of the worker of an attempt that an earlier life began. The job may be under way again: it goes on where
// it is, and runs alone if it comes back.
void Orchestrator::doubt_over(Job& job, bool died, bool outlived) {
  if (outlived) --job.losses;
  if (died && job.state == JobState::waiting) {
    if (!note_death(job)) return;
  } else if (died) {
    ++job.deaths;
  }
  note_aboard(job);
}

}  // namespace orch::gateway
