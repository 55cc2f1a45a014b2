// What the metadata of a model file says about its shape, checked against limits. Value type.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "worker/model/model_error.h"

namespace orch::worker {

class GgufFile;

// Which two elements of a head RoPE turns together: (2i, 2i + 1) or (i, i + dims / 2).
enum class RopePairing : std::uint8_t { adjacent, half };

struct ModelConfig {
  std::string architecture;  // "llama"
  std::string name;          // general.name, may be empty
  std::string quant;         // the type most weight bytes have, as reported in WorkerInfo ("Q4_1")
  std::uint32_t layers = 0;
  std::uint32_t embedding = 0;  // width of the residual stream
  std::uint32_t feed_forward = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;   // of q, k and v
  std::uint32_t rope_dims = 0;  // rotated elements of a head, <= head_dim
  std::uint32_t context = 0;    // the model's own maximum
  std::uint32_t vocabulary = 0;
  float rms_epsilon = 0;
  float rope_base = 0;
  RopePairing rope_pairing = RopePairing::adjacent;

  std::uint32_t q_width() const { return heads * head_dim; }
  std::uint32_t kv_width() const { return kv_heads * head_dim; }
  std::uint32_t heads_per_kv() const { return heads / kv_heads; }
  // float(1 / sqrt(head_dim)), made with the contract's own rsqrt.
  float attention_scale() const;
};

Result<ModelConfig, ModelError> read_model_config(const GgufFile& file);

}  // namespace orch::worker
