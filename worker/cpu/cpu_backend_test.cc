// Whole steps on a tiny model: bytes do not depend on kernels, threads, chunking, neighbours, pages or denormal modes,
// and equal frozen hashes; every mutant of ENGINE-RULES changes them.
#include "worker/cpu/cpu_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "worker/cpu/mutants.h"
#include "worker/model/memory_estimate.h"
#include "worker/model/repack.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker::cpu {
namespace {

using testing::hash_floats;
using testing::run_tokens;
using testing::tiny_model;
using testing::tiny_tokens;
using testing::TinyShape;

constexpr std::uint32_t kContext = 600;

std::unique_ptr<Backend> backend_of(Model model, const CpuKernels& kernels, std::uint32_t threads = 1,
                                    bool flush = false) {
  CpuBackendOptions options;
  options.threads = threads;
  options.context = kContext;
  options.pages = 40;
  options.flush_denormals = flush;
  auto backend = create_cpu_backend(std::move(model), kernels, options);
  EXPECT_TRUE(backend.ok());
  return std::move(backend).value();
}

const CpuKernels& best_kernels() { return avx2_kernels() != nullptr ? *avx2_kernels() : scalar_kernels(); }

std::vector<TinyShape> shapes() {
  std::vector<TinyShape> out(5);
  out[1].matrices = TensorType::q4_0;
  out[2].matrices = TensorType::q8_0;
  out[2].tied = false;
  out[3].matrices = TensorType::f16;
  out[3].embedding_type = TensorType::f16;
  out[4].matrices = TensorType::f32;
  out[4].embedding_type = TensorType::q4_1;
  // K-quants need widths of 256. The mixtures are those that quantised files have: another type in attn_v and ffn_down,
  // beside whose group of 32 the others' group of 256 is made from the same row.
  const auto wide = [&out](TensorType matrices, TensorType embedding, std::optional<TensorType> value_and_down) {
    TinyShape shape;
    shape.embedding = 256;
    shape.feed_forward = 768;
    shape.heads = 8;
    shape.head_dim = 32;
    shape.matrices = matrices;
    shape.embedding_type = embedding;
    shape.value_and_down = value_and_down;
    out.push_back(shape);
  };
  wide(TensorType::q4_k, TensorType::q6_k, TensorType::q6_k);
  wide(TensorType::q5_k, TensorType::q4_k, TensorType::q5_0);
  wide(TensorType::q6_k, TensorType::bf16, TensorType::q8_0);
  wide(TensorType::q5_0, TensorType::q5_0, TensorType::q5_1);
  wide(TensorType::q5_1, TensorType::q5_1, TensorType::q4_k);
  wide(TensorType::bf16, TensorType::q5_k, TensorType::q5_k);
  return out;
}

// Frozen: 300 tokens, all logits, FNV-1a. A change here is a change of the numerics contract and needs its version
// raised.
constexpr std::uint64_t kGolden[] = {0x6d1b1c55c32c6a85, 0x9dd57ce2dced109f, 0xe55110b5fb0aa7e8, 0x4a72710de3ce5099,
                                     0x8416d5748bd428c8, 0xb9f60f7775944289, 0xbfdea763f361d3f7, 0x89bb9ede51a9e7ed,
                                     0xf272a02ffce4e3c1, 0xc71419b99f1aa9b7, 0x42f44e8ed576f0ea};

TEST(CpuBackend, OC_NUM_1501_logits_equal_the_frozen_hashes_on_scalar_and_simd) {
  for (std::size_t i = 0; i < shapes().size(); ++i) {
    const TinyShape shape = shapes()[i];
    const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 300, 11);
    const auto scalar = run_tokens(*backend_of(tiny_model(shape), scalar_kernels()), tokens, 256, shape.vocabulary);
    EXPECT_EQ(hash_floats(scalar), kGolden[i]) << "shape " << i << std::hex << ": 0x" << hash_floats(scalar);
    const auto simd = run_tokens(*backend_of(tiny_model(shape), best_kernels()), tokens, 256, shape.vocabulary);
    EXPECT_EQ(hash_floats(simd), kGolden[i]) << "shape " << i;
    for (const float logit : scalar) ASSERT_TRUE(std::isfinite(logit));
  }
}

// Biases, norms of heads, then windows, post norms, GELU and a second RoPE base.
std::vector<TinyShape> architectures() {
  std::vector<TinyShape> out(3);
  out[0].architecture = "qwen2";
  out[1].architecture = "qwen3";
  out[2].architecture = "gemma3";
  out[2].layers = 7;
  out[2].window = 90;  // 300 tokens: windows begin in the first split, at its end and in the second
  return out;
}

