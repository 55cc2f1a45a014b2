#include "worker/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "worker/text/byte_symbols.h"
#include "worker/text/unicode_categories.h"

namespace orch::worker {

namespace {

constexpr std::size_t kTokensMax = 1u << 21;
constexpr std::size_t kTokenBytesMax = 4096;

// Names under which models carry a second end token that tokenizer.ggml.eos_token_id does not mention.
constexpr std::array<std::string_view, 8> kEndNames = {
    "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "</s>", "<|end_of_text|>", "<eos>", "<end_of_turn>"};

}  // namespace

std::string tokens_version() {
  return "tokens." + std::to_string(kTokensVersion) + ".unicode." + unicode_table::kVersion;
}

Result<Tokenizer, std::string> Tokenizer::create(VocabularyData data) {
  if (data.model != "gpt2" && data.model != "llama") {
    return Err{"tokenizer.ggml.model \"" + data.model +
               "\" is not supported; supported: gpt2 (byte-level BPE), llama (SentencePiece)"};
  }
  const auto pre = data.model == "gpt2" ? pre_tokenizer_by_name(data.pre) : PreTokenizer::gpt2;
  if (!pre) {
    return Err{"tokenizer.ggml.pre \"" + data.pre + "\" is not supported; supported: " + supported_pre_tokenizers()};
  }
  if (data.tokens.empty()) return Err{std::string("tokenizer.ggml.tokens is missing or empty")};
  if (data.tokens.size() > kTokensMax) {
    return Err{"tokenizer.ggml.tokens has " + std::to_string(data.tokens.size()) + " entries; at most " +
               std::to_string(kTokensMax)};
  }
  if (!data.types.empty() && data.types.size() != data.tokens.size()) {
    return Err{"tokenizer.ggml.token_type has " + std::to_string(data.types.size()) +
               " entries, tokenizer.ggml.tokens " + std::to_string(data.tokens.size())};
  }
  if (data.model == "llama" && data.scores.size() != data.tokens.size()) {
    return Err{"tokenizer.ggml.scores has " + std::to_string(data.scores.size()) + " entries, tokenizer.ggml.tokens " +
               std::to_string(data.tokens.size())};
  }
  for (std::size_t i = 0; i < data.scores.size(); ++i) {
    if (!std::isfinite(data.scores[i])) return Err{"tokenizer.ggml.scores[" + std::to_string(i) + "] is not finite"};
  }
  for (const auto& id : {data.bos, data.eos, data.eot, data.unknown}) {
    if (id && *id >= data.tokens.size()) {
      return Err{"a tokenizer.ggml.*_token_id is " + std::to_string(*id) + "; the vocabulary has " +
                 std::to_string(data.tokens.size()) + " tokens"};
    }
  }
  if (data.add_bos && !data.bos) {
    return Err{std::string("tokenizer.ggml.add_bos_token is true and tokenizer.ggml.bos_token_id is missing")};
  }
  if (data.add_eos && !data.eos) {
    return Err{std::string("tokenizer.ggml.add_eos_token is true and tokenizer.ggml.eos_token_id is missing")};
  }
  auto merges = BytePairMerges::create(data.merges);
  if (!merges.ok()) return Err{merges.error()};
  Tokenizer out(std::move(data), std::move(merges.value()));
  out.pre_ = *pre;
  const auto indexed = out.index_tokens();
  if (!indexed.ok()) return Err{indexed.error()};
  return out;
}

Status<std::string> Tokenizer::index_tokens() {
  const std::size_t count = data_.tokens.size();
  std::unordered_map<std::string_view, TokenId> normal;
  kinds_.resize(count, TokenKind::normal);
  visible_.resize(count);
  ends_.resize(count, false);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& text = data_.tokens[i];
    const auto id = static_cast<TokenId>(i);
    if (text.empty() || text.size() > kTokenBytesMax) {
      return Err{"tokenizer.ggml.tokens[" + std::to_string(i) + "] has " + std::to_string(text.size()) +
                 " bytes; allowed are 1 to " + std::to_string(kTokenBytesMax)};
    }
    const std::int32_t type = data_.types.empty() ? 1 : data_.types[i];
    if (type < 1 || type > 6) {
      return Err{"tokenizer.ggml.token_type[" + std::to_string(i) + "] is " + std::to_string(type) +
                 "; known are 1 to 6"};
    }
    kinds_[i] = static_cast<TokenKind>(type);
    if (is_control(id)) {
      specials_.add(text, id, true);
      ends_[i] = std::find(kEndNames.begin(), kEndNames.end(), text) != kEndNames.end();
      continue;
    }
    if (kinds_[i] == TokenKind::user_defined) {
      specials_.add(text, id, false);
      visible_[i] = text;
      if (has_pieces()) pieces_.add_piece(text, id, data_.scores[i]);
      continue;
    }
    if (has_pieces()) {
      const auto indexed = index_piece(id);
      if (!indexed.ok()) return indexed;
      continue;
    }
    // An entry outside the byte alphabet shows as it is written; merging cannot reach it.
    visible_[i] = symbols_to_bytes(text).value_or(text);
    normal.try_emplace(text, id);
    if (pre_ == PreTokenizer::llama3) whole_words_.try_emplace(visible_[i], id);
  }
  if (has_pieces() && data_.unknown) pieces_.set_unknown(*data_.unknown);
  if (data_.eos) ends_[*data_.eos] = true;
  if (data_.eot) ends_[*data_.eot] = true;
  token_of_symbol_.resize(merges_.symbol_count(), -1);
  for (std::size_t i = 0; i < token_of_symbol_.size(); ++i) {
    const auto found = normal.find(merges_.text_of(static_cast<SymbolId>(i)));
    if (found != normal.end()) token_of_symbol_[i] = found->second;
  }
  bound_tokens();
  return Ok{};
}

// A text falls into stretches that are a token each, none longer than the longest one, where no byte is without a
// token.
void Tokenizer::bound_tokens() {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    std::vector<SymbolId> symbols;
    if (!has_pieces()) merges_.apply(std::string_view(&text, 1), symbols);
    const bool has_token =
        has_pieces() ? pieces_.has_token_for(static_cast<std::uint8_t>(byte)) : token_of_symbol_[symbols[0]] >= 0;
    if (!has_token) return;
  }
  for (std::size_t id = 0; id < visible_.size(); ++id) {
    token_bytes_max_ = std::max({token_bytes_max_, visible_[id].size(), data_.tokens[id].size()});
  }
}

