// Keys of a model file that change results (OC-ENGINE-1013).
#include "worker/model/model_config.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "worker/model/gguf_file.h"
#include "worker/testing/gguf_writer.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker {
namespace {

using testing::GgufWriter;

Result<ModelConfig, ModelError> config_of(const GgufWriter& writer) {
  const std::vector<std::byte> bytes = writer.finish();
  auto file = GgufFile::parse(bytes);
  if (!file.ok()) return Err{file.error()};
  return read_model_config(**file);
}

ModelError error_of(const GgufWriter& writer) {
  const auto config = config_of(writer);
  return config.ok() ? ModelError{} : config.error();
}

TEST(Model, OC_ENGINE_1013_keys_of_windowed_layers_are_obeyed_or_refused) {
  testing::TinyShape shape;
  shape.architecture = "gemma3";
  shape.window = 16;
  shape.layers = 1;
  EXPECT_EQ(config_of(testing::tiny_model_writer(shape))->architecture.local_rope_base, 10000.0F);
  GgufWriter based = testing::tiny_model_writer(shape);
  based.add_f32("gemma3.rope.freq_base_swa", 500.0F);
  const auto config = config_of(based);
  EXPECT_EQ(config->architecture.local_rope_base, 500.0F);
  EXPECT_EQ(config->rope_base, 10000.0F) << "that of the layers without a window";
  const RopeTable local = make_local_rope_table(*config, 8);
  const RopeTable usual = make_local_rope_table(*config_of(testing::tiny_model_writer(shape)), 8);
  EXPECT_NE(testing::hash_floats(local.cosine), testing::hash_floats(usual.cosine));
  GgufWriter flat = testing::tiny_model_writer(shape);
  flat.add_f32("gemma3.rope.freq_base_swa", 0.5F);
  EXPECT_EQ(error_of(flat).field, "gemma3.rope.freq_base_swa");
  for (const char* key :
       {"gemma3.attention.key_length_swa", "gemma3.attention.value_length_swa", "gemma3.rope.dimension_count_swa"}) {
    GgufWriter same = testing::tiny_model_writer(shape);
    same.add_u32(key, shape.head_dim);
    EXPECT_TRUE(config_of(same).ok()) << key;
    GgufWriter smaller = testing::tiny_model_writer(shape);
    smaller.add_u32(key, shape.head_dim / 2);
    EXPECT_EQ(error_of(smaller).field, key);
    EXPECT_EQ(error_of(smaller).kind, ModelErrorKind::unsupported);
  }
}

TEST(Model, OC_ENGINE_1013_a_factor_of_positions_without_its_kind_is_linear) {
  const auto scaling_of = [](const char* key, const char* type) {
    GgufWriter writer = testing::tiny_model_writer(testing::TinyShape());
    if (key != nullptr) writer.add_f32(key, 4.0F);
    if (type != nullptr) writer.add_string("llama.rope.scaling.type", type);
    const RopeScaling scaling = config_of(writer)->rope_scaling;
    return std::pair(scaling.kind, scaling.factor);
  };
  constexpr const char* kFactor = "llama.rope.scaling.factor";
  constexpr const char* kOlder = "llama.rope.scale_linear";
  EXPECT_EQ(scaling_of(kFactor, nullptr), (std::pair(RopeScalingKind::linear, 4.0)));
  EXPECT_EQ(scaling_of(kOlder, nullptr), (std::pair(RopeScalingKind::linear, 4.0)));
  EXPECT_EQ(scaling_of(kOlder, "linear"), (std::pair(RopeScalingKind::linear, 4.0)));
  EXPECT_EQ(scaling_of(kFactor, "none"), (std::pair(RopeScalingKind::none, 1.0)));
  EXPECT_EQ(scaling_of(nullptr, nullptr), (std::pair(RopeScalingKind::none, 1.0)));
}

TEST(Model, OC_ENGINE_1013_a_factor_of_positions_of_0_scales_none) {
  for (const char* type : {"linear", ""}) {
    GgufWriter writer = testing::tiny_model_writer(testing::TinyShape());
    writer.add_f32("llama.rope.scaling.factor", 0.0F);
    if (*type != '\0') writer.add_string("llama.rope.scaling.type", type);
    const auto config = config_of(writer);
    ASSERT_TRUE(config.ok()) << type << ": " << config.error().message;
    const Weights weights;
    const RopeTable none = make_rope_table(*config_of(testing::tiny_model_writer(testing::TinyShape())), weights, 40);
    const RopeTable read = make_rope_table(*config, weights, 40);
    EXPECT_EQ(testing::hash_floats(read.cosine), testing::hash_floats(none.cosine)) << type;
    EXPECT_EQ(testing::hash_floats(read.sine), testing::hash_floats(none.sine)) << type;
  }
  GgufWriter yarn = testing::tiny_model_writer(testing::TinyShape());
  yarn.add_string("llama.rope.scaling.type", "yarn");
  yarn.add_f32("llama.rope.scaling.factor", 0.0F);
  yarn.add_u32("llama.rope.scaling.original_context_length", 512);
  const auto config = config_of(yarn);
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->rope_scaling.factor, 1.0);
  EXPECT_EQ(config->rope_scaling.attention_factor, 1.0);
  GgufWriter half = testing::tiny_model_writer(testing::TinyShape());
  half.add_f32("llama.rope.scaling.factor", 0.5F);
  EXPECT_EQ(error_of(half).field, "llama.rope.scaling.factor");
}

TEST(Model, OC_ENGINE_1013_a_factor_on_rotated_heads_is_refused_by_name) {
  for (const float factor : {1.0F, 0.5F, 0.0F}) {
    GgufWriter writer = testing::tiny_model_writer(testing::TinyShape());
    writer.add_f32("llama.rope.scaling.attn_factor", factor);
    const ModelError error = error_of(writer);
    EXPECT_EQ(error.field, factor == 1.0F ? "" : "llama.rope.scaling.attn_factor") << factor;
    if (factor != 1.0F) EXPECT_EQ(error.kind, ModelErrorKind::unsupported);
  }
}

}  // namespace
}  // namespace orch::worker