constexpr std::uint64_t kGoldenArchitectures[] = {0x2e7391060074205e, 0x13f35427046af7a3, 0x72e91a1d04f9f5fc};

TEST(CpuBackend, OC_ENGINE_1014_architectures_give_the_frozen_hashes_whatever_the_kernels_chunk_and_threads) {
  for (std::size_t i = 0; i < architectures().size(); ++i) {
    const TinyShape shape = architectures()[i];
    const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 300, 11);
    const auto scalar = run_tokens(*backend_of(tiny_model(shape), scalar_kernels()), tokens, 256, shape.vocabulary);
    EXPECT_EQ(hash_floats(scalar), kGoldenArchitectures[i])
        << shape.architecture << std::hex << ": 0x" << hash_floats(scalar);
    for (const std::uint32_t chunk : {7U, 33U, 256U}) {
      const auto simd =
          run_tokens(*backend_of(tiny_model(shape), best_kernels(), 1 + chunk % 2), tokens, chunk, shape.vocabulary);
      EXPECT_EQ(hash_floats(simd), hash_floats(scalar)) << shape.architecture << " chunk " << chunk;
    }
  }
}

TEST(CpuBackend, OC_ENGINE_1013_each_part_of_an_architecture_changes_the_logits) {
  const TinyShape gemma = architectures()[2];
  const std::vector<std::uint32_t> tokens = tiny_tokens(gemma, 120, 11);
  const auto hash_without = [&](const std::function<void(Model&)>& change) {
    Model model = tiny_model(gemma);
    change(model);
    model.plan = build_plan(model.config, model.weights);
    return hash_floats(run_tokens(*backend_of(std::move(model), best_kernels()), tokens, 120, gemma.vocabulary));
  };
  const std::uint64_t whole = hash_without([](Model&) {});
  EXPECT_NE(hash_without([](Model& m) { m.config.window = 0; }), whole);
  EXPECT_NE(hash_without([](Model& m) { m.config.window = 89; }), whole);
  EXPECT_NE(hash_without([](Model& m) { m.config.embedding_scale = 1; }), whole);
  EXPECT_NE(hash_without([](Model& m) { m.config.architecture.activation = Activation::silu; }), whole);
  EXPECT_NE(hash_without([](Model& m) { m.config.architecture.local_rope_base = 20000; }), whole);
  EXPECT_NE(hash_without([](Model& m) { m.weights.layers[3].query_norm = kNoTensor; }), whole);
  EXPECT_NE(hash_without([](Model& m) { m.weights.layers[3].key_norm = kNoTensor; }), whole);
  EXPECT_NE(hash_without([](Model& m) { m.weights.layers[6].feed_forward_post_norm = kNoTensor; }), whole);
}

TEST(CpuBackend, OC_NUM_1001_bytes_do_not_depend_on_chunk_or_threads) {
  const TinyShape shape;
  const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 300, 11);
  for (std::uint32_t threads = 1; threads <= 4; ++threads) {
    for (const std::uint32_t chunk : {1U, 3U, 40U, 256U}) {
      if (chunk == 1 && threads > 2) continue;  // more threads than cores and 300 steps only cost time
      const auto logits =
          run_tokens(*backend_of(tiny_model(shape), best_kernels(), threads), tokens, chunk, shape.vocabulary);
      EXPECT_EQ(hash_floats(logits), kGolden[0]) << threads << " threads, chunk " << chunk;
    }
  }
}

// The head of a model of plain weights is nothing but a product with them.
TEST(CpuBackend, OC_ENGINE_1022_hidden_states_are_what_the_head_reads) {
  TinyShape shape;
  shape.embedding_type = TensorType::f32;
  const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 20, 11);
  const auto logits = run_tokens(*backend_of(tiny_model(shape), scalar_kernels()), tokens, 20, shape.vocabulary);
  const auto hidden = run_hidden(*backend_of(tiny_model(shape), scalar_kernels()), tokens, 20, shape);
  const Model model = tiny_model(shape);
  std::vector<float> row(shape.embedding);
  for (std::uint32_t id = 0; id < shape.vocabulary; id += 11) {
    dequantise_row(model.weights.tensors[model.weights.output], id, row.data());
    for (std::size_t position = 0; position < tokens.size(); ++position) {
      double sum = 0;
      for (std::size_t i = 0; i < shape.embedding; ++i) {
        sum += static_cast<double>(row[i]) * static_cast<double>(hidden[position * shape.embedding + i]);
      }
      EXPECT_NEAR(sum, static_cast<double>(logits[position * shape.vocabulary + id]), 1e-4);
    }
  }
}

