// SHA-256 (FIPS 180-4), for keys that must not collide even by intent: page keys of the prefix cache. Pure; hashing of
// files and bodies uses the system's library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace orch::worker {

using Sha256Digest = std::array<std::uint8_t, 32>;

class Sha256 {
 public:
  Sha256& add(std::span<const std::uint8_t> bytes);
  Sha256& add_number(std::uint64_t value);  // eight bytes, least significant first
  Sha256Digest finish();                    // once

 private:
  void compress();

  std::array<std::uint32_t, 8> state_ = {0x6A09E667U, 0xBB67AE85U, 0x3C6EF372U, 0xA54FF53AU,
                                         0x510E527FU, 0x9B05688CU, 0x1F83D9ABU, 0x5BE0CD19U};
  std::array<std::uint8_t, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace orch::worker
