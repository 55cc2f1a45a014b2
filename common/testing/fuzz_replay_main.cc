// NAME_fuzz_replay [CORPUS FOLDER]: the entry point of a fuzz target that is built without libFuzzer.
#include "common/testing/fuzz_replay.h"

namespace orch::testing {
std::string make_seed(Prng& prng);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// Only libFuzzer mutates; the target's own mutator names this function.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t*, std::size_t size, std::size_t) { return size; }

int main(int argc, char** argv) {
  const auto target = [](const std::uint8_t* data, std::size_t size) { LLVMFuzzerTestOneInput(data, size); };
  if (argc > 1 && orch::testing::replay_corpus(target, argv[1]) == 0) {
    std::fprintf(stderr, "no file in %s\n", argv[1]);
    return 1;
  }
  orch::testing::replay_generated(target, orch::testing::make_seed, 512);
  return 0;
}
