#include "worker/text/pretokenizer.h"

#include <algorithm>
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

std::uint32_t ascii_lower(std::uint32_t value) { return value >= 'A' && value <= 'Z' ? value + ('a' - 'A') : value; }

// The length of a contraction in any ASCII case, with its apostrophe; 0: none.
std::size_t contraction_at(const Points& points, std::size_t at, std::size_t end) {
  if (points[at].value != '\'' || at + 1 >= end) return 0;
  const std::uint32_t first = ascii_lower(points[at + 1].value);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (at + 2 >= end) return 0;
  const std::uint32_t second = ascii_lower(points[at + 2].value);
  const bool three = ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
  return three ? 3 : 0;
}

bool is_line_end(const CodePoint& point) { return point.value == '\r' || point.value == '\n'; }

// White space: up to the last line end of the run; else all of it, but for one before a word.
std::size_t space_end(const Points& points, std::size_t at, std::size_t end) {
  const std::size_t spaces_end = run_end(points, at, end, UnicodeClass::space);
  for (std::size_t i = spaces_end; i > at; --i) {
    if (is_line_end(points[i - 1])) return i;
  }
  return spaces_end < end && spaces_end - at > 1 ? spaces_end - 1 : spaces_end;
}

// One match of the Llama 3 pattern with numbers of up to `digits` at `at`.
std::size_t llama3_word_end(const Points& points, std::size_t at, std::size_t end, std::size_t digits) {
  if (const std::size_t length = contraction_at(points, at, end); length != 0) return at + length;
  const UnicodeClass kind = points[at].kind;
  if (kind == UnicodeClass::letter) return run_end(points, at, end, UnicodeClass::letter);
  // OC-ENGINE-1025: a run is read up to the word's end, not to its own.
  if (kind == UnicodeClass::number) return run_end(points, at, std::min(end, at + digits), UnicodeClass::number);
  const bool before_letter = at + 1 < end && points[at + 1].kind == UnicodeClass::letter;
  if (before_letter && !is_line_end(points[at])) return run_end(points, at + 1, end, UnicodeClass::letter);
  const std::size_t body = points[at].value == ' ' ? at + 1 : at;
  if (body < end && points[body].kind == UnicodeClass::other) {
    std::size_t last = run_end(points, body, end, UnicodeClass::other);
    while (last < end && is_line_end(points[last])) ++last;
    return last;
  }
  return space_end(points, at, end);
}

struct PreTokenizerName {
  const char* name;
  PreTokenizer kind;
};

constexpr PreTokenizerName kNames[] = {
    {"gpt-2", PreTokenizer::gpt2},       {"gpt2", PreTokenizer::gpt2},     {"smollm", PreTokenizer::smollm},
    {"llama-bpe", PreTokenizer::llama3}, {"llama3", PreTokenizer::llama3}, {"llama-v3", PreTokenizer::llama3},
    {"qwen2", PreTokenizer::qwen2},
};

std::size_t word_end(PreTokenizer kind, const Points& points, std::size_t at, std::size_t end) {
  switch (kind) {
    case PreTokenizer::gpt2:
    case PreTokenizer::smollm:
      return gpt2_word_end(points, at, end);
    case PreTokenizer::llama3:
      return llama3_word_end(points, at, end, 3);
    case PreTokenizer::qwen2:
      return llama3_word_end(points, at, end, 1);
  }
  return end;
}

}  // namespace

std::optional<PreTokenizer> pre_tokenizer_by_name(std::string_view name) {
  for (const PreTokenizerName& entry : kNames) {
    if (name == entry.name) return entry.kind;
  }
  return std::nullopt;
}

std::string supported_pre_tokenizers() {
  std::string out;
  for (const PreTokenizerName& entry : kNames) out += (out.empty() ? "" : ", ") + std::string(entry.name);
  return out;
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
      const std::size_t next = word_end(kind, points, piece, piece_end);
      emit(piece, next);
      piece = next;
    }
  }
  return words;
}

}  // namespace orch::worker
