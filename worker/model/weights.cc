#include "worker/model/weights.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <system_error>
#include <thread>

#include "worker/model/gguf_file.h"
#include "worker/model/memory_estimate.h"
#include "worker/model/repack.h"

namespace orch::worker {
namespace {

constexpr std::uint32_t kRowsPerUnit = 16 * kTileRows;  // whole row groups: two threads never write one tile

// Every tensor of the file repacked, and at most two roundings each.
std::size_t arena_bytes(const GgufFile& file) {
  return repacked_weight_bytes(file) + file.tensors().size() * 2 * AlignedBytes::kAlignment;
}

// Takes tensors out of the file by name, checks type and shape and gives them their place; repack() then fills them on
// several threads. Leaf of load_model.
class Loader {
 public:
  Loader(const GgufFile& file, Weights& weights) : file_(file), weights_(weights), arena_(arena_bytes(file)) {}

  // [rows][cols] in the file is dims {cols, rows}.
  Result<TensorId, ModelError> matrix(const std::string& name, std::uint32_t rows, std::uint32_t cols) {
    return place(name, rows, cols, TensorLayout::tiled);
  }
  Result<TensorId, ModelError> vector(const std::string& name, std::uint32_t size) {
    return place(name, 1, size, TensorLayout::plain);
  }
  Result<TensorId, ModelError> optional_vector(const std::string& name, std::uint32_t size) {
    if (!has(name)) return kNoTensor;
    return vector(name, size);
  }
  Result<TensorId, ModelError> vector_if(bool wanted, const std::string& name, std::uint32_t size) {
    if (!wanted) return kNoTensor;
    return vector(name, size);
  }
  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  // A tensor that nothing asked for belongs to a computation that this build would leave out.
  Status<ModelError> check_all_taken() const {
    std::set<std::string_view> taken;
    for (const QTensor& tensor : weights_.tensors) taken.insert(tensor.name);
    for (const GgufTensor& tensor : file_.tensors()) {
      if (taken.contains(tensor.name)) continue;
      return Err{ModelError{ModelErrorKind::unsupported, std::string(tensor.name.substr(0, 80)),
                            "this build has no use for the tensor in this architecture"}};
    }
    return Ok{};
  }

  // Runs on the calling thread, which alone reports progress, and on threads - 1 more.
  void repack(std::uint32_t threads, const Progress& progress);

 private:
  struct Unit {
    TensorId tensor = 0;
    std::uint32_t row_begin = 0;
    std::uint32_t row_end = 0;
  };

  Result<TensorId, ModelError> place(const std::string& name, std::uint32_t rows, std::uint32_t cols,
                                     TensorLayout layout);
  bool repack_next();

