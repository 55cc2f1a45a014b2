// The Vulkan backend against the scalar reference, to the byte, on generated models (ENGINE-RULES "How agreement is
// judged").
#include <gtest/gtest.h>

#include <cstring>

#include "gen/kernels/mutant_gelu.h"
#include "gen/kernels/mutant_head_norm.h"
#include "gen/kernels/mutant_joined_norm.h"
#include "gen/kernels/mutant_leaf_order.h"
#include "gen/kernels/mutant_nibbles.h"
#include "gen/kernels/mutant_norm_order.h"
#include "gen/kernels/mutant_rope.h"
#include "gen/kernels/mutant_split.h"
#include "gen/kernels/mutant_sub_scale.h"
#include "gen/kernels/mutant_unprotected_exp.h"
#include "gen/kernels/mutant_window.h"
#include "worker/vulkan/backend_comparison.h"

namespace orch::worker::vulkan {
namespace {

class VulkanBackendTest : public DeviceTest {};

TEST_F(VulkanBackendTest, OC_NUM_1501_logits_equal_the_scalar_reference_for_every_weight_type) {
  for (const TensorType type : kTensorTypes) {
    if (is_wide(type)) continue;
    TinyShape shape;
    shape.matrices = type;
    const auto device = vulkan_backend(shape);
    ASSERT_NE(device, nullptr);
    EXPECT_EQ(compare(shape, 40, 16, *device), std::string::npos) << to_string(type);
  }
}

TEST_F(VulkanBackendTest, OC_NUM_1001_bytes_do_not_depend_on_the_chunk_and_cross_the_attention_split) {
  TinyShape shape;
  const auto device = vulkan_backend(shape);
  ASSERT_NE(device, nullptr);
  for (const std::uint32_t chunk : {1U, 3U, 33U, 256U}) {
    EXPECT_EQ(compare(shape, 300, chunk, *device), std::string::npos) << "chunk " << chunk;
  }
}

TEST_F(VulkanBackendTest, OC_NUM_1001_other_shapes) {
  TinyShape untied;
  untied.tied = false;
  untied.embedding_type = TensorType::q4_0;
  untied.heads = 4;
  untied.kv_heads = 4;
  untied.head_dim = 24;
  TinyShape grouped;
  grouped.heads = 10;
  grouped.kv_heads = 2;
  grouped.head_dim = 32;
  grouped.seed = 5;
  for (const TinyShape& shape : {untied, grouped}) {
    const auto device = vulkan_backend(shape);
    ASSERT_NE(device, nullptr);
    EXPECT_EQ(compare(shape, 70, 64, *device), std::string::npos) << shape.heads << " heads";
  }
}

TEST_F(VulkanBackendTest, OC_NUM_1208_mixtures_of_types_equal_the_scalar_reference) {
  for (const TinyShape& shape : {wide_shape(TensorType::q4_k, TensorType::q6_k, TensorType::q6_k),
                                 wide_shape(TensorType::q5_k, TensorType::q4_k, TensorType::q5_0),
                                 wide_shape(TensorType::q6_k, TensorType::bf16, TensorType::q8_0),
                                 wide_shape(TensorType::q5_1, TensorType::q5_k, TensorType::q4_k)}) {
    const auto device = vulkan_backend(shape);
    ASSERT_NE(device, nullptr);
    EXPECT_EQ(compare(shape, 40, 16, *device), std::string::npos) << to_string(shape.matrices);
  }
}

// Norms of heads; then also windows (in the first split, at its end, in the second), post norms, GELU, a scaled
// embedding and a second table of positions.
TEST_F(VulkanBackendTest, OC_ENGINE_1014_architectures_equal_the_scalar_reference_whatever_the_chunk) {
  TinyShape qwen3;
  qwen3.architecture = "qwen3";
  TinyShape gemma3;
  gemma3.architecture = "gemma3";
  gemma3.layers = 7;
  gemma3.window = 90;
  for (const TinyShape& shape : {qwen3, gemma3}) {
    const auto device = vulkan_backend(shape);
    ASSERT_NE(device, nullptr);
    for (const std::uint32_t chunk : {33U, 256U}) {
      EXPECT_EQ(compare(shape, 300, chunk, *device), std::string::npos) << shape.architecture << " chunk " << chunk;
    }
  }
}

TEST_F(VulkanBackendTest, OC_ENGINE_1022_hidden_states_equal_the_scalar_reference) {
  TinyShape gemma3;
  gemma3.architecture = "gemma3";
  for (const TinyShape& shape : {TinyShape{}, gemma3}) {
    const auto ids = testing::tiny_tokens(shape, 40, 7);
    const auto device = vulkan_backend(shape);
    ASSERT_NE(device, nullptr);
    const auto want = testing::run_hidden(*scalar_backend(shape), ids, 40, shape);
    for (const std::uint32_t chunk : {1U, 33U}) {
      EXPECT_EQ(difference(want, testing::run_hidden(*device, ids, chunk, shape)), std::string::npos) << chunk;
    }
  }
}

TEST_F(VulkanBackendTest, OC_NUM_1304_scaled_positions_equal_the_scalar_reference) {
  TinyShape shape;
  shape.architecture = "qwen2";
  for (const RopeScalingKind kind : {RopeScalingKind::linear, RopeScalingKind::yarn}) {
    const auto model = [&] {
      Model scaled = testing::tiny_model(shape);
      scaled.config.rope_scaling = {kind, 4.0, 128, 1.1, 32.0, 1.0};
      return scaled;
    };
    const auto device = vulkan_backend(model(), shape.context);
    ASSERT_NE(device, nullptr);
    const auto ids = testing::tiny_tokens(shape, 40, 7);
    const auto want = testing::run_tokens(*scalar_backend(model(), shape.context), ids, 40, shape.vocabulary);
    EXPECT_EQ(difference(want, testing::run_tokens(*device, ids, 16, shape.vocabulary)), std::string::npos);
  }
}

TEST_F(VulkanBackendTest, OC_NUM_1501_biases_and_half_pairs_equal_the_scalar_reference) {
  TinyShape shape;
  shape.architecture = "qwen2";
  const auto device = vulkan_backend(shape);
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(compare(shape, 70, 40, *device), std::string::npos);
}

// Rows of several sequences in one step, on pages in any order; rows without logits between rows with.
TEST_F(VulkanBackendTest, OC_NUM_1001_neighbours_and_page_places_do_not_matter) {
  TinyShape shape;
  const auto reference = scalar_backend(shape);
  const auto device = vulkan_backend(shape);
  ASSERT_NE(device, nullptr);
  const std::vector<std::vector<PageId>> tables{{30, 2, 17}, {5, 39, 0}, {11, 12, 13}};
  std::vector<std::vector<std::uint32_t>> texts;
  for (std::uint64_t s = 0; s < tables.size(); ++s) texts.push_back(testing::tiny_tokens(shape, 80, 50 + s));
  const std::vector<std::vector<std::uint32_t>> counts{{40, 1, 7}, {1, 1, 1}, {5, 33, 12}};
  std::vector<std::uint32_t> at(tables.size(), 0);
  for (const auto& step : counts) {
    std::vector<Row> rows;
    std::size_t wanted = 0;
    for (std::uint32_t s = 0; s < tables.size(); ++s) {
      for (std::uint32_t i = 0; i < step[s]; ++i, ++at[s]) {
        const bool want = i % 3 == 0;
        wanted += want ? 1 : 0;
        rows.push_back({texts[s][at[s]], at[s], s, want});
      }
    }
    std::vector<float> want(wanted * shape.vocabulary);
    std::vector<float> got(want.size());
    ASSERT_TRUE(reference->step({rows, tables}, {want}).ok());
    ASSERT_TRUE(device->step({rows, tables}, {got}).ok());
    EXPECT_EQ(difference(want, got), std::string::npos);
  }
}

TEST_F(VulkanBackendTest, OC_ENGINE_1002_a_copied_page_continues_as_the_original) {
  TinyShape shape;
  const auto device = vulkan_backend(shape);
  ASSERT_NE(device, nullptr);
  const auto ids = testing::tiny_tokens(shape, 21, 9);
  const auto first = testing::run_tokens(*device, ids, 20, shape.vocabulary);
  ASSERT_TRUE(device->copy_page(0, 23).ok());
  const std::vector<std::vector<PageId>> tables{{23}};
  const std::vector<Row> rows{{ids[20], 20, 0, true}};
  std::vector<float> again(shape.vocabulary);
  ASSERT_TRUE(device->step({rows, tables}, {again}).ok());
  EXPECT_EQ(0,
            std::memcmp(again.data(), first.data() + std::size_t{20} * shape.vocabulary, again.size() * sizeof(float)));
}

TEST_F(VulkanBackendTest, OC_NUM_1305_saturated_keys_and_values_are_counted_as_on_the_cpu) {
  TinyShape shape;
  const auto loud_model = [&shape] {
    Model model = testing::tiny_model(shape);
    for (QTensor& tensor : model.weights.tensors) {
      if (tensor.name != "blk.0.attn_norm.weight") continue;
      for (std::uint32_t i = 0; i < tensor.cols; ++i) tensor.quants.as<float>()[i] = 1e6F;
    }
    return model;
  };
  for (const std::uint32_t rows : {0U, 4U}) {  // with own inputs, a start takes steps that are not counted
    const auto device =
        vulkan_backend(loud_model(), shape.context, {.own_inputs = OwnInputLimits{.rows = rows, .splits = 4}});
    ASSERT_NE(device, nullptr);
    const auto reference = scalar_backend(loud_model(), shape.context);
    EXPECT_EQ(device->kv_saturated_total(), 0U);
    const auto ids = testing::tiny_tokens(shape, 12, 5);
    const auto got = testing::run_tokens(*device, ids, 8, shape.vocabulary);
    const auto want = testing::run_tokens(*reference, ids, 8, shape.vocabulary);
    EXPECT_EQ(difference(want, got), std::string::npos);
    EXPECT_GT(device->kv_saturated_total(), 0U);
    EXPECT_EQ(device->kv_saturated_total(), reference->kv_saturated_total());
  }
}

struct Mutant {
  const char* name;
  Kernel kernel;
  SpirvWords code;
};

void expect_red(const TinyShape& shape, const std::vector<Mutant>& mutants) {
  for (const Mutant& mutant : mutants) {
    Opening opening;
    opening.kernels.code[static_cast<std::size_t>(mutant.kernel)] = mutant.code;
    opening.own_inputs = OwnInputLimits{};  // a start that compares forms would see some of them first
    const auto device = vulkan_backend(shape, opening);
    ASSERT_NE(device, nullptr);
    EXPECT_NE(compare(shape, 64, 64, *device), std::string::npos) << mutant.name;
  }
}

TEST_F(VulkanBackendTest, OC_NUM_1504_wrong_kernels_turn_the_byte_test_red) {
  const std::vector<Mutant> mutants{
      {"dropped precise", Kernel::attention, SpirvWords(mutant_unprotected_exp)},
      {"changed split", Kernel::matmul_quant, SpirvWords(mutant_split)},
      {"order of the softmax sum", Kernel::attention, SpirvWords(mutant_leaf_order)},
      {"swapped nibbles", Kernel::embed, SpirvWords(mutant_nibbles)},
      {"order of the norm sum", Kernel::prepare, SpirvWords(mutant_norm_order)},
      {"wrong rotation", Kernel::rope_store_kv, SpirvWords(mutant_rope)},
  };
  TinyShape shape;
  shape.embedding_type = TensorType::q4_1;  // nibbles in the embedding too
  expect_red(shape, mutants);
}

TEST_F(VulkanBackendTest, OC_NUM_1504_wrong_kernels_of_other_types_and_architectures_turn_the_byte_test_red) {
  expect_red(wide_shape(TensorType::q4_k, TensorType::q8_0, TensorType::q6_k),
             {{"sub-scale of the neighbour", Kernel::matmul_wide, SpirvWords(mutant_sub_scale)}});
  TinyShape gemma3;
  gemma3.architecture = "gemma3";
  gemma3.head_dim = 32;
  gemma3.window = 20;
  expect_red(gemma3, {{"keys before the window", Kernel::attention, SpirvWords(mutant_window)},
                      {"another gelu", Kernel::prepare, SpirvWords(mutant_gelu)},
                      {"half of a head in the norm", Kernel::rope_store_kv, SpirvWords(mutant_head_norm)},
                      {"norm of what has not been joined", Kernel::prepare, SpirvWords(mutant_joined_norm)}});
}

// Across an attention split and with page copies; that the layer would not be silent: StepProgramTest.
TEST_F(VulkanBackendTest, OC_NUM_1001_validation_and_synchronisation_layers_stay_silent) {
  TinyShape qwen3;
  qwen3.architecture = "qwen3";
  TinyShape gemma3;
  gemma3.architecture = "gemma3";
  gemma3.layers = 7;
  gemma3.window = 90;
  for (const TinyShape& shape :
       {TinyShape{}, qwen3, gemma3, wide_shape(TensorType::q4_k, TensorType::q6_k, TensorType::q6_k)}) {
    auto device = open_device({.validation = Validation::synchronization});
    if (!device.ok() && device.error().kind == VulkanErrorKind::unsuitable) GTEST_SKIP() << device.error().message;
    ASSERT_TRUE(device.ok()) << device.error().message;
    const KernelDevice& watched = *device.value();
    VulkanBackendOptions backend_options;
    backend_options.context = shape.context;
    backend_options.pages = kPages;
    auto made = create_backend_on(testing::tiny_model(shape), std::move(device).value(), backend_options);
    ASSERT_TRUE(made.ok()) << made.error().message;
    const auto backend = std::move(made).value();
    EXPECT_EQ(compare(shape, 300, 128, *backend), std::string::npos) << shape.architecture;
    ASSERT_TRUE(backend->copy_page(1, 2).ok());
    ASSERT_TRUE(backend->copy_page(2, 3).ok());  // what a copy wrote
    EXPECT_EQ(compare(shape, 100, 4, *backend), std::string::npos) << shape.architecture;
    EXPECT_EQ(watched.validation_messages(), std::vector<std::string>()) << shape.architecture;
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
