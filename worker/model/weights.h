// All tensors of a model, repacked (q_tensor.h), and the loaded model that backends take. Loading reads the mapped file
// once; afterwards the mapping may be dropped.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "worker/model/model_config.h"
#include "worker/model/model_error.h"
#include "worker/model/plan.h"
#include "worker/model/q_tensor.h"

namespace orch::worker {

class GgufFile;

struct LayerWeights {
  TensorId attention_norm = kNoTensor;
  TensorId query = kNoTensor;
  TensorId key = kNoTensor;
  TensorId value = kNoTensor;
  TensorId query_bias = kNoTensor;
  TensorId key_bias = kNoTensor;
  TensorId value_bias = kNoTensor;
  TensorId attention_output = kNoTensor;
  TensorId feed_forward_norm = kNoTensor;
  TensorId gate = kNoTensor;
  TensorId up = kNoTensor;
  TensorId down = kNoTensor;
};

struct Weights {
  std::vector<QTensor> tensors;
  TensorId token_embedding = kNoTensor;
  TensorId output_norm = kNoTensor;
  TensorId output = kNoTensor;  // == token_embedding when tied
  TensorId rope_factors = kNoTensor;
  std::vector<LayerWeights> layers;

  std::uint64_t byte_size() const;
};

struct Model {
  ModelConfig config;
  Weights weights;
  Plan plan;
};

// Called with 0..1 as bytes are read; may be empty.
using Progress = std::function<void(float)>;

Result<Model, ModelError> load_model(const GgufFile& file, const Progress& progress);

// cos and sin as stored f32 (numerics::store applied), [position 0..positions)[pair 0..rope_dims/2).
struct RopeTable {
  std::uint32_t pairs = 0;
  std::vector<float> cosine;
  std::vector<float> sine;
};
RopeTable make_rope_table(const ModelConfig& config, const Weights& weights, std::uint32_t positions);

}  // namespace orch::worker
