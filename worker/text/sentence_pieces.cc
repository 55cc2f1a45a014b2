#include "worker/text/sentence_pieces.h"

#include <algorithm>
#include <queue>

#include "worker/text/utf8.h"

namespace orch::worker {

namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFFU;

// A stretch of the text: one character at first.
struct Node {
  std::uint32_t start = 0;
  std::uint32_t bytes = 0;  // 0: joined to its left neighbour
  std::uint32_t previous = kNone;
  std::uint32_t next = kNone;
};

// A join that was possible when it was pushed; stale once either side has changed its length.
struct Candidate {
  float score = 0;
  std::uint32_t left = 0;
  std::uint32_t right = 0;
  std::uint32_t bytes = 0;
  bool operator<(const Candidate& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

// A byte that begins no UTF-8 is a character of its own.
std::vector<Node> characters(std::string_view text) {
  std::vector<Node> nodes;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    const std::size_t bytes = step.status == Utf8Status::valid ? step.bytes : 1;
    const std::uint32_t index = static_cast<std::uint32_t>(nodes.size());
    nodes.push_back(
        {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes), index == 0 ? kNone : index - 1, index + 1});
    at += bytes;
  }
  if (!nodes.empty()) nodes.back().next = kNone;
  return nodes;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at = 0;;) {
    const std::size_t found = text.find(from, at);
    out += text.substr(at, found - at);
    if (found == std::string_view::npos) return out;
    out += to;
    at = found + from.size();
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

const SentencePieces::Piece* SentencePieces::find(std::string_view text) const {
  const auto found = pieces_.find(std::string(text));
  return found == pieces_.end() ? nullptr : &found->second;
}

void SentencePieces::apply(std::string_view text, std::vector<std::uint32_t>& out) const {
  std::vector<Node> nodes = characters(text);
  std::priority_queue<Candidate> queue;
  const auto consider = [&](std::uint32_t left, std::uint32_t right) {
    if (left == kNone || right == kNone) return;
    const std::uint32_t bytes = nodes[left].bytes + nodes[right].bytes;
    const Piece* piece = find(text.substr(nodes[left].start, bytes));
    if (piece != nullptr) queue.push({piece->score, left, right, bytes});
  };
  for (std::uint32_t i = 1; i < nodes.size(); ++i) consider(i - 1, i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Node& left = nodes[best.left];
    Node& right = nodes[best.right];
    if (left.bytes == 0 || right.bytes == 0 || left.bytes + right.bytes != best.bytes) continue;
    left.bytes = best.bytes;
    right.bytes = 0;
    left.next = right.next;
    if (right.next != kNone) nodes[right.next].previous = best.left;
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
  for (const Node& node : nodes) {
    if (node.bytes == 0) continue;
    const std::string_view piece_text = text.substr(node.start, node.bytes);
    if (const Piece* piece = find(piece_text)) {
      out.push_back(piece->id);
      continue;
    }
    for (const char c : piece_text) {
      const std::optional<std::uint32_t>& byte = bytes_[static_cast<unsigned char>(c)];
      if (byte || unknown_) out.push_back(byte ? *byte : *unknown_);
    }
  }
}

bool SentencePieces::never_more_tokens_than_bytes() const {
  return find(kPieceSpace) != nullptr &&
         std::all_of(bytes_.begin(), bytes_.end(), [](const auto& id) { return id.has_value(); });
}

std::optional<std::uint8_t> byte_of_piece(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const int high = hex_digit(text[3]);
  const int low = hex_digit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<std::uint8_t>(high * 16 + low);
}

std::string escape_spaces(std::string_view text) { return replaced(text, " ", kPieceSpace); }
std::string unescape_spaces(std::string_view text) { return replaced(text, kPieceSpace, " "); }

}  // namespace orch::worker
