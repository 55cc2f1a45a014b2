// ENGINE-RULES interface 8: refuse with the numbers, or shrink the context and say so.
#include "worker/model/memory_estimate.h"

#include <gtest/gtest.h>

#include "common/grammar/limits.h"
#include "worker/model/gguf_file.h"
#include "worker/model/weights.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker {
namespace {

ModelConfig config() {
  ModelConfig c;
  c.layers = 30;
  c.embedding = 576;
  c.feed_forward = 1536;
  c.heads = 9;
  c.kv_heads = 3;
  c.head_dim = 64;
  c.rope_dims = 64;
  c.context = 8192;
  c.vocabulary = 49152;
  return c;
}

constexpr std::uint64_t kMiB = 1'048'576;

TEST(MemoryEstimate, OC_ENGINE_1006_counts_pages_of_all_slots) {
  EXPECT_EQ(kv_page_bytes(config()), 2u * 32 * 192 * 2 * 30);
  BackendOptions options;
  options.slots = 4;
  options.context = 1000;
  const auto estimate = estimate_memory(config(), 100 * kMiB, options, {});
  ASSERT_TRUE(estimate.ok());
  EXPECT_EQ(estimate->pages, 4u * 32);
  EXPECT_EQ(estimate->kv_bytes, estimate->pages * kv_page_bytes(config()));
}

// What constraints may take is no more to be had from the context.
TEST(MemoryEstimate, OC_ENGINE_1006_counts_what_structured_output_may_take) {
  BackendOptions options;
  options.context = 1024;
  const auto estimate = estimate_memory(config(), 100 * kMiB, options, {});
  ASSERT_TRUE(estimate.ok());
  EXPECT_EQ(estimate->constraint_bytes, grammar::kConstraintBytesMax);
  EXPECT_EQ(estimate->total_bytes(),
            100 * kMiB + estimate->kv_bytes + estimate->scratch_bytes + grammar::kConstraintBytesMax);
  EXPECT_NE(describe(*estimate).find("structured output 88 MiB"), std::string::npos) << describe(*estimate);
  EXPECT_TRUE(estimate_memory(config(), 100 * kMiB, options, {estimate->total_bytes()}).ok());
  EXPECT_FALSE(estimate_memory(config(), 100 * kMiB, options, {estimate->total_bytes() - 1}).ok());
}

TEST(MemoryEstimate, OC_ENGINE_1006_shrinks_the_models_own_context_and_says_so) {
  const auto estimate = estimate_memory(config(), 100 * kMiB, {}, {400 * kMiB});
  ASSERT_TRUE(estimate.ok());
  EXPECT_TRUE(estimate->shrunk());
  EXPECT_LE(estimate->total_bytes(), 400 * kMiB);
  EXPECT_GE(estimate->context, 512u);
  EXPECT_EQ(estimate->context % 32, 0u);
  EXPECT_NE(describe(*estimate).find("context shrunk from 8192"), std::string::npos);
}

TEST(MemoryEstimate, OC_ENGINE_1006_refuses_an_explicit_context_that_does_not_fit) {
  BackendOptions options;
  options.context = 8192;
  const auto estimate = estimate_memory(config(), 100 * kMiB, options, {300 * kMiB});
  ASSERT_FALSE(estimate.ok());
  EXPECT_EQ(estimate.error().kind, ModelErrorKind::memory);
  EXPECT_NE(estimate.error().message.find("budget 300 MiB"), std::string::npos);
}

TEST(MemoryEstimate, OC_ENGINE_1006_refuses_when_even_the_smallest_context_does_not_fit) {
  const auto estimate = estimate_memory(config(), 100 * kMiB, {}, {101 * kMiB});
  ASSERT_FALSE(estimate.ok());
  EXPECT_EQ(estimate.error().kind, ModelErrorKind::memory);
}

TEST(MemoryEstimate, OC_ENGINE_1006_refuses_contexts_above_the_models_and_zero_slots) {
  BackendOptions options;
  options.context = 8193;
  EXPECT_EQ(estimate_memory(config(), 0, options, {}).error().field, "ctx");
  options.context = 0;
  options.slots = 0;
  EXPECT_EQ(estimate_memory(config(), 0, options, {}).error().field, "slots");
}

constexpr DeviceMemory kEmpty{.free_bytes = 1000 * kMiB, .total_bytes = 1000 * kMiB};

TEST(MemoryBudget, OC_DEVICE_1010_leaves_a_tenth_and_divides_the_rest_by_the_sharers) {
  BackendOptions options;
  EXPECT_EQ(memory_budget(kEmpty, options).bytes, 900 * kMiB);
  EXPECT_EQ(memory_budget(kEmpty, options).share_bytes, 900 * kMiB);
  options.memory_sharers = 3;
  EXPECT_EQ(memory_budget(kEmpty, options).bytes, 900 * kMiB);
  EXPECT_EQ(memory_budget(kEmpty, options).share_bytes, 300 * kMiB);
  EXPECT_EQ(memory_budget({}, options).bytes, 0u) << "not known";
}

// A replica that is started again finds less free, as others hold their shares of it already.
TEST(MemoryBudget, OC_DEVICE_1010_a_share_is_not_divided_again_by_what_others_hold) {
  BackendOptions options;
  options.memory_sharers = 2;
  EXPECT_EQ(memory_budget({550 * kMiB, 1000 * kMiB}, options).share_bytes, 450 * kMiB) << "as at the first start";
  EXPECT_EQ(memory_budget({700 * kMiB, 1000 * kMiB}, options).share_bytes, 450 * kMiB) << "the other one loads";
  EXPECT_EQ(memory_budget({300 * kMiB, 1000 * kMiB}, options).share_bytes, 270 * kMiB) << "no more than there is";
  EXPECT_EQ(memory_budget({600 * kMiB, 0}, options).share_bytes, 270 * kMiB) << "the total is not known";
}

TEST(MemoryBudget, OC_DEVICE_1010_a_limit_is_not_divided_and_no_more_than_there_is) {
  BackendOptions options;
  options.memory_sharers = 3;
  options.memory_max_bytes = 700 * kMiB;
  EXPECT_EQ(memory_budget(kEmpty, options).bytes, 700 * kMiB);
  EXPECT_EQ(memory_budget(kEmpty, options).share_bytes, 700 * kMiB);
  EXPECT_EQ(memory_budget({}, options).bytes, 700 * kMiB);
  EXPECT_EQ(memory_budget({600 * kMiB, 1000 * kMiB}, options).bytes, 540 * kMiB);
}

// Two replicas that load at once must not both take all of the host, however often they are started.
TEST(MemoryBudget, OC_DEVICE_1010_the_contexts_of_all_sharers_fit_together) {
  for (const std::uint32_t sharers : {1u, 2u, 5u}) {
    BackendOptions options;
    options.memory_sharers = sharers;
    const std::uint64_t free = 1600 * kMiB;
    const auto estimate = estimate_memory(config(), 100 * kMiB, options, memory_budget({free, free}, options));
    ASSERT_TRUE(estimate.ok());
    EXPECT_TRUE(estimate->shrunk() || sharers == 1);
    EXPECT_LE(sharers * estimate->total_bytes(), free - free / 10);
  }
}

TEST(MemoryBudget, OC_DEVICE_1010_a_share_shrinks_and_the_budget_refuses) {
  BackendOptions options;
  options.memory_sharers = 8;
  const MemoryBudget budget = memory_budget(kEmpty, options);
  const auto small = estimate_memory(config(), 300 * kMiB, options, budget);
  ASSERT_TRUE(small.ok()) << "the weights alone are more than the share, and there is room for them";
  EXPECT_EQ(small->context, 512u);
  EXPECT_NE(describe(*small).find("budget 900 MiB, share 113 MiB"), std::string::npos) << describe(*small);
  options.context = 1024;
  EXPECT_TRUE(estimate_memory(config(), 300 * kMiB, options, budget).ok()) << "an explicit context is not divided";
  EXPECT_FALSE(estimate_memory(config(), 900 * kMiB, options, budget).ok());
}

TEST(MemoryEstimate, OC_ENGINE_1006_foretells_the_repacked_weights_exactly) {
  for (const TensorType type :
       {TensorType::q4_1, TensorType::q8_0, TensorType::q4_0, TensorType::f16, TensorType::f32}) {
    testing::TinyShape shape;
    shape.matrices = type;
    const std::vector<std::byte> bytes = testing::tiny_model_file(shape);
    auto file = GgufFile::parse(bytes);
    ASSERT_TRUE(file.ok());
    auto model = load_model(**file, {});
    ASSERT_TRUE(model.ok());
    EXPECT_EQ(repacked_weight_bytes(**file), model->weights.byte_size()) << to_string(type);
  }
}

// A matrix of one row may be written with one dimension; it has the room of a vector and would be repacked to tiles.
TEST(Weights, OC_ENGINE_1008_a_matrix_without_a_second_dimension_is_refused) {
  testing::TinyShape shape;
  shape.vocabulary = 1;
  testing::GgufWriter writer = testing::tiny_model_writer(shape);
  writer.add_tensor("output.weight", {shape.embedding}, testing::ggml_type_id(TensorType::f32),
                    testing::random_tensor_bytes(TensorType::f32, 1, shape.embedding, 3));
  const std::vector<std::byte> bytes = writer.finish();
  const auto file = GgufFile::parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto loaded = load_model(*file.value(), {});
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().kind, ModelErrorKind::bad_file);
  EXPECT_EQ(loaded.error().field, "output.weight");
}

}  // namespace
}  // namespace orch::worker
