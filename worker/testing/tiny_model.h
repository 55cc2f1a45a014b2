// A Llama of two layers, or another architecture, with random weights, made here from a seed, small enough for the
// scalar reference in milliseconds; every backend is compared on it. Test code only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "worker/core/backend.h"
#include "worker/model/q_tensor.h"
#include "worker/model/weights.h"
#include "worker/testing/gguf_writer.h"

namespace orch::worker::testing {

struct TinyShape {
  std::string architecture = "llama";  // of worker/model/architecture.h, with the tensors it wants
  std::uint32_t window = 0;            // of architectures that know one
  std::uint32_t layers = 2;
  std::uint32_t embedding = 96;      // three blocks: a short split
  std::uint32_t feed_forward = 320;  // ten blocks: one full split and a short one
  std::uint32_t heads = 6;
  std::uint32_t kv_heads = 2;
  std::uint32_t head_dim = 16;
  std::uint32_t vocabulary = 203;  // not a multiple of 16
  std::uint32_t context = 1024;
  TensorType matrices = TensorType::q4_1;
  TensorType embedding_type = TensorType::q8_0;
  std::optional<TensorType> value_and_down;  // attn_v and ffn_down, where files mix types; none: as the others
  bool tied = true;
  std::uint64_t seed = 1;
};

// A writer that holds the whole model, to be changed further or finished.
GgufWriter tiny_model_writer(const TinyShape& shape);
std::vector<std::byte> tiny_model_file(const TinyShape& shape);
Model tiny_model(const TinyShape& shape);

// Bytes of `rows` x `cols` random weights in the file's format of `type`, deviation about 1 / sqrt(cols).
std::vector<std::byte> random_tensor_bytes(TensorType type, std::uint32_t rows, std::uint32_t cols, std::uint64_t seed);
QTensor random_tensor(TensorType type, std::uint32_t rows, std::uint32_t cols, std::uint64_t seed);
std::vector<float> random_floats(std::size_t count, std::uint64_t seed, float scale);
std::uint32_t ggml_type_id(TensorType type);

// `count` token ids below the vocabulary.
std::vector<std::uint32_t> tiny_tokens(const TinyShape& shape, std::size_t count, std::uint64_t seed);

// FNV-1a 64 over the bytes; to freeze results in tests.
std::uint64_t hash_floats(std::span<const float> values);

// Feeds `tokens` as sequence 0 in steps of `chunk` rows on pages 0.. and returns the logits of every position.
std::vector<float> run_tokens(Backend& backend, std::span<const std::uint32_t> tokens, std::uint32_t chunk,
                              std::uint32_t vocabulary);
// Likewise the hidden states of every position; logits of every third row are asked for beside them.
std::vector<float> run_hidden(Backend& backend, std::span<const std::uint32_t> tokens, std::uint32_t chunk,
                              const TinyShape& shape);

}  // namespace orch::worker::testing
