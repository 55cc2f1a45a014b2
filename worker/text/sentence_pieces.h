// SentencePiece's score-driven merging of one text (`tokenizer.ggml.model` = llama): neighbouring pieces join while the
// joined text is a piece, the highest score first, then leftmost; what is no piece in the end becomes its bytes.
// Immutable after create; safe to read from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace orch::worker {

inline constexpr std::string_view kPieceSpace = "\xE2\x96\x81";  // U+2581 stands for a space in pieces

class SentencePieces {
 public:
  void add_piece(const std::string& text, std::uint32_t id, float score) {
    pieces_.try_emplace(text, Piece{id, score});
  }
  void set_byte(std::uint8_t byte, std::uint32_t id) { bytes_[byte] = id; }
  void set_unknown(std::uint32_t id) { unknown_ = id; }

  // Appends the ids of `text`. A byte without a token of its own becomes the unknown token, or nothing without one.
  void apply(std::string_view text, std::vector<std::uint32_t>& out) const;

  // False: where nothing joins it, the byte is left out.
  bool has_token_for(std::uint8_t byte) const { return bytes_[byte].has_value() || unknown_.has_value(); }

  // Each byte of a text becomes at most one token: the space has a piece and every byte a token.
  bool never_more_tokens_than_bytes() const;

 private:
  struct Piece {
    std::uint32_t id = 0;
    float score = 0;
  };
  const Piece* find(std::string_view text) const;

  std::unordered_map<std::string, Piece> pieces_;  // looked up, never iterated
  std::array<std::optional<std::uint32_t>, 256> bytes_{};
  std::optional<std::uint32_t> unknown_;
};

// The value of "<0xNN>", the text of a byte token.
std::optional<std::uint8_t> byte_of_piece(std::string_view text);

// Spaces to U+2581, and back.
std::string escape_spaces(std::string_view text);
std::string unescape_spaces(std::string_view text);

}  // namespace orch::worker
