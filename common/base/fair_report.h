// What gateways tell each other of service and use, through the pool managers (DESIGN-RULES F4). A manager hands such
// reports on, start by start, and knows nothing of their meaning; who hears them adds them up. All counters but
// `waiting`, `inside` and `live` only grow while a gateway lives.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"

namespace orch {

// Of one tenant in one class of one domain; an empty tenant is the class itself. In units of the gateways' own.
struct FairRow {
  std::string domain;
  bool batch = false;
  std::string tenant;
  std::int64_t delivered = 0;
  std::int64_t reserved = 0;  // ever
  std::int64_t released = 0;  // ever
  std::int64_t lift = 0;      // merged by the largest, not by the sum
  bool waiting = false;
  bool inside = false;  // it waits, and inside the bound
  bool operator==(const FairRow&) const = default;
};

// A tenant's use of its quotas.
struct UseRow {
  std::string tenant;
  std::int64_t requests = 0;  // ever
  std::int64_t tokens = 0;    // ever
  std::int64_t live = 0;      // now
  bool operator==(const UseRow&) const = default;
};

// A prompt that took down workers (OC-MIGR-M8): refused by whoever says so, and for how long yet.
inline constexpr Duration kRefusedRestMax = Duration::seconds(600);
using PromptDigest = std::array<std::uint64_t, 2>;
struct RefusedPrompt {
  PromptDigest prompt{};
  Duration rest;
  bool operator==(const RefusedPrompt&) const = default;
};

// On the wire: the longest rest is cut to what anybody may ask for; of bytes that are no digest nothing is made.
inline std::string digest_bytes(const PromptDigest& prompt) {
  std::string out;
  for (const std::uint64_t half : prompt) {
    for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(half >> shift & 0xFF));
  }
  return out;
}

inline std::optional<PromptDigest> digest_in(std::string_view bytes) {
  PromptDigest out{};
  if (bytes.size() != sizeof out) return std::nullopt;
  for (std::size_t i = 0; i < bytes.size(); ++i) out[i / 8] = out[i / 8] << 8 | static_cast<unsigned char>(bytes[i]);
  return out;
}

inline Duration rest_of(std::uint64_t ms) {
  return Duration::milliseconds(
      static_cast<std::int64_t>(std::min(ms, static_cast<std::uint64_t>(kRefusedRestMax.ms()))));
}

// What one start of a gateway says of itself.
struct FairReport {
  std::vector<FairRow> rows;           // whole; at most kFairRowsMax
  std::vector<UseRow> uses;            // whole; at most kFairRowsMax
  std::vector<RefusedPrompt> refused;  // its own, at most kRefusedPromptsMax
  std::uint64_t number = 0;            // of what it says, to whomever: of two that differ the later has the higher
  bool operator==(const FairReport&) const = default;
};

// What a manager says of one start: what has changed since it last spoke of it on that link.
struct StartReport {
  Holder start;
  std::uint64_t number = 0;  // of the newest report of it that the manager has
  bool over = false;         // nothing of it is reserved, waits or lives
  std::vector<FairRow> rows;
  std::vector<UseRow> uses;
  bool operator==(const StartReport&) const = default;
};
struct OthersReport {
  std::vector<StartReport> starts;
  std::vector<RefusedPrompt> refused;  // those of all
};

inline constexpr std::size_t kFairRowsMax = 16'384;
inline constexpr std::size_t kRefusedPromptsMax = 64;

}  // namespace orch
