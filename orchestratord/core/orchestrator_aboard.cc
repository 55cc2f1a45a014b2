// What a later life must know of the workers that were lost to a job, so that a prompt takes down at most two of them
// however often its gateway begins anew (M6, OC-MIGR-M6).
//
// Nobody can tell the worker of an attempt that was under way when a life ended: it may have died of the job. So the
// attempt is a loss until its worker is known to have outlived it. The first attempt is dispatched and recorded at the
// same time; every later one waits for its record. So one that the journal does not know of can only be the first, and
// what it does know is the last.
//
// Nor may the next attempt begin while that one may still run (M1): it waits until the process is reaped, its manager
// says that nothing of an earlier start is left there, or the time is over in which it could have gone on.
#include <algorithm>
#include <utility>
#include <vector>

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
  } else if (job.anywhere == job.attempt && job.anywhere > 0 && !earlier_.over()) {
    record.open = true;
    --record.losses;
  }
  return record;
}

// False: not before the journal knows whose leases it may run under, and has the record of the attempt.
bool Orchestrator::boarded(Job& job, const LeaseKey& lease) {
  JournalProgress& journal = job.journal;
  const std::uint32_t next = job.attempt + 1;
  if (journal.wanted && !leasing_.known(lease.manager, leases_.find(lease)->ttl)) return false;
  if (!journal.wanted || (job.losses == 0 && job.attempt == 0) || journal.boarded == next) return true;
  if (std::exchange(journal.boarding, next) != next) note_aboard(job);
  return false;
}

// False: it may have been aboard as many lost workers as it may at all.
bool Orchestrator::restore_aboard(Job& job, const std::optional<AboardRecord>& found) {
  AboardRecord aboard;
  aboard.open = true;  // unknown to the journal: the first attempt may have begun
  aboard.attempt = 1;
  if (found) aboard = *found;
  if (mutated(Mutation::forget_deaths)) aboard.losses = aboard.deaths = 0;
  job.attempt = std::max(job.attempt, aboard.attempt);
  job.losses = aboard.losses;
  job.deaths = aboard.deaths;
  if (aboard.open) {
    const bool known = !aboard.replica_id.empty();
    const bool last = aboard.losses + 1 >= config_.limits.losses_max;
    if (!known || !last) ++job.losses;
    if (!known) job.anywhere = job.attempt;
    if (known) {
      fence_waits_[job.spec.id] = {{aboard.manager, aboard.replica_id},
                                   aboard.inc,
                                   earlier_.until(aboard.manager),
                                   last ? AttemptEnd::taken_back : AttemptEnd::in_doubt,
                                   true};
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

// The worker has stopped the attempt and went on: no loss.
void Orchestrator::on(const EarlierOver& event) {
  const std::optional<ManagerId> manager = fleet_.manager_of(event.link);
  if (!manager) {
    ++ignored_.unknown_link;
    return;
  }
  const ReplicaKey replica{*manager, event.replica_id};
  if (fleet_.find(replica) != nullptr) earlier_.over_at(replica, event.inc);
  std::vector<JobId> over;
  for (const auto& [id, wait] : fence_waits_) {
    if (wait.of_earlier_life && wait.replica == replica && wait.inc == event.inc) over.push_back(id);
  }
  for (const JobId id : over) {
    const FenceWait wait = fence_waits_.extract(id).mapped();
    Job& job = jobs_.at(id);
    if (wait.how == AttemptEnd::in_doubt) {
      doubt_over(job, false, true);
    } else {
      note_aboard(job);
    }
  }
}

// From then on nobody has to ask for the managers that are gone.
void Orchestrator::end_earlier_life() {
  if (!earlier_.is_over(fleet_, now_)) return;
  leasing_.forget_unless([&](ManagerId manager) { return fleet_.managers().contains(manager); });
}

}  // namespace orch::gateway
