#include "worker/model/model_config.h"

#include <cmath>
#include <map>

#include "worker/core/numerics.h"
#include "worker/model/gguf_file.h"

namespace orch::worker {
namespace {

constexpr std::uint64_t kLayersMax = 1024;
constexpr std::uint64_t kWidthMax = 1U << 20;
constexpr std::uint64_t kHeadsMax = 4096;
constexpr std::uint64_t kContextMax = 1U << 20;  // the bound of numerics::sincos64
constexpr std::uint64_t kVocabularyMax = 1U << 22;
constexpr double kRopeBaseMax = 1e12;

ModelError bad(std::string field, std::string message) {
  return {ModelErrorKind::bad_file, std::move(field), std::move(message)};
}

Result<std::uint32_t, ModelError> required(const GgufFile& file, const std::string& key, std::uint64_t max) {
  ORCH_TRY(value, file.unsigned_value(key));
  if (!value) return Err{bad(key, "missing")};
  if (*value == 0 || *value > max)
    return Err{bad(key, std::to_string(*value) + ", allowed: 1 to " + std::to_string(max))};
  return static_cast<std::uint32_t>(*value);
}

Result<std::uint32_t, ModelError> optional(const GgufFile& file, const std::string& key, std::uint64_t max,
                                           std::uint32_t otherwise) {
  ORCH_TRY(value, file.unsigned_value(key));
  if (!value) return otherwise;
  return required(file, key, max);
}

// Keys that change the computation in a way that is not built.
Status<ModelError> refuse_unbuilt(const GgufFile& file, const std::string& arch) {
  ORCH_TRY(experts, file.unsigned_value(arch + ".expert_count"));
  if (experts.value_or(0) != 0) {
    return Err{ModelError{ModelErrorKind::unsupported, arch + ".expert_count", "mixture of experts is not built"}};
  }
  ORCH_TRY(causal, file.bool_value(arch + ".attention.causal"));
  if (!causal.value_or(true)) {
    return Err{ModelError{ModelErrorKind::unsupported, arch + ".attention.causal",
                          "false: attention to later tokens is not built"}};
  }
  ORCH_TRY(rope_attention, file.float_value(arch + ".rope.scaling.attn_factor"));
  if (rope_attention.value_or(1.0) != 1.0) {
    return Err{ModelError{ModelErrorKind::unsupported, arch + ".rope.scaling.attn_factor",
                          std::to_string(*rope_attention) + "; built is 1"}};
  }
  for (const char* key : {".attn_logit_softcapping", ".final_logit_softcapping"}) {
    ORCH_TRY(cap, file.float_value(arch + key));
    if (cap.value_or(0.0) != 0.0) {
      return Err{ModelError{ModelErrorKind::unsupported, arch + key, "soft-capping of logits is not built"}};
    }
  }
  return Ok{};
}

// Heads of layers with a window are those of the others. Behind read_attention().
Status<ModelError> refuse_other_window_sizes(const GgufFile& file, const std::string& arch, const ModelConfig& config) {
  struct Size {
    const char* key;
    std::uint32_t built;
  };
  for (const Size& size :
       {Size{".attention.key_length_swa", config.head_dim}, Size{".attention.value_length_swa", config.head_dim},
        Size{".rope.dimension_count_swa", config.rope_dims}}) {
    ORCH_TRY(value, file.unsigned_value(arch + size.key));
    if (value.value_or(size.built) == size.built) continue;
    return Err{
        ModelError{ModelErrorKind::unsupported, arch + size.key,
                   std::to_string(*value) + "; built is that of the other layers, " + std::to_string(size.built)}};
  }
  return Ok{};
}

Status<ModelError> read_window(const GgufFile& file, const std::string& arch, ModelConfig& config) {
  if (config.architecture.window_every == 0) return Ok{};
  const std::string key = arch + ".attention.sliding_window";
  ORCH_TRY(window, file.unsigned_value(key));
  if (window.value_or(0) > kContextMax) {
    return Err{bad(key, std::to_string(*window) + ", limit " + std::to_string(kContextMax))};
  }
  config.window = static_cast<std::uint32_t>(window.value_or(0));
  const std::string base_key = arch + ".rope.freq_base_swa";
  ORCH_TRY(base, file.float_value(base_key));
  const double local_base = base.value_or(static_cast<double>(config.architecture.local_rope_base));
  if (!(local_base >= 1.0) || local_base > kRopeBaseMax) return Err{bad(base_key, "outside [1, 1e12]")};
  config.architecture.local_rope_base = static_cast<float>(local_base);
  ORCH_TRY(sizes, refuse_other_window_sizes(file, arch, config));
  static_cast<void>(sizes);
  const std::string pattern_key = key + "_pattern";
  if (file.find(pattern_key) == nullptr) return Ok{};
  ORCH_TRY(pattern, file.unsigned_value(pattern_key));
  if (*pattern != config.architecture.window_every) {
    return Err{ModelError{ModelErrorKind::unsupported, pattern_key,
                          std::to_string(*pattern) + "; supported for " + arch + ": " +
                              std::to_string(config.architecture.window_every)}};
  }
  return Ok{};
}

Result<Architecture, ModelError> read_architecture(const GgufFile& file) {
  ORCH_TRY(name, file.string_value("general.architecture"));
  if (!name) return Err{bad("general.architecture", "missing")};
  if (const Architecture* found = find_architecture(*name)) return *found;
  const char* reason = *name == "gemma2" ? " (its soft-capping of logits is not built)" : "";
  return Err{
      ModelError{ModelErrorKind::unsupported, "general.architecture",
                 "'" + std::string(name->substr(0, 40)) + "'" + reason + "; supported: " + supported_architectures()}};
}

Status<ModelError> read_attention(const GgufFile& file, const std::string& arch, ModelConfig& config) {
  ORCH_TRY(heads, required(file, arch + ".attention.head_count", kHeadsMax));
  ORCH_TRY(kv_heads, optional(file, arch + ".attention.head_count_kv", kHeadsMax, heads));
  if (heads % kv_heads != 0) {
    return Err{bad(arch + ".attention.head_count_kv",
                   std::to_string(kv_heads) + " does not divide head_count " + std::to_string(heads))};
  }
  ORCH_TRY(head_dim, optional(file, arch + ".attention.key_length", 1024, config.embedding / heads));
  ORCH_TRY(value_dim, optional(file, arch + ".attention.value_length", 1024, head_dim));
  if (head_dim == 0 || head_dim % 8 != 0 || value_dim != head_dim || (heads * head_dim) % 32 != 0) {
    return Err{ModelError{ModelErrorKind::unsupported, arch + ".attention.key_length",
                          "head sizes " + std::to_string(head_dim) + " and " + std::to_string(value_dim) +
                              "; supported: equal multiples of 8, heads * size a multiple of 32"}};
  }
  ORCH_TRY(rope_dims, optional(file, arch + ".rope.dimension_count", 1024, head_dim));
  if (rope_dims > head_dim || rope_dims % 2 != 0) {
    return Err{bad(arch + ".rope.dimension_count",
                   std::to_string(rope_dims) + ", allowed: even, up to the head size " + std::to_string(head_dim))};
  }
  config.heads = heads;
  config.kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.rope_dims = rope_dims;
  return Ok{};
}

Status<ModelError> read_floats(const GgufFile& file, const std::string& arch, ModelConfig& config) {
  const std::string eps_key = arch + ".attention.layer_norm_rms_epsilon";
  ORCH_TRY(eps, file.float_value(eps_key));
  if (!eps || !(*eps > 1e-12) || *eps > 1.0) return Err{bad(eps_key, "missing or outside (1e-12, 1]")};
  ORCH_TRY(base, file.float_value(arch + ".rope.freq_base"));
  const double rope_base = base.value_or(10000.0);
  if (!(rope_base >= 1.0) || rope_base > kRopeBaseMax) return Err{bad(arch + ".rope.freq_base", "outside [1, 1e12]")};
  config.rms_epsilon = static_cast<float>(*eps);
  config.rope_base = static_cast<float>(rope_base);
  return Ok{};
}

// OC-ENGINE-1022. The values are llama.cpp's: 0 none, 1 mean, 2 cls, 3 last, 4 rank.
Result<std::optional<Pooling>, ModelError> read_pooling(const GgufFile& file, const std::string& arch) {
  ORCH_TRY(type, file.unsigned_value(arch + ".pooling_type"));
  const std::uint64_t value = type.value_or(0);
  if (value == 1) return std::optional(Pooling::mean);
  if (value == 2) return std::optional(Pooling::cls);
  if (value == 0 || value == 3) return std::optional(Pooling::last);
  return std::optional<Pooling>();
}

Result<std::uint32_t, ModelError> read_vocabulary(const GgufFile& file) {
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->dims.size() != 2)
    return Err{bad("token_embd.weight", "missing or not a matrix")};
  if (embedding->dims[1] > kVocabularyMax) {
    return Err{bad("token_embd.weight",
                   std::to_string(embedding->dims[1]) + " rows, limit " + std::to_string(kVocabularyMax))};
  }
  return static_cast<std::uint32_t>(embedding->dims[1]);
}

// The type that holds most of the bytes of the layers' tensors.
std::string dominant_type(const GgufFile& file) {
  std::map<std::uint32_t, std::uint64_t> bytes;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.starts_with("blk.")) bytes[tensor.type] += tensor.bytes.size();
  }
  std::uint32_t best = 0;
  std::uint64_t most = 0;
  for (const auto& [type, size] : bytes) {
    if (size > most) {
      most = size;
      best = type;
    }
  }
  return ggml_type_name(best);
}

}  // namespace

