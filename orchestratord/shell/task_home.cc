#include "orchestratord/shell/task_home.h"

#include <array>
#include <string_view>
#include <utility>

#include "common/runtime/json_text.h"
#include "orchestratord/shell/failure_reply.h"

namespace orch::gateway {
namespace {

constexpr std::string_view kTasks = "/v1/tasks/";
constexpr std::array<std::string_view, 3> kRoutes{"stream", "cancel", "explain"};

// The path as it was before it was decoded, of what is known to need no encoding; empty: no route of a task.
std::string task_path(std::string_view path) {
  if (!path.starts_with(kTasks)) return {};
  path.remove_prefix(kTasks.size());
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) return {};
  const auto task = Uuid::parse(path.substr(0, slash));
  for (const std::string_view route : kRoutes) {
    if (task && path.substr(slash + 1) == route)
      return std::string(kTasks) + task->to_string() + "/" + std::string(route);
  }
  return {};
}

runtime::HttpResponse refusal(Outcome outcome, std::string message) {
  Failure failure;
  failure.outcome = outcome;
  failure.message = std::move(message);
  failure.field = "gateway";
  return failure_reply(failure, Envelope::orch_queue);
}

}  // namespace

std::string TaskHome::links(JobId task) const {
  std::string out;
  runtime::JsonObject json(out);
  for (const std::string_view route : kRoutes) {
    json.string(route,
                std::string(kTasks) + task.to_string() + "/" + std::string(route) + "?gateway=" + self_.to_string());
  }
  json.close();
  return out;
}

std::optional<runtime::HttpResponse> TaskHome::elsewhere(const runtime::HttpRequest& request) const {
  const std::string path = task_path(request.path);
  if (path.empty()) return std::nullopt;
  const std::string named = runtime::query_value(request.query, "gateway");
  if (named.empty()) return std::nullopt;
  const auto gateway = Uuid::parse(named);
  if (!gateway) return refusal(Outcome::INVALID_PARAMS, "gateway: the id of an orchestrator expected");
  if (OrchId{*gateway} == self_) return std::nullopt;
  const std::string* address = others_.address_of(OrchId{*gateway});
  if (address == nullptr) {
    return refusal(Outcome::NOT_FOUND,
                   "the task is of gateway " + gateway->to_string() + ", whose address is not known here");
  }
  if (*address == public_url_) {  // a client would be led in a circle
    return refusal(Outcome::NOT_FOUND, "the task is of gateway " + gateway->to_string() + ", whose http.public_url, " +
                                           *address + ", is this gateway's own and leads to neither of them");
  }
  runtime::HttpResponse response = runtime::HttpResponse::empty(307);
  response.with("Location", *address + path + "?" + request.query);
  return response;
}

}  // namespace orch::gateway
