// Identities, one type each, so that a lease is never taken for a job. All are plain values with a total order; none is
// ever made here (randomness and counters are inputs).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace orch {

// 128 bits, text form 8-4-4-4-12 hex. Any variant and version is accepted: clients choose task ids.
struct Uuid {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;

  constexpr auto operator<=>(const Uuid&) const = default;
  constexpr bool is_nil() const { return hi == 0 && lo == 0; }

  // Accepts exactly the 36-character form, either letter case; nullopt otherwise.
  static constexpr std::optional<Uuid> parse(std::string_view text);
  std::string to_string() const;
};

template <typename Tag>
struct UuidOf {
  Uuid value;
  constexpr auto operator<=>(const UuidOf&) const = default;
  std::string to_string() const { return value.to_string(); }
};

using JobId = UuidOf<struct JobTag>;          // the API's task_id
using OrchId = UuidOf<struct OrchTag>;        // an orchestrator's state directory
using ManagerId = UuidOf<struct ManagerTag>;  // a pool manager's state directory

template <typename Tag>
struct Serial {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const Serial&) const = default;
};

using ReaderId = Serial<struct ReaderTag>;    // one open stream of one client
using RequestId = Serial<struct RequestTag>;  // one client request that waits for an answer
using LinkId = Serial<struct LinkTag>;        // one connection to a pool manager (orchestrator) or from one (manager)

// (boot, counter): grows only, without a disk write per step (DESIGN-RULES L1).
template <typename Tag>
struct BootCounter {
  std::uint64_t boot = 0;
  std::uint64_t counter = 0;
  constexpr auto operator<=>(const BootCounter&) const = default;
  constexpr bool is_zero() const { return boot == 0 && counter == 0; }
};

using LeaseId = BootCounter<struct LeaseTag>;
using Incarnation = BootCounter<struct IncarnationTag>;    // one life of a worker process
using TableVersion = BootCounter<struct TableVersionTag>;  // of a worker's lease table

// One start of one orchestrator.
struct Holder {
  OrchId orch;
  std::uint64_t boot = 0;
  constexpr auto operator<=>(const Holder&) const = default;
};

using Secret = std::array<std::uint8_t, 16>;

// The capability to dispatch (DESIGN-RULES, Terms).
struct Fence {
  ManagerId manager;
  Incarnation inc;
  LeaseId lease;
  Secret secret{};
  constexpr auto operator<=>(const Fence&) const = default;
};

// One attempt at one job; the worker accepts it once (L3).
struct DispatchId {
  JobId job;
  std::uint32_t attempt = 0;
  constexpr auto operator<=>(const DispatchId&) const = default;
};

namespace detail {
constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace detail

constexpr std::optional<Uuid> Uuid::parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid out;
  int digits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int digit = detail::hex_digit(text[i]);
    if (digit < 0) return std::nullopt;
    std::uint64_t& half = digits < 16 ? out.hi : out.lo;
    half = (half << 4) | static_cast<std::uint64_t>(digit);
    ++digits;
  }
  return out;
}

inline std::string Uuid::to_string() const {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(36);
  for (int i = 0; i < 32; ++i) {
    if (i == 8 || i == 12 || i == 16 || i == 20) out.push_back('-');
    const std::uint64_t half = i < 16 ? hi : lo;
    out.push_back(kHex[(half >> (60 - 4 * (i % 16))) & 0xF]);
  }
  return out;
}

}  // namespace orch

template <>
struct std::hash<orch::Uuid> {
  std::size_t operator()(const orch::Uuid& id) const noexcept {
    return static_cast<std::size_t>((id.hi ^ (id.lo >> 1)) * 0x9E3779B97F4A7C15ull ^ id.lo);
  }
};
template <typename Tag>
struct std::hash<orch::UuidOf<Tag>> {
  std::size_t operator()(const orch::UuidOf<Tag>& id) const noexcept { return std::hash<orch::Uuid>{}(id.value); }
};
template <typename Tag>
struct std::hash<orch::Serial<Tag>> {
  std::size_t operator()(const orch::Serial<Tag>& id) const noexcept { return std::hash<std::uint64_t>{}(id.value); }
};