TEST(CpuBackend, OC_ENGINE_1022_hidden_states_do_not_depend_on_kernels_chunk_threads_or_denormals) {
  for (const TinyShape& shape : {TinyShape{}, architectures()[2]}) {
    const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 120, 11);
    const auto expected = hash_floats(run_hidden(*backend_of(tiny_model(shape), scalar_kernels()), tokens, 120, shape));
    for (const std::uint32_t chunk : {1U, 13U, 120U}) {
      const auto backend = backend_of(tiny_model(shape), best_kernels(), 1 + chunk % 2, chunk == 13);
      EXPECT_EQ(hash_floats(run_hidden(*backend, tokens, chunk, shape)), expected) << "chunk " << chunk;
    }
  }
}

TEST(CpuBackend, OC_NUM_1105_bytes_do_not_depend_on_denormal_modes) {
  for (std::size_t i = 0; i < shapes().size(); ++i) {
    const TinyShape shape = shapes()[i];
    const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 300, 11);
    for (const CpuKernels* kernels : {&scalar_kernels(), &best_kernels()}) {
      const auto logits = run_tokens(*backend_of(tiny_model(shape), *kernels, 2, true), tokens, 100, shape.vocabulary);
      EXPECT_EQ(hash_floats(logits), kGolden[i]) << kernels->name << " shape " << i;
    }
  }
}

#if defined(__x86_64__)
// Whoever calls may round as it likes; it finds its own way again afterwards.
TEST(CpuBackend, OC_NUM_1106_bytes_do_not_depend_on_the_float_state_of_the_caller) {
  constexpr unsigned int kTowardsZero = 0x7F80;
  const TinyShape shape = shapes()[0];
  const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 300, 11);
  for (const std::uint32_t threads : {1U, 2U}) {
    const auto backend = backend_of(tiny_model(shape), scalar_kernels(), threads);
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(kTowardsZero);
    const auto logits = run_tokens(*backend, tokens, 100, shape.vocabulary);
    const unsigned int after = _mm_getcsr();
    _mm_setcsr(before);
    EXPECT_EQ(hash_floats(logits), kGolden[0]) << threads << " threads";
    EXPECT_EQ(after & 0x6000U, kTowardsZero & 0x6000U) << "the caller's rounding";
  }
}
#endif

// Three sequences interleaved in one batch, on scattered pages, give what each gives alone.
TEST(CpuBackend, OC_NUM_1001_a_row_does_not_depend_on_its_neighbours_or_pages) {
  const TinyShape shape;
  std::vector<std::vector<std::uint32_t>> tokens;
  std::vector<std::vector<float>> alone;
  for (std::uint64_t s = 0; s < 3; ++s) {
    tokens.push_back(tiny_tokens(shape, 70 + 7 * s, 40 + s));
    alone.push_back(run_tokens(*backend_of(tiny_model(shape), scalar_kernels()), tokens.back(), 1, shape.vocabulary));
  }
  const std::unique_ptr<Backend> backend = backend_of(tiny_model(shape), best_kernels(), 2);
  const std::vector<std::vector<PageId>> tables = {{9, 1, 30}, {4, 22, 7}, {0, 39, 12}};
  std::vector<std::size_t> done(3);
  for (std::size_t round = 0; done[2] < tokens[2].size(); ++round) {
    std::vector<Row> rows;
    std::vector<std::pair<std::size_t, std::size_t>> of_row;
    for (std::size_t s = 0; s < 3; ++s) {
      const std::size_t count = std::min(tokens[s].size() - done[s], (round * 5 + s * 3) % 11 + 1);
      for (std::size_t i = 0; i < count; ++i, ++done[s]) {
        rows.push_back(
            {tokens[s][done[s]], static_cast<std::uint32_t>(done[s]), static_cast<SequenceIndex>(s), i % 2 == 0});
        if (i % 2 == 0) of_row.emplace_back(s, done[s]);
      }
    }
    std::vector<float> logits(of_row.size() * shape.vocabulary);
    ASSERT_TRUE(backend->step({rows, tables}, {logits}).ok());
    for (std::size_t i = 0; i < of_row.size(); ++i) {
      const auto [s, position] = of_row[i];
      EXPECT_EQ(std::memcmp(&logits[i * shape.vocabulary], &alone[s][position * shape.vocabulary],
                            shape.vocabulary * sizeof(float)),
                0)
          << "sequence " << s << " position " << position;
    }
  }
}

