#include "orchestratord/core/result_shelf.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::gateway {

void ResultShelf::add(JobId job, const Result& result) {
  const bool fresh = results_.emplace(job, result).second;
  ORCH_CHECK(fresh);
  (result.read ? read_ : unread_[result.tenant]).emplace(result.ended, job);
  bytes_ += result.bytes;
}

void ResultShelf::take_out(JobId job, const Result& result) {
  if (result.read) {
    read_.erase({result.ended, job});
    return;
  }
  const auto of = unread_.find(result.tenant);
  of->second.erase({result.ended, job});
  if (of->second.empty()) unread_.erase(of);
}

void ResultShelf::note_read(JobId job) {
  const auto found = results_.find(job);
  if (found == results_.end() || found->second.read) return;
  take_out(job, found->second);
  found->second.read = true;
  read_.emplace(found->second.ended, job);
}

void ResultShelf::remove(JobId job) {
  const auto found = results_.find(job);
  if (found == results_.end()) return;
  take_out(job, found->second);
  bytes_ -= found->second.bytes;
  results_.erase(found);
}

std::optional<JobId> ResultShelf::surplus(const std::function<bool(JobId)>& being_read) const {
  if (results_.size() <= results_max_ && (bytes_ <= bytes_max_ || results_.empty())) return std::nullopt;
  const auto first_of = [&](const ByAge& results) {
    const auto free =
        std::find_if(results.begin(), results.end(), [&](const auto& each) { return !being_read(each.second); });
    return (free == results.end() ? results.begin() : free)->second;
  };
  if (!read_.empty()) return first_of(read_);
  const auto most = std::max_element(unread_.begin(), unread_.end(), [](const auto& left, const auto& right) {
    return left.second.size() < right.second.size();
  });
  return first_of(most->second);
}

void ResultShelf::note_dropped(JobId job, std::string tenant, Instant until) {
  forget_dropped(job);
  if (dropped_.size() >= kDroppedMax) forget_dropped(dropped_by_end_.begin()->second);
  dropped_by_end_.emplace(until, job);
  dropped_.emplace(job, std::pair(until, std::move(tenant)));
}

const std::string* ResultShelf::dropped(JobId job) const {
  const auto found = dropped_.find(job);
  return found == dropped_.end() ? nullptr : &found->second.second;
}

void ResultShelf::forget_dropped(JobId job) {
  const auto found = dropped_.find(job);
  if (found == dropped_.end()) return;
  dropped_by_end_.erase({found->second.first, job});
  dropped_.erase(found);
}

void ResultShelf::expire(Instant now) {
  while (!dropped_by_end_.empty() && dropped_by_end_.begin()->first <= now)
    forget_dropped(dropped_by_end_.begin()->second);
}

Instant ResultShelf::next_expiry() const {
  return dropped_by_end_.empty() ? Instant::never() : dropped_by_end_.begin()->first;
}

}  // namespace orch::gateway
