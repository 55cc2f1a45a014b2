#include "worker/vulkan/kernel_variants.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint32_t kAllOutputs = kNibbleRecords | kByteRecords | kFloats | kWideRecords;

// Matmuls that make a row of `width` elements themselves, where it fits.
void add_own_inputs(const Tuning& tuning, std::uint32_t width, std::vector<KernelVariant>& all) {
  for (const TensorType type : kTensorTypes) {
    if (!is_quantised(type) || width % tile_cols(type) != 0) continue;
    for (const MatmulSource source :
         {MatmulSource::rms_norm, MatmulSource::joined_norm, MatmulSource::attention_splits}) {
      const OwnInput own{source, width / numerics::kQuantBlock};
      for (const std::uint32_t tokens : kTileTokens) {
        if (own_input_bytes(type, tokens, own) > tuning.shared_bytes) continue;
        all.push_back(matmul_variant(type, tokens, tuning, own));
      }
    }
  }
}

}  // namespace

std::vector<KernelVariant> every_variant(const Tuning& tuning, const ModelWidths& widths) {
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
  for (const std::uint32_t width : widths.rows) add_own_inputs(tuning, width, all);
  for (const std::uint32_t head_dim : widths.heads) {
    for (std::uint32_t heads = 1; heads <= kHeadsPerWorkgroupMax; ++heads) {
      all.push_back(attention_variant(heads, head_dim, tuning));
    }
  }
  return all;
}

}  // namespace orch::worker::vulkan
