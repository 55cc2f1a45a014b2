// The worker of the explicit-state check: what worker/shell does around the LeaseArbiter.
#include <algorithm>
#include <utility>

#include "lease_check/cluster.h"

namespace orch::check {

worker::LeaseArbiter Cluster::new_arbiter() const {
  worker::LeaseArbiter out({.slots = kSlots, .leases_max = 8, .attempts_max = 8});
  out.bind(manager_, inc_);
  return out;
}

void Cluster::take_table(const LeaseTable& table) {
  const auto applied = arbiter_.apply(table, now_);
  send_report();  // also of a table that was not applied
  if (applied != worker::LeaseArbiter::Applied::ok) return;
  for (const LeaseEntry& entry : table.leases) applied_most_[entry.id] = std::max(applied_most_[entry.id], entry.slots);
  stop_jobs();
}

void Cluster::stop_jobs() {
  for (const auto& stop : arbiter_.jobs_to_stop(now_)) {
    for (Job& job : jobs_) job.stopping = job.stopping || job.id == stop.dispatch;
  }
}

void Cluster::take_late_table() {
  LeaseTable table = *std::exchange(late_, std::nullopt);
  const bool older = table.version <= arbiter_.version();
  if (fault_ == Fault::apply_older_tables) {
    table.version = arbiter_.version();
    ++table.version.counter;
  }
  const TableVersion before = arbiter_.version();
  take_table(table);
  if (older && arbiter_.version() != before) violate("L2: an older table was applied");
}

void Cluster::take_job(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  const Job job = *std::exchange(party.dispatch, std::nullopt);
  const LeaseId lease = job.fence.lease;
  const std::optional<Instant> end = end_at_worker(lease);
  const Instant seen = fault_ == Fault::worker_ignores_the_end ? Instant{} : now_;
  const auto admitted = arbiter_.admit(job.fence, job.holder, job.id, seen, job.slots);
  if (!admitted.ok()) {
    if (admitted.error() == Outcome::SLOT_BUSY) check_refusal(lease);
    return party.leases.return_slot(key(lease));
  }
  if (job.fence.inc != inc_ || !end || now_ >= *end) violate("L3: a dispatch was admitted without a live lease");
  jobs_.push_back(job);
  send_report();
}

// One report is under way at a time; what happens meanwhile goes with the next.
void Cluster::send_report() {
  if (report_) {
    report_due_ = true;
  } else {
    report_ = Report{arbiter_.version(), arbiter_.uses()};
  }
}

void Cluster::end_job(std::size_t index) {
  const Job job = jobs_[index];
  jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(index));
  arbiter_.ended(job.id, worker::JobEnd::finished);
  send_report();
  Party& party = parties_[static_cast<std::size_t>(job.holder.orch.value.lo)];
  if (job.holder.boot == party.boot) party.leases.return_slot(key(job.fence.lease));
}

// The manager learns of it by the reap: nothing of that life runs any more (L6).
void Cluster::crash_worker() {
  if (fault_ == Fault::successor_before_the_reap) ghosts_ = static_cast<std::uint32_t>(jobs_.size());
  while (!jobs_.empty()) end_job(0);
  ++inc_.counter;
  book_ = pool::LeaseBook(inc_, kTtl, kSlots);
  arbiter_ = new_arbiter();
  applied_most_.clear();
  said_.clear();
  tables_.clear();
  late_.reset();
  report_.reset();
  report_due_ = false;
}

}  // namespace orch::check
