#include "orchestratord/core/drain_rates.h"

#include <algorithm>

namespace orch::gateway {
namespace {

constexpr double kGapDecay = 63.0 / 64.0;
constexpr std::uint32_t kRefusalsMax = 1'000'000;

// splitmix64's finaliser: spreads a job id over 64 bits.
std::uint64_t spread_bits(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

}  // namespace

DrainRates::Flow& DrainRates::flow(const DrainFlow& id, Instant now) {
  const Key key{id.tenant, id.priority};
  if (!flows_.contains(key) && flows_.size() >= kFlowsMax) {
    flows_.erase(std::min_element(flows_.begin(), flows_.end(),
                                  [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  Flow& entry = flows_[key];
  entry.used = now;
  return entry;
}

const DrainRates::Flow* DrainRates::find(const DrainFlow& id) const {
  const auto it = flows_.find({id.tenant, id.priority});
  return it == flows_.end() ? nullptr : &it->second;
}

void DrainRates::waits(const DrainFlow& id, Instant now) {
  Flow& entry = flow(id, now);
  if (entry.backlog) return;
  entry.backlog = true;
  entry.backlog_since = now;
}

void DrainRates::left(const DrainFlow& id, bool still_waiting, Instant now) {
  Flow& entry = flow(id, now);
  // A job that found a free slot waited for nobody and says nothing about the rate at which a queue drains.
  if (entry.backlog && entry.backlog_since < now) {
    const Duration gap = now - std::max(entry.last_departure, entry.backlog_since);
    entry.gaps_ns = entry.gaps_ns * kGapDecay + static_cast<double>(gap.ns);
    entry.gaps = entry.gaps * kGapDecay + 1;
  }
  entry.backlog = still_waiting;
  entry.last_departure = now;
  if (!still_waiting) {
    entry.refusals = 0;
  } else if (entry.refusals > 0) {
    --entry.refusals;
  }
}

void DrainRates::refused(const DrainFlow& id, Instant now) {
  Flow& entry = flow(id, now);
  if (entry.refusals < kRefusalsMax) ++entry.refusals;
}

Duration DrainRates::interval(const DrainFlow& id, Duration unmeasured, Instant now) const {
  const Flow* entry = find(id);
  if (entry == nullptr || entry->gaps <= 0 || entry->gaps_ns <= 0) return unmeasured;
  double mean = entry->gaps_ns / entry->gaps;
  if (entry->backlog) {
    // The gap under way counts as one that has just ended, once it makes the mean longer.
    const Duration still = now - std::max(entry->last_departure, entry->backlog_since);
    mean = std::max(mean, (entry->gaps_ns + static_cast<double>(still.ns)) / (entry->gaps + 1));
  }
  return {static_cast<std::int64_t>(mean)};
}

Duration DrainRates::retry_after(const DrainFlow& id, std::uint32_t excess, Duration unmeasured, std::uint64_t salt,
                                 Instant now) const {
  const Flow* entry = find(id);
  const double turns = static_cast<double>(excess) +
                       static_cast<double>(entry == nullptr ? 1 : std::max<std::uint32_t>(entry->refusals, 1));
  const double jitter = 0.9 + 0.2 * (static_cast<double>(spread_bits(salt) >> 11) * 0x1.0p-53);
  const double told = static_cast<double>(interval(id, unmeasured, now).ns) * turns * jitter;
  const double bounded =
      std::clamp(told, static_cast<double>(Duration::milliseconds(1).ns), static_cast<double>(kToldMax.ns));
  return {static_cast<std::int64_t>(bounded)};
}

std::uint32_t DrainRates::refusals(const DrainFlow& id) const {
  const Flow* entry = find(id);
  return entry == nullptr ? 0 : entry->refusals;
}

}  // namespace orch::gateway