// Gemma 3 27B alone scales by another number than its head size: embedding / heads (168 where heads have 128).
float ModelConfig::attention_scale() const {
  const bool own_scale = architecture.scaled_embedding && layers == 62;
  return numerics::rsqrt(static_cast<float>(own_scale ? embedding / heads : head_dim));
}

Result<ModelConfig, ModelError> read_model_config(const GgufFile& file) {
  ModelConfig config;
  ORCH_TRY(architecture, read_architecture(file));
  config.architecture = architecture;
  config.rope_pairing = architecture.rope_pairing;
  const std::string arch = architecture.name;
  ORCH_TRY(name, file.string_value("general.name"));
  if (name) config.name = std::string(*name);
  ORCH_TRY(unbuilt, refuse_unbuilt(file, arch));
  static_cast<void>(unbuilt);
  ORCH_TRY(layers, required(file, arch + ".block_count", kLayersMax));
  ORCH_TRY(embedding, required(file, arch + ".embedding_length", kWidthMax));
  ORCH_TRY(feed_forward, required(file, arch + ".feed_forward_length", kWidthMax));
  ORCH_TRY(context, required(file, arch + ".context_length", kContextMax));
  if (embedding % 32 != 0 || feed_forward % 32 != 0) {
    return Err{ModelError{ModelErrorKind::unsupported, arch + ".embedding_length",
                          std::to_string(embedding) + " and feed_forward_length " + std::to_string(feed_forward) +
                              " must be multiples of 32"}};
  }
  config.layers = layers;
  config.embedding = embedding;
  config.feed_forward = feed_forward;
  config.context = context;
  // Correctly rounded on every host.
  if (architecture.scaled_embedding) config.embedding_scale = std::sqrt(static_cast<float>(embedding));
  ORCH_TRY(attention, read_attention(file, arch, config));
  ORCH_TRY(floats, read_floats(file, arch, config));
  ORCH_TRY(window, read_window(file, arch, config));
  static_cast<void>(attention);
  static_cast<void>(floats);
  static_cast<void>(window);
  ORCH_TRY(scaling, read_rope_scaling(file, arch));
  if (scaling.kind == RopeScalingKind::yarn && config.rope_base < 2.0F) {
    return Err{bad(arch + ".rope.freq_base", "below 2, which yarn scaling cannot use")};
  }
  config.rope_scaling = scaling;
  ORCH_TRY(pooling, read_pooling(file, arch));
  config.pooling = pooling;
  ORCH_TRY(vocabulary, read_vocabulary(file));
  config.vocabulary = vocabulary;
  config.quant = dominant_type(file);
  return config;
}

}  // namespace orch::worker
