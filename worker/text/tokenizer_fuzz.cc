// Any bytes as a text, under every splitter and both kinds of vocabulary, and any bytes as a vocabulary: refused by
// name, or what it makes of a text is bounded, free of control tokens that nobody may spell, and comes back where the
// vocabulary has every byte (ENGINE-RULES, interface 5; OC-ENGINE-1005).
//
// Byte 0 chooses the vocabulary ('v': the input brings its own), byte 1 how the text is cut into segments.
#include "worker/text/tokenizer.h"

#include <array>

#include "common/testing/fuzz_target.h"
#include "worker/text/byte_decoder.h"
#include "worker/text/byte_symbols.h"
#include "worker/text/stop_strings.h"
#include "worker/text/utf8.h"

namespace orch::testing {
namespace {

constexpr std::array kPieces = {
    "hello", " world",   "'s",       "'LL",          "12345",      "\n\n",   "  ",
    "\t",    "\xC3\xA9", "<|im_",    "end|>",        "<|im_end|>", "<tag>",  "</s>",
    "▁",     "▁a",       "\xE2\x82", "\xFF",         "\xCC\x81",   "日本語", "\xF0\x9F\x98\x80",
    "٣",     " ",        "\r\n",     "\xE2\x80\xA8", "a.b",        "__x",    "<|endoftext|>",
    "zzz",   "0",        "Ⅷ",        "\xED\xA0\x80"};

std::string own_vocabulary(Prng& prng) {
  static constexpr std::array kModels = {"gpt2", "llama", "bert"};
  static constexpr std::array kPres = {"gpt-2", "smollm", "llama-bpe", "qwen2", "default"};
  std::string out = std::string(kModels[prng.below(8) == 0 ? 2 : prng.below(2)]) + "\n" + kPres[prng.below(5)] + "\n";
  out += static_cast<char>('0' + prng.below(64));
  for (std::uint64_t i = prng.below(20); i > 0; --i) {
    out += "\n";
    if (prng.chance(1, 3)) {
      out += std::string("m") + "abc"[prng.below(3)] + (prng.chance(7, 8) ? " " : "") + "abc"[prng.below(3)];
    } else {
      out += static_cast<char>('1' + prng.below(6));
      out += prng.chance(1, 4) ? "<0x4" + std::to_string(prng.below(10)) + ">" : kPieces[prng.below(kPieces.size())];
    }
  }
  return out + "\n\n";
}

}  // namespace

std::string make_seed(Prng& prng) {
  std::string out;
  const bool own = prng.chance(1, 3);
  out += own ? 'v' : static_cast<char>('A' + prng.below(24));
  out += static_cast<char>(prng.below(256));
  if (own) out += own_vocabulary(prng);
  for (std::uint64_t i = prng.below(16); i > 0; --i) out += kPieces[prng.below(kPieces.size())];
  return out;
}

}  // namespace orch::testing

