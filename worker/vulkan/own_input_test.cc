// Steps whose matmuls make their inputs themselves against the scalar reference, to the byte, on generated models.
#include <gtest/gtest.h>

#include "gen/kernels/mutant_own_first_split_quant.h"
#include "gen/kernels/mutant_own_first_split_wide.h"
#include "gen/kernels/mutant_own_joined.h"
#include "gen/kernels/mutant_own_row.h"
#include "gen/kernels/mutant_own_three_splits.h"
#include "gen/kernels/mutant_own_wide_row.h"
#include "worker/vulkan/backend_comparison.h"

namespace orch::worker::vulkan {
namespace {

// Rows up to the tile, and more splits than any test has.
constexpr OwnInputLimits kFewRows{.rows = 4, .splits = 100};
constexpr OwnInputLimits kHardware{.rows = 1, .splits = 4};

TinyShape gemma3_shape() {
  TinyShape shape;
  shape.architecture = "gemma3";
  shape.layers = 7;
  shape.window = 90;
  return shape;
}

void expect_equal(const TinyShape& shape, std::size_t tokens, std::initializer_list<std::uint32_t> chunks,
                  OwnInputLimits limits = kFewRows) {
  const auto device = vulkan_backend(shape, {.own_inputs = limits});
  ASSERT_NE(device, nullptr);
  for (const std::uint32_t chunk : chunks) {
    EXPECT_EQ(compare(shape, tokens, chunk, *device), std::string::npos)
        << shape.architecture << " of " << to_string(shape.matrices) << " in steps of " << chunk << " rows";
  }
}

class OwnInputTest : public DeviceTest {};

TEST_F(OwnInputTest, OC_DEVICE_1006_own_inputs_equal_the_scalar_reference_for_every_weight_type) {
  for (const TensorType type : kTensorTypes) {
    TinyShape shape;
    shape.matrices = type;
    expect_equal(is_wide(type) ? wide_shape(type, TensorType::q8_0, type) : shape, 20, {1, 3, 4});
  }
}

// q, k and v of types that do not join, or of which one reads floats.
TEST_F(OwnInputTest, OC_DEVICE_1006_own_inputs_equal_the_scalar_reference_for_mixtures_of_types) {
  for (TinyShape shape : {wide_shape(TensorType::q4_k, TensorType::q6_k, TensorType::q6_k),
                          wide_shape(TensorType::q5_1, TensorType::q5_k, TensorType::q4_k),
                          wide_shape(TensorType::q6_k, TensorType::bf16, TensorType::f16)}) {
    expect_equal(shape, 20, {1, 4});
    shape.architecture = "gemma3";
    expect_equal(shape, 20, {1, 4});
  }
}

TEST_F(OwnInputTest, OC_DEVICE_1006_own_inputs_equal_the_scalar_reference_for_every_architecture) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    TinyShape shape;
    shape.architecture = architecture;
    expect_equal(shape, 300, {1, 4});
  }
  expect_equal(gemma3_shape(), 300, {1, 4});
}

// Steps of both forms, one after the other: by their rows, and by the splits of attention from position 256 on.
TEST_F(OwnInputTest, OC_DEVICE_1006_forms_of_a_step_take_turns) {
  for (const TinyShape& shape : {TinyShape{}, gemma3_shape()}) {
    expect_equal(shape, 300, {1, 3}, {.rows = 2, .splits = 1});
    expect_equal(shape, 260, {1}, {.rows = 1, .splits = 0});
  }
}

TEST_F(OwnInputTest, OC_DEVICE_1006_hidden_states_equal_the_scalar_reference) {
  for (const TinyShape& shape : {TinyShape{}, gemma3_shape()}) {
    const auto ids = testing::tiny_tokens(shape, 20, 7);
    const auto device = vulkan_backend(shape, {.own_inputs = kFewRows});
    ASSERT_NE(device, nullptr);
    const auto want = testing::run_hidden(*scalar_backend(shape), ids, 20, shape);
    for (const std::uint32_t chunk : {1U, 3U}) {
      EXPECT_EQ(difference(want, testing::run_hidden(*device, ids, chunk, shape)), std::string::npos) << chunk;
    }
  }
}

