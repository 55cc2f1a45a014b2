#include "worker/vulkan/kernel_variants.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint32_t kAllOutputs = kNibbleRecords | kByteRecords | kFloats | kWideRecords;

}  // namespace

std::vector<KernelVariant> every_variant(const Tuning& tuning, const std::vector<std::uint32_t>& head_dims) {
  std::vector<KernelVariant> all{norm_variant(), probe_variant()};
  for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half}) {
    for (const bool query_norm : {false, true}) {
      for (const bool key_norm : {false, true}) all.push_back(rope_variant(pairing, query_norm, key_norm));
    }
  }
  for (const TensorType type : kTensorTypes) {
    all.push_back(embed_variant(type));
    for (const std::uint32_t tokens : kTileTokens) {
      KernelVariant matmul = matmul_variant(type, tokens, tuning);
      if (all.back() != matmul) all.push_back(std::move(matmul));  // float types know no tokens
    }
  }
  for (const MatmulSource source :
       {MatmulSource::plain, MatmulSource::silu_mul, MatmulSource::rms_norm, MatmulSource::gelu_mul,
        MatmulSource::attention_splits, MatmulSource::joined_norm}) {
    for (std::uint32_t outputs = 1; outputs <= kAllOutputs; ++outputs) all.push_back(prepare_variant(source, outputs));
  }
  for (const std::uint32_t head_dim : head_dims) {
    for (std::uint32_t heads = 1; heads <= kHeadsPerWorkgroupMax; ++heads) {
      all.push_back(attention_variant(heads, head_dim, tuning));
    }
  }
  return all;
}

}  // namespace orch::worker::vulkan
