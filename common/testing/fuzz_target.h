// A libFuzzer target whose inputs come from a generator in its own source, and from a corpus of files where one is
// kept. Included by exactly one source per target, which defines make_seed() and LLVMFuzzerTestOneInput(). A broken
// property aborts by ORCH_CHECK; libFuzzer then writes the input beside the build and prints the command that replays
// it. The same source is also built without libFuzzer (fuzz_replay.cc), so that every tier replays the corpus.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/check.h"
#include "common/base/prng.h"

namespace orch::testing {

// One input that the code under test accepts, or almost.
std::string make_seed(Prng& prng);

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Feeds `bytes` in pieces of 0 to `piece_max` bytes, cut as `prng` says.
template <typename Feed>
void feed_in_pieces(std::string_view bytes, std::size_t piece_max, Prng& prng, const Feed& feed) {
  while (!bytes.empty()) {
    const std::size_t size = std::min<std::size_t>(bytes.size(), prng.below(piece_max + 1));
    feed(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
}

}  // namespace orch::testing

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

// Mostly libFuzzer's own mutations; now and then, and first of all, a fresh input of the generator.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
  orch::Prng prng(seed);
  if (size > 4 && !prng.chance(1, 32)) return LLVMFuzzerMutate(data, size, max_size);
  const std::string fresh = orch::testing::make_seed(prng);
  const std::size_t taken = std::min(fresh.size(), max_size);
  std::copy_n(fresh.begin(), taken, data);
  return taken;
}
