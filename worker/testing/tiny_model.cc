#include "worker/testing/tiny_model.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "common/base/prng.h"
#include "worker/core/numerics.h"
#include "worker/model/architecture.h"
#include "worker/model/gguf_file.h"
#include "worker/model/repack.h"

namespace orch::worker::testing {
namespace {

// Uniform in [-1, 1), built from integers so that every platform makes the same file.
float unit(Prng& prng) {
  return static_cast<float>(static_cast<std::int32_t>(prng.next() >> 40) - (1 << 23)) * 0x1p-23F;
}

void append_u16(std::vector<std::byte>& out, std::uint16_t value) {
  out.push_back(static_cast<std::byte>(value & 0xFFU));
  out.push_back(static_cast<std::byte>(value >> 8));
}

void append_f32(std::vector<std::byte>& out, float value) { append_u32(out, numerics::bits_of(value)); }

std::vector<std::byte> vector_bytes(std::uint32_t size, std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::byte> out;
  for (std::uint32_t i = 0; i < size; ++i) append_f32(out, 1.0F + 0.25F * unit(prng));
  return out;
}

float inverse_root(std::uint32_t cols) { return numerics::rsqrt(static_cast<float>(cols)); }

void append_random(std::vector<std::byte>& out, std::size_t count, Prng& prng) {
  for (std::size_t i = 0; i < count; ++i) out.push_back(static_cast<std::byte>(prng.next() >> 56));
}

// Scale and offset of a block whose quants and sub-scales lie in 0..top, so that its values spread around 0.
void append_scales(std::vector<std::byte>& out, TensorType type, float scale, float top) {
  append_u16(out, numerics::f32_to_f16(scale * 2.0F * numerics::rcp(top)));
  if (!has_minimum(type)) return;
  append_u16(out, numerics::f32_to_f16(is_wide(type) ? scale * (1.0F / 32.0F) : -scale));
}

void append_block(std::vector<std::byte>& out, TensorType type, float scale, Prng& prng) {
  const float jitter = 1.0F + 0.5F * unit(prng);
  switch (type) {
    case TensorType::f32:
      append_f32(out, unit(prng) * scale);
      return;
    case TensorType::f16:
      append_u16(out, numerics::f32_to_f16(unit(prng) * scale));
      return;
    case TensorType::bf16:
      append_u16(out, static_cast<std::uint16_t>(numerics::bits_of(unit(prng) * scale) >> 16));
      return;
    case TensorType::q8_0:
      append_u16(out, numerics::f32_to_f16(scale * jitter * (1.0F / 96.0F)));
      return append_random(out, 32, prng);
    case TensorType::q4_0:
      append_u16(out, numerics::f32_to_f16(scale * jitter * (1.0F / 6.0F)));
      return append_random(out, 16, prng);
    case TensorType::q4_1:
      append_u16(out, numerics::f32_to_f16(scale * jitter * (1.0F / 6.0F)));
      append_u16(out, numerics::f32_to_f16(scale * jitter * (-7.5F / 6.0F)));
      return append_random(out, 16, prng);
    case TensorType::q5_0:
    case TensorType::q5_1:
      append_scales(out, type, scale * jitter, 31.0F);
      return append_random(out, 20, prng);
    case TensorType::q4_k:
      append_scales(out, type, scale * jitter, 32.0F * 15.0F);
      return append_random(out, 12 + 128, prng);
    case TensorType::q5_k:
      append_scales(out, type, scale * jitter, 32.0F * 31.0F);
      return append_random(out, 12 + 32 + 128, prng);
    case TensorType::q6_k:
      append_random(out, 128 + 64 + 16, prng);
      return append_scales(out, type, scale * jitter, 64.0F * 63.0F);
  }
}

void add_layer(GgufWriter& writer, const TinyShape& s, std::uint32_t layer) {
  const std::string p = "blk." + std::to_string(layer) + ".";
  std::uint64_t seed = s.seed * 1000 + layer * 20;
  const auto sized_vector = [&](const std::string& name, std::uint32_t size) {
    writer.add_tensor(p + name, {size}, 0, vector_bytes(size, ++seed));
  };
  const auto vector = [&](const std::string& name) { sized_vector(name, s.embedding); };
  const auto matrix = [&](const std::string& name, std::uint32_t rows, std::uint32_t cols) {
    const bool other = s.value_and_down && (name == "attn_v.weight" || name == "ffn_down.weight");
    const TensorType type = other ? *s.value_and_down : s.matrices;
    writer.add_tensor(p + name, {cols, rows}, ggml_type_id(type), random_tensor_bytes(type, rows, cols, ++seed));
  };
  vector("attn_norm.weight");
  matrix("attn_q.weight", s.heads * s.head_dim, s.embedding);
  matrix("attn_k.weight", s.kv_heads * s.head_dim, s.embedding);
  matrix("attn_v.weight", s.kv_heads * s.head_dim, s.embedding);
  matrix("attn_output.weight", s.embedding, s.heads * s.head_dim);
  vector("ffn_norm.weight");
  matrix("ffn_gate.weight", s.feed_forward, s.embedding);
  matrix("ffn_up.weight", s.feed_forward, s.embedding);
  matrix("ffn_down.weight", s.embedding, s.feed_forward);
  if (s.architecture == "qwen2") {
    sized_vector("attn_q.bias", s.heads * s.head_dim);
    sized_vector("attn_k.bias", s.kv_heads * s.head_dim);
    sized_vector("attn_v.bias", s.kv_heads * s.head_dim);
  }
  const Architecture* architecture = find_architecture(s.architecture);
  ORCH_CHECK(architecture != nullptr);
  if (architecture->head_norms) {
    sized_vector("attn_q_norm.weight", s.head_dim);
    sized_vector("attn_k_norm.weight", s.head_dim);
  }
  if (architecture->post_norms) {
    vector("post_attention_norm.weight");
    vector("post_ffw_norm.weight");
  }
}

}  // namespace

std::uint32_t ggml_type_id(TensorType type) {
  for (std::uint32_t id = 0; id < 64; ++id) {
    if (tensor_type_of(id) == type) return id;
  }
  return 0;
}

std::vector<std::byte> random_tensor_bytes(TensorType type, std::uint32_t rows, std::uint32_t cols,
                                           std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::byte> out;
  const std::size_t count = std::size_t{rows} * cols / (is_quantised(type) ? tile_cols(type) : 1);
  // Uniform values have a deviation of 0.58 of their bound; 2 keeps activations of order 1 through the layers.
  for (std::size_t i = 0; i < count; ++i) append_block(out, type, 2.0F * inverse_root(cols), prng);
  return out;
}

QTensor random_tensor(TensorType type, std::uint32_t rows, std::uint32_t cols, std::uint64_t seed) {
  QTensor tensor;
  tensor.name = "random";
  tensor.type = type;
  tensor.rows = rows;
  tensor.cols = cols;
  tensor.layout = TensorLayout::tiled;
  repack(tensor, random_tensor_bytes(type, rows, cols, seed));
  return tensor;
}

std::vector<float> random_floats(std::size_t count, std::uint64_t seed, float scale) {
  Prng prng(seed);
  std::vector<float> out(count);
  for (float& value : out) value = unit(prng) * scale;
  return out;
}

GgufWriter tiny_model_writer(const TinyShape& s) {
  GgufWriter writer;
  const std::string p = s.architecture + ".";
  writer.add_string("general.architecture", s.architecture).add_string("general.name", "tiny");
  writer.add_u32(p + "block_count", s.layers).add_u32(p + "context_length", s.context);
  writer.add_u32(p + "embedding_length", s.embedding).add_u32(p + "feed_forward_length", s.feed_forward);
  writer.add_u32(p + "attention.head_count", s.heads).add_u32(p + "attention.head_count_kv", s.kv_heads);
  writer.add_u32(p + "attention.key_length", s.head_dim).add_u32(p + "attention.value_length", s.head_dim);
  writer.add_u32(p + "rope.dimension_count", s.head_dim).add_f32(p + "rope.freq_base", 10000.0F);
  writer.add_f32(p + "attention.layer_norm_rms_epsilon", 1e-5F);
  if (s.window != 0) writer.add_u32(p + "attention.sliding_window", s.window);
  writer.add_tensor("token_embd.weight", {s.embedding, s.vocabulary}, ggml_type_id(s.embedding_type),
                    random_tensor_bytes(s.embedding_type, s.vocabulary, s.embedding, s.seed * 1000 + 900));
  writer.add_tensor("output_norm.weight", {s.embedding}, 0, vector_bytes(s.embedding, s.seed * 1000 + 901));
  if (!s.tied) {
    writer.add_tensor("output.weight", {s.embedding, s.vocabulary}, ggml_type_id(s.matrices),
                      random_tensor_bytes(s.matrices, s.vocabulary, s.embedding, s.seed * 1000 + 902));
  }
  for (std::uint32_t i = 0; i < s.layers; ++i) add_layer(writer, s, i);
  return writer;
}

std::vector<std::byte> tiny_model_file(const TinyShape& shape) { return tiny_model_writer(shape).finish(); }

Model tiny_model(const TinyShape& shape) {
  const std::vector<std::byte> bytes = tiny_model_file(shape);
  auto file = GgufFile::parse(bytes);
  ORCH_CHECK(file.ok());
  auto model = load_model(**file, {});
  ORCH_CHECK(model.ok());
  return std::move(model).value();
}

std::vector<std::uint32_t> tiny_tokens(const TinyShape& shape, std::size_t count, std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::uint32_t> out(count);
  for (std::uint32_t& token : out) token = static_cast<std::uint32_t>(prng.next() % shape.vocabulary);
  return out;
}

std::uint64_t hash_floats(std::span<const float> values) {
  std::uint64_t hash = 0xCBF2'9CE4'8422'2325ULL;
  for (const float value : values) {
    const std::uint32_t bits = numerics::bits_of(value);
    for (std::uint32_t shift = 0; shift < 32; shift += 8)
      hash = (hash ^ ((bits >> shift) & 0xFFU)) * 0x0000'0100'0000'01B3ULL;
  }
  return hash;
}

std::vector<float> run_tokens(Backend& backend, std::span<const std::uint32_t> tokens, std::uint32_t chunk,
                              std::uint32_t vocabulary) {
  std::vector<std::vector<PageId>> tables(1);
  for (PageId page = 0; page * kPageTokens < tokens.size(); ++page) tables[0].push_back(page);
  std::vector<float> logits(tokens.size() * vocabulary);
  for (std::size_t at = 0; at < tokens.size(); at += chunk) {
    const std::size_t count = std::min<std::size_t>(chunk, tokens.size() - at);
    std::vector<Row> rows;
    for (std::size_t i = 0; i < count; ++i)
      rows.push_back({tokens[at + i], static_cast<std::uint32_t>(at + i), 0, true});
    const auto done = backend.step({rows, tables}, {std::span(logits).subspan(at * vocabulary, count * vocabulary)});
    ORCH_CHECK(done.ok());
  }
  return logits;
}

std::vector<float> run_hidden(Backend& backend, std::span<const std::uint32_t> tokens, std::uint32_t chunk,
                              const TinyShape& shape) {
  std::vector<std::vector<PageId>> tables(1);
  for (PageId page = 0; page * kPageTokens < tokens.size(); ++page) tables[0].push_back(page);
  std::vector<float> hidden(tokens.size() * shape.embedding);
  for (std::uint32_t at = 0; at < tokens.size(); at += chunk) {
    const auto count = std::min<std::uint32_t>(chunk, static_cast<std::uint32_t>(tokens.size()) - at);
    std::vector<Row> rows;
    for (std::uint32_t i = 0; i < count; ++i) rows.push_back({tokens[at + i], at + i, 0, i % 3 == 0, true});
    std::vector<float> logits(std::size_t{(count + 2) / 3} * shape.vocabulary);
    const auto out = std::span(hidden).subspan(std::size_t{at} * shape.embedding, std::size_t{count} * shape.embedding);
    ORCH_CHECK(backend.step({rows, tables}, {logits, out}).ok());
  }
  return hidden;
}

}  // namespace orch::worker::testing
