// The other side of the kernels' interfaces (worker/kernels/*.comp): push constants field by field, and the numbers
// that specialisation constants give to weight types, matmul inputs and their forms. Plain values.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "worker/core/numerics.h"
#include "worker/model/q_tensor.h"
#include "worker/vulkan/kernel_set.h"

namespace orch::worker::vulkan {

// What a matmul's input is made of (matmul_input.glsl).
struct InputPush {
  std::uint32_t stride, source, second;
  float inverse, eps;
  std::uint32_t head_texels, splits_max, window;
};
struct PreparePush {
  std::uint32_t groups, nibble_base, byte_base, wide_base, wanted;
  InputPush input;
};
struct NormPush {
  std::uint32_t texels, stride, source, target, residual;
  float inverse, eps;
};
struct MatmulPush {
  std::uint32_t blocks, rows, out_stride, out_offset, residual_stride, residual_offset, record_base, count_word, flags;
  InputPush input;  // of a matmul that makes its input itself
  std::uint32_t target;
};
// Bits of MatmulPush::flags.
inline constexpr std::uint32_t kAddsBias = 1;
inline constexpr std::uint32_t kAddsResidual = 2;
inline constexpr std::uint32_t kWritesJoined = 4;
struct EmbedPush {
  std::uint32_t blocks, columns, out_stride, out_offset;
  float scale;
};
struct RopePush {
  std::uint32_t stride, query, key, value, heads, kv_heads, dims, rope_dims, saturated;
  float inverse, eps;
};
struct AttentionPush {
  std::uint32_t stride, query, heads, kv_heads, heads_per_kv, chunks, splits_max, window;
  float scale;
};

template <typename T>
std::vector<std::byte> bytes_of(const T& push) {
  std::vector<std::byte> bytes(sizeof(T));
  std::memcpy(bytes.data(), &push, sizeof(T));
  return bytes;
}

// kSource of matmul_input.glsl.
enum class MatmulSource : std::uint32_t {
  plain = 0,
  silu_mul = 1,
  rms_norm = 2,
  gelu_mul = 3,
  attention_splits = 4,
  joined_norm = 5  // of the residual stream and a normed half of a layer, which join first
};

// kOutputs of matmul_input.glsl: the forms in which a weight type reads the activations.
inline constexpr std::uint32_t kNibbleRecords = 1;
inline constexpr std::uint32_t kByteRecords = 2;
inline constexpr std::uint32_t kFloats = 4;
inline constexpr std::uint32_t kWideRecords = 8;

// Texels of a group's record.
inline constexpr std::uint32_t kNibbleRecordTexels = 5;
inline constexpr std::uint32_t kByteRecordTexels = 3;
inline constexpr std::uint32_t kWideRecordTexels = 35;

constexpr std::uint32_t record_kind(TensorType type) {
  if (!is_quantised(type)) return kFloats;
  if (is_wide(type)) return kWideRecords;
  return type == TensorType::q8_0 ? kByteRecords : kNibbleRecords;
}

// Texels of the records of a row of `groups` groups of 32, as a quantised type reads them.
constexpr std::uint32_t row_record_texels(TensorType type, std::uint32_t groups) {
  if (is_wide(type)) return groups * numerics::kQuantBlock / numerics::kWideGroup * kWideRecordTexels;
  return groups * (type == TensorType::q8_0 ? kByteRecordTexels : kNibbleRecordTexels);
}

// kType of embed.comp; matmul_quant.comp and matmul_float.comp know the same numbers.
constexpr std::uint32_t type_code(TensorType type) {
  switch (type) {
    case TensorType::q4_0:
      return 0;
    case TensorType::q4_1:
      return 1;
    case TensorType::q8_0:
      return 2;
    case TensorType::f16:
      return 3;
    case TensorType::f32:
      return 4;
    case TensorType::bf16:
      return 5;
    case TensorType::q5_0:
      return 6;
    case TensorType::q5_1:
      return 7;
    case TensorType::q4_k:
      return 8;
    case TensorType::q5_k:
      return 9;
    case TensorType::q6_k:
      return 10;
  }
  return 0;
}

constexpr Kernel matmul_kernel(TensorType type) {
  if (!is_quantised(type)) return Kernel::matmul_float;
  return is_wide(type) ? Kernel::matmul_wide : Kernel::matmul_quant;
}

// kType of the type's matmul kernel: matmul_wide.comp counts from q4_k.
constexpr std::uint32_t matmul_type_code(TensorType type) {
  return is_wide(type) ? type_code(type) - type_code(TensorType::q4_k) : type_code(type);
}

}  // namespace orch::worker::vulkan
