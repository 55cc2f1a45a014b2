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

Status<ModelError> refuse_rope_scaling(const GgufFile& file, const std::string& arch) {
  ORCH_TRY(type, file.string_value(arch + ".rope.scaling.type"));
  if (type && *type != "none") {
    return Err{ModelError{ModelErrorKind::unsupported, arch + ".rope.scaling.type",
                          "'" + std::string(*type) + "' is not built; supported: none, rope_freqs.weight"}};
  }
  return Ok{};
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
  if (!(rope_base >= 1.0) || rope_base > 1e12) return Err{bad(arch + ".rope.freq_base", "outside [1, 1e12]")};
  config.rms_epsilon = static_cast<float>(*eps);
  config.rope_base = static_cast<float>(rope_base);
  return Ok{};
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

float ModelConfig::attention_scale() const { return numerics::rsqrt(static_cast<float>(head_dim)); }

Result<ModelConfig, ModelError> read_model_config(const GgufFile& file) {
  ORCH_TRY(arch_value, file.string_value("general.architecture"));
  if (!arch_value) return Err{bad("general.architecture", "missing")};
  const std::string arch(*arch_value);
  if (arch != "llama") {
    return Err{ModelError{ModelErrorKind::unsupported, "general.architecture",
                          "'" + arch.substr(0, 40) + "'; supported: llama"}};
  }
  ModelConfig config;
  config.architecture = arch;
  ORCH_TRY(name, file.string_value("general.name"));
  if (name) config.name = std::string(*name);
  ORCH_TRY(experts, file.unsigned_value(arch + ".expert_count"));
  if (experts.value_or(0) != 0) {
    return Err{ModelError{ModelErrorKind::unsupported, arch + ".expert_count", "mixture of experts is not built"}};
  }
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
  config.rope_pairing = RopePairing::adjacent;
  ORCH_TRY(attention, read_attention(file, arch, config));
  ORCH_TRY(floats, read_floats(file, arch, config));
  ORCH_TRY(scaling, refuse_rope_scaling(file, arch));
  static_cast<void>(attention);
  static_cast<void>(floats);
  static_cast<void>(scaling);
  ORCH_TRY(vocabulary, read_vocabulary(file));
  config.vocabulary = vocabulary;
  config.quant = dominant_type(file);
  return config;
}

}  // namespace orch::worker
