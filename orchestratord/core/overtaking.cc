#include "orchestratord/core/overtaking.h"

#include <algorithm>

namespace orch::gateway {
namespace {

constexpr int kRoundsMax = 32;

}  // namespace

void Overtaking::arrived(const FlowId& flow, Duration left, Duration work, Instant now) {
  if (!flows_.contains(flow) && flows_.size() >= kFlowsMax) {
    flows_.erase(std::min_element(flows_.begin(), flows_.end(),
                                  [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  Record& record = flows_[flow];
  record.used = now;
  if (record.ring.size() < kRecord) {
    record.ring.push_back({now, left, work});
    return;
  }
  record.ring[record.next] = {now, left, work};
  record.next = (record.next + 1) % kRecord;
}

Duration Overtaking::wait(const FlowId& flow, Duration left, Duration ahead, double slots, Instant now) const {
  const double alone = static_cast<double>(ahead.ns) / slots;
  const auto plain = [&] { return Duration{static_cast<std::int64_t>(alone)}; };
  const auto it = flows_.find(flow);
  if (it == flows_.end() || it->second.ring.size() < kRecordMin || ahead.ns <= 0) return plain();
  const Record& record = it->second;
  const std::size_t oldest = record.ring.size() < kRecord ? 0 : record.next;
  const double span = static_cast<double>((now - record.ring[oldest].at).ns);
  if (span <= 0) return plain();  // all at one instant: no rate is known
  const double due = static_cast<double>(left.ns);
  double waited = alone;
  for (int round = 0; round < kRoundsMax; ++round) {
    double passing = 0;
    for (const Arrival& each : record.ring) {
      const double window = std::min(waited, due - static_cast<double>(each.left.ns));
      if (window > 0) passing += static_cast<double>(each.work.ns) * window / span;
    }
    const double next = std::min(alone + passing / slots, std::max(alone, due));
    const bool settled = next - waited <= 0.01 * waited;
    waited = next;
    if (settled) break;
  }
  return Duration{static_cast<std::int64_t>(waited)};
}

}  // namespace orch::gateway
