// Runs a fuzz target without libFuzzer: the files of its corpus in order of their names, then inputs of its generator.
// An input that breaks a property ends the process, as under libFuzzer; its name is the last line printed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "common/base/prng.h"

namespace orch::testing {

using FuzzTarget = std::function<void(const std::uint8_t* data, std::size_t size)>;

// In memory of exactly that size, so that a reader past the end is one past the allocation.
inline void replay_input(const FuzzTarget& target, const std::string& input) {
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  target(bytes.data(), bytes.size());
}

// The number of files; 0 when the folder is missing or empty, which is a failure of whoever asked.
inline std::size_t replay_corpus(const FuzzTarget& target, const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    std::printf("%s\n", file.filename().c_str());
    std::fflush(stdout);
    std::ifstream in(file, std::ios::binary);
    replay_input(target, {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
  }
  return files.size();
}

inline void replay_generated(const FuzzTarget& target, const std::function<std::string(Prng&)>& make, int count) {
  for (int seed = 1; seed <= count; ++seed) {
    if (seed % 64 == 1) {
      std::printf("generated %d\n", seed);
      std::fflush(stdout);
    }
    Prng prng(static_cast<std::uint64_t>(seed));
    replay_input(target, make(prng));
  }
}

}  // namespace orch::testing
