#include "worker/shell/speed_probe.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "worker/core/kv_pages.h"

namespace orch::worker {
namespace {

constexpr Duration kSlowStep = Duration::milliseconds(500);  // beyond it nothing but this one step is measured

class Probe {
 public:
  Probe(Backend& backend, std::uint32_t vocabulary, const std::function<Instant()>& clock)
      : backend_(backend), clock_(clock), vocabulary_(vocabulary), logits_(vocabulary) {}

  // Rows at the positions from `first` on, of which the last wants logits; nullopt: the step failed.
  std::optional<Duration> step(std::uint32_t first, std::uint32_t count) {
    std::vector<Row> rows;
    rows.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      rows.push_back(Row{(first + i) % vocabulary_, first + i, 0, i + 1 == count, false});
    }
    const Instant begun = clock_();
    if (!backend_.step({rows, tables_}, {logits_}).ok()) return std::nullopt;
    return std::max(clock_() - begun, Duration{1});
  }

 private:
  Backend& backend_;
  const std::function<Instant()>& clock_;
  const std::uint32_t vocabulary_;
  std::vector<float> logits_;
  std::vector<std::vector<PageId>> tables_ = {{0}};
};

double per_second(std::uint32_t tokens, Duration took) { return tokens * 1e9 / static_cast<double>(took.ns); }

}  // namespace

EngineSpeed measure_speed(Backend& backend, std::uint32_t vocabulary, std::uint32_t context,
                          const std::function<Instant()>& clock) {
  EngineSpeed out;
  Probe probe(backend, vocabulary, clock);
  const std::optional<Duration> cold = probe.step(0, 1);  // pays for what is done once
  if (!cold) return out;
  if (*cold > kSlowStep) {
    out.decode = per_second(1, *cold);
    return out;
  }
  const std::optional<Duration> one = probe.step(context < 2 ? 0 : 1, 1);
  if (!one) return out;
  out.decode = per_second(1, *one);
  const std::uint32_t rows = std::min({backend.rows_max(), kPageTokens, context});
  if (const std::optional<Duration> many = probe.step(0, rows)) out.prefill = per_second(rows, *many);
  return out;
}

Duration predicted_step(const EngineSpeed& speed, std::uint32_t rows) {
  const double per_second = speed.prefill > 0 ? speed.prefill : speed.decode;
  if (per_second <= 0) return {};
  const double seconds = std::min(rows / per_second, static_cast<double>(kPredictedStepMax.ms()) / 1e3);
  return Duration::milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1e3)));
}

}  // namespace orch::worker
