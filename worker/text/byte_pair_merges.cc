#include "worker/text/byte_pair_merges.h"

#include <algorithm>
#include <queue>

#include "worker/text/byte_symbols.h"

namespace orch::worker {

namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFFu;

constexpr std::uint64_t pair_key(SymbolId left, SymbolId right) {
  return (static_cast<std::uint64_t>(left) << 32) | right;
}

struct Node {
  SymbolId symbol = 0;
  std::uint32_t previous = kNone;
  std::uint32_t next = kNone;
  bool alive = true;
};

// A merge that was possible when it was pushed; stale once either side has changed.
struct Candidate {
  std::uint32_t rank = 0;
  std::uint32_t left = 0;
  std::uint32_t right = 0;
  SymbolId left_symbol = 0;
  SymbolId right_symbol = 0;
  SymbolId result = 0;
  bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
};

}  // namespace

SymbolId BytePairMerges::intern(const std::string& text) {
  const auto [at, added] = ids_.try_emplace(text, static_cast<SymbolId>(texts_.size()));
  if (added) texts_.push_back(text);
  return at->second;
}

Result<BytePairMerges, std::string> BytePairMerges::create(const std::vector<std::string>& merges) {
  BytePairMerges out;
  for (unsigned byte = 0; byte < 256; ++byte) {
    out.byte_symbols_[byte] = out.intern(byte_symbol(static_cast<std::uint8_t>(byte)));
  }
  out.merges_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string& entry = merges[rank];
    // From 1: the left side is never empty.
    const std::size_t space = entry.size() < 3 ? std::string::npos : entry.find(' ', 1);
    if (space == std::string::npos || space + 1 == entry.size()) {
      return Err{"tokenizer.ggml.merges[" + std::to_string(rank) + "] is not two symbols with a space between"};
    }
    const SymbolId left = out.intern(entry.substr(0, space));
    const SymbolId right = out.intern(entry.substr(space + 1));
    const SymbolId result = out.intern(entry.substr(0, space) + entry.substr(space + 1));
    out.merges_.try_emplace(pair_key(left, right), Merge{static_cast<std::uint32_t>(rank), result});
  }
  return out;
}

void BytePairMerges::apply(std::string_view word, std::vector<SymbolId>& out) const {
  std::vector<Node> nodes(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) {
    nodes[i].symbol = byte_symbols_[static_cast<unsigned char>(word[i])];
    nodes[i].previous = i == 0 ? kNone : static_cast<std::uint32_t>(i - 1);
    nodes[i].next = i + 1 == word.size() ? kNone : static_cast<std::uint32_t>(i + 1);
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::uint32_t left, std::uint32_t right) {
    if (left == kNone || right == kNone) return;
    const auto found = merges_.find(pair_key(nodes[left].symbol, nodes[right].symbol));
    if (found == merges_.end()) return;
    queue.push({found->second.rank, left, right, nodes[left].symbol, nodes[right].symbol, found->second.result});
  };
  for (std::uint32_t i = 1; i < nodes.size(); ++i) consider(i - 1, i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Node& left = nodes[best.left];
    Node& right = nodes[best.right];
    if (!left.alive || !right.alive || left.symbol != best.left_symbol || right.symbol != best.right_symbol) continue;
    left.symbol = best.result;
    left.next = right.next;
    right.alive = false;
    if (right.next != kNone) nodes[right.next].previous = best.left;
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
  for (const Node& node : nodes) {
    if (node.alive) out.push_back(node.symbol);
  }
}

}  // namespace orch::worker