namespace {

using namespace orch;
using namespace orch::worker;

constexpr std::array kPreTokenizers = {"gpt-2", "smollm", "llama-bpe", "qwen2"};

// What is put around each text.
struct Ends {
  bool bos;
  bool eos;
};

// Control tokens, a user-defined one, the 256 bytes, and merges of which some have no token of their own.
VocabularyData byte_level(const char* pre, Ends ends) {
  VocabularyData data;
  data.model = "gpt2";
  data.pre = pre;
  data.tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tag>"};
  data.types = {3, 3, 3, 4};
  for (unsigned byte = 0; byte < 256; ++byte) data.tokens.push_back(byte_symbol(static_cast<std::uint8_t>(byte)));
  data.merges = {"h e", "l l", "he ll", "hell o", "\xC4\xA0 w", "1 2", "< |", "<| im", "i m", "\xC3\x83 \xC2\xA9"};
  for (const char* token : {"he", "ll", "hello", "12", "<|", "im", "\xC3\x83\xC2\xA9", "zzz"})
    data.tokens.push_back(token);
  data.types.resize(data.tokens.size(), 1);
  data.eos = 2;
  data.bos = 1;
  data.add_bos = ends.bos;
  data.add_eos = ends.eos;
  return data;
}

VocabularyData pieces(bool add_space_prefix, Ends ends) {
  VocabularyData data;
  data.model = "llama";
  data.tokens = {"<unk>", "<s>", "</s>", "<tag>"};
  data.types = {2, 3, 3, 4};
  for (unsigned byte = 0; byte < 256; ++byte) {
    static constexpr char kDigits[] = "0123456789ABCDEF";
    data.tokens.push_back(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
    data.types.push_back(6);
  }
  for (const char* piece : {"hello", "he", "ll", "llo", "▁a", "▁", "a", "h", "e", "l", "o", "\xC3\xA9", "▁▁", "zz"})
    data.tokens.push_back(piece);
  data.types.resize(data.tokens.size(), 1);
  for (std::size_t i = 0; i < data.tokens.size(); ++i) data.scores.push_back(-static_cast<float>(i % 97));
  data.unknown = 0;
  data.bos = 1;
  data.eos = 2;
  data.add_bos = ends.bos;
  data.add_eos = ends.eos;
  data.add_space_prefix = add_space_prefix;
  return data;
}

const std::vector<VocabularyData>& vocabularies() {
  static const std::vector<VocabularyData> all = [] {
    std::vector<VocabularyData> out;
    for (const Ends ends : {Ends{false, false}, Ends{true, false}, Ends{false, true}, Ends{true, true}}) {
      for (const char* pre : kPreTokenizers) out.push_back(byte_level(pre, ends));
      for (const bool prefix : {false, true}) out.push_back(pieces(prefix, ends));
    }
    return out;
  }();
  return all;
}

const std::vector<Tokenizer>& tokenizers() {
  static const std::vector<Tokenizer> all = [] {
    std::vector<Tokenizer> out;
    for (const VocabularyData& data : vocabularies()) {
      auto made = Tokenizer::create(data);
      ORCH_CHECK(made.ok());
      out.push_back(std::move(made).value());
    }
    return out;
  }();
  return all;
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

// model, splitter, a line of flags, then "m" and a merge or a type's digit and a token each, up to an empty line.
VocabularyData read_vocabulary(std::string_view& text) {
  VocabularyData data;
  data.model = take_line(text);
  data.pre = take_line(text);
  const std::string_view flags = take_line(text);
  const unsigned bits = flags.empty() ? 0 : static_cast<unsigned char>(flags[0]);
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    if (line.empty()) break;
    if (line[0] == 'm') {
      data.merges.emplace_back(line.substr(1));
      continue;
    }
    data.tokens.emplace_back(line.substr(1));
    data.types.push_back(line[0] - '0');
    data.scores.push_back(-static_cast<float>(data.tokens.size() * 7 % 13));
  }
  data.add_bos = (bits & 1U) != 0;
  data.add_space_prefix = (bits & 2U) != 0;
  if ((bits & 4U) != 0) data.bos = 0;
  if ((bits & 8U) != 0) data.eos = (bits >> 4U) & 3U;
  if ((bits & 16U) != 0) data.unknown = 0;
  data.add_eos = (bits & 32U) != 0;
  return data;
}

void check_ids(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, Ends ends, std::size_t bytes) {
  for (const TokenId id : ids) ORCH_CHECK(id < tokenizer.size());
  ORCH_CHECK(!ends.bos || (!ids.empty() && ids.front() == tokenizer.bos()));
  ORCH_CHECK(!ends.eos || (!ids.empty() && ids.back() == tokenizer.eos()));
  const std::size_t around = (ends.bos ? 1U : 0U) + (ends.eos ? 1U : 0U);
  if (tokenizer.never_more_tokens_than_bytes()) ORCH_CHECK(ids.size() <= bytes + around);
  ORCH_CHECK(ids.size() <= 3 * bytes + 1 + around);  // a space's piece of three bytes, a prefix
}

std::string visible(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string out;
  for (const TokenId id : ids) out += tokenizer.bytes_of(id);
  return out;
}

std::string without_spaces(std::string text) {
  std::erase(text, ' ');
  return text;
}

// In a vocabulary that has every byte. A piece's space and the space itself are the same, and a prefix adds some.
void check_round_trip(const VocabularyData& data, const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<TokenId> ids = tokenizer.encode(text, false);
  const std::string expected = data.model == "llama" ? unescape_spaces(text) : std::string(text);
  const std::string seen = visible(tokenizer, ids);
  ORCH_CHECK(data.add_space_prefix ? without_spaces(seen) == without_spaces(expected) : seen == expected);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool begins = i == 0 && data.add_bos && ids[i] == data.bos;
    const bool ends = i + 1 == ids.size() && data.add_eos && ids[i] == data.eos;
    ORCH_CHECK(!tokenizer.is_control(ids[i]) || begins || ends);
  }
}

std::vector<TextSegment> cut(std::string_view text, std::uint8_t how, bool all_denied) {
  Prng prng(how);
  std::vector<TextSegment> out;
  testing::feed_in_pieces(text, 1 + how % 32U, prng, [&](std::string_view piece) {
    out.push_back({std::string(piece), !all_denied && prng.chance(1, 2)});
  });
  return out;
}

void check_text(const Tokenizer& tokenizer, Ends ends, std::string_view text, std::uint8_t how) {
  const std::vector<TokenId> denied = tokenizer.encode(text, false);
  check_ids(tokenizer, denied, ends, text.size());
  check_ids(tokenizer, tokenizer.encode(text, true), ends, text.size());
  check_ids(tokenizer, tokenizer.encode(cut(text, how, false)), ends, text.size());
  ORCH_CHECK(tokenizer.encode(cut(text, how, true)) == denied);  // the segments are one text
}

void check_words(std::string_view text) {
  for (const char* name : kPreTokenizers) {
    std::size_t at = 0;
    for (const std::string_view word : split_words(*pre_tokenizer_by_name(name), text)) {
      ORCH_CHECK(!word.empty() && word.data() == text.data() + at);
      at += word.size();
    }
    ORCH_CHECK(at == text.size());
  }
}

// What comes back over the wire: whole code points, and the same in any pieces, up to a stop string.
void check_stream(std::string_view text, std::uint8_t how) {
  ByteDecoder whole;
  const std::string first = whole.push(text);
  const std::string expected = first + whole.finish();
  ORCH_CHECK(is_valid_utf8(expected));
  ByteDecoder decoder;
  StopStrings stops({"stop", "\xC3\xA9", std::string(1, static_cast<char>('a' + how % 26))});
  std::string seen;
  std::string released;
  bool stopped = false;
  const auto take = [&](const std::string& piece) {
    ORCH_CHECK(is_valid_utf8(piece));
    seen += piece;
    const StopStrings::Released out = stops.push(piece);
    ORCH_CHECK(!stopped || (out.text.empty() && out.stopped));
    stopped = stopped || out.stopped;
    released += out.text;
  };
  Prng prng(how);
  testing::feed_in_pieces(text, 1 + how % 8U, prng, [&](std::string_view piece) { take(decoder.push(piece)); });
  take(decoder.finish());
  ORCH_CHECK(seen == expected);
  if (!stopped) released += stops.finish();
  ORCH_CHECK(expected.starts_with(released) && (stopped || released == expected));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::uint8_t how = data[1];
  std::string_view text = testing::text_of(data + 2, size - 2);
  if (data[0] == 'v') {
    VocabularyData vocabulary = read_vocabulary(text);
    const Ends ends{vocabulary.add_bos, vocabulary.add_eos};
    const auto made = Tokenizer::create(std::move(vocabulary));
    if (!made.ok()) {
      ORCH_CHECK(made.error().find("tokenizer.ggml.") != std::string::npos);
      return 0;
    }
    check_text(made.value(), ends, text, how);
    return 0;
  }
  const std::size_t number = data[0] % tokenizers().size();
  const VocabularyData& vocabulary = vocabularies()[number];
  check_text(tokenizers()[number], {vocabulary.add_bos, vocabulary.add_eos}, text, how);
  check_round_trip(vocabulary, tokenizers()[number], text);
  check_words(text);
  check_stream(text, how);
  return 0;
}
