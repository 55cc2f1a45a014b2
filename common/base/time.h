// Instants and durations as plain values. Nothing here reads a clock: `now` is always a parameter, and the only clock
// of a process is common/runtime/clock.h (CLOCK_BOOTTIME, DESIGN-RULES L4). Durations travel between processes,
// instants never.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace orch {

// Nanoseconds, signed. A strong type, so that milliseconds are never mistaken for it.
struct Duration {
  std::int64_t ns = 0;

  static constexpr Duration milliseconds(std::int64_t value) { return {value * 1'000'000}; }
  static constexpr Duration microseconds(std::int64_t value) { return {value * 1'000}; }
  static constexpr Duration seconds(std::int64_t value) { return {value * 1'000'000'000}; }
  static constexpr Duration max() { return {std::numeric_limits<std::int64_t>::max()}; }

  constexpr std::int64_t ms() const { return ns / 1'000'000; }
  constexpr double ms_double() const { return static_cast<double>(ns) / 1e6; }
  // Rounded up, for values that must not promise too little time (Retry-After).
  constexpr std::int64_t ms_ceil() const { return (ns + 999'999) / 1'000'000; }

  constexpr auto operator<=>(const Duration&) const = default;
  constexpr Duration operator+(Duration other) const { return {ns + other.ns}; }
  constexpr Duration operator-(Duration other) const { return {ns - other.ns}; }
  constexpr Duration operator*(std::int64_t factor) const { return {ns * factor}; }
  constexpr Duration operator/(std::int64_t divisor) const { return {ns / divisor}; }
};

// A point on this process's own monotonic clock (or on the simulator's).
struct Instant {
  std::int64_t ns = 0;

  static constexpr Instant never() { return {std::numeric_limits<std::int64_t>::max()}; }
  constexpr bool is_never() const { return ns == never().ns; }

  constexpr auto operator<=>(const Instant&) const = default;
  constexpr Instant operator+(Duration duration) const { return {ns + duration.ns}; }
  constexpr Instant operator-(Duration duration) const { return {ns - duration.ns}; }
  constexpr Duration operator-(Instant other) const { return {ns - other.ns}; }
};

}  // namespace orch
