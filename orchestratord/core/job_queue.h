// The waiting jobs: bounded in number (whole and per class) and in bytes (ORCH-3004, ORCH-3005, OC-CORE-1001 to 1005,
// OC-QUEUE-*). Per model and class they stand by tenant, and inside a tenant by deadline, then arrival (E1, F1). It
// knows order and room; which tenant is next is the fair scheduler's, where a job runs is placement's.
//
// Invariants: every entry stands in exactly one line; size and bytes are the sums; both stay within their bounds,
// except for jobs that were put back, which were admitted once and are never refused (at most one per slot of the
// fleet). Complexity: O(log n) for push, remove, head, rank and, with a full queue, the choice of a victim.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/fair_scheduler.h"
#include "orchestratord/core/fleet.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/limits.h"
#include "orchestratord/core/ranked_line.h"

namespace orch::gateway {

struct QueueEntry {
  JobId job;
  std::uint64_t seq = 0;  // arrival; unique
  Lane lane;
  Priority priority = Priority::interactive;
  std::string tenant;
  std::uint64_t bytes = 0;
  Instant order_by = Instant::never();  // E1: its deadline, or the one of its class; for order only
  std::uint64_t work = 1;               // expected, in nanoseconds of service (E3)
  std::uint32_t weight = 1;             // of the tenant, for quotas of a full queue
  bool may_be_victim = true;

  LineKey key() const { return {order_by, seq}; }
};

// What it takes to let a newcomer in.
struct Room {
  enum class Kind : std::uint8_t { free, after_eviction, none } kind = Kind::none;
  std::vector<JobId> victims;  // after_eviction: in this order
  bool by_quota = false;       // after_eviction by OC-QUEUE-1002: the victims' tenants are over their quota
  const char* full = "";       // the bound that was hit, in words
  std::uint64_t limit = 0;     // its value
};

struct Newcomer {
  Priority priority = Priority::interactive;
  std::string tenant;
  std::uint64_t bytes = 0;
  std::uint32_t weight = 1;
};

class JobQueue {
 public:
  explicit JobQueue(const QueueLimits& limits) : limits_(limits) {}

  Room room_for(const Newcomer& newcomer) const;
  // Places that the newcomer's tenant holds beyond its quota of the whole or of its class, whichever is more.
  std::uint32_t excess(const Newcomer& newcomer) const;
  void push(const QueueEntry& entry);
  bool remove(JobId job);
  // A newcomer whose admission is being journaled: its room is taken, nobody sees it, it is no victim. remove() ends
  // it.
  void hold(const QueueEntry& entry);
  bool holds(JobId job) const { return held_.contains(job); }
  bool contains(JobId job) const { return entries_.contains(job); }
  // Quotas of a full queue are shared by weight: later evictions see the new one.
  void set_weight(const std::string& tenant, std::uint32_t weight);

  std::size_t size() const { return entries_.size(); }
  std::size_t size(Priority priority) const { return counts_[index(priority)]; }
  std::uint64_t bytes() const { return bytes_; }
  std::size_t size_of(const std::string& tenant) const;
  std::size_t size_of(const std::string& tenant, Priority priority) const;
  const QueueLimits& limits() const { return limits_; }
  FullPolicy policy(Priority priority) const;

