#include "orchestratord/core/prefix_chain.h"

#include <algorithm>
#include <string_view>

namespace orch::gateway {
namespace {

class Chunker {
 public:
  bool full() const { return chain_.size() >= kPrefixChunksMax; }
  void add(std::string_view text) {
    while (!text.empty() && !full()) {
      const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(text.size(), kPrefixChunkBytes - filled_));
      for (const char c : text.substr(0, taken)) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
      text.remove_prefix(taken);
      filled_ += taken;
      if (filled_ < kPrefixChunkBytes) continue;
      chain_.push_back(finished(hash_));
      filled_ = 0;
    }
  }
  // A border that no text can imitate.
  void border(unsigned char kind) { hash_ = finished(hash_ ^ kind); }
  PrefixChain take() { return std::move(chain_); }

 private:
  static std::uint64_t finished(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }

  std::uint64_t hash_ = 0xCBF29CE484222325ull;
  std::uint64_t filled_ = 0;
  PrefixChain chain_;
};

}  // namespace

PrefixChain prefix_chain(const Prompt& prompt) {
  Chunker chunks;
  for (const ChatMessage& message : prompt.messages) {
    chunks.border(1);
    chunks.add(message.role);
    chunks.border(2);
    chunks.add(message.content);
  }
  chunks.add(prompt.text);
  return chunks.take();
}

}  // namespace orch::gateway
