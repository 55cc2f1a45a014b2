#include "adapters/core/llama_cpp_generation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "adapters/core/json_reads.h"
#include "adapters/core/upstream_error.h"

namespace orch::adapter {
namespace {

using nlohmann::json;

constexpr std::size_t kLineMax = 1024 * 1024;
constexpr std::size_t kReplyFixed = 1024 * 1024;
constexpr std::size_t kErrorBodyMax = 64 * 1024;
// How far back the engine counts for penalties; it keeps four bytes for each. Servers of 2026 refuse the -1 that meant
// all.
constexpr int kPenaltyTokensMax = 128 * 1024;

Duration milliseconds_at(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return {};
  return Duration{static_cast<std::int64_t>(std::clamp(found->get<double>(), 0.0, 1e9) * 1e6)};
}

// A prompt as JSON and the engine's answers to it grow with its bytes: \u escapes are six for one.
std::size_t reply_max(const EnginePrompt& prompt) {
  std::size_t bytes = prompt.text.size() + prompt.token_ids.size() * 12;
  for (const auto& [role, content] : prompt.messages) bytes += role.size() + content.size() + 64;
  return kReplyFixed + 12 * bytes;
}

std::string dump(const json& document) {
  // Requests were validated as UTF-8 at the edge; should a byte be wrong all the same it becomes U+FFFD, not an
  // exception.
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

// The engine's seed has 32 bits, and all ones means "choose one".
std::uint32_t fold_seed(std::uint64_t seed) {
  const auto folded = static_cast<std::uint32_t>(seed ^ (seed >> 32));
  return folded == UINT32_MAX ? UINT32_MAX - 1 : folded;
}

std::string completion_body(const GenerationRequest& request, const std::string& prompt_json) {
  json body;
  body["stream"] = true;
  body["n_predict"] = request.max_tokens;
  body["temperature"] = request.temperature;
  body["top_k"] = request.top_k;
  body["top_p"] = request.top_p;
  body["min_p"] = request.min_p;
  body["seed"] = fold_seed(request.seed + request.choice);
  // The order of ENGINE-RULES "Sampling"; every sampler that is not named here is off. The engine counts the prompt's
  // tokens for all three penalties.
  body["samplers"] = {"penalties", "temperature", "top_k", "top_p", "min_p"};
  body["repeat_penalty"] = request.repetition_penalty;
  body["frequency_penalty"] = request.frequency_penalty;
  body["presence_penalty"] = request.presence_penalty;
  const bool penalised =
      request.repetition_penalty != 1.0F || request.frequency_penalty != 0.0F || request.presence_penalty != 0.0F;
  body["repeat_last_n"] = penalised ? kPenaltyTokensMax : 0;
  if (!request.logit_bias.empty()) {
    json bias = json::array();
    for (const LogitBias& each : request.logit_bias) bias.push_back({each.id, each.bias});
    body["logit_bias"] = std::move(bias);
  }
  if (!request.stop.empty()) body["stop"] = request.stop;
  // The engine's prefix cache is not salted by tenant, so what one tenant sent could show in another's timing.
  body["cache_prompt"] = false;
  // Without it the final event repeats the whole prompt.
  body["response_fields"] = {"content",          "stop",      "stop_type", "tokens_predicted",
                             "tokens_evaluated", "truncated", "timings"};
  std::string constraint;
  if (request.constraint) {
    // As the client wrote it: a document would lose the order of the properties.
    switch (request.constraint->kind) {
      case grammar::ConstraintKind::json_object:
        constraint = R"(,"json_schema":{"type":"object"})";
        break;
      case grammar::ConstraintKind::json_schema:
        constraint = ",\"json_schema\":" + request.constraint->text;
        break;
      case grammar::ConstraintKind::gbnf:
        body["grammar"] = request.constraint->text;
        break;
      case grammar::ConstraintKind::regex:
        break;  // refused before
    }
  }
  std::string text = dump(body);
  text.pop_back();
  return text + constraint + ",\"prompt\":" + prompt_json + "}";
}

GenerationResult result_of(const json& frame) {
  GenerationResult result;
  const auto type = frame.find("stop_type");
  const bool limit = type != frame.end() && type->is_string() && type->get_ref<const std::string&>() == "limit";
  const auto cut = frame.find("truncated");
  const bool truncated = cut != frame.end() && cut->is_boolean() && cut->get<bool>();
  result.reason = limit || truncated ? worker::FinishReason::length : worker::FinishReason::stop;
  result.prompt_tokens = number_at(frame, "tokens_evaluated");
  result.completion_tokens = number_at(frame, "tokens_predicted");
  if (const auto timings = frame.find("timings"); timings != frame.end() && timings->is_object()) {
    result.cached_prompt_tokens = number_at(*timings, "cache_n");
    result.prefill = milliseconds_at(*timings, "prompt_ms");
    result.decode = milliseconds_at(*timings, "predicted_ms");
  }
  return result;
}

}  // namespace

bool ReplyBody::add(std::string_view bytes) {
  if (text_.size() + bytes.size() > bytes_max_) return false;
  text_ += bytes;
  return true;
}

LlamaCppPrompt::LlamaCppPrompt(EnginePrompt prompt) : prompt_(std::move(prompt)) {
  if (!prompt_.messages.empty()) {
    stage_ = Stage::render;
    special_ = true;
  } else if (!prompt_.text.empty()) {
    stage_ = Stage::tokenize;  // a bare string given to /completion could name control tokens
    text_ = prompt_.text;
  } else {
    json_ = dump(json(prompt_.token_ids));
    id_count_ = static_cast<std::uint32_t>(prompt_.token_ids.size());
    has_ids_ = true;
  }
}

void LlamaCppPrompt::want_ids() { want_ids_ = true; }

HttpRequest LlamaCppPrompt::next() const {
  json body;
  if (stage_ == Stage::render) {
    json messages = json::array();
    for (const auto& [role, content] : prompt_.messages) messages.push_back({{"role", role}, {"content", content}});
    body["messages"] = std::move(messages);
    return {.path = "/apply-template", .body = dump(body)};
  }
  body["content"] = text_;
  body["add_special"] = true;
  body["parse_special"] = special_;
  return {.path = "/tokenize", .body = dump(body)};
}

std::optional<EngineFailure> LlamaCppPrompt::reply(int status, const std::string& body) {
  if (status != 200) return failure_of_status(status, body);
  return stage_ == Stage::render ? take_rendered(body) : take_tokens(body);
}

std::optional<EngineFailure> LlamaCppPrompt::take_rendered(const std::string& body) {
  const json document = parse_json(body);
  if (!document.is_object() || !document.contains("prompt") || !document["prompt"].is_string()) {
    return malformed("/apply-template gave no prompt");
  }
  text_ = document["prompt"].get<std::string>();
  if (text_.empty()) return malformed("/apply-template gave an empty prompt");
  json_ = dump(document["prompt"]);
  stage_ = want_ids_ ? Stage::tokenize : Stage::done;
  return std::nullopt;
}

std::optional<EngineFailure> LlamaCppPrompt::take_tokens(const std::string& body) {
  const json document = parse_json(body);
  if (!document.is_object() || !document.contains("tokens") || !document["tokens"].is_array()) {
    return malformed("/tokenize gave no tokens");
  }
  const json& tokens = document["tokens"];
  const bool numbers =
      std::all_of(tokens.begin(), tokens.end(), [](const json& id) { return id.is_number_unsigned(); });
  if (!numbers) return malformed("/tokenize gave something that is no token id");
  json_ = dump(tokens);
  id_count_ = static_cast<std::uint32_t>(tokens.size());
  has_ids_ = true;
  stage_ = Stage::done;
  return std::nullopt;
}

LlamaCppGeneration::LlamaCppGeneration(GenerationRequest request)
    : request_(std::move(request)),
      prompt_(request_.prompt),
      reply_(reply_max(request_.prompt)),
      parser_({.line_bytes = kLineMax, .event_bytes = kLineMax}) {}

HttpRequest LlamaCppGeneration::next() {
  reply_.clear();
  if (!prompt_.done()) return prompt_.next();
  decoding_ = true;
  return {.path = "/completion", .body = completion_body(request_, prompt_.json_text())};
}

void LlamaCppGeneration::head(int status) { status_ = status; }

void LlamaCppGeneration::give(Event event, std::vector<Event>& out) {
  if (ended_) return;
  ended_ = is_terminal(event);
  out.push_back(std::move(event));
}

void LlamaCppGeneration::body(std::string_view bytes, std::vector<Event>& out) {
  if (ended_) return;
  if (!decoding_ || status_ != 200) {
    const bool error = status_ != 200 && reply_.text().size() + bytes.size() > kErrorBodyMax;
    if (error || !reply_.add(bytes)) give(malformed("the body is over its limit"), out);
    return;
  }
  std::vector<SseParser::Event> events;
  const SseParser::Fed fed = parser_.feed(bytes, events);
  for (const SseParser::Event& event : events) {
    if (!ended_) frame(event.data, out);
  }
  if (fed != SseParser::Fed::ok) give(malformed("a line or an event of the stream is over its limit"), out);
}

void LlamaCppGeneration::end(std::vector<Event>& out) {
  if (ended_) return;
  if (!prompt_.done()) {
    if (const auto failure = prompt_.reply(status_, reply_.text())) give(*failure, out);
    return;
  }
  give(status_ == 200 ? truncated() : failure_of_status(status_, reply_.text()), out);
}

void LlamaCppGeneration::frame(const std::string& data, std::vector<Event>& out) {
  if (data == "[DONE]") return;  // optional on this route: the final frame says stop
  const json document = parse_json(data);
  if (!document.is_object()) return give(malformed("an event that is no JSON object"), out);
  if (document.contains("error")) return give(failure_in_stream(data), out);
  const auto stop = document.find("stop");
  const auto content = document.find("content");
  if (stop == document.end() || !stop->is_boolean()) return give(malformed("an event without stop"), out);
  if (content == document.end() || !content->is_string()) return give(malformed("an event without content"), out);

  if (!std::exchange(started_, true)) {
    give(Started{.prompt_tokens = number_at(document, "tokens_evaluated"), .cached_prompt_tokens = 0}, out);
  }
  // Several tokens may hide behind one event: while a code point is incomplete the engine sends nothing, and then names
  // only the last id. So ids are not passed on, and the engine's own count tells how many tokens an event stands for.
  const std::uint32_t predicted = number_at(document, "tokens_predicted");
  std::string text = content->get<std::string>();
  if (predicted > tokens_seen_ || !text.empty()) {
    const std::uint32_t count = predicted > tokens_seen_ ? predicted - tokens_seen_ : 0;
    give(Tokens{.index = tokens_seen_, .count = count, .ids = {}, .text = std::move(text)}, out);
    tokens_seen_ += count;
  }
  if (stop->get<bool>()) give(result_of(document), out);
}

LlamaCppCount::LlamaCppCount(const EnginePrompt& prompt) : prompt_(prompt), reply_(reply_max(prompt)) {
  prompt_.want_ids();
}

void LlamaCppCount::head(int status) {
  status_ = status;
  reply_.clear();
}

void LlamaCppCount::body(std::string_view bytes, std::vector<Event>& out) {
  if (ended_ || reply_.add(bytes)) return;
  ended_ = true;
  out.push_back(malformed("the body is over its limit"));
}

void LlamaCppCount::end(std::vector<Event>& out) {
  if (ended_) return;
  if (const auto failure = prompt_.reply(status_, reply_.text())) {
    ended_ = true;
    out.push_back(*failure);
  } else if (prompt_.has_ids()) {
    ended_ = true;
    out.push_back(Counted{.tokens = prompt_.id_count(), .estimated = false});
  }
}

}  // namespace orch::adapter
