// Questions about text that a loaded model answers without computing: which tokens a prompt has, what its template
// makes of a conversation. Value type, immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "worker/core/engine_port.h"
#include "worker/text/chat_template.h"
#include "worker/text/tokenizer.h"

namespace orch::worker {

struct ModelTexts {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null: the model has none

  // The tokens of a prompt as they are fed. One that cannot be shorter than `context` tokens is refused unread.
  Result<std::vector<TokenId>, EngineFailure> prompt_ids(const EnginePrompt& prompt,
                                                         std::optional<std::uint32_t> context = std::nullopt) const;
  Result<TokenizedText, EngineFailure> tokenize(const EnginePrompt& prompt) const;
  Result<std::string, EngineFailure> apply_template(const EnginePrompt& prompt) const;
};

}  // namespace orch::worker
