#include "orchestratord/core/decision_log.h"

#include <utility>

namespace orch::gateway {

DecisionRecord& DecisionLog::open(JobId job) {
  if (const auto known = records_.find(job); known != records_.end()) {
    by_age_.erase(known->second.serial);
    records_.erase(known);
  }
  if (records_.size() >= kJobsMax) {
    records_.erase(by_age_.begin()->second);
    by_age_.erase(by_age_.begin());
  }
  Kept& kept = records_[job];
  kept.serial = next_++;
  kept.record.job = job;
  by_age_.emplace(kept.serial, job);
  return kept.record;
}

DecisionRecord* DecisionLog::find(JobId job) {
  const auto it = records_.find(job);
  return it == records_.end() ? nullptr : &it->second.record;
}

const DecisionRecord* DecisionLog::find(JobId job) const {
  const auto it = records_.find(job);
  return it == records_.end() ? nullptr : &it->second.record;
}

void DecisionLog::add_placement(JobId job, PlacementRecord placement) {
  DecisionRecord* record = find(job);
  if (record == nullptr) return;
  if (record->placements.size() >= kPlacementsMax) {
    record->placements.erase(record->placements.begin() + 1);
    ++record->placements_left_out;
  }
  record->placements.push_back(std::move(placement));
}

PlacementRecord* DecisionLog::last_placement(JobId job, std::uint32_t attempt) {
  DecisionRecord* record = find(job);
  if (record == nullptr || record->placements.empty()) return nullptr;
  PlacementRecord& last = record->placements.back();
  return last.attempt == attempt ? &last : nullptr;
}

void DecisionLog::put_back(JobId job, std::uint32_t attempt, Outcome outcome) {
  if (PlacementRecord* last = last_placement(job, attempt)) last->put_back = outcome;
}

void DecisionLog::preempted(JobId job, std::uint32_t attempt, JobId by) {
  if (PlacementRecord* last = last_placement(job, attempt)) last->preempted_by = by;
}

}  // namespace orch::gateway