  // Waiting jobs of one model, per class.
  std::size_t depth(const std::string& model, Priority priority) const;
  std::size_t size_of(const std::string& model, Priority priority, const std::string& tenant) const;
  std::vector<std::string> models() const;
  // Lanes of the model and class that have waiting jobs, and how many tenants wait in them.
  const std::map<Lane, std::size_t>& lanes(const std::string& model, Priority priority) const;
  std::size_t size_of(const Lane& lane, Priority priority, const std::string& tenant) const;
  // Lanes of one tenant, the one with the first head first.
  std::vector<Lane> lanes_of(const std::string& model, Priority priority, const std::string& tenant) const;
  // The first `max` jobs of a lane of a tenant, in order.
  std::vector<JobId> heads(const Lane& lane, Priority priority, const std::string& tenant, std::size_t max) const;
  // All jobs of a lane, tenant by tenant.
  std::vector<JobId> jobs_in(const Lane& lane, Priority priority) const;
  // Tenants with waiting jobs of the model and class, with how many.
  std::vector<std::pair<std::string, std::size_t>> tenants(const std::string& model, Priority priority) const;
  // The first in order of a tenant, over its lanes.
  std::optional<RankedLine::Item> first_of(const std::string& model, Priority priority,
                                           const std::string& tenant) const;
  // What of the tenant's own stands before `key` in the model and class (E3).
  RankedLine::Sums ahead_of(const std::string& model, Priority priority, const std::string& tenant,
                            const LineKey& key) const;
  // The first of them behind it (E4).
  std::optional<RankedLine::Item> after(const std::string& model, Priority priority, const std::string& tenant,
                                        const LineKey& key) const;

  std::string check_invariants() const;

 private:
  using Line = std::map<LineKey, JobId>;
  struct TenantLines {
    std::map<Lane, Line> lanes;
    RankedLine all;
  };
  struct ClassLines {
    std::map<std::string, TenantLines> tenants;
    std::map<Lane, std::size_t> lanes;  // tenants in it
    std::size_t size = 0;
  };
  // One tenant over all models: what quotas and victims are chosen by.
  struct Use {
    std::uint32_t weight = 1;
    std::array<std::size_t, 2> counts{};
    std::uint64_t bytes = 0;
    std::array<std::map<std::uint64_t, JobId>, 2> by_age;  // by arrival
    std::size_t jobs() const { return counts[0] + counts[1]; }
  };
  enum class Bound : std::uint8_t { none, capacity, class_capacity, bytes };
  static constexpr std::size_t kMeasures = 4;  // jobs, interactive jobs, batch jobs, bytes
  struct Totals {
    std::size_t jobs = 0;
    std::size_t in_class = 0;
    std::uint64_t bytes = 0;
  };
  struct Selection;  // victims chosen so far

  static std::size_t index(Priority priority) { return static_cast<std::size_t>(priority); }
  static std::uint64_t measured(const Use& use, std::size_t measure);
  void rank(const std::string& tenant, const Use& use, bool in);
  void use_grows(const QueueEntry& entry, bool waits);
  void use_shrinks(const QueueEntry& entry);
  std::size_t class_capacity(Priority priority) const;
  Bound bound_hit(const Newcomer& newcomer, const Totals& totals) const;
  const ClassLines* find(const std::string& model, Priority priority) const;
  const TenantLines* find(const std::string& model, Priority priority, const std::string& tenant) const;
  std::uint64_t active_weight(const Newcomer& newcomer, std::size_t measure) const;
  bool within_quota(const Newcomer& newcomer, Bound bound) const;
  const QueueEntry* over_quota(const Newcomer& newcomer, Bound bound, const Selection& chosen) const;
  const QueueEntry* by_policy(const Newcomer& newcomer, Bound bound, const Selection& chosen) const;
  const QueueEntry* newest(const Use& use, Priority highest, const Selection& chosen) const;

  QueueLimits limits_;
  std::map<JobId, QueueEntry> entries_;
  std::map<JobId, QueueEntry> held_;
  std::map<std::string, std::array<ClassLines, 2>> models_;
  std::map<std::string, Use> uses_;
  // Per measure: tenants by use over weight, and the weights of those that use any.
  std::array<std::set<std::pair<double, std::string>>, kMeasures> by_use_;
  std::array<std::uint64_t, kMeasures> weights_{};
  std::array<std::size_t, 2> counts_{};  // held ones included, like bytes_ and uses
  std::uint64_t bytes_ = 0;
};

}  // namespace orch::gateway
