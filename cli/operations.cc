#include "cli/operations.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "cli/api_client.h"
#include "cli/json_reads.h"
#include "cli/model_store.h"

namespace orch::cli {

namespace {

using Json = nlohmann::json;

constexpr long kTimeoutMs = 5000;
constexpr auto kLookEvery = std::chrono::milliseconds(200);

int fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  return 1;
}

// {"path", "digest"} of what a reload names.
Result<Json, std::string> wanted_model(const ClusterOptions& options, const OperationWish& wish) {
  std::error_code error;
  std::filesystem::path path = wish.model;
  if (wish.model.find('/') == std::string::npos && !std::filesystem::exists(path, error))
    path = options.models_dir + "/" + wish.model + ".gguf";
  path = std::filesystem::absolute(path, error);
  if (error || !std::filesystem::is_regular_file(path, error)) return Err{"no model file " + path.string()};
  const std::string digest = wish.digest.empty() ? digest_beside(path.string()) : wish.digest;
  if (digest.empty()) return Err{"no digest is known of " + path.string() + "; name it with --digest sha256:<hex>"};
  return Json{{"path", path.string()}, {"digest", digest}};
}

// To its end; shows each step once.
int follow(const std::string& manager, const std::string& id) {
  std::string shown;
  for (;;) {
    const auto reply = http_get(manager + "/v1/operations/" + id, kTimeoutMs);
    if (!reply.ok()) return fail(reply.error());
    const Json operation = Json::parse(reply->body, nullptr, false);
    if (reply->status != 200 || !operation.is_object()) return fail("pool-managerd answered " + reply->body);
    const std::string state = text_of(operation, "state");
    if (state == "failed") return fail(text_of(operation, "kind") + " failed: " + text_of(operation, "error"));
    if (state == "succeeded") {
      const auto cut = static_cast<unsigned>(number_of(operation, "jobs_cut"));
      std::printf("%s of %s: %u of %u replicas in %.1f s", text_of(operation, "kind").c_str(),
                  text_of(operation, "pool_id").c_str(), static_cast<unsigned>(number_of(operation, "replicas_done")),
                  static_cast<unsigned>(number_of(operation, "replicas_total")),
                  number_of(operation, "took_ms") / 1000);
      if (cut > 0) std::printf(", %u jobs were cut at the deadline", cut);
      std::printf("\n");
      return 0;
    }
    if (const std::string step = text_of(operation, "step"); !step.empty() && step != shown) {
      std::fprintf(stderr, "%s\n", step.c_str());
      shown = step;
    }
    std::this_thread::sleep_for(kLookEvery);
  }
}

}  // namespace

Result<std::string, std::string> operation_path(std::string_view replicas, const std::string& target,
                                                const std::string& verb) {
  const Json document = Json::parse(replicas, nullptr, false);
  std::set<std::string> known;
  if (document.is_object() && document.contains("replicas") && document["replicas"].is_array()) {
    for (const Json& replica : document["replicas"]) {
      if (text_of(replica, "pool_id") == target) return "/v1/pools/" + target + "/" + verb;
      if (text_of(replica, "replica_id") == target) return "/v1/replicas/" + target + "/" + verb;
      known.insert({text_of(replica, "pool_id"), text_of(replica, "replica_id")});
    }
  }
  std::string names;
  for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
  return Err{"no pool and no replica is called '" + target + "'; there are " + (names.empty() ? "none" : names)};
}

int run_operation(const ClusterOptions& options, const OperationWish& wish) {
  const auto port = read_small_file(ClusterFiles(options.state_dir).manager_http_port);
  if (!port.ok()) return fail("no cluster is running (start it with `llama-orch up`)");
  const std::string manager = "http://127.0.0.1:" + std::to_string(std::atoi(port->c_str()));
  Json body{{"deadline_ms", static_cast<std::uint64_t>(std::llround(wish.deadline_seconds * 1000))}};
  if (wish.verb == "reload") {
    const auto model = wanted_model(options, wish);
    if (!model.ok()) return fail(model.error());
    body["model"] = *model;
  }
  const auto replicas = http_get(manager + "/v1/replicas", kTimeoutMs);
  if (!replicas.ok()) return fail(replicas.error());
  const auto path = operation_path(replicas->body, wish.target.empty() ? options.model_name : wish.target, wish.verb);
  if (!path.ok()) return fail(path.error());
  const auto begun = http_post(manager + *path, body.dump(-1, ' ', false, Json::error_handler_t::replace), kTimeoutMs);
  if (!begun.ok()) return fail(begun.error());
  const Json operation = Json::parse(begun->body, nullptr, false);
  if (begun->status != 202 || !operation.is_object())
    return fail("HTTP " + std::to_string(begun->status) + ": " + text_of(operation, "message"));
  return follow(manager, text_of(operation, "operation_id"));
}

}  // namespace orch::cli
