#include "orchestratord/shell/tenants_json.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "common/runtime/json_text.h"
#include "orchestratord/shell/budget_text.h"
#include "orchestratord/shell/json_fields.h"

namespace orch::gateway {
namespace {

using runtime::JsonObject;

void write_policy(JsonObject& json, const TenantPolicy& policy) {
  const auto number = [&](std::string_view name, std::int64_t value) {
    json.number(name, static_cast<std::uint64_t>(value));
  };
  number("weight", policy.weight);
  json.string("highest_class", policy.highest == Priority::interactive ? "interactive" : "batch");
  number("running_max", policy.running_max);
  number("concurrent_jobs", policy.quotas.concurrent_jobs);
  number("requests_per_second", policy.quotas.requests_per_second);
  number("request_burst", policy.quotas.request_burst);
  number("tokens_per_minute", policy.quotas.tokens_per_minute);
  number("budget_tokens", policy.budget.tokens);
  number("budget_time_ms", policy.budget.time.ms());
  number("budget_cost_micros", policy.budget.cost / 1000);
}

std::string tenant_json(const Orchestrator& core, const std::string& name, Instant now) {
  std::string out;
  JsonObject json(out);
  json.string("name", name);
  write_policy(json, core.tenants().policy(name));
  json.number("live", static_cast<std::uint64_t>(core.quotas().live(name)));
  json.number("waiting", std::uint64_t{core.queue().size_of(name)});
  const auto left = [&](std::string_view field, const std::optional<double>& value) {
    value ? json.number(field, *value) : json.null(field);
  };
  left("requests_left", core.quotas().requests_left(name, now));
  left("tokens_left", core.quotas().tokens_left(name, now));
  append_budget(json, core.budget_left(name, {}, now));
  json.close();
  return out;
}

std::string policy_json(const TenantPolicy& policy, bool named) {
  std::string out;
  JsonObject json(out);
  if (named) json.string("name", policy.name);
  write_policy(json, policy);
  json.close();
  return out;
}

std::string flow_json(const Orchestrator& core, const FlowStanding& standing) {
  std::string out;
  JsonObject json(out);
  json.string("model", standing.flow.domain)
      .string("priority", standing.flow.priority == Priority::interactive ? "interactive" : "batch");
  standing.flow.tenant.empty() ? json.null("tenant") : json.string("tenant", standing.flow.tenant);
  json.number("weight", std::uint64_t{standing.weight})
      .number("v", standing.v)
      .number("rho", standing.rho)
      .number("waiting", std::uint64_t{standing.waiting})
      .number("in_flight", std::uint64_t{standing.in_flight})
      .boolean("outside_bound", standing.outside);
  if (standing.flow.tenant.empty()) {
    const FairnessGap gap = core.fairness().gap(standing.flow.domain, standing.flow.priority);
    json.number("gap", gap.gap).number("bound", gap.bound);
  } else {
    json.null("gap").null("bound");
  }
  json.close();
  return out;
}

// Whatever fits 64 bits: the core says what is impossible.
std::int64_t integer(JsonFields& fields, std::string_view name, std::int64_t fallback) {
  const nlohmann::json* value = fields.any(name);
  if (value == nullptr) return fallback;
  if (value->is_number_unsigned() &&
      value->get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return static_cast<std::int64_t>(value->get<std::uint64_t>());
  }
  if (value->is_number_integer() && !value->is_number_unsigned()) return value->get<std::int64_t>();
  fields.fail(name, "must be an integer");
  return fallback;
}

TenantPolicy read_policy(JsonFields& fields) {
  TenantPolicy out;
  out.weight = integer(fields, "weight", out.weight);
  out.highest =
      fields.choice("highest_class", {"interactive", "batch"}, 0) == 0 ? Priority::interactive : Priority::batch;
  out.running_max = integer(fields, "running_max", out.running_max);
  out.quotas.concurrent_jobs = integer(fields, "concurrent_jobs", out.quotas.concurrent_jobs);
  out.quotas.requests_per_second = integer(fields, "requests_per_second", out.quotas.requests_per_second);
  out.quotas.request_burst = integer(fields, "request_burst", out.quotas.request_burst);
  out.quotas.tokens_per_minute = integer(fields, "tokens_per_minute", out.quotas.tokens_per_minute);
  // Beyond what fits, one too much is as impossible, and is refused by the core.
  const auto fitting = [](std::int64_t value, std::int64_t most) {
    return std::clamp<std::int64_t>(value, -1, most + 1);
  };
  out.budget.tokens = integer(fields, "budget_tokens", 0);
  out.budget.time = Duration::milliseconds(fitting(integer(fields, "budget_time_ms", 0), kBudgetTimeMsMax));
  out.budget.cost = fitting(integer(fields, "budget_cost_micros", 0), kBudgetCostMicrosMax) * 1000;
  return out;
}

}  // namespace

std::string tenants_json(const Orchestrator& core, Instant now) {
  const TenantsConfig& config = core.tenants().config();
  std::string out;
  JsonObject json(out);
  json.boolean("dry_run", config.dry_run).number("gateways", static_cast<std::uint64_t>(config.gateways));
  json.key("defaults") += policy_json(config.defaults, false);
  std::string list = "[";
  for (const std::string& name : core.tenants().names()) {
    if (list.size() > 1) list.push_back(',');
    list += tenant_json(core, name, now);
  }
  json.key("tenants") += list + "]";
  list = "[";
  for (const FlowStanding& standing : core.fairness().standings()) {
    if (list.size() > 1) list.push_back(',');
    list += flow_json(core, standing);
  }
  json.key("fairness") += list + "]";
  const std::optional<Instant> heard = core.others_heard_at();
  heard ? json.number("others_age_ms", static_cast<std::uint64_t>((now - *heard).ms())) : json.null("others_age_ms");
  json.close();
  return out;
}

Result<TenantsConfig, Failure> parse_tenants(std::string body) {
  const auto document = parse_json_object(body);
  if (!document.ok()) return Err{document.error()};
  JsonFields fields(*document, "");
  TenantsConfig out;
  out.dry_run = fields.boolean("dry_run", false);
  out.gateways = integer(fields, "gateways", 1);
  if (const nlohmann::json* defaults = fields.object("defaults")) {
    JsonFields inner(*defaults, "defaults");
    out.defaults = read_policy(inner);
    if (auto failure = inner.finish()) fields.adopt(std::move(*failure));
  }
  if (const nlohmann::json* list = fields.array("tenants", true, 0, kTenantsMax)) {
    for (std::size_t i = 0; i < list->size() && fields.ok(); ++i) {
      const nlohmann::json& each = (*list)[i];
      const std::string path = "tenants[" + std::to_string(i) + "]";
      if (!each.is_object()) {
        fields.adopt(invalid(path, path + " must be an object"));
        break;
      }
      JsonFields inner(each, path);
      TenantPolicy policy = read_policy(inner);
      policy.name = inner.string("name", true, 1, 128);
      if (auto failure = inner.finish()) fields.adopt(std::move(*failure));
      out.tenants.push_back(std::move(policy));
    }
  }
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  return out;
}

std::string stored_tenants_json(const TenantsConfig& config) {
  std::string out;
  JsonObject json(out);
  json.boolean("dry_run", config.dry_run).number("gateways", static_cast<std::uint64_t>(config.gateways));
  json.key("defaults") += policy_json(config.defaults, false);
  std::string list = "[";
  for (const TenantPolicy& policy : config.tenants) {
    if (list.size() > 1) list.push_back(',');
    list += policy_json(policy, true);
  }
  json.key("tenants") += list + "]";
  json.close();
  return out;
}

Result<std::optional<TenantsConfig>, std::string> load_tenants(const std::string& state_dir) {
  std::ifstream file(state_dir + "/" + kTenantsFile, std::ios::binary);
  if (!file) return std::optional<TenantsConfig>{};
  std::ostringstream text;
  text << file.rdbuf();
  auto parsed = parse_tenants(text.str());
  if (!parsed.ok()) return Err{parsed.error().message};
  if (const auto fault = check_tenants(*parsed)) return Err{fault->message};
  return std::optional<TenantsConfig>{std::move(parsed).value()};
}

}  // namespace orch::gateway