  const GgufFile& file_;
  Weights& weights_;
  Arena arena_;
  std::vector<std::span<const std::byte>> sources_;  // of weights_.tensors
  std::vector<Unit> units_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::uint64_t> rows_done_{0};
  std::uint64_t rows_total_ = 0;
};

Result<TensorId, ModelError> Loader::place(const std::string& name, std::uint32_t rows, std::uint32_t cols,
                                           TensorLayout layout) {
  const GgufTensor* source = file_.find_tensor(name);
  if (source == nullptr) return Err{ModelError{ModelErrorKind::bad_file, name, "tensor is missing"}};
  const std::optional<TensorType> type = tensor_type_of(source->type);
  if (!type || (layout == TensorLayout::plain && *type != TensorType::f32)) {
    const std::string supported = layout == TensorLayout::plain ? "F32" : supported_tensor_types();
    return Err{
        ModelError{ModelErrorKind::unsupported, name,
                   "tensor type " + ggml_type_name(source->type) + " is not built; supported here: " + supported}};
  }
  // OC-ENGINE-1008: the arena has room for it by its dimensions in the file.
  if (layout == TensorLayout::tiled && source->dims.size() < 2) {
    return Err{ModelError{ModelErrorKind::bad_file, name, "one dimension, expected two"}};
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
  allocate_tiles(tensor, &arena_);
  const TensorId id = static_cast<TensorId>(weights_.tensors.size());
  for (std::uint32_t row = 0; row < rows; row += kRowsPerUnit) {
    units_.push_back({id, row, std::min(rows, row + kRowsPerUnit)});
  }
  rows_total_ += rows;
  weights_.tensors.push_back(std::move(tensor));
  sources_.push_back(source->bytes);
  return id;
}

bool Loader::repack_next() {
  const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
  if (index >= units_.size()) return false;
  const Unit& unit = units_[index];
  fill_tiles(weights_.tensors[unit.tensor], sources_[unit.tensor], unit.row_begin, unit.row_end);
  rows_done_.fetch_add(unit.row_end - unit.row_begin, std::memory_order_relaxed);
  return true;
}

void Loader::repack(std::uint32_t threads, const Progress& progress) {
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < threads) {
      helpers.emplace_back([this] {
        while (repack_next()) continue;
      });
    }
  } catch (const std::system_error&) {  // no more threads: those that started, or this one alone, do the work
  }
  while (repack_next()) {
    if (!progress) continue;
    progress(static_cast<float>(rows_done_.load(std::memory_order_relaxed)) / static_cast<float>(rows_total_));
  }
  for (std::thread& helper : helpers) helper.join();
  if (progress) progress(1.0F);
}

Result<LayerWeights, ModelError> place_layer(Loader& loader, const ModelConfig& c, std::uint32_t layer) {
  const std::string p = "blk." + std::to_string(layer) + ".";
  const Architecture& a = c.architecture;
  LayerWeights w;
  ORCH_TRY(attention_norm, loader.vector(p + "attn_norm.weight", c.embedding));
  ORCH_TRY(query, loader.matrix(p + "attn_q.weight", c.q_width(), c.embedding));
  ORCH_TRY(key, loader.matrix(p + "attn_k.weight", c.kv_width(), c.embedding));
  ORCH_TRY(value, loader.matrix(p + "attn_v.weight", c.kv_width(), c.embedding));
  ORCH_TRY(query_bias, loader.optional_vector(p + "attn_q.bias", c.q_width()));
  ORCH_TRY(key_bias, loader.optional_vector(p + "attn_k.bias", c.kv_width()));
  ORCH_TRY(value_bias, loader.optional_vector(p + "attn_v.bias", c.kv_width()));
  ORCH_TRY(query_norm, loader.vector_if(a.head_norms, p + "attn_q_norm.weight", c.head_dim));
  ORCH_TRY(key_norm, loader.vector_if(a.head_norms, p + "attn_k_norm.weight", c.head_dim));
  ORCH_TRY(attention_output, loader.matrix(p + "attn_output.weight", c.embedding, c.q_width()));
  ORCH_TRY(attention_post_norm, loader.vector_if(a.post_norms, p + "post_attention_norm.weight", c.embedding));
  ORCH_TRY(feed_forward_norm, loader.vector(p + "ffn_norm.weight", c.embedding));
  ORCH_TRY(gate, loader.matrix(p + "ffn_gate.weight", c.feed_forward, c.embedding));
  ORCH_TRY(up, loader.matrix(p + "ffn_up.weight", c.feed_forward, c.embedding));
  ORCH_TRY(down, loader.matrix(p + "ffn_down.weight", c.embedding, c.feed_forward));
  ORCH_TRY(feed_forward_post_norm, loader.vector_if(a.post_norms, p + "post_ffw_norm.weight", c.embedding));
  w.attention_norm = attention_norm;
  w.query = query;
  w.key = key;
  w.value = value;
  w.query_bias = query_bias;
  w.key_bias = key_bias;
  w.value_bias = value_bias;
  w.query_norm = query_norm;
  w.key_norm = key_norm;
  w.attention_output = attention_output;
  w.attention_post_norm = attention_post_norm;
  w.feed_forward_norm = feed_forward_norm;
  w.gate = gate;
  w.up = up;
  w.down = down;
  w.feed_forward_post_norm = feed_forward_post_norm;
  return w;
}

// Divisors of frequencies: what they make of an angle must stay in the range of the table's sine.
Status<ModelError> check_rope_factors(const Weights& weights) {
  if (weights.rope_factors == kNoTensor) return Ok{};
  const QTensor& factors = weights.tensors[weights.rope_factors];
  for (std::uint32_t i = 0; i < factors.cols; ++i) {
    const float factor = factors.plain()[i];
    if (factor >= 0.01F && factor <= 1e6F) continue;
    return Err{ModelError{ModelErrorKind::bad_file, factors.name,
                          "value " + std::to_string(factor) + " at " + std::to_string(i) + ", allowed: 0.01 to 1e6"}};
  }
  return Ok{};
}

}  // namespace

std::uint64_t Weights::byte_size() const {
  std::uint64_t sum = 0;
  for (const QTensor& tensor : tensors) sum += tensor.byte_size();
  return sum;
}

Result<Model, ModelError> load_model(const GgufFile& file, const Progress& progress, std::uint32_t threads) {
  Model model;
  ORCH_TRY(config, read_model_config(file));
  model.config = config;
  Loader loader(file, model.weights);
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
    ORCH_TRY(layer, place_layer(loader, config, i));
    model.weights.layers.push_back(layer);
  }
  ORCH_TRY(all, loader.check_all_taken());
  static_cast<void>(all);
  loader.repack(threads, progress);
  ORCH_TRY(usable, check_rope_factors(model.weights));
  static_cast<void>(usable);
  model.plan = build_plan(model.config, model.weights);
  return model;
}

}  // namespace orch::worker
