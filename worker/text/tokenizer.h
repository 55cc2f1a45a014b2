// Text to token ids and back, for byte-level BPE vocabularies (`tokenizer.ggml.model` = gpt2) and SentencePiece ones
// (llama). Immutable after create; safe to use from any thread.
//
// Control tokens come from trusted text alone (ENGINE-RULES, interface 5): a control token is cut out only where every
// byte of it lies in a segment with allow_special, and merging never ends in one. User text that spells a control token
// becomes ordinary tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "worker/text/byte_pair_merges.h"
#include "worker/text/pretokenizer.h"
#include "worker/text/sentence_pieces.h"
#include "worker/text/special_tokens.h"

namespace orch::worker {

using TokenId = std::uint32_t;

// OC-ENGINE-1031: what makes the ids of one request, as far as it is not in the model file. Bumped when the tokenizer
// or the template language gives other ids for the same request; the Unicode version stands behind it.
inline constexpr std::uint32_t kTokensVersion = 1;
std::string tokens_version();

// Values of `tokenizer.ggml.token_type`.
enum class TokenKind : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

// The tokenizer.ggml.* keys of a model file, as plain values.
struct VocabularyData {
  std::string model;
  std::string pre;
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;  // empty: all normal
  std::vector<std::string> merges;  // gpt2
  std::vector<float> scores;        // llama
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::optional<TokenId> eot;
  std::optional<TokenId> unknown;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;  // llama: a space before the text and after each special token
};

struct TextSegment {
  std::string text;
  bool allow_special = false;
};

class Tokenizer {
 public:
  // Error: names the key and what is wrong with it.
  static Result<Tokenizer, std::string> create(VocabularyData data);

  // The segments are one text: merges cross their borders. Puts BOS in front and EOS behind when the vocabulary asks
  // for it and the text does not begin or end with it (OC-NUM-1505). A byte the vocabulary has no token for is left
  // out, as llama.cpp does.
  std::vector<TokenId> encode(std::span<const TextSegment> segments) const;
  std::vector<TokenId> encode(std::string_view text, bool allow_special) const;

  std::uint32_t size() const { return static_cast<std::uint32_t>(kinds_.size()); }
  // What the token adds to the visible text: nothing for control tokens. `id` < size().
  const std::string& bytes_of(TokenId id) const { return visible_[id]; }
  const std::string& text_of(TokenId id) const { return data_.tokens[id]; }
  // Tokens of a text are never more than its bytes, BOS and EOS apart.
  bool never_more_tokens_than_bytes() const;
  // No text of so many bytes has fewer tokens. 0: nothing is known.
  std::uint64_t tokens_at_least(std::uint64_t bytes) const {
    return token_bytes_max_ == 0 ? 0 : (bytes + token_bytes_max_ - 1) / token_bytes_max_;
  }
  bool is_control(TokenId id) const { return kinds_[id] == TokenKind::control || kinds_[id] == TokenKind::unknown; }
  // Ends a generation: EOS, EOT, and control tokens with a name that means the same.
  bool ends_generation(TokenId id) const { return ends_[id]; }
  std::optional<TokenId> bos() const { return data_.bos; }
  std::optional<TokenId> eos() const { return data_.eos; }

 private:
  explicit Tokenizer(VocabularyData data, BytePairMerges merges) : data_(std::move(data)), merges_(std::move(merges)) {}
  bool has_pieces() const { return data_.model == "llama"; }
  Status<std::string> index_tokens();
  Status<std::string> index_piece(TokenId id);
  void bound_tokens();
  void encode_words(std::string_view text, std::vector<TokenId>& out) const;

  VocabularyData data_;
  BytePairMerges merges_;
  PreTokenizer pre_ = PreTokenizer::gpt2;
  std::vector<TokenKind> kinds_;
  std::vector<std::string> visible_;
  std::vector<bool> ends_;
  SpecialTokens specials_;
  std::vector<std::int64_t> token_of_symbol_;             // -1: no token has this text
  std::unordered_map<std::string, TokenId> whole_words_;  // of a vocabulary whose words need no merges to be tokens
  SentencePieces pieces_;
  std::size_t token_bytes_max_ =
      0;  // of a text that one token stands for; 0: some bytes have no token and are left out
};

}  // namespace orch::worker