// Rows of three sequences in one step, one of them a split of attention ahead of the others.
TEST_F(OwnInputTest, OC_DEVICE_1006_own_inputs_of_neighbours_do_not_mix) {
  const TinyShape shape = gemma3_shape();
  const auto reference = scalar_backend(shape);
  const auto device = vulkan_backend(shape, {.own_inputs = kFewRows});
  ASSERT_NE(device, nullptr);
  const std::vector<std::vector<PageId>> tables{
      {30, 2}, {5, 39, 0, 6, 7, 8, 9, 10, 14, 15}, {11, 12, 13}};  // of 32 positions each
  std::vector<std::uint32_t> at{3, 255, 40};
  std::vector<Row> before;
  std::vector<std::vector<std::uint32_t>> texts;
  for (std::uint32_t s = 0; s < tables.size(); ++s) {
    texts.push_back(testing::tiny_tokens(shape, 300, 50 + s));
    for (std::uint32_t i = 0; i < at[s]; ++i) before.push_back({texts[s][i], i, s, false});
  }
  for (std::size_t first = 0; first < before.size(); first += 100) {
    const std::span<const Row> rows(before.data() + first, std::min<std::size_t>(100, before.size() - first));
    ASSERT_TRUE(reference->step({rows, tables}, {}).ok());
    ASSERT_TRUE(device->step({rows, tables}, {}).ok());
  }
  for (std::uint32_t step = 0; step < 4; ++step) {
    std::vector<Row> rows;
    for (std::uint32_t s = 0; s < tables.size(); ++s) rows.push_back({texts[s][at[s]], at[s]++, s, s != step});
    const std::size_t wanted = step < 3 ? 2 : 3;
    std::vector<float> want(wanted * shape.vocabulary);
    std::vector<float> got(want.size());
    ASSERT_TRUE(reference->step({rows, tables}, {want}).ok());
    ASSERT_TRUE(device->step({rows, tables}, {got}).ok());
    EXPECT_EQ(difference(want, got), std::string::npos) << "step " << step;
  }
}

// A kernel that makes a wrong input does not come as far as a request: the forms of a program are compared at start.
TEST_F(OwnInputTest, OC_DEVICE_1006_a_start_refuses_matmuls_that_make_a_wrong_input) {
  struct Mutant {
    const char* name;
    TinyShape shape;
    Kernel kernel;
    SpirvWords code;
    OwnInputLimits limits = kFewRows;
  };
  const TinyShape wide = wide_shape(TensorType::q4_k, TensorType::q8_0, TensorType::q6_k);
  for (const Mutant& mutant :
       {Mutant{"every row the first of its tile", {}, Kernel::matmul_quant, SpirvWords(mutant_own_row)},
        Mutant{"likewise of K-quants", wide, Kernel::matmul_wide, SpirvWords(mutant_own_wide_row)},
        Mutant{"a joined stream over the one that is read", gemma3_shape(), Kernel::matmul_quant,
               SpirvWords(mutant_own_joined)},
        Mutant{"likewise, one row", gemma3_shape(), Kernel::matmul_quant, SpirvWords(mutant_own_joined), kHardware},
        Mutant{"the first split alone", {}, Kernel::matmul_quant, SpirvWords(mutant_own_first_split_quant), kHardware},
        Mutant{"likewise of K-quants", wide, Kernel::matmul_wide, SpirvWords(mutant_own_first_split_wide), kHardware},
        Mutant{"three of four splits", {}, Kernel::matmul_quant, SpirvWords(mutant_own_three_splits), kHardware}}) {
    Opening opening{.own_inputs = mutant.limits};
    opening.kernels.code[static_cast<std::size_t>(mutant.kernel)] = mutant.code;
    const auto made = open_backend(testing::tiny_model(mutant.shape), mutant.shape.context, opening);
    ASSERT_FALSE(made.ok()) << mutant.name;
    EXPECT_EQ(made.error().kind, VulkanErrorKind::self_test) << mutant.name << ": " << made.error().message;
  }
}

TEST_F(OwnInputTest, OC_NUM_1001_validation_and_synchronisation_layers_stay_silent_about_own_inputs) {
  for (const TinyShape& shape :
       {TinyShape{}, gemma3_shape(), wide_shape(TensorType::q4_k, TensorType::q6_k, TensorType::q6_k)}) {
    auto opened = open_device({.own_inputs = kFewRows, .validation = Validation::synchronization});
    if (!opened.ok() && opened.error().kind == VulkanErrorKind::unsuitable) GTEST_SKIP() << opened.error().message;
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    const KernelDevice& watched = *opened.value();
    VulkanBackendOptions options;
    options.context = shape.context;
    options.pages = kPages;
    auto made = create_backend_on(testing::tiny_model(shape), std::move(opened).value(), options);
    ASSERT_TRUE(made.ok()) << made.error().message;
    for (const std::uint32_t chunk : {1U, 4U}) {
      EXPECT_EQ(compare(shape, 20, chunk, **made), std::string::npos) << shape.architecture;
    }
    EXPECT_EQ(watched.validation_messages(), std::vector<std::string>()) << shape.architecture;
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
