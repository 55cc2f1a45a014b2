#include "worker/text/byte_symbols.h"

#include <array>

#include "worker/text/utf8.h"

namespace orch::worker {

namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Tables {
  std::array<std::string, 256> symbols;
  std::array<std::int16_t, 256 + 68> bytes{};  // by code point; -1: stands for no byte
};

const Tables& tables() {
  static const Tables built = [] {
    Tables out;
    out.bytes.fill(-1);
    std::uint32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const std::uint32_t code_point = stands_for_itself(byte) ? byte : next++;
      append_utf8(out.symbols[byte], code_point);
      out.bytes[code_point] = static_cast<std::int16_t>(byte);
    }
    return out;
  }();
  return built;
}

}  // namespace

const std::string& byte_symbol(std::uint8_t byte) { return tables().symbols[byte]; }

std::optional<std::string> symbols_to_bytes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text, i);
    if (step.status != Utf8Status::valid || step.code_point >= tables().bytes.size()) return std::nullopt;
    const std::int16_t byte = tables().bytes[step.code_point];
    if (byte < 0) return std::nullopt;
    out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    i += step.bytes;
  }
  return out;
}

}  // namespace orch::worker
