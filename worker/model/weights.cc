#include "worker/model/weights.h"

#include "worker/core/numerics.h"
#include "worker/model/gguf_file.h"
#include "worker/model/memory_estimate.h"
#include "worker/model/repack.h"

namespace orch::worker {
namespace {

// Every tensor of the file repacked, and at most two roundings each.
std::size_t arena_bytes(const GgufFile& file) {
  return repacked_weight_bytes(file) + file.tensors().size() * 2 * AlignedBytes::kAlignment;
}

// Takes tensors out of the file by name, checks type and shape, repacks. Leaf of load_model.
class Loader {
 public:
  Loader(const GgufFile& file, Weights& weights, const Progress& progress)
      : file_(file), weights_(weights), progress_(progress), arena_(arena_bytes(file)) {
    for (const GgufTensor& tensor : file.tensors()) bytes_total_ += tensor.bytes.size();
  }

  // [rows][cols] in the file is dims {cols, rows}.
  Result<TensorId, ModelError> matrix(const std::string& name, std::uint32_t rows, std::uint32_t cols) {
    return load(name, rows, cols, TensorLayout::tiled);
  }
  Result<TensorId, ModelError> vector(const std::string& name, std::uint32_t size) {
    return load(name, 1, size, TensorLayout::plain);
  }
  Result<TensorId, ModelError> optional_vector(const std::string& name, std::uint32_t size) {
    if (file_.find_tensor(name) == nullptr) return kNoTensor;
    return vector(name, size);
  }
  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

 private:
  Result<TensorId, ModelError> load(const std::string& name, std::uint32_t rows, std::uint32_t cols,
                                    TensorLayout layout) {
    const GgufTensor* source = file_.find_tensor(name);
    if (source == nullptr) return Err{ModelError{ModelErrorKind::bad_file, name, "tensor is missing"}};
    const std::optional<TensorType> type = tensor_type_of(source->type);
    if (!type || (layout == TensorLayout::plain && *type != TensorType::f32)) {
      const char* supported = layout == TensorLayout::plain ? "F32" : "F32, F16, Q4_0, Q4_1, Q8_0";
      return Err{
          ModelError{ModelErrorKind::unsupported, name,
                     "tensor type " + ggml_type_name(source->type) + " is not built; supported here: " + supported}};
    }
    std::uint64_t file_rows = 1;
    for (std::size_t i = 1; i < source->dims.size(); ++i) file_rows *= source->dims[i];
    if (source->dims[0] != cols || file_rows != rows) {
      return Err{ModelError{ModelErrorKind::bad_file, name,
                            "shape " + std::to_string(source->dims[0]) + " x " + std::to_string(file_rows) +
                                ", expected " + std::to_string(cols) + " x " + std::to_string(rows)}};
    }
    QTensor tensor;
    tensor.name = name;
    tensor.type = *type;
    tensor.rows = rows;
    tensor.cols = cols;
    tensor.layout = layout;
    repack(tensor, source->bytes, &arena_);
    weights_.tensors.push_back(std::move(tensor));
    bytes_done_ += source->bytes.size();
    if (progress_) progress_(static_cast<float>(bytes_done_) / static_cast<float>(bytes_total_));
    return static_cast<TensorId>(weights_.tensors.size() - 1);
  }

