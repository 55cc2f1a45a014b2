// What gateways tell each other of service and use, through the pool managers (DESIGN-RULES F4). A manager adds such
// reports up and knows nothing of their meaning. All counters but `waiting`, `inside` and `live` only grow while a
// gateway lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

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

struct FairReport {
  std::vector<FairRow> rows;  // whole; at most kFairRowsMax
  std::vector<UseRow> uses;   // whole; at most kFairRowsMax
  bool operator==(const FairReport&) const = default;
};

inline constexpr std::size_t kFairRowsMax = 16'384;

}  // namespace orch
