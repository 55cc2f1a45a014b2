#include "orchestratord/shell/budget_text.h"

#include <algorithm>

namespace orch::gateway {
namespace {

std::uint64_t whole(std::int64_t value) { return static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0)); }

}  // namespace

std::string cost_text(std::int64_t billionths) {
  const std::uint64_t value = whole(billionths);
  std::string part = std::to_string(value % 1'000'000'000);
  part.insert(0, 9 - part.size(), '0');
  part.erase(std::max<std::size_t>(part.find_last_not_of('0') + 1, 1));
  return std::to_string(value / 1'000'000'000) + "." + part;
}

void add_budget_headers(runtime::HttpResponse& response, const BudgetLeft& left) {
  if (left.turns) response.with("X-Budget-Turns-Remaining", std::to_string(*left.turns));
  if (left.tokens) response.with("X-Budget-Tokens-Remaining", std::to_string(*left.tokens));
  if (left.time) response.with("X-Budget-Time-Remaining-Ms", std::to_string(left.time->ms()));
  if (left.cost) response.with("X-Budget-Cost-Remaining", cost_text(*left.cost));
}

void append_budget(runtime::JsonObject& json, const BudgetLeft& left) {
  if (left.turns) json.number("turns_budget_remaining", whole(*left.turns));
  if (left.tokens) json.number("tokens_budget_remaining", whole(*left.tokens));
  if (left.time) json.number("time_budget_remaining_ms", whole(left.time->ms()));
  if (left.cost) json.number("cost_budget_remaining", static_cast<double>(*left.cost) / 1e9);
}

std::string session_json(const std::string& session, const SessionStanding& standing) {
  std::string out;
  runtime::JsonObject json(out);
  json.string("session_id", session)
      .number("ttl_ms_remaining", whole(standing.ttl_left.ms()))
      .number("turns", whole(standing.turns))
      .number("live", std::uint64_t{standing.live})
      .number("tokens", whole(standing.used.tokens))
      .number("time_ms", whole(standing.used.time.ms()))
      .number("cost", static_cast<double>(standing.used.cost) / 1e9);
  append_budget(json, standing.left);
  json.close();
  return out;
}

}  // namespace orch::gateway
