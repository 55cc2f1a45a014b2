#include "pool-managerd/shell/operation_request.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "common/runtime/json_text.h"

namespace orch::pool {
namespace {

using Json = nlohmann::json;

constexpr Duration kDeadlineDefault = Duration::seconds(30);
constexpr std::uint64_t kDeadlineMaxMs = 24ULL * 3600 * 1000;
constexpr std::size_t kPathBytesMax = 4096;

Err<BadRequest> bad(std::string field, const std::string& what) {
  std::string message = field.empty() ? what : field + ": " + what;
  return Err{BadRequest{std::move(field), std::move(message)}};
}

// The first member that is none of `known`; empty: none.
std::string unknown_member(const Json& object, std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : object.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) return name;
  }
  return {};
}

bool is_digest(const std::string& text) {
  constexpr std::string_view kPrefix = "sha256:";
  return text.size() == kPrefix.size() + 64 && text.starts_with(kPrefix) &&
         text.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string::npos;
}

Result<ModelFile, BadRequest> read_model(const Json& model) {
  if (!model.is_object()) return bad("model", "an object expected");
  if (const std::string name = unknown_member(model, {"path", "digest"}); !name.empty())
    return bad("model." + name, "unknown field");
  for (const char* field : {"path", "digest"}) {
    if (!model.contains(field) || !model[field].is_string())
      return bad(std::string("model.") + field, "a string expected");
  }
  ModelFile out{.path = model["path"].get<std::string>(), .digest = model["digest"].get<std::string>()};
  if (out.path.empty() || out.path.size() > kPathBytesMax || out.path.front() != '/')
    return bad("model.path", "an absolute path of at most " + std::to_string(kPathBytesMax) + " bytes expected");
  if (!is_digest(out.digest)) return bad("model.digest", "sha256:<64 hex digits> expected");
  return out;
}

}  // namespace

Result<StartOperation, BadRequest> read_operation(OperationKind kind, std::string_view body) {
  StartOperation out;
  out.kind = kind;
  out.deadline = kDeadlineDefault;
  const Json document = body.empty() ? Json::object() : Json::parse(body, nullptr, false);
  if (!document.is_object()) return bad("", "the body is no JSON object");
  const bool reloads = kind == OperationKind::reload;
  const std::string name =
      reloads ? unknown_member(document, {"deadline_ms", "model"}) : unknown_member(document, {"deadline_ms"});
  if (!name.empty()) return bad(name, "unknown field");
  if (document.contains("deadline_ms")) {
    const Json& deadline = document["deadline_ms"];
    if (!deadline.is_number_unsigned() || deadline.get<std::uint64_t>() > kDeadlineMaxMs)
      return bad("deadline_ms", "0 to " + std::to_string(kDeadlineMaxMs) + " expected");
    out.deadline = Duration::milliseconds(deadline.get<std::int64_t>());
  }
  if (!reloads) return out;
  if (!document.contains("model")) return bad("model", "missing; a restart keeps the model");
  ORCH_TRY(model, read_model(document["model"]));
  out.model = std::move(model);
  return out;
}

void append_operation(std::string& out, const Operation& operation, Instant now) {
  const auto ms = [](Duration duration) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.ms(), 0));
  };
  runtime::JsonObject json(out);
  json.string("operation_id", to_string(operation.id))
      .string("kind", to_string(operation.kind))
      .string("pool_id", operation.pool_id);
  if (!operation.replica_id.empty()) json.string("replica_id", operation.replica_id);
  json.string("state", to_string(operation.state))
      .string("step", operation.step)
      .string("error", operation.error)
      .number("replicas_done", std::uint64_t{operation.done})
      .number("replicas_total", std::uint64_t{operation.total})
      .number("jobs_cut", std::uint64_t{operation.jobs_cut})
      .number("deadline_ms", ms(operation.deadline))
      .number("took_ms", ms((operation.ended.is_never() ? now : operation.ended) - operation.begun));
  json.close();
}

}  // namespace orch::pool
