#include "orchestratord/core/tenants.h"

#include <algorithm>
#include <utility>

namespace orch::gateway {
namespace {

const std::string other_tenants = "other";

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

struct Range {
  std::int64_t least;
  std::int64_t most;
};

std::optional<TenantsFault> outside(const std::string& field, std::int64_t value, Range range) {
  if (value >= range.least && value <= range.most) return std::nullopt;
  return TenantsFault{field, field + " is " + std::to_string(value) + " and must be in " + std::to_string(range.least) +
                                 ".." + std::to_string(range.most)};
}

std::optional<TenantsFault> check_policy(const TenantPolicy& policy, const std::string& path, std::int64_t gateways) {
  const TenantQuotas& quotas = policy.quotas;
  const struct {
    const char* key;
    std::int64_t value;
    Range range;
  } numbers[] = {
      {"weight", policy.weight, {1, kTenantWeightMax}},
      {"running_max", policy.running_max, {0, kTenantJobsMax}},
      {"concurrent_jobs", quotas.concurrent_jobs, {gateways, kTenantJobsMax}},  // each gateway gets a share
      {"requests_per_second", quotas.requests_per_second, {0, kTenantRequestsMax}},
      {"request_burst", quotas.request_burst, {0, quotas.requests_per_second == 0 ? 0 : kTenantRequestsMax}},
      {"tokens_per_minute", quotas.tokens_per_minute, {0, kTenantTokensMax}},
      {"budget_tokens", policy.budget.tokens, {0, kBudgetTokensMax}},
      {"budget_time_ms", policy.budget.time.ms(), {0, kBudgetTimeMsMax}},
      {"budget_cost_micros", policy.budget.cost / 1000, {0, kBudgetCostMicrosMax}},
  };
  for (const auto& number : numbers) {
    if (auto fault = outside(path + "." + number.key, number.value, number.range)) return fault;
  }
  // A bucket that never holds one whole request for each gateway would refuse for ever.
  const std::int64_t burst = quotas.request_burst > 0 ? quotas.request_burst : quotas.requests_per_second;
  if (burst > 0 && burst < gateways) {
    const char* key = quotas.request_burst > 0 ? "request_burst" : "requests_per_second";
    return outside(path + "." + key, burst, {gateways, kTenantRequestsMax});
  }
  return std::nullopt;
}

}  // namespace

std::optional<TenantsFault> check_tenants(const TenantsConfig& config) {
  if (auto fault = outside("gateways", config.gateways, {1, kGatewaysMax})) return fault;
  if (auto fault = check_policy(config.defaults, "defaults", config.gateways)) return fault;
  if (config.tenants.size() > kTenantsMax) {
    return TenantsFault{"tenants", "tenants has " + std::to_string(config.tenants.size()) + " entries, at most " +
                                       std::to_string(kTenantsMax) + " are allowed"};
  }
  std::set<std::string> names;
  for (std::size_t i = 0; i < config.tenants.size(); ++i) {
    const TenantPolicy& policy = config.tenants[i];
    const std::string path = "tenants[" + std::to_string(i) + "]";
    if (!is_name(policy.name) || policy.name == other_tenants) {
      return TenantsFault{path + ".name", path + ".name must be 1..128 characters of A-Za-z0-9._- and not \"other\""};
    }
    if (!names.insert(policy.name).second)
      return TenantsFault{path + ".name", path + ".name \"" + policy.name + "\" appears twice"};
    if (auto fault = check_policy(policy, path, config.gateways)) return fault;
  }
  return std::nullopt;
}

void Tenants::replace(TenantsConfig config) {
  config_ = std::move(config);
  index_.clear();
  for (std::size_t i = 0; i < config_.tenants.size(); ++i) {
    index_.emplace(config_.tenants[i].name, i);
    names_.insert(config_.tenants[i].name);
  }
  // Names that are neither configured nor fit any more stay where they are counted; no new one joins them.
}

std::optional<TenantsFault> Tenants::check_room(const TenantsConfig& config) const {
  const auto fresh =
      static_cast<std::size_t>(std::count_if(config.tenants.begin(), config.tenants.end(),
                                             [&](const TenantPolicy& each) { return !names_.contains(each.name); }));
  if (fresh == 0 || names_.size() + fresh <= kTenantNamesMax) return std::nullopt;
  return TenantsFault{"tenants", "tenants brings the names ever seen or configured since the start to " +
                                     std::to_string(names_.size() + fresh) + ", at most " +
                                     std::to_string(kTenantNamesMax) + " are kept"};
}

std::string Tenants::admit(const std::string& name) {
  if (index_.contains(name) || names_.contains(name)) return name;
  if (names_.size() >= kTenantsMax) return other_tenants;
  names_.insert(name);
  return name;
}

const std::string& Tenants::known_as(const std::string& name) const {
  const bool known = index_.contains(name) || names_.contains(name);
  return known || names_.size() < kTenantsMax ? name : other_tenants;
}

const TenantPolicy& Tenants::policy(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? config_.defaults : config_.tenants[it->second];
}

}  // namespace orch::gateway
