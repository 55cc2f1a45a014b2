// The chat template of a model file: messages in, prompt segments out. What comes from a message is never allowed to
// spell a control token; what the template itself writes is. Immutable after create; safe to use from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/budget.h"
#include "worker/text/tokenizer.h"

namespace orch::worker {

using ChatMessages = std::vector<std::pair<std::string, std::string>>;  // (role, content)

// Rendered bytes <= fixed + messages * per_message + content bytes (ruling 13).
struct TemplateBounds {
  std::uint32_t fixed_bytes = 0;
  std::uint32_t per_message_bytes = 0;
};

class ChatTemplate {
 public:
  struct SpecialTexts {
    std::string bos;
    std::string eos;
  };
  // Error: names the construct and the line of the template.
  static Result<ChatTemplate, std::string> create(std::string_view source, SpecialTexts special);

  // The prompt up to where the assistant begins. Error: the template's own refusal or a limit.
  Result<std::vector<TextSegment>, std::string> render(std::span<const std::pair<std::string, std::string>> messages,
                                                       const jinja::Limits& limits = {}) const;

  // From renderings of probe conversations; nullopt when the rendered overhead depends on the content (a template that
  // repeats or escapes it), so that no bound of this form is known.
  std::optional<TemplateBounds> bounds() const;

 private:
  ChatTemplate(std::shared_ptr<const jinja::Body> body, SpecialTexts special)
      : body_(std::move(body)), special_(std::move(special)) {}

  std::shared_ptr<const jinja::Body> body_;
  SpecialTexts special_;
};

}  // namespace orch::worker
