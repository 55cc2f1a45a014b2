// Conversations with llama-server: a prompt becomes a string by the model's own template (/apply-template) or token ids
// without control tokens (/tokenize), then /completion streams. Pure.
#pragma once

#include <string>
#include <vector>

#include "adapters/core/dialect.h"
#include "common/base/sse_parser.h"

namespace orch::adapter {

// Gathers one whole reply in bounded memory.
class ReplyBody {
 public:
  explicit ReplyBody(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  bool add(std::string_view bytes);  // false: too large
  const std::string& text() const { return text_; }
  void clear() { text_.clear(); }

 private:
  std::size_t bytes_max_;
  std::string text_;
};

// Turns an EnginePrompt into what /completion or a count takes.
class LlamaCppPrompt {
 public:
  explicit LlamaCppPrompt(EnginePrompt prompt);

  bool done() const { return stage_ == Stage::done; }
  HttpRequest next() const;
  // The whole reply of the request from next(); a failure, or nothing when it went well.
  std::optional<EngineFailure> reply(int status, const std::string& body);
  // When done: the prompt as JSON, a string or an array of ids.
  const std::string& json_text() const { return json_; }
  // When done and tokenized: how many ids.
  std::uint32_t id_count() const { return id_count_; }
  bool has_ids() const { return has_ids_; }
  // A rendered template is tokenized too, for counting.
  void want_ids();

 private:
  enum class Stage : std::uint8_t { render, tokenize, done };
  std::optional<EngineFailure> take_rendered(const std::string& body);
  std::optional<EngineFailure> take_tokens(const std::string& body);

  EnginePrompt prompt_;
  Stage stage_ = Stage::done;
  bool special_ = false;  // control tokens in the text are the template's
  bool want_ids_ = false;
  std::string text_;
  std::string json_;
  std::uint32_t id_count_ = 0;
  bool has_ids_ = false;
};

class LlamaCppGeneration final : public Conversation {
 public:
  explicit LlamaCppGeneration(GenerationRequest request);

  HttpRequest next() override;
  bool decoding() const override { return decoding_; }
  void head(int status) override;
  void body(std::string_view bytes, std::vector<Event>& out) override;
  void end(std::vector<Event>& out) override;

 private:
  void give(Event event, std::vector<Event>& out);
  void frame(const std::string& data, std::vector<Event>& out);

  GenerationRequest request_;
  LlamaCppPrompt prompt_;
  bool decoding_ = false;
  bool started_ = false;
  bool ended_ = false;
  int status_ = 0;
  std::uint32_t tokens_seen_ = 0;
  ReplyBody reply_;
  SseParser parser_;
};

class LlamaCppCount final : public Conversation {
 public:
  explicit LlamaCppCount(const EnginePrompt& prompt);

  HttpRequest next() override { return prompt_.next(); }
  bool decoding() const override { return false; }
  void head(int status) override;
  void body(std::string_view bytes, std::vector<Event>& out) override;
  void end(std::vector<Event>& out) override;

 private:
  LlamaCppPrompt prompt_;
  bool ended_ = false;
  int status_ = 0;
  ReplyBody reply_;
};

}  // namespace orch::adapter
