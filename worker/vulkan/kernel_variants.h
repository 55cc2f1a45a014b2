// Which pipelines there are: a kernel with its specialisation constants (constant_id 1 and up), one function for each
// kernel. The program builder asks for no other, so that the list of all of them can be compiled without a model and
// without a device that runs anything. Pure.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <vector>

#include "worker/model/architecture.h"
#include "worker/vulkan/kernel_arguments.h"
#include "worker/vulkan/tuning.h"

namespace orch::worker::vulkan {

struct KernelVariant {
  Kernel kernel = Kernel::probe;
  std::vector<std::uint32_t> constants;

  friend auto operator<=>(const KernelVariant&, const KernelVariant&) = default;
};

// Activation rows per matmul workgroup, smallest first: a program each.
inline constexpr std::array<std::uint32_t, 2> kTileTokens{1, 4};

inline constexpr std::uint32_t kHeadsPerWorkgroupMax = 4;  // attention.comp

inline KernelVariant embed_variant(TensorType type) { return {Kernel::embed, {type_code(type)}}; }

inline KernelVariant prepare_variant(MatmulSource source, std::uint32_t outputs) {
  return {Kernel::prepare, {static_cast<std::uint32_t>(source), outputs}};
}

inline KernelVariant norm_variant() { return {Kernel::norm, {}}; }

inline KernelVariant matmul_variant(TensorType type, std::uint32_t tile_tokens, const Tuning& tuning) {
  const Kernel kernel = matmul_kernel(type);
  if (kernel == Kernel::matmul_float) return {kernel, {matmul_type_code(type)}};
  return {kernel, {tile_tokens, tuning.rows_per_lane, matmul_type_code(type), tuning.shuffle}};
}

// A matmul of a quantised type that makes its input itself.
struct OwnInput {
  MatmulSource source = MatmulSource::rms_norm;  // rms_norm, joined_norm or attention_splits
  std::uint32_t groups = 0;                      // of 32 elements in a row
};

inline KernelVariant matmul_variant(TensorType type, std::uint32_t tile_tokens, const Tuning& tuning, OwnInput own) {
  KernelVariant variant = matmul_variant(type, tile_tokens, tuning);
  variant.constants.insert(variant.constants.end(), {static_cast<std::uint32_t>(own.source), own.groups});
  return variant;
}

// What such a matmul takes of a workgroup's shared memory: records, and for a norm the sums of its leaves.
constexpr std::uint64_t own_input_bytes(TensorType type, std::uint32_t tile_tokens, OwnInput own) {
  const std::uint64_t records = std::uint64_t{tile_tokens} * row_record_texels(type, own.groups) * 16;
  const std::uint64_t leaves = own.source == MatmulSource::attention_splits ? 1 : own.groups;
  return records + leaves * sizeof(float);
}

// `query_norm`, `key_norm`: the heads are normed first.
inline KernelVariant rope_variant(RopePairing pairing, bool query_norm, bool key_norm) {
  return {Kernel::rope_store_kv,
          {pairing == RopePairing::adjacent ? 1U : 0U, (query_norm ? 1U : 0U) | (key_norm ? 2U : 0U)}};
}

inline KernelVariant attention_variant(std::uint32_t heads_here, std::uint32_t head_dim, const Tuning& tuning) {
  return {Kernel::attention, {heads_here, tuning.keys_per_lane, head_dim, tuning.shuffle}};
}

inline KernelVariant probe_variant() { return {Kernel::probe, {}}; }

// The widths of models: elements of a head, and of the rows that a matmul may take as its own input (the residual
// stream, all heads).
struct ModelWidths {
  std::vector<std::uint32_t> heads;
  std::vector<std::uint32_t> rows;
};

// Every variant that models of those widths use, whatever the number of rows of a step that make their own inputs.
std::vector<KernelVariant> every_variant(const Tuning& tuning, const ModelWidths& widths);

}  // namespace orch::worker::vulkan
