#include "orchestratord/core/on_time.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace orch::gateway {
namespace {

double quotient(Duration a, Duration b) {
  return static_cast<double>(std::max<std::int64_t>(a.ns, 1)) / static_cast<double>(std::max<std::int64_t>(b.ns, 1));
}

double rule_of_succession(std::size_t made, std::size_t all) {
  return (static_cast<double>(made) + 1) / (static_cast<double>(all) + 2);
}

}  // namespace

void OnTimeRecord::observe(const Position& position, const Result& result, Instant now) {
  if (!models_.contains(position.model) && models_.size() >= kModelsMax) {
    models_.erase(std::min_element(models_.begin(), models_.end(),
                                   [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  Record& record = models_[position.model];
  record.used = now;
  Window& window = record.windows[index(position)];
  const Seen seen{std::log(quotient(position.left, position.predicted)), quotient(result.actual, position.predicted),
                  !result.cut_short && result.actual <= position.left, result.cut_short, result.deadline};
  if (window.ring.size() < kWindow) {
    window.ring.push_back(seen);
    return;
  }
  window.ring[window.next] = seen;
  window.next = (window.next + 1) % kWindow;
}

double OnTimeRecord::by_ratio(const Window& window, double room) {
  const auto within = [&](const Seen& each) { return !each.cut_short && each.ratio <= room; };
  const auto made = std::count_if(window.ring.begin(), window.ring.end(), within);
  return rule_of_succession(static_cast<std::size_t>(made), window.ring.size());
}

double OnTimeRecord::by_nearest(const Window& window, double log_room) {
  std::vector<std::pair<double, bool>> distances;  // and whether it was made
  distances.reserve(window.ring.size());
  for (const Seen& each : window.ring) {
    if (each.deadline) distances.emplace_back(std::abs(each.log_room - log_room), each.made);
  }
  const std::size_t nearest = std::min(kNearest, distances.size());
  std::nth_element(distances.begin(), distances.begin() + static_cast<std::ptrdiff_t>(nearest) - 1, distances.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::size_t made = 0;
  for (std::size_t i = 0; i < nearest; ++i) made += distances[i].second ? 1 : 0;
  return rule_of_succession(made, nearest);
}

double OnTimeRecord::probability(const Position& position) const {
  const auto it = models_.find(position.model);
  if (it == models_.end()) return rule_of_succession(0, 0);
  const Window& window = it->second.windows[index(position)];
  const double room = quotient(position.left, position.predicted);
  const auto deadlines =
      std::count_if(window.ring.begin(), window.ring.end(), [](const Seen& each) { return each.deadline; });
  if (static_cast<std::size_t>(deadlines) < kDeadlinesWanted) return by_ratio(window, room);
  return by_nearest(window, std::log(room));
}

}  // namespace orch::gateway
