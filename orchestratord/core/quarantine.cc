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

// A second word makes it longer, never shorter.
void Quarantine::put(Table& table, const PromptDigest& prompt, Instant until) {
  if (!own_.contains(prompt) && !heard_.contains(prompt)) ++version_;
  const auto [known, fresh] = table.try_emplace(prompt, until);
  known->second = std::max(known->second, until);
  if (table.size() <= kPromptsMax) return;
  table.erase(
      std::min_element(table.begin(), table.end(), [](const auto& a, const auto& b) { return a.second < b.second; }));
}

void Quarantine::add(const PromptDigest& prompt, Instant until) {
  put(own_, prompt, until);
  ++told_version_;
}

void Quarantine::hear(const PromptDigest& prompt, Instant until) { put(heard_, prompt, until); }

std::optional<Instant> Quarantine::until(const PromptDigest& prompt, Instant now) const {
  std::optional<Instant> out;
  for (const Table* table : {&own_, &heard_}) {
    const auto found = table->find(prompt);
    if (found != table->end() && found->second > now) out = std::max(out.value_or(now), found->second);
  }
  return out;
}

void Quarantine::expire(Instant now) {
  for (Table* table : {&own_, &heard_}) std::erase_if(*table, [&](const auto& entry) { return entry.second <= now; });
}

std::vector<RefusedPrompt> Quarantine::told(Instant now) const {
  std::vector<RefusedPrompt> out;
  for (const auto& [prompt, until] : own_) {
    if (until > now) out.push_back({prompt, until - now});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.rest > b.rest; });
  if (out.size() > kRefusedPromptsMax) out.resize(kRefusedPromptsMax);
  return out;
}

}  // namespace orch::gateway
