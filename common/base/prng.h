// xoshiro256** seeded by splitmix64 (Blackman and Vigna, public-domain algorithms). Own distributions, because those of
// the standard library differ between implementations and a seed must replay everywhere. Not for secrets.
#pragma once

#include <array>
#include <cstdint>

#include "common/base/check.h"

namespace orch {

class Prng {
 public:
  explicit constexpr Prng(std::uint64_t seed) {
    for (auto& word : state_) {
      seed += 0x9E3779B97F4A7C15ull;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
      word = z ^ (z >> 31);
    }
  }

  constexpr std::uint64_t next() {
    const std::uint64_t result = rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = rotl(state_[3], 45);
    return result;
  }

  // Uniform in [0, bound), bound > 0, without modulo bias.
  constexpr std::uint64_t below(std::uint64_t bound) {
    ORCH_CHECK(bound > 0);
    const std::uint64_t limit = -bound % bound;
    for (;;) {
      const std::uint64_t value = next();
      if (value >= limit) return value % bound;
    }
  }
  constexpr std::int64_t between(std::int64_t low, std::int64_t high) {  // inclusive
    ORCH_CHECK(low <= high);
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  constexpr bool chance(std::uint64_t numerator, std::uint64_t denominator) { return below(denominator) < numerator; }
  constexpr double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }  // [0, 1)

 private:
  static constexpr std::uint64_t rotl(std::uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
  std::array<std::uint64_t, 4> state_{};
};

}  // namespace orch
