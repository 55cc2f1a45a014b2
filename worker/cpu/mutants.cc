#include "worker/cpu/mutants.h"

#include <cmath>

#include "worker/core/numerics.h"
#include "worker/cpu/kernels_scalar.h"

namespace orch::worker::cpu {
namespace {

namespace num = numerics;

// Class X: every table gives the bytes of the scalar one, so a mutant may stand on the fastest.
const CpuKernels& right_kernels() { return best_kernels(); }

void swap_nibbles(Model& model) {
  for (QTensor& tensor : model.weights.tensors) {
    if (tensor.type != TensorType::q4_0 && tensor.type != TensorType::q4_1) continue;
    std::uint8_t* q = tensor.quants.as<std::uint8_t>();
    for (std::size_t i = 0; i < tensor.quants.size(); ++i) q[i] = static_cast<std::uint8_t>((q[i] << 4) | (q[i] >> 4));
  }
}

void turn_half_pairs(Model& model) { model.config.rope_pairing = RopePairing::half; }
void raise_epsilon(Model& model) { model.config.rms_epsilon = model.config.rms_epsilon * 10.0F; }

// Every row but the first sees one key too few.
void attention_one_behind(const AttentionArgs& args) {
  for (std::uint32_t row = 0; row < args.rows; ++row) {
    AttentionArgs one = args;
    one.rows = 1;
    one.query = args.query + row * args.stride;
    one.out = args.out + row * args.stride;
    const std::uint32_t position = args.first_position + row;
    one.first_position = position > 0 ? position - 1 : 0;
    right_kernels().attention(one);
  }
}

CpuKernels off_by_one() {
  CpuKernels kernels = right_kernels();
  kernels.attention = attention_one_behind;
  return kernels;
}

void attention_scaled(const AttentionArgs& args) {
  AttentionArgs wrong = args;
  wrong.scale = num::rsqrt(static_cast<float>(args.head_dim * args.heads));
  right_kernels().attention(wrong);
}

CpuKernels wrong_head_scale() {
  CpuKernels kernels = right_kernels();
  kernels.attention = attention_scaled;
  return kernels;
}

// The reference matmul for Q4_1 and Q8_0 with another split length, or with the last addition of a block fused.
template <std::uint32_t SplitBlocks, bool Fused>
void matmul_mutant(const MatmulArgs& args) {
  const QTensor& w = *args.weight;
  if (w.type != TensorType::q4_1 && w.type != TensorType::q8_0) return scalar::matmul(args);
  for (std::uint32_t row = 0; row < args.rows; ++row) {
    for (std::uint32_t r = args.group_begin * kTileRows; r < args.group_end * kTileRows && r < w.rows; ++r) {
      const std::uint32_t lane = r % kTileRows;
      float tot = 0.0F;
      float acc = 0.0F;
      for (std::uint32_t b = 0; b < w.blocks(); ++b) {
        const std::uint8_t* tile = w.tile(r / kTileRows, b);
        const std::uint16_t* scale = w.tile_scale(r / kTileRows, b);
        const std::size_t g = row * args.in.groups() + b;
        std::int32_t idot = 0;
        for (std::uint32_t k = 0; k < kTileCols; ++k) {
          const std::uint32_t low = w.type == TensorType::q8_0 ? k : k % 16;
          const std::uint8_t byte = tile[((low / 4) * kTileRows + lane) * 4 + low % 4];
          const std::int32_t q =
              w.type == TensorType::q8_0 ? static_cast<std::int8_t>(byte) : (k < 16 ? (byte & 15) : (byte >> 4));
          idot += q * args.in.xq[std::size_t{row} * args.in.cols + std::size_t{b} * kTileCols + k];
        }
        const float d = num::f16_to_f32(scale[lane]) * args.in.dx[g];
        const float t = d * static_cast<float>(idot);
        const float m = w.type == TensorType::q4_1 ? num::f16_to_f32(scale[kTileRows + lane]) * args.in.s[g] : 0.0F;
        if (Fused) {
          acc = std::fma(d, static_cast<float>(idot), m + acc);
        } else {
          acc = acc + (w.type == TensorType::q4_1 ? t + m : t);
        }
        if ((b + 1) % SplitBlocks == 0 || b + 1 == w.blocks()) {
          tot = tot + acc;
          acc = 0.0F;
        }
      }
      if (args.bias != nullptr) tot = tot + args.bias[r];
      if (args.residual != nullptr) tot = tot + args.residual[row * args.out_stride + r];
      args.out[row * args.out_stride + r] = num::store(tot);
    }
  }
}

CpuKernels split_of_128() {
  CpuKernels kernels = right_kernels();
  kernels.matmul = matmul_mutant<4, false>;
  return kernels;
}

CpuKernels fused() {
  CpuKernels kernels = right_kernels();
  kernels.matmul = matmul_mutant<8, true>;
  return kernels;
}

}  // namespace

const std::vector<Mutant>& mutants() {
  static const std::vector<Mutant> list = {
      {"swapped-nibbles", swap_nibbles, nullptr},      {"neox-rope", turn_half_pairs, nullptr},
      {"eps-times-10", raise_epsilon, nullptr},        {"position-off-by-one", nullptr, off_by_one},
      {"wrong-head-scale", nullptr, wrong_head_scale}, {"split-of-128", nullptr, split_of_128},
      {"fused-multiply-add", nullptr, fused},
  };
  return list;
}

CpuKernels kernels_of(const Mutant& mutant) {
  return mutant.change_kernels != nullptr ? mutant.change_kernels() : right_kernels();
}

}  // namespace orch::worker::cpu
