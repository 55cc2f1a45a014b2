// How much service each tenant was given, in charged tokens: ever, and as a moving share of its class (ORCH-3075's
// admission_share). Counted where the fair scheduler charges, so that the two never differ.
//
// Threads: owned by the core's loop. Bounds: one record per tenant name and class (Tenants).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/time.h"
#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

struct ServiceShare {
  std::string tenant;
  Priority priority = Priority::interactive;
  std::uint64_t tokens = 0;  // ever
  double share = 0;          // of its class; what was given 30 s ago counts half
};

class ServiceShares {
 public:
  void add(const std::string& tenant, Priority priority, std::uint64_t tokens, Instant now) {
    Record& record = records_[{tenant, priority}];
    record.recent = decayed(record, now) + static_cast<double>(tokens);
    record.at = now;
    record.tokens += tokens;
  }

  std::vector<ServiceShare> rows(Instant now) const {
    std::array<double, 2> sums{};
    for (const auto& [key, record] : records_) sums[static_cast<std::size_t>(key.second)] += decayed(record, now);
    std::vector<ServiceShare> out;
    out.reserve(records_.size());
    for (const auto& [key, record] : records_) {
      const double sum = sums[static_cast<std::size_t>(key.second)];
      out.push_back({key.first, key.second, record.tokens, sum > 0 ? decayed(record, now) / sum : 0});
    }
    return out;
  }

 private:
  struct Record {
    std::uint64_t tokens = 0;
    double recent = 0;
    Instant at;
  };
  static double decayed(const Record& record, Instant now) {
    const double half_lives = static_cast<double>((now - record.at).ns) / 30e9;
    return half_lives > 0 ? record.recent * std::exp2(-half_lives) : record.recent;
  }
  std::map<std::pair<std::string, Priority>, Record> records_;
};

}  // namespace orch::gateway
