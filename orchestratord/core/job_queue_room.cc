// Room in a full queue (DESIGN-RULES "Full queue", OC-QUEUE-1001 to 1007).
#include <algorithm>

#include "common/base/check.h"
#include "orchestratord/core/job_queue.h"

namespace orch::gateway {

// Victims chosen so far, and what each tenant has given up by them. Jobs are few: one for a bound in jobs, as many as
// it takes for one in bytes.
struct JobQueue::Selection {
  std::set<JobId> jobs;
  struct Given {
    std::array<std::size_t, 2> counts{};
    std::uint64_t bytes = 0;
  };
  std::map<std::string, Given> given;

  std::uint64_t of(const std::string& tenant, std::size_t measure) const {
    const auto it = given.find(tenant);
    if (it == given.end()) return 0;
    switch (measure) {
      case 0:
        return it->second.counts[0] + it->second.counts[1];
      case 1:
      case 2:
        return it->second.counts[measure - 1];
      default:
        return it->second.bytes;
    }
  }
};

std::uint64_t JobQueue::measured(const Use& use, std::size_t measure) {
  switch (measure) {
    case 0:
      return use.jobs();
    case 1:
    case 2:
      return use.counts[measure - 1];
    default:
      return use.bytes;
  }
}

namespace {

constexpr std::size_t kJobs = 0;
constexpr std::size_t kBytes = 3;

}  // namespace

JobQueue::Bound JobQueue::bound_hit(const Newcomer& newcomer, const Totals& totals) const {
  // The class first: a victim of the same class makes room in both.
  if (totals.in_class >= class_capacity(newcomer.priority)) return Bound::class_capacity;
  if (totals.jobs >= limits_.capacity) return Bound::capacity;
  if (newcomer.bytes > limits_.bytes_max || totals.bytes > limits_.bytes_max - newcomer.bytes) return Bound::bytes;
  return Bound::none;
}

// Of all tenants with any of the measure waiting, the newcomer's included.
std::uint64_t JobQueue::active_weight(const Newcomer& newcomer, std::size_t measure) const {
  const auto use = uses_.find(newcomer.tenant);
  const bool counted = use != uses_.end() && measured(use->second, measure) > 0;
  return weights_[measure] + (counted ? 0 : newcomer.weight);
}

namespace {

std::size_t measure_of(bool whole, bool in_bytes, Priority priority) {
  if (in_bytes) return kBytes;
  return whole ? kJobs : 1 + static_cast<std::size_t>(priority);
}

// max(1, capacity * w / sum w), not rounded.
double quota(std::uint64_t capacity, std::uint32_t weight, std::uint64_t weights) {
  return std::max(1.0, static_cast<double>(capacity) * weight / static_cast<double>(weights));
}

}  // namespace

// Would the newcomer's tenant still be within its quota with the newcomer?
bool JobQueue::within_quota(const Newcomer& newcomer, Bound bound) const {
  const std::size_t measure = measure_of(bound == Bound::capacity, bound == Bound::bytes, newcomer.priority);
  const std::uint64_t capacity = bound == Bound::bytes      ? limits_.bytes_max
                                 : bound == Bound::capacity ? limits_.capacity
                                                            : class_capacity(newcomer.priority);
  const auto use = uses_.find(newcomer.tenant);
  const std::uint64_t has = use == uses_.end() ? 0 : measured(use->second, measure);
  const std::uint64_t more = bound == Bound::bytes ? newcomer.bytes : 1;
  return static_cast<double>(has + more) <= quota(capacity, newcomer.weight, active_weight(newcomer, measure));
}

// Its (excess + 1)-th departure brings it under the quota, by which it gets in whatever the policy.
std::uint32_t JobQueue::excess(const Newcomer& newcomer) const {
  const auto use = uses_.find(newcomer.tenant);
  if (use == uses_.end()) return 0;
  std::uint64_t most = 0;
  for (const bool whole : {true, false}) {
    const std::size_t measure = measure_of(whole, false, newcomer.priority);
    const std::uint64_t capacity = whole ? limits_.capacity : class_capacity(newcomer.priority);
    const std::uint64_t has = measured(use->second, measure);
    const auto may = static_cast<std::uint64_t>(quota(capacity, newcomer.weight, active_weight(newcomer, measure)));
    if (has > may) most = std::max(most, has - may);
  }
  return static_cast<std::uint32_t>(most);
}

const QueueEntry* JobQueue::newest(const Use& use, Priority highest, const Selection& chosen) const {
  const QueueEntry* best = nullptr;
  for (std::size_t c = index(highest); c < use.by_age.size(); ++c) {
    // NOLINTNEXTLINE(modernize-loop-convert): from the newest
    for (auto it = use.by_age[c].rbegin(); it != use.by_age[c].rend(); ++it) {
      if (chosen.jobs.contains(it->second)) continue;
      const QueueEntry& entry = entries_.at(it->second);
      if (best == nullptr || entry.seq > best->seq) best = &entry;
      break;
    }
  }
  return best;
}

// Rule (a): the newest job of the tenant most over its quota, never of a higher class.
const QueueEntry* JobQueue::over_quota(const Newcomer& newcomer, Bound bound, const Selection& chosen) const {
  const std::size_t measure = measure_of(bound == Bound::capacity, bound == Bound::bytes, newcomer.priority);
  const std::uint64_t capacity = bound == Bound::bytes      ? limits_.bytes_max
                                 : bound == Bound::capacity ? limits_.capacity
                                                            : class_capacity(newcomer.priority);
  const std::uint64_t weights = active_weight(newcomer, measure);
  const QueueEntry* best = nullptr;
  double best_use = 0;
  const auto& by_use = by_use_[measure];
  // NOLINTNEXTLINE(modernize-loop-convert): from the largest
  for (auto it = by_use.rbegin(); it != by_use.rend(); ++it) {
    if (best != nullptr && it->first <= best_use) break;  // nobody further down is more over quota
    const Use& use = uses_.at(it->second);
    const std::uint64_t left = measured(use, measure) - chosen.of(it->second, measure);
    const double over = static_cast<double>(left) / use.weight;
    if (static_cast<double>(left) <= quota(capacity, use.weight, weights)) continue;
    if (best != nullptr && over <= best_use) continue;
    const QueueEntry* victim = nullptr;
    if (bound == Bound::class_capacity) {  // only the same class makes room
      for (auto job = use.by_age[index(newcomer.priority)].rbegin();
           job != use.by_age[index(newcomer.priority)].rend() && victim == nullptr; ++job) {
        if (!chosen.jobs.contains(job->second)) victim = &entries_.at(job->second);
      }
    } else {
      victim = newest(use, newcomer.priority, chosen);
    }
    if (victim == nullptr) continue;
    best = victim;
    best_use = over;
  }
  return best;
}

// Rule (b).
const QueueEntry* JobQueue::by_policy(const Newcomer& newcomer, Bound bound, const Selection& chosen) const {
  switch (policy(newcomer.priority)) {
    case FullPolicy::reject:
      return nullptr;
    case FullPolicy::drop_lru: {
      const auto own = uses_.find(newcomer.tenant);
      if (own == uses_.end()) return nullptr;
      const QueueEntry* best = nullptr;
      for (std::size_t c = index(newcomer.priority); c < own->second.by_age.size(); ++c) {
        if (bound == Bound::class_capacity && c != index(newcomer.priority)) continue;
        for (const auto& [seq, job] : own->second.by_age[c]) {
          if (chosen.jobs.contains(job)) continue;
          if (best == nullptr || seq < best->seq) best = &entries_.at(job);
          break;
        }
      }
      return best;
    }
    case FullPolicy::shed_low_priority: {
      if (newcomer.priority != Priority::interactive || bound == Bound::class_capacity) return nullptr;
      const std::size_t measure = 1 + index(Priority::batch);
      const QueueEntry* best = nullptr;
      double best_use = 0;
      for (auto it = by_use_[measure].rbegin(); it != by_use_[measure].rend(); ++it) {
        if (best != nullptr && it->first <= best_use) break;
        const Use& use = uses_.at(it->second);
        const double left = static_cast<double>(measured(use, measure) - chosen.of(it->second, measure)) / use.weight;
        if (best != nullptr && left <= best_use) continue;
        const QueueEntry* victim = newest(use, Priority::batch, chosen);
        if (victim == nullptr) continue;
        best = victim;
        best_use = left;
      }
      return best;
    }
  }
  return nullptr;
}

Room JobQueue::room_for(const Newcomer& newcomer) const {
  Room room;
  const Totals now{entries_.size() + held_.size(), counts_[index(newcomer.priority)], bytes_};
  const Bound first = bound_hit(newcomer, now);
  switch (first) {
    case Bound::none:
      room.kind = Room::Kind::free;
      return room;
    case Bound::capacity:
      room.full = "queue.capacity";
      room.limit = limits_.capacity;
      break;
    case Bound::class_capacity:
      room.full = newcomer.priority == Priority::interactive ? "queue.interactive_capacity" : "queue.batch_capacity";
      room.limit = class_capacity(newcomer.priority);
      break;
    case Bound::bytes:
      room.full = "queue.bytes_max";
      room.limit = limits_.bytes_max;
      break;
  }
  if (newcomer.bytes > limits_.bytes_max) return room;

  for (const bool by_quota : {true, false}) {
    Selection chosen;
    Totals left = now;
    Room evicting = room;
    evicting.by_quota = by_quota;
    for (Bound bound = first; bound != Bound::none; bound = bound_hit(newcomer, left)) {
      if (by_quota && !within_quota(newcomer, bound)) break;
      const QueueEntry* victim = by_quota ? over_quota(newcomer, bound, chosen) : by_policy(newcomer, bound, chosen);
      if (victim == nullptr) break;
      evicting.victims.push_back(victim->job);
      chosen.jobs.insert(victim->job);
      Selection::Given& given = chosen.given[victim->tenant];
      ++given.counts[index(victim->priority)];
      given.bytes += victim->bytes;
      --left.jobs;
      if (victim->priority == newcomer.priority) --left.in_class;
      left.bytes -= victim->bytes;
      if (bound_hit(newcomer, left) != Bound::none) continue;
      evicting.kind = Room::Kind::after_eviction;
      return evicting;
    }
  }
  return room;  // not enough to give up: nobody is evicted in vain
}

}  // namespace orch::gateway
