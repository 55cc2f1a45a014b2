#include "orchestratord/core/service_times.h"

#include <algorithm>
#include <cmath>

namespace orch::gateway {
namespace {

constexpr double kAlpha = 0.2;  // weight of the newest sample: about the last nine count

void blend(double& mean, double sample) { mean = mean <= 0 ? sample : mean + kAlpha * (sample - mean); }

// splitmix64's finaliser: spreads a job id over 64 bits.
std::uint64_t scrambled(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

}  // namespace

ServiceTimes::Record& ServiceTimes::record(const std::string& model, Instant now) {
  if (!models_.contains(model) && models_.size() >= kModelsMax) {
    const auto oldest = std::min_element(models_.begin(), models_.end(),
                                         [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
    models_.erase(oldest);
  }
  Record& entry = models_[model];
  entry.used = now;
  return entry;
}

const ServiceTimes::Record* ServiceTimes::find(const std::string& model) const {
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : &it->second;
}

void ServiceTimes::served(const std::string& model, Priority priority, Duration held, Instant now) {
  blend(record(model, now).service_ns[static_cast<std::size_t>(priority)],
        static_cast<double>(std::max<std::int64_t>(held.ns, 1)));
}

void ServiceTimes::waits(const std::string& model, Instant now) {
  Record& entry = record(model, now);
  if (entry.backlog) return;
  entry.backlog = true;
  entry.backlog_since = now;
}

void ServiceTimes::departed(const std::string& model, bool still_waiting, Instant now) {
  Record& entry = record(model, now);
  // A job that found a free slot waited for nobody and says nothing about the rate at which a queue drains.
  if (entry.backlog && entry.backlog_since < now) {
    const Duration gap = now - std::max(entry.last_departure, entry.backlog_since);
    blend(entry.interval_ns, static_cast<double>(std::max<std::int64_t>(gap.ns, 1)));
  }
  entry.backlog = still_waiting;
  entry.last_departure = now;
  if (entry.refusals > 0) --entry.refusals;  // one of the refused would have found room now
}

void ServiceTimes::refused(const std::string& model, Instant now) {
  Record& entry = record(model, now);
  entry.refusals_at = now;
  if (entry.refusals < 1'000'000) ++entry.refusals;
}

Duration ServiceTimes::service(const std::string& model, Priority priority) const {
  const Record* entry = find(model);
  const double measured = entry == nullptr ? 0 : entry->service_ns[static_cast<std::size_t>(priority)];
  if (measured > 0) return {static_cast<std::int64_t>(measured)};
  return priority == Priority::interactive ? limits_.interactive_service_default : limits_.batch_service_default;
}

Duration ServiceTimes::departure_interval(const std::string& model, Priority priority, std::uint32_t slots,
                                          Instant now) const {
  const Record* entry = find(model);
  if (entry == nullptr || entry->interval_ns <= 0) return service(model, priority) / std::max<std::int64_t>(slots, 1);
  double interval = entry->interval_ns;
  // A queue that has stood still for longer than its mean drains more slowly than its history says.
  if (entry->backlog)
    interval =
        std::max(interval, static_cast<double>((now - std::max(entry->last_departure, entry->backlog_since)).ns));
  return {static_cast<std::int64_t>(interval)};
}

Duration ServiceTimes::retry_after(const std::string& model, Priority priority, std::uint32_t excess,
                                   std::uint32_t slots, std::uint64_t salt, Instant now) const {
  const double interval = static_cast<double>(departure_interval(model, priority, slots, now).ns);
  const Record* entry = find(model);
  const double turns =
      static_cast<double>(excess) + (entry == nullptr ? 1 : std::max<std::uint32_t>(entry->refusals, 1));
  const double jitter = 0.9 + 0.2 * (static_cast<double>(scrambled(salt) >> 11) * 0x1.0p-53);
  const double told = std::min(interval * turns * jitter, static_cast<double>(limits_.retry_after_max.ns));
  return {std::max<std::int64_t>(static_cast<std::int64_t>(told), Duration::milliseconds(1).ns)};
}

}  // namespace orch::gateway
