// Any bytes as the body of a task or chat request: accepted within the declared limits, or refused with a typed error
// that is itself well-formed JSON in both envelopes (ORCH-2006, OC-CTRL-2072).
#include <nlohmann/json.hpp>

#include "common/testing/fuzz_target.h"
#include "orchestratord/shell/chat_request.h"
#include "orchestratord/shell/failure_reply.h"
#include "orchestratord/shell/request_limits.h"
#include "orchestratord/shell/task_request.h"

namespace orch::testing {
namespace {

using nlohmann::json;

json value(Prng& prng, int depth) {
  switch (prng.below(depth > 0 ? 9 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return prng.chance(1, 2);
    case 2:
      return prng.next();
    case 3:
      return static_cast<std::int64_t>(prng.next());
    case 4:
      return prng.unit() * 4 - 1;
    case 5:
      return "text\xC3\xA9\n";
    case 6:
      return "interactive";
    case 7:
      return json::array({value(prng, depth - 1), value(prng, depth - 1)});
    default:
      return json{{"role", "user"}, {"content", value(prng, depth - 1)}};
  }
}

json chat() {
  return {{"model", "m"},
          {"messages", json::array({{{"role", "user"}, {"content", "Hi"}}})},
          {"max_tokens", 4},
          {"temperature", 0.5},
          {"top_p", 0.9},
          {"stop", json::array({"a", "b"})},
          {"seed", 7},
          {"stream", true},
          {"stream_options", {{"include_usage", true}}},
          {"tools", json::array()},
          {"response_format", {{"type", "text"}}}};
}

json task() {
  return {{"task_id", "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10"},
          {"session_id", "6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f11"},
          {"workload", "completion"},
          {"model_ref", "m"},
          {"engine", "llamacpp"},
          {"ctx", 1024},
          {"priority", "interactive"},
          {"max_tokens", 16},
          {"deadline_ms", 30000},
          {"prompt", "Hi"}};
}

}  // namespace

std::string make_seed(Prng& prng) {
  json document = prng.chance(1, 2) ? chat() : task();
  for (std::uint64_t i = prng.below(3); i > 0; --i) {
    auto member = document.begin();
    std::advance(member, static_cast<std::ptrdiff_t>(prng.below(document.size())));
    if (prng.chance(1, 4)) {
      document.erase(member);
    } else {
      *member = value(prng, 3);
    }
  }
  if (prng.chance(1, 8)) document["unknown\"\n"] = value(prng, 2);
  return document.dump();
}

}  // namespace orch::testing

namespace {

using namespace orch;
using namespace orch::gateway;

void check_refusal(const Failure& failure) {
  ORCH_CHECK(failure.outcome == Outcome::INVALID_PARAMS || failure.outcome == Outcome::NOT_IMPLEMENTED);
  ORCH_CHECK(!failure.field.empty() && !failure.message.empty());
  const auto own = nlohmann::json::parse(failure_json(failure), nullptr, false);
  ORCH_CHECK(own.is_object() && own["code"].is_string() && own["field"].is_string());
  const auto openai = nlohmann::json::parse(openai_error_json(failure), nullptr, false);
  ORCH_CHECK(openai.is_object() && openai["error"].is_object());
}

void check_spec(const JobSpec& spec) {
  ORCH_CHECK(spec.max_tokens <= kMaxTokensMax);
  ORCH_CHECK(!spec.model_ref.empty() && spec.model_ref.size() <= kModelRefBytesMax);
  ORCH_CHECK(spec.payload != nullptr);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body = orch::testing::text_of(data, size);
  if (const auto parsed = parse_chat_request(body, JobId{}); parsed.ok()) {
    check_spec(parsed->spec);
  } else {
    check_refusal(parsed.error());
  }
  if (const auto parsed = parse_task_request(body); parsed.ok()) {
    check_spec(*parsed);
  } else {
    check_refusal(parsed.error());
  }
  return 0;
}
