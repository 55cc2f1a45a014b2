#include "cli/replica_progress.h"

#include <nlohmann/json.hpp>

#include "cli/json_reads.h"

namespace orch::cli {

namespace {

using Json = nlohmann::json;

std::string describe(const Json& replica) {
  std::string text = text_of(replica, "replica_id") + " " + text_of(replica, "state");
  const double loaded = number_of(replica, "load_progress");
  if (loaded > 0 && loaded < 1) text += " " + std::to_string(static_cast<int>(loaded * 100)) + " %";
  if (const std::string error = text_of(replica, "last_error"); !error.empty()) text += " (" + error + ")";
  return text;
}

// `failed` is permanent, or the breaker is open for minutes: either way somebody has to look.
std::string describe_failure(const Json& replica) {
  const std::string error = text_of(replica, "last_error");
  std::string text = text_of(replica, "replica_id") + " failed: " + (error.empty() ? "no reason is known" : error);
  const double retry_ms = number_of(replica, "retry_in_ms");
  if (retry_ms > 0) text += " (tried again in " + std::to_string(static_cast<int>(retry_ms / 1000) + 1) + " s)";
  return text;
}

}  // namespace

ReplicaProgress read_replica_progress(std::string_view body, std::string_view model_name) {
  const Json document = Json::parse(body, nullptr, false);
  if (!document.is_object() || !document.contains("replicas") || !document["replicas"].is_array()) return {};
  ReplicaProgress out;
  std::string failure;
  bool all_failed = true;
  for (const Json& replica : document["replicas"]) {
    if (!replica.is_object() || text_of(replica, "model_name") != model_name) continue;
    if (text_of(replica, "state") == "failed") {
      if (failure.empty()) failure = describe_failure(replica);
      continue;
    }
    all_failed = false;
    if (out.text.empty()) out.text = describe(replica);
  }
  if (all_failed && !failure.empty()) out.failure = std::move(failure);
  return out;
}

}  // namespace orch::cli
