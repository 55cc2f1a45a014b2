// The waiting jobs: bounded in number (whole and per class) and in bytes, first in first out inside a class and lane
// (ORCH-3004, ORCH-3005, OC-CORE-1001 to 1005). It knows order and room; who is served next between classes is the fair
// scheduler's, where it runs is placement's.
//
// Invariants: every entry stands in exactly one lane; size and bytes are the sums; both stay within their bounds,
// except for jobs that were put back, which were admitted once and are never refused (at most one per slot of the
// fleet). Complexity: O(log n) for push, remove and head; choosing victims is O(n) and happens only when the queue is
// full.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/fleet.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

struct QueueEntry {
  JobId job;
  std::uint64_t seq = 0;  // arrival; unique
  Lane lane;
  Priority priority = Priority::interactive;
  std::string tenant;
  std::uint64_t bytes = 0;
};

// What it takes to let a newcomer in.
struct Room {
  enum class Kind : std::uint8_t { free, after_eviction, none } kind = Kind::none;
  std::vector<JobId> victims;  // after_eviction: in this order
  const char* full = "";       // the bound that was hit, in words
  std::uint64_t limit = 0;     // its value
};

inline constexpr std::array<Priority, 2> kPriorities{Priority::interactive, Priority::batch};

class JobQueue {
 public:
  explicit JobQueue(const QueueLimits& limits) : limits_(limits) {}

  Room room_for(Priority priority, const std::string& tenant, std::uint64_t bytes) const;
  void push(const QueueEntry& entry);
  bool remove(JobId job);
  // A newcomer whose admission is being journaled: its room is taken, nobody sees it, it is no victim. remove() ends
  // it.
  void hold(const QueueEntry& entry);
  bool holds(JobId job) const { return held_.contains(job); }
  bool contains(JobId job) const { return entries_.contains(job); }

  std::size_t size() const { return entries_.size(); }
  std::size_t size(Priority priority) const { return counts_[index(priority)]; }
  std::uint64_t bytes() const { return bytes_; }
  const QueueLimits& limits() const { return limits_; }
  FullPolicy policy(Priority priority) const;

  // Waiting jobs of one model, per class.
  std::size_t depth(const std::string& model, Priority priority) const;
  std::vector<std::string> models() const;
  // Lanes of the model and class that have waiting jobs, the one with the oldest head first.
  std::vector<Lane> lanes_by_age(const std::string& model, Priority priority) const;
  // The first `max` jobs of a lane in order.
  std::vector<JobId> heads(const Lane& lane, Priority priority, std::size_t max) const;
  // Jobs of the same model and class that arrived before `seq`.
  std::size_t ahead_of(const std::string& model, Priority priority, std::uint64_t seq) const;

  std::string check_invariants() const;

 private:
  using Line = std::map<std::uint64_t, JobId>;  // by arrival
  static std::size_t index(Priority priority) { return static_cast<std::size_t>(priority); }
  std::vector<const QueueEntry*> by_age(Priority lowest_harm, const std::string* tenant) const;

  QueueLimits limits_;
  std::map<JobId, QueueEntry> entries_;
  std::map<JobId, QueueEntry> held_;
  std::map<std::string, std::array<std::map<Lane, Line>, 2>> models_;
  std::array<std::size_t, 2> counts_{};  // held ones included, like bytes_
  std::uint64_t bytes_ = 0;
};

}  // namespace orch::gateway
