// Where the clients of a gateway reach it (OC-JOB-1016).
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace orch {

struct GatewayAddress {
  OrchId orch;
  std::string url;  // is_public_url()
  bool operator==(const GatewayAddress&) const = default;
};

inline constexpr std::size_t kPublicUrlBytesMax = 256;
inline constexpr std::size_t kGatewaysKnownMax = 128;

// "http://host[:port]" or "https://..." and nothing behind it, so that a path can be appended and the host is what it
// seems to be.
inline bool is_public_url(std::string_view text) {
  if (text.size() > kPublicUrlBytesMax) return false;
  for (const std::string_view scheme : {std::string_view("http://"), std::string_view("https://")}) {
    if (!text.starts_with(scheme)) continue;
    text.remove_prefix(scheme.size());
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
             c == ':' || c == '[' || c == ']';
    });
  }
  return false;
}

}  // namespace orch
