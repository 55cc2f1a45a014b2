// Who the tenants are and what each may have: weight, caps, quotas (OC-TENANT-1001 to 1005). Replaced whole at run
// time; what is impossible is refused whole, by field and limit.
//
// Threads: owned by the core's loop. Bounds: kTenantsMax names, configured ones included; whoever comes later is
// `other`, but for those that a change at run time configures, which are bounded by kTenantNamesMax.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "orchestratord/core/budget.h"
#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

// Signed, so that what a caller wrote can be refused instead of wrapped. 0 is no limit, where it is allowed.
struct TenantQuotas {
  std::int64_t concurrent_jobs = 1024;  // admitted and not ended; 1 or more
  std::int64_t requests_per_second = 0;
  std::int64_t request_burst = 0;  // requests at once; 0: one second's worth
  std::int64_t burst() const { return request_burst > 0 ? request_burst : requests_per_second; }
  std::int64_t tokens_per_minute = 0;  // prompt and completion
  auto operator<=>(const TenantQuotas&) const = default;
};

struct TenantPolicy {
  std::string name;
  std::int64_t weight = 1;
  Priority highest = Priority::interactive;  // batch: no interactive jobs
  std::int64_t running_max = 0;  // dispatches in flight; 0: no limit. Such a tenant stands outside F5's bound
  TenantQuotas quotas = {};
  BudgetLimits budget = {};  // of all its sessions together, a window
};

struct TenantsConfig {
  TenantPolicy defaults;  // of whoever is not listed; its name is not used
  std::vector<TenantPolicy> tenants;
  bool dry_run = false;       // quotas are reported and not enforced
  std::int64_t gateways = 1;  // K: that share the quotas
};

struct TenantsFault {
  std::string field;  // "tenants[2].weight"
  std::string message;
};

inline constexpr std::size_t kTenantsMax = 1000;
inline constexpr std::size_t kTenantNamesMax = 2 * kTenantsMax;
inline constexpr std::int64_t kTenantWeightMax = 1000;
inline constexpr std::int64_t kTenantJobsMax = 1'000'000;
inline constexpr std::int64_t kTenantRequestsMax = 1'000'000;  // a second
inline constexpr std::int64_t kTenantTokensMax = 100'000'000;  // a minute
inline constexpr std::int64_t kBudgetTokensMax = 1'000'000'000'000;
inline constexpr std::int64_t kBudgetTimeMsMax = 1'000'000'000'000;
inline constexpr std::int64_t kBudgetCostMicrosMax = 1'000'000'000'000;  // millionths of the currency
inline constexpr std::int64_t kGatewaysMax = 64;

// The first thing that is wrong with it.
std::optional<TenantsFault> check_tenants(const TenantsConfig& config);

class Tenants {
 public:
  // Must have passed check_tenants.
  explicit Tenants(TenantsConfig config) { replace(std::move(config)); }
  void replace(TenantsConfig config);

  // What keeps it from replacing the present one: names are never forgotten, since something is counted under them.
  std::optional<TenantsFault> check_room(const TenantsConfig& config) const;

  // The name to account under: `name`, or "other" when there is no room for one more.
  std::string admit(const std::string& name);
  // The same without room being made: who was never admitted is `other`.
  const std::string& known_as(const std::string& name) const;
  const TenantPolicy& policy(const std::string& name) const;
  std::uint32_t weight(const std::string& name) const { return static_cast<std::uint32_t>(policy(name).weight); }
  const TenantsConfig& config() const { return config_; }
  const std::set<std::string>& names() const { return names_; }  // configured or seen

 private:
  TenantsConfig config_;
  std::map<std::string, std::size_t> index_;  // into config_.tenants
  std::set<std::string> names_;
};

}  // namespace orch::gateway
