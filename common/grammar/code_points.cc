#include "common/grammar/code_points.h"

#include <algorithm>
#include <array>
#include <utility>

namespace orch::grammar {

namespace {

constexpr CodePointRange kSurrogates{0xD800, 0xDFFF};

struct Encoded {
  std::array<std::uint8_t, 4> bytes{};
  std::size_t size = 0;
};

Encoded encode(std::uint32_t c) {
  const auto tail = [&](std::uint32_t shift) { return static_cast<std::uint8_t>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) return {{static_cast<std::uint8_t>(c)}, 1};
  if (c < 0x800) return {{static_cast<std::uint8_t>(0xC0 | (c >> 6)), tail(0)}, 2};
  if (c < 0x10000) return {{static_cast<std::uint8_t>(0xE0 | (c >> 12)), tail(6), tail(0)}, 3};
  return {{static_cast<std::uint8_t>(0xF0 | (c >> 18)), tail(12), tail(6), tail(0)}, 4};
}

// Code points of one encoded length: cut until each byte ranges on its own.
void add_utf8_range(Network& network, StateId from, std::uint32_t low, std::uint32_t high, StateId to) {
  const Encoded first = encode(low);
  const Encoded last = encode(high);
  for (std::size_t tail = 1; tail < first.size; ++tail) {
    const std::uint32_t block = 1U << (6 * tail);
    if (low / block == high / block) continue;
    if (low % block != 0) {
      add_utf8_range(network, from, low, low | (block - 1), to);
      return add_utf8_range(network, from, (low | (block - 1)) + 1, high, to);
    }
    if (high % block != block - 1) {
      add_utf8_range(network, from, low, (high & ~(block - 1)) - 1, to);
      return add_utf8_range(network, from, high & ~(block - 1), high, to);
    }
  }
  for (std::size_t i = 0; i < first.size && !network.over_limit(); ++i) {
    const StateId next = i + 1 == first.size ? to : network.add_state();
    network.add_bytes(from, first.bytes[i], last.bytes[i], next);
    from = next;
  }
}

void add_utf8(Network& network, StateId from, const CodePointSet& set, StateId to) {
  static constexpr std::array<CodePointRange, 4> kLengths{
      CodePointRange{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xFFFF}, {0x10000, kCodePointMax}};
  for (const CodePointRange& range : set.ranges()) {
    for (const CodePointRange& length : kLengths) {
      const std::uint32_t low = std::max(range.low, length.low);
      const std::uint32_t high = std::min(range.high, length.high);
      if (low <= high) add_utf8_range(network, from, low, high, to);
    }
  }
}

const CodePointSet& json_escaped() {
  static const CodePointSet set{{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
  return set;
}

}  // namespace

CodePointSet::CodePointSet(std::initializer_list<CodePointRange> ranges) : ranges_(ranges) { normalize(); }

CodePointSet::CodePointSet(std::vector<CodePointRange> ranges) : ranges_(std::move(ranges)) { normalize(); }

void CodePointSet::normalize() {
  std::vector<CodePointRange> parts;
  for (const CodePointRange& range : ranges_) {
    const std::uint32_t high = std::min(range.high, kCodePointMax);
    if (range.low < kSurrogates.low) parts.push_back({range.low, std::min(high, kSurrogates.low - 1)});
    if (high > kSurrogates.high) parts.push_back({std::max(range.low, kSurrogates.high + 1), high});
  }
  std::sort(parts.begin(), parts.end());
  ranges_.clear();
  for (const CodePointRange& part : parts) {
    if (part.low > part.high) continue;
    if (!ranges_.empty() && part.low <= ranges_.back().high + 1) {
      ranges_.back().high = std::max(ranges_.back().high, part.high);
    } else {
      ranges_.push_back(part);
    }
  }
}

CodePointSet CodePointSet::complement() const {
  CodePointSet out;
  std::uint32_t next = 0;
  for (const CodePointRange& range : ranges_) {
    if (range.low > next) out.ranges_.push_back({next, range.low - 1});
    next = range.high + 1;
  }
  if (next <= kCodePointMax) out.ranges_.push_back({next, kCodePointMax});
  out.normalize();
  return out;
}

CodePointSet CodePointSet::minus(const CodePointSet& other) const {
  std::vector<CodePointRange> outside = complement().ranges_;
  outside.insert(outside.end(), other.ranges_.begin(), other.ranges_.end());
  return CodePointSet(std::move(outside)).complement();
}

bool CodePointSet::contains(std::uint32_t code_point) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [&](const CodePointRange& range) { return range.low <= code_point && code_point <= range.high; });
}

const CodePointSet& json_unescaped() {
  static const CodePointSet set = json_escaped().complement();
  return set;
}

std::string spelled(std::uint32_t code_point, Spelling spelling) {
  if (spelling == Spelling::json_string && json_escaped().contains(code_point)) {
    static constexpr std::string_view kNamed = "\"\\\b\f\n\r\t";
    static constexpr std::string_view kNames = "\"\\bfnrt";
    if (const auto at = kNamed.find(static_cast<char>(code_point)); at != std::string_view::npos) {
      return {'\\', kNames[at]};
    }
    static constexpr std::string_view kHex = "0123456789abcdef";
    return std::string("\\u00") + kHex[code_point >> 4] + kHex[code_point & 15];
  }
  const Encoded encoded = encode(code_point);
  return {reinterpret_cast<const char*>(encoded.bytes.data()), encoded.size};
}

void add_code_point(Network& network, StateId from, const CodePointSet& set, Spelling spelling, StateId to) {
  if (spelling == Spelling::plain) return add_utf8(network, from, set, to);
  add_utf8(network, from, set.minus(json_escaped()), to);
  const CodePointSet escaped = set.minus(json_unescaped());
  for (const CodePointRange& range : escaped.ranges()) {
    for (std::uint32_t c = range.low; c <= range.high; ++c) network.add_text(from, spelled(c, spelling), to);
  }
}

std::optional<std::uint32_t> next_code_point(std::string_view text, std::size_t& position) {
  const auto lead = static_cast<std::uint8_t>(text[position]);
  const std::size_t size = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (size == 0 || position + size > text.size()) return std::nullopt;
  std::uint32_t c = size == 1 ? lead : lead & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    const auto tail = static_cast<std::uint8_t>(text[position + i]);
    if ((tail & 0xC0) != 0x80) return std::nullopt;
    c = (c << 6) | (tail & 0x3FU);
  }
  if (c > kCodePointMax || (c >= kSurrogates.low && c <= kSurrogates.high) || encode(c).size != size) {
    return std::nullopt;
  }
  position += size;
  return c;
}

}  // namespace orch::grammar
