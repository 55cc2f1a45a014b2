// What a seed stands for: a tiny model or one of a file, a job on it, and the circumstances under which the job is
// computed again. All drawn from the seed alone.
#pragma once

#include <cstdint>
#include <string>

#include "determinism/file_model.h"
#include "worker/core/sequence.h"
#include "worker/testing/tiny_model.h"

namespace orch::determinism {

// Tokens of one sequence. A tiny model's reach beyond one attention split; a file's is computed in short ones.
inline constexpr std::uint32_t kTinyContext = 512;
inline constexpr std::uint32_t kFileContext = 256;

struct Case {
  worker::testing::TinyShape shape;  // without a file
  const FileModel* file = nullptr;   // owned by the caller
  worker::SequenceRequest job;

  std::uint32_t vocabulary() const { return file == nullptr ? shape.vocabulary : file->tokenizer().size(); }
  std::uint32_t context() const { return file == nullptr ? kTinyContext : kFileContext; }
  std::string model_name() const { return file == nullptr ? shape.architecture : "the file's model"; }
};

// `file`: null for a tiny model.
Case make_case(std::uint64_t seed, const FileModel* file);

enum class Device : std::uint8_t { scalar, avx2, avx512vnni, vulkan };
const char* device_name(Device device);

struct Cell {
  Device device = Device::scalar;
  std::uint32_t threads = 1;
  std::uint32_t rows_max = 256;
  std::uint32_t pages = 0;
  bool share_prefixes = false;
  std::uint32_t neighbours = 0;
  bool crowded = false;               // all are admitted before the first step, the job last, and outlive it
  std::uint32_t preempt_percent = 0;  // of the steps
  std::uint32_t resume_behind = 0;    // tokens the job is said to have already; 0: none
  bool speculates = false;            // puts drafted tokens into its steps
  std::uint64_t seed = 0;             // of the neighbours and of when things happen
  bool hardware = false;              // of the Vulkan device: a software device is refused
  bool own_inputs = false;            // of the Vulkan device: matmuls of small steps make their inputs themselves
  std::string describe() const;
};

// What may be drawn. A file's model is computed by the scalar reference alone and in small company, to end in time.
struct CellChoice {
  bool avx2 = false;
  bool avx512vnni = false;
  bool vulkan = false;
  bool small = false;
};
Cell make_cell(std::uint64_t seed, std::uint32_t number, const CellChoice& choice);

// A neighbour of the job, some with a beginning of its prompt.
worker::SequenceRequest make_neighbour(const Case& of, const Cell& cell, std::uint32_t number);

}  // namespace orch::determinism
