#include "orchestratord/shell/state_json.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "common/runtime/json_text.h"

namespace orch::gateway {
namespace {

using runtime::JsonObject;

struct Seen {
  const ReplicaView* view = nullptr;
  std::uint32_t in_use = 0;
};

std::vector<Seen> attached_replicas(const Orchestrator& core) {
  std::vector<Seen> out;
  for (const auto& [manager, record] : core.fleet().managers()) {
    if (!record.link) continue;
    for (const auto& [id, view] : record.replicas) out.push_back({&view, 0});
  }
  return out;
}

void append_strings(std::string& out, const std::set<std::string>& texts) {
  out.push_back('[');
  bool first = true;
  for (const std::string& text : texts) {
    if (!std::exchange(first, false)) out.push_back(',');
    runtime::append_json_string(out, text);
  }
  out.push_back(']');
}

std::set<std::string> model_names(const Orchestrator& core) {
  std::set<std::string> names;
  for (const Seen& seen : attached_replicas(core)) {
    if (!seen.view->model_name.empty()) names.insert(seen.view->model_name);
  }
  return names;
}

void append_model(std::string& out, const std::string& name) {
  JsonObject model(out);
  model.string("id", name)
      .string("object", "model")
      .number("created", std::uint64_t{0})
      .string("owned_by", "llama-orch");
  model.close();
}

// OC-CTRL-2061: of what the core judges requests of this tenant by, as its key names it.
std::string limits_json(const Tenants& tenants, const std::string& tenant) {
  const TenantQuotas& quotas = tenants.policy(tenants.known_as(tenant)).quotas;
  const auto number = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
  std::string out;
  JsonObject json(out);
  json.number("concurrent_jobs", number(quotas.concurrent_jobs));
  if (quotas.requests_per_second > 0) {
    json.number("requests_per_second", number(quotas.requests_per_second))
        .number("request_burst", number(quotas.burst()));
  }
  if (quotas.tokens_per_minute > 0) json.number("tokens_per_minute", number(quotas.tokens_per_minute));
  json.boolean("enforced", !tenants.config().dry_run);
  json.close();
  return out;
}

}  // namespace

std::optional<std::string> model_json(const Orchestrator& core, const std::string& name) {
  if (!model_names(core).contains(name)) return std::nullopt;
  std::string out;
  append_model(out, name);
  return out;
}

std::string models_json(const Orchestrator& core) {
  std::string out;
  JsonObject json(out);
  json.string("object", "list");
  std::string& list = json.key("data");
  list.push_back('[');
  bool first = true;
  for (const std::string& name : model_names(core)) {
    if (!std::exchange(first, false)) list.push_back(',');
    append_model(list, name);
  }
  list.push_back(']');
  json.close();
  return out;
}

// One row per replica-set key: versions and numeric classes are never mixed in a set, and the context is no part of it
// (ORCH-3007, ORCH-3046, OC-CTRL-2004).
std::string replicasets_json(const Orchestrator& core) {
  using Key = std::tuple<std::string, std::string, std::string, std::string, std::string, std::string>;
  struct Row {
    const ReplicaView* any = nullptr;
    std::set<std::string> pools;
    std::set<std::string> accelerators;  // told by replicas that have loaded
    std::uint32_t slots = 0;
    std::uint32_t replicas = 0;
    std::uint32_t ready = 0;
  };
  std::map<Key, Row> rows;
  for (const Seen& seen : attached_replicas(core)) {
    const ReplicaView& view = *seen.view;
    Row& row = rows[{view.engine, view.model_digest, view.quant, view.engine_version, view.sampler_profile_version,
                     view.numeric_class}];
    row.any = &view;
    row.pools.insert(view.pool_id);
    if (!view.accelerator.empty()) row.accelerators.insert(view.accelerator);
    ++row.replicas;
    if (view.state != ReplicaState::ready) continue;
    ++row.ready;
    row.slots += view.slots;
  }
  std::string out = "[";
  bool first = true;
  for (const auto& [key, row] : rows) {
    if (!std::exchange(first, false)) out.push_back(',');
    std::uint32_t busy = 0;
    for (const auto& [id, job] : core.jobs()) {
      if (job.engine == row.any->engine && row.pools.contains(job.pool_id) &&
          (job.state == JobState::dispatching || job.state == JobState::running)) {
        ++busy;
      }
    }
    const std::uint32_t used = std::min(busy, row.slots);
    JsonObject json(out);
    json.string("id", row.any->pool_id + "/" + row.any->engine_version)
        .string("engine", row.any->engine)
        .string("engine_version", row.any->engine_version)
        .string("model", row.any->model_name)
        .string("model_digest", row.any->model_digest);
    append_strings(json.key("accelerators"), row.accelerators);
    json.string("state", row.ready > 0 ? "ready" : to_string(row.any->state))
        .number("replicas", std::uint64_t{row.replicas})
        .number("load", row.slots == 0 ? 0.0 : static_cast<double>(used) / row.slots)
        .number("slots_total", std::uint64_t{row.slots})
        .number("slots_free", std::uint64_t{row.slots - used});
    json.key("slo") += "{}";
    json.close();
  }
  return out + "]";
}

std::string capabilities_json(const Orchestrator& core, const std::string& tenant) {
  const std::string limits = limits_json(core.tenants(), tenant);
  std::string out;
  JsonObject json(out);
  json.string("api_version", "1.0.0");
  std::string& list = json.key("engines");
  list.push_back('[');
  bool first = true;
  for (const Seen& seen : attached_replicas(core)) {
    const ReplicaView& view = *seen.view;
    if (!std::exchange(first, false)) list.push_back(',');
    JsonObject engine(list);
    engine.string("engine", view.engine)
        .string("engine_version", view.engine_version)
        .string("sampler_profile_version", view.sampler_profile_version)
        .string("pool_id", view.pool_id)
        .string("replica_id", view.replica_id)
        .string("state", to_string(view.state))
        .string("model", view.model_name)
        .string("model_digest", view.model_digest)
        .string("accelerator", view.accelerator)
        .string("numeric_class", view.numeric_class)
        .number("ctx_max", std::uint64_t{view.ctx_max})
        .number("slots", std::uint64_t{view.slots});
    engine.key("supported_workloads") += "[\"completion\"]";
    engine.key("rate_limits") += limits;
    JsonObject features(engine.key("features"));
    features.boolean("streaming", true)
        .boolean("cancel", true)
        .boolean("seed", true)
        .boolean("deterministic", view.numeric_class == "X");
    features.close();
    engine.close();
  }
  list.push_back(']');
  json.close();
  return out;
}

std::string why_not_ready(const Orchestrator& core) {
  if (core.draining()) return "draining";
  std::string why;
  for (const Seen& seen : attached_replicas(core)) {
    if (seen.view->state == ReplicaState::ready) return {};
    why += seen.view->replica_id + ": " + std::string(to_string(seen.view->state)) +
           (seen.view->last_error.empty() ? "" : " (" + seen.view->last_error + ")") + "\n";
  }
  return why.empty() ? "no pool manager is attached" : why;
}

// J6: plain requests go on, so the gateway stays ready.
std::string what_is_degraded(const Orchestrator& core) {
  if (!core.journal().failing()) return {};
  return "journaled tasks are refused: " + core.journal().reason() + "\n";
}

}  // namespace orch::gateway
