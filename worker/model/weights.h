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
  TensorId query_norm = kNoTensor;  // of one head
  TensorId key_norm = kNoTensor;
  TensorId attention_output = kNoTensor;
  TensorId attention_post_norm = kNoTensor;
  TensorId feed_forward_norm = kNoTensor;
  TensorId feed_forward_post_norm = kNoTensor;
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

// The repack runs on `threads` threads; progress is called by this one only.
Result<Model, ModelError> load_model(const GgufFile& file, const Progress& progress, std::uint32_t threads = 1);

}  // namespace orch::worker
