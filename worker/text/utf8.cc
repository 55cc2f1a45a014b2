#include "worker/text/utf8.h"

namespace orch::worker {

namespace {

struct LeadByte {
  std::size_t bytes = 0;  // 0: no lead byte
  std::uint32_t bits = 0;
  unsigned char second_low = 0x80;
  unsigned char second_high = 0xBF;
};

LeadByte classify(unsigned char byte) {
  if (byte < 0x80) return {1, byte};
  if (byte >= 0xC2 && byte <= 0xDF) return {2, byte & 0x1Fu};
  if (byte == 0xE0) return {3, 0, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0xD, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, byte & 0xFu};
  if (byte == 0xF0) return {4, 0, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, byte & 0x7u};
  if (byte == 0xF4) return {4, 4, 0x80, 0x8F};
  return {};
}

}  // namespace

Utf8Step utf8_step(std::string_view text, std::size_t position) {
  const LeadByte lead = classify(static_cast<unsigned char>(text[position]));
  if (lead.bytes == 0) return {Utf8Status::invalid, 0xFFFD, 1};
  std::uint32_t code_point = lead.bits;
  for (std::size_t i = 1; i < lead.bytes; ++i) {
    if (position + i >= text.size()) return {Utf8Status::incomplete, 0xFFFD, i};
    const auto byte = static_cast<unsigned char>(text[position + i]);
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Status::invalid, 0xFFFD, i};
    code_point = (code_point << 6) | (byte & 0x3Fu);
  }
  return {Utf8Status::valid, code_point, lead.bytes};
}

bool is_valid_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text, i);
    if (step.status != Utf8Status::valid) return false;
    i += step.bytes;
  }
  return true;
}

void append_utf8(std::string& out, std::uint32_t code_point) {
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace orch::worker
