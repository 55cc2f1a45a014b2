// A replica that is not wanted, for a while or for good: drain, undrain and what becomes of an adopted worker that was
// told to drain (DESIGN-RULES L8, L9; OC-POOL-3042, OC-POOL-3051).
#include <algorithm>
#include <utility>
#include <vector>

#include "pool-managerd/core/replica.h"

namespace orch::pool {

void Replica::drain(Duration deadline, DrainReason reason, Instant now, Effects& out) {
  const Instant until = now + deadline;
  if (!wanted_ && until >= drain_until_) return;
  wanted_ = false;
  drain_until_ = state_ == ReplicaState::draining ? std::min(drain_until_, until) : until;
  start_at_ = Instant::never();
  if (state_ != ReplicaState::draining) jobs_cut_ = 0;
  if (!life_) {
    change_state(ReplicaState::stopped, out);
    return;
  }
  if (state_ != ReplicaState::draining) {
    change_state(ReplicaState::draining, out);
    out.push_back(NotedDrain{.replica_id = spec_.replica_id, .reason = reason});
  }
  if (life_->ending) return;
  if (life_->controlled) out.push_back(SendDrain{.inc = life_->inc, .deadline = deadline});
  check_drain(now, out);
}

// L8: its last manager told it to drain, and it takes no more work. Its jobs have until the deadline that it was given,
// then another life takes its place, since nobody told this manager that the replica is not wanted.
void Replica::go_on_draining(Duration left, Instant now, Effects& out) {
  drain_until_ = now + left;
  jobs_cut_ = 0;
  change_state(ReplicaState::draining, out);
}

// L9: nobody is told of these leases any more, and their jobs run on.
void Replica::close_adopted() {
  life_->proven = false;
  std::vector<LeaseId> open;
  for (const auto& [id, lease] : life_->book.leases()) open.push_back(id);
  for (const LeaseId id : open) life_->book.close(id, false);
}

void Replica::undrain(Instant now) {
  const bool waits = state_ == ReplicaState::backoff || state_ == ReplicaState::failed;
  if (wanted_ && !waits) return;
  wanted_ = true;
  schedule_.reset();
  if (life_ && life_->ending) life_->forgiven = true;
  if (state_ != ReplicaState::draining) start_at_ = now;  // else with the end of the drain
}

void Replica::end_drain(Instant now, Effects& out) {
  drain_until_ = Instant::never();
  change_state(ReplicaState::stopped, out);
  if (wanted_) start_at_ = now;
}

void Replica::stays(std::string why) {
  not_replaced_ = std::move(why);
  if (settings_.mutation == Mutation::forget_end) last_end_.reset();
}

// L9: the worker is stopped when it is idle, or when the deadline is over and it had time to end its jobs by itself.
void Replica::check_drain(Instant now, Effects& out) {
  if (state_ != ReplicaState::draining || !life_ || life_->ending) return;
  const bool over = now >= drain_until_ + settings_.health.drain_settle;
  if (!over && (life_->adopting || !life_->book.is_idle())) return;  // what an adopted one runs is not known yet
  jobs_cut_ += life_->book.running();  // beside those that the worker has stopped by itself
  end_process(now, now, out);
}

}  // namespace orch::pool