  const GgufFile& file_;
  Weights& weights_;
  const Progress& progress_;
  Arena arena_;
  std::uint64_t bytes_total_ = 0;
  std::uint64_t bytes_done_ = 0;
};

Result<LayerWeights, ModelError> load_layer(Loader& loader, const ModelConfig& c, std::uint32_t layer) {
  const std::string p = "blk." + std::to_string(layer) + ".";
  LayerWeights w;
  ORCH_TRY(attention_norm, loader.vector(p + "attn_norm.weight", c.embedding));
  ORCH_TRY(query, loader.matrix(p + "attn_q.weight", c.q_width(), c.embedding));
  ORCH_TRY(key, loader.matrix(p + "attn_k.weight", c.kv_width(), c.embedding));
  ORCH_TRY(value, loader.matrix(p + "attn_v.weight", c.kv_width(), c.embedding));
  ORCH_TRY(query_bias, loader.optional_vector(p + "attn_q.bias", c.q_width()));
  ORCH_TRY(key_bias, loader.optional_vector(p + "attn_k.bias", c.kv_width()));
  ORCH_TRY(value_bias, loader.optional_vector(p + "attn_v.bias", c.kv_width()));
  ORCH_TRY(attention_output, loader.matrix(p + "attn_output.weight", c.embedding, c.q_width()));
  ORCH_TRY(feed_forward_norm, loader.vector(p + "ffn_norm.weight", c.embedding));
  ORCH_TRY(gate, loader.matrix(p + "ffn_gate.weight", c.feed_forward, c.embedding));
  ORCH_TRY(up, loader.matrix(p + "ffn_up.weight", c.feed_forward, c.embedding));
  ORCH_TRY(down, loader.matrix(p + "ffn_down.weight", c.embedding, c.feed_forward));
  w.attention_norm = attention_norm;
  w.query = query;
  w.key = key;
  w.value = value;
  w.query_bias = query_bias;
  w.key_bias = key_bias;
  w.value_bias = value_bias;
  w.attention_output = attention_output;
  w.feed_forward_norm = feed_forward_norm;
  w.gate = gate;
  w.up = up;
  w.down = down;
  return w;
}

}  // namespace

std::uint64_t Weights::byte_size() const {
  std::uint64_t sum = 0;
  for (const QTensor& tensor : tensors) sum += tensor.byte_size();
  return sum;
}

Result<Model, ModelError> load_model(const GgufFile& file, const Progress& progress) {
  Model model;
  ORCH_TRY(config, read_model_config(file));
  model.config = config;
  Loader loader(file, model.weights, progress);
  ORCH_TRY(embedding, loader.matrix("token_embd.weight", config.vocabulary, config.embedding));
  ORCH_TRY(output_norm, loader.vector("output_norm.weight", config.embedding));
  ORCH_TRY(factors, loader.optional_vector("rope_freqs.weight", config.rope_dims / 2));
  model.weights.token_embedding = embedding;
  model.weights.output_norm = output_norm;
  model.weights.rope_factors = factors;
  model.weights.output = embedding;  // tied: one object
  if (loader.has("output.weight")) {
    ORCH_TRY(output, loader.matrix("output.weight", config.vocabulary, config.embedding));
    model.weights.output = output;
  }
  for (std::uint32_t i = 0; i < config.layers; ++i) {
    ORCH_TRY(layer, load_layer(loader, config, i));
    model.weights.layers.push_back(layer);
  }
  model.plan = build_plan(model.config, model.weights);
  return model;
}

RopeTable make_rope_table(const ModelConfig& config, const Weights& weights, std::uint32_t positions) {
  RopeTable table;
  table.pairs = config.rope_dims / 2;
  table.cosine.resize(std::size_t{positions} * table.pairs);
  table.sine.resize(table.cosine.size());
  const float* factors = weights.rope_factors == kNoTensor ? nullptr : weights.tensors[weights.rope_factors].plain();
  std::vector<double> frequency(table.pairs);
  for (std::uint32_t pair = 0; pair < table.pairs; ++pair) {
    const double factor = factors == nullptr ? 1.0 : static_cast<double>(factors[pair]);
    frequency[pair] = numerics::rope_angle(1, pair, config.rope_dims, static_cast<double>(config.rope_base), factor);
  }
  for (std::uint32_t position = 0; position < positions; ++position) {
    for (std::uint32_t pair = 0; pair < table.pairs; ++pair) {
      const numerics::SinCos value = numerics::sincos64(static_cast<double>(position) * frequency[pair]);
      const std::size_t index = std::size_t{position} * table.pairs + pair;
      table.cosine[index] = numerics::store(static_cast<float>(value.cos));
      table.sine[index] = numerics::store(static_cast<float>(value.sin));
    }
  }
  return table;
}

}  // namespace orch::worker