TEST(CpuBackend, OC_ENGINE_1002_a_copied_page_continues_the_same_way) {
  const TinyShape shape;
  const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 50, 3);
  const std::unique_ptr<Backend> backend = backend_of(tiny_model(shape), best_kernels());
  const auto logits = run_tokens(*backend, tokens, 64, shape.vocabulary);
  ASSERT_TRUE(backend->copy_page(1, 20).ok());
  const std::vector<Row> rows = {{tokens[49], 49, 0, true}};
  const std::vector<std::vector<PageId>> tables = {{0, 20}};
  std::vector<float> again(shape.vocabulary);
  ASSERT_TRUE(backend->step({rows, tables}, {again}).ok());
  EXPECT_EQ(std::memcmp(again.data(), &logits[std::size_t{49} * shape.vocabulary], again.size() * sizeof(float)), 0);
}

TEST(CpuBackend, OC_NUM_1107_overflowing_weights_give_non_finite_logits_not_a_crash) {
  Model model = tiny_model({});
  for (QTensor& tensor : model.weights.tensors) {
    if (tensor.layout == TensorLayout::plain) tensor.quants.as<float>()[0] = 3e38F;
  }
  Model copy = tiny_model({});
  for (QTensor& tensor : copy.weights.tensors) {
    if (tensor.layout == TensorLayout::plain) tensor.quants.as<float>()[0] = 3e38F;
  }
  const std::vector<std::uint32_t> tokens = tiny_tokens({}, 40, 5);
  const auto scalar = run_tokens(*backend_of(std::move(model), scalar_kernels()), tokens, 40, 203);
  const auto simd = run_tokens(*backend_of(std::move(copy), best_kernels()), tokens, 40, 203);
  for (std::size_t row = 0; row < 40; ++row) {
    const auto finite = [&](const std::vector<float>& v) {
      return std::all_of(v.begin() + static_cast<std::ptrdiff_t>(row * 203),
                         v.begin() + static_cast<std::ptrdiff_t>((row + 1) * 203),
                         [](float x) { return std::isfinite(x); });
    };
    EXPECT_FALSE(finite(scalar)) << row;
    EXPECT_FALSE(finite(simd)) << row;
  }
}

TEST(CpuBackend, OC_NUM_1305_saturated_keys_and_values_are_counted) {
  Model model = tiny_model({});
  for (QTensor& tensor : model.weights.tensors) {
    if (tensor.name == "blk.0.attn_norm.weight") {
      for (std::uint32_t i = 0; i < tensor.cols; ++i) tensor.quants.as<float>()[i] = 1e6F;
    }
  }
  const std::unique_ptr<Backend> backend = backend_of(std::move(model), best_kernels());
  EXPECT_EQ(backend->kv_saturated_total(), 0u);
  static_cast<void>(run_tokens(*backend, tiny_tokens({}, 8, 5), 8, 203));
  EXPECT_GT(backend->kv_saturated_total(), 0u);
}

TEST(CpuBackend, OC_ENGINE_1006_the_estimate_covers_what_is_allocated) {
  const Model model = tiny_model({});
  BackendOptions options;
  options.context = kContext;
  options.slots = 2;
  const auto estimate = estimate_memory(model.config, model.weights.byte_size(), options, {});
  ASSERT_TRUE(estimate.ok());
  CpuBackendOptions cpu_options;
  cpu_options.threads = 4;
  cpu_options.context = kContext;
  cpu_options.pages = estimate->pages;
  auto backend = create_cpu_backend(tiny_model({}), best_kernels(), cpu_options);
  ASSERT_TRUE(backend.ok());
  const BackendInfo info = (*backend)->info();
  EXPECT_EQ(info.weight_bytes, estimate->weight_bytes);
  EXPECT_EQ(info.kv_bytes, estimate->kv_bytes);
  EXPECT_LE(info.scratch_bytes, estimate->scratch_bytes);
}

TEST(CpuBackend, OC_NUM_1504_every_mutant_changes_the_hash) {
  const TinyShape shape;
  const std::vector<std::uint32_t> tokens = tiny_tokens(shape, 300, 11);
  ASSERT_EQ(mutants().size(), 7u);
  for (const Mutant& mutant : mutants()) {
    Model model = tiny_model(shape);
    if (mutant.change_model != nullptr) mutant.change_model(model);
    const CpuKernels kernels = kernels_of(mutant);
    const auto logits = run_tokens(*backend_of(std::move(model), kernels), tokens, 256, shape.vocabulary);
    EXPECT_NE(hash_floats(logits), kGolden[0]) << mutant.name;
  }
}

}  // namespace
}  // namespace orch::worker::cpu
