// The reversible map of byte-level BPE: each byte stands in the vocabulary as one printable code point. Printable bytes
// of Latin-1 stand for themselves, the 68 others for U+0100 onward in byte order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace orch::worker {

// UTF-8 of the code point that stands for `byte`.
const std::string& byte_symbol(std::uint8_t byte);

// The bytes a vocabulary entry stands for; nullopt when a code point of it stands for none.
std::optional<std::string> symbols_to_bytes(std::string_view text);

}  // namespace orch::worker
