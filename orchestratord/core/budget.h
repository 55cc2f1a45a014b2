// Budgets as plain data: what a session or tenant may use, has used and has left (budget_ledger.h keeps the accounts).
// Units: tokens of prompt and completion; time at workers; cost in billionths of the currency.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

#include "common/base/time.h"

namespace orch::gateway {

// 0 is no limit.
struct BudgetLimits {
  std::int64_t turns = 0;  // of a session only
  std::int64_t tokens = 0;
  Duration time;
  std::int64_t cost = 0;
  auto operator<=>(const BudgetLimits&) const = default;
};

struct BudgetConfig {
  Duration ttl = Duration::seconds(600);
  std::uint32_t sessions_max = 65'536;
  BudgetLimits session{8, 0, {}, 0};
  Duration window = Duration::seconds(86'400);  // of a tenant's budget
  std::int64_t input_price = 0;                 // of one token
  std::int64_t output_price = 0;
};

struct BudgetUse {
  std::int64_t turns = 0;
  std::int64_t tokens = 0;
  Duration time;
  std::int64_t cost = 0;
  auto operator<=>(const BudgetUse&) const = default;
};

// What is left, the smaller of session and tenant; nullopt: no limit.
struct BudgetLeft {
  std::optional<std::int64_t> turns;
  std::optional<std::int64_t> tokens;
  std::optional<Duration> time;
  std::optional<std::int64_t> cost;
};

}  // namespace orch::gateway
