// Renders templates for a judge outside: one JSON object a line on standard input, {"template": ..., "context": {...}},
// one a line on standard output, {"text": ...} or {"error": ...}. Every string of the context counts as the user's.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/text/jinja/evaluator.h"

namespace {

using orch::worker::jinja::List;
using orch::worker::jinja::Map;
using orch::worker::jinja::Text;
using orch::worker::jinja::Value;
using Json = nlohmann::ordered_json;

Value to_value(const Json& json) {
  if (json.is_null()) return Value::none();
  if (json.is_boolean()) return Value::boolean(json.get<bool>());
  if (json.is_number_integer()) return Value::integer(json.get<std::int64_t>());
  if (json.is_number()) return Value::real(json.get<double>());
  if (json.is_string()) return Value::text(Text::from_user(json.get<std::string>()));
  if (json.is_array()) {
    List out;
    for (const Json& item : json) out.push_back(to_value(item));
    return Value::list(std::move(out));
  }
  Map out;
  for (const auto& [key, item] : json.items()) out.set(key, to_value(item));
  return Value::map(std::move(out));
}

Json render(const Json& request) {
  namespace jinja = orch::worker::jinja;
  const auto fail = [](const jinja::TemplateError& error) {
    return Json{{"error", "line " + std::to_string(error.line) + ": " + error.message}};
  };
  auto tokens = jinja::tokenize(request["template"].get<std::string>());
  if (!tokens.ok()) return fail(tokens.error());
  auto body = jinja::parse(std::move(tokens.value()));
  if (!body.ok()) return fail(body.error());
  const Value context = to_value(request["context"]);
  auto out = jinja::render(body.value(), *context.map());
  if (!out.ok()) return fail(out.error());
  return Json{{"text", out.value().bytes}};
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto request = Json::parse(line, nullptr, false);
    if (request.is_discarded() || !request.contains("template") || !request.contains("context")) return 65;
    std::cout << render(request).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  return 0;
}
