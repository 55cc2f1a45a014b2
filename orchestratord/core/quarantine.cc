#include "orchestratord/core/quarantine.h"

#include <algorithm>

namespace orch::gateway {
namespace {

// Two FNV-1a streams of different starts, finished by splitmix64's mixer. Lengths keep the parts apart.
class Digester {
 public:
  void add(const std::string& text) {
    add_number(text.size());
    for (const char c : text) add_byte(static_cast<unsigned char>(c));
  }
  PromptDigest take() const { return {mix(a_), mix(b_)}; }

 private:
  void add_number(std::uint64_t value) {
    for (int i = 0; i < 8; ++i, value >>= 8) add_byte(static_cast<unsigned char>(value & 0xFF));
  }
  void add_byte(unsigned char byte) {
    a_ = (a_ ^ byte) * 0x100000001B3ull;
    b_ = (b_ ^ (byte + 0x9Eu)) * 0x100000001B3ull;
  }
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  std::uint64_t a_ = 0xCBF29CE484222325ull;
  std::uint64_t b_ = 0x84222325CBF29CE4ull;
};

}  // namespace

PromptDigest prompt_digest(const std::string& model, const Prompt& prompt) {
  Digester digester;
  digester.add(model);
  digester.add(prompt.text);
  for (const ChatMessage& message : prompt.messages) {
    digester.add(message.role);
    digester.add(message.content);
  }
  return digester.take();
}

void Quarantine::add(const PromptDigest& prompt, Instant until) {
  prompts_[prompt] = until;
  if (prompts_.size() <= kPromptsMax) return;
  prompts_.erase(std::min_element(prompts_.begin(), prompts_.end(),
                                  [](const auto& a, const auto& b) { return a.second < b.second; }));
}

std::optional<Instant> Quarantine::until(const PromptDigest& prompt, Instant now) const {
  const auto found = prompts_.find(prompt);
  if (found == prompts_.end() || found->second <= now) return std::nullopt;
  return found->second;
}

void Quarantine::expire(Instant now) {
  std::erase_if(prompts_, [&](const auto& entry) { return entry.second <= now; });
}

}  // namespace orch::gateway
