// What the metadata of a model file says about its shape, checked against limits. Value type.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "worker/core/pooling.h"
#include "worker/model/architecture.h"
#include "worker/model/model_error.h"
#include "worker/model/rope.h"

namespace orch::worker {

class GgufFile;

struct ModelConfig {
  Architecture architecture;
  std::string name;   // general.name, may be empty
  std::string quant;  // the type most weight bytes have, as reported in WorkerInfo ("Q4_1")
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
  RopeScaling rope_scaling;
  std::uint32_t window = 0;   // keys that a layer with a sliding window sees; 0: no layer has one
  float embedding_scale = 1;  // embeddings are multiplied by it
  // Of an embedding. Where the file says nothing the last token, which alone has seen the whole text; none: by
  // something that is not built.
  std::optional<Pooling> pooling = Pooling::last;

  std::uint32_t q_width() const { return heads * head_dim; }
  std::uint32_t kv_width() const { return kv_heads * head_dim; }
  std::uint32_t heads_per_kv() const { return heads / kv_heads; }
  // float(1 / sqrt(head_dim)), made with the contract's own rsqrt.
  float attention_scale() const;
  bool has_window(std::uint32_t layer) const {
    return window != 0 && layer % architecture.window_every != architecture.window_every - 1;
  }
};

Result<ModelConfig, ModelError> read_model_config(const GgufFile& file);

}  // namespace orch::worker
