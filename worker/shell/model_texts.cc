#include "worker/shell/model_texts.h"

#include <utility>

namespace orch::worker {

namespace {

Err<EngineFailure> invalid(std::string message, std::string field) {
  return Err{EngineFailure{Outcome::INVALID_PARAMS, std::move(message), std::move(field)}};
}

Err<EngineFailure> too_long(std::uint64_t tokens, std::uint32_t context) {
  return Err{EngineFailure{
      Outcome::CONTEXT_OVERFLOW,
      "the prompt has at least " + std::to_string(tokens) + " tokens; the context is " + std::to_string(context),
      "prompt"}};
}

}  // namespace

Result<std::vector<TokenId>, EngineFailure> ModelTexts::prompt_ids(const EnginePrompt& prompt,
                                                                   std::optional<std::uint32_t> context) const {
  const int kinds =
      (prompt.messages.empty() ? 0 : 1) + (prompt.text.empty() ? 0 : 1) + (prompt.token_ids.empty() ? 0 : 1);
  if (kinds != 1) {
    return invalid("exactly one of messages, text and token_ids is needed; " + std::to_string(kinds) + " are given",
                   "prompt");
  }
  if (!prompt.token_ids.empty()) {
    if (context && prompt.token_ids.size() >= *context) return too_long(prompt.token_ids.size(), *context);
    return prompt.token_ids;
  }
  // OC-ENGINE-1025: no token holds more than so many bytes.
  const auto fits = [&](std::uint64_t bytes) { return !context || tokenizer->tokens_at_least(bytes) < *context; };
  if (!prompt.text.empty()) {
    if (!fits(prompt.text.size())) return too_long(tokenizer->tokens_at_least(prompt.text.size()), *context);
    return tokenizer->encode(prompt.text, false);
  }
  if (chat_template == nullptr) return invalid("this model has no chat template; send text", "messages");
  const auto rendered = chat_template->render(prompt.messages);
  if (!rendered.ok()) return invalid(rendered.error(), "messages");
  std::uint64_t bytes = 0;
  for (const TextSegment& segment : rendered.value()) bytes += segment.text.size();
  if (!fits(bytes)) return too_long(tokenizer->tokens_at_least(bytes), *context);
  return tokenizer->encode(rendered.value());
}

Result<TokenizedText, EngineFailure> ModelTexts::tokenize(const EnginePrompt& prompt) const {
  auto ids = prompt_ids(prompt);
  if (!ids.ok()) return Err{ids.error()};
  TokenizedText out;
  for (const TokenId id : ids.value()) {
    if (id >= tokenizer->size()) {
      return invalid("token id " + std::to_string(id) + "; the vocabulary has " + std::to_string(tokenizer->size()),
                     "prompt.token_ids");
    }
    const std::string& visible = tokenizer->bytes_of(id);
    out.pieces.push_back(visible.empty() ? tokenizer->text_of(id) : visible);
  }
  out.ids = std::move(ids.value());
  return out;
}

Result<std::string, EngineFailure> ModelTexts::apply_template(const EnginePrompt& prompt) const {
  if (prompt.messages.empty()) return invalid("messages must not be empty", "messages");
  if (chat_template == nullptr) return invalid("this model has no chat template; send text", "messages");
  const auto segments = chat_template->render(prompt.messages);
  if (!segments.ok()) return invalid(segments.error(), "messages");
  std::string out;
  for (const TextSegment& segment : segments.value()) out += segment.text;
  return out;
}

}  // namespace orch::worker
