#include "worker/text/pretokenizer.h"

#include <cstddef>

#include "worker/text/unicode_class.h"
#include "worker/text/utf8.h"

namespace orch::worker {

namespace {

struct CodePoint {
  std::size_t start = 0;  // byte offset
  std::uint32_t value = 0;
  UnicodeClass kind = UnicodeClass::other;
};

std::vector<CodePoint> decode(std::string_view text) {
  std::vector<CodePoint> out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text, i);
    if (step.status == Utf8Status::valid) {
      out.push_back({i, step.code_point, unicode_class(step.code_point)});
      i += step.bytes;
    } else {
      out.push_back({i, 0xFFFD, UnicodeClass::other});
      ++i;
    }
  }
  return out;
}

using Points = std::vector<CodePoint>;

bool matches_ascii(const Points& points, std::size_t at, std::size_t end, std::string_view word) {
  if (at + word.size() > end) return false;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (points[at + i].value != static_cast<unsigned char>(word[i])) return false;
  }
  return true;
}

std::size_t run_end(const Points& points, std::size_t at, std::size_t end, UnicodeClass kind) {
  while (at < end && points[at].kind == kind) ++at;
  return at;
}

// One match of the GPT-2 pattern at `at`; returns its end, which is greater than `at`.
std::size_t gpt2_word_end(const Points& points, std::size_t at, std::size_t end) {
  if (points[at].value == '\'') {
    for (const std::string_view contraction : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (matches_ascii(points, at, end, contraction)) return at + contraction.size();
    }
  }
  const std::size_t body = points[at].value == ' ' ? at + 1 : at;
  if (body < end && points[body].kind != UnicodeClass::space) return run_end(points, body, end, points[body].kind);
  const std::size_t spaces_end = run_end(points, at, end, UnicodeClass::space);
  // \s+(?!\S): before a word the last white space is left for the next match.
  if (spaces_end < end && spaces_end - at > 1) return spaces_end - 1;
  return spaces_end;
}

}  // namespace

std::optional<PreTokenizer> pre_tokenizer_by_name(std::string_view name) {
  if (name == "gpt-2" || name == "gpt2") return PreTokenizer::gpt2;
  if (name == "smollm") return PreTokenizer::smollm;
  return std::nullopt;
}

std::vector<std::string_view> split_words(PreTokenizer kind, std::string_view text) {
  const Points points = decode(text);
  std::vector<std::string_view> words;
  const auto emit = [&](std::size_t from, std::size_t to) {
    const std::size_t last = to < points.size() ? points[to].start : text.size();
    words.push_back(text.substr(points[from].start, last - points[from].start));
  };
  for (std::size_t piece = 0; piece < points.size();) {
    if (kind == PreTokenizer::smollm && points[piece].kind == UnicodeClass::number) {
      emit(piece, piece + 1);
      ++piece;
      continue;
    }
    std::size_t piece_end = points.size();
    if (kind == PreTokenizer::smollm) {
      piece_end = piece;
      while (piece_end < points.size() && points[piece_end].kind != UnicodeClass::number) ++piece_end;
    }
    while (piece < piece_end) {
      const std::size_t word_end = gpt2_word_end(points, piece, piece_end);
      emit(piece, word_end);
      piece = word_end;
    }
  }
  return words;
}

}  // namespace orch::worker