// A normal, unused or byte token of a SentencePiece vocabulary.
Status<std::string> Tokenizer::index_piece(TokenId id) {
  const std::string& text = data_.tokens[id];
  if (kinds_[id] != TokenKind::byte) {
    visible_[id] = unescape_spaces(text);
    pieces_.add_piece(text, id, data_.scores[id]);
    return Ok{};
  }
  const auto byte = byte_of_piece(text);
  if (!byte) return Err{"tokenizer.ggml.tokens[" + std::to_string(id) + "] is of type byte and not written <0xNN>"};
  visible_[id] = std::string(1, static_cast<char>(*byte));
  pieces_.set_byte(*byte, id);
  return Ok{};
}

bool Tokenizer::never_more_tokens_than_bytes() const {
  return !has_pieces() || (!data_.add_space_prefix && pieces_.never_more_tokens_than_bytes());
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool allow_special) const {
  const TextSegment segment{std::string(text), allow_special};
  return encode(std::span(&segment, 1));
}

std::vector<TokenId> Tokenizer::encode(std::span<const TextSegment> segments) const {
  std::string text;
  std::vector<bool> permitted;
  for (const TextSegment& segment : segments) {
    text += segment.text;
    permitted.resize(text.size(), segment.allow_special);
  }
  const std::vector<TextFragment> fragments = specials_.cut(text, permitted);
  std::vector<TokenId> out;
  const bool has_bos = !fragments.empty() && fragments.front().token && fragments.front().token == data_.bos;
  if (data_.add_bos && !has_bos) out.push_back(*data_.bos);
  bool after_special = true;  // the start counts as one
  for (const TextFragment& fragment : fragments) {
    if (fragment.token) {
      out.push_back(*fragment.token);
      after_special = true;
      continue;
    }
    const std::string_view raw = std::string_view(text).substr(fragment.start, fragment.bytes);
    if (has_pieces()) {
      const bool prefix = data_.add_space_prefix && after_special && !raw.empty();
      pieces_.apply(escape_spaces(prefix ? " " + std::string(raw) : std::string(raw)), out);
    } else {
      encode_words(raw, out);
    }
    after_special = false;
  }
  const bool has_eos = !fragments.empty() && fragments.back().token && fragments.back().token == data_.eos;
  if (data_.add_eos && !has_eos) out.push_back(*data_.eos);
  return out;
}

void Tokenizer::encode_words(std::string_view text, std::vector<TokenId>& out) const {
  std::vector<SymbolId> symbols;
  for (const std::string_view word : split_words(pre_, text)) {
    if (!whole_words_.empty()) {
      if (const auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end()) {
        out.push_back(whole->second);
        continue;
      }
    }
    symbols.clear();
    merges_.apply(word, symbols);
    for (const SymbolId symbol : symbols) {
      if (token_of_symbol_[symbol] >= 0) {
        out.push_back(static_cast<TokenId>(token_of_symbol_[symbol]));
        continue;
      }
      // A merge result without a token of its own falls apart into its bytes.
      const std::string bytes = symbols_to_bytes(merges_.text_of(symbol)).value_or("");
      std::vector<SymbolId> single;
      for (const char byte : bytes) {
        single.clear();
        merges_.apply(std::string_view(&byte, 1), single);
        if (token_of_symbol_[single[0]] >= 0) out.push_back(static_cast<TokenId>(token_of_symbol_[single[0]]));
      }
    }
  }
}

}  // namespace orch::worker
