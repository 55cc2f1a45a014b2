// What a step is made of: how many dispatches, and between which of them a barrier stands.
#include <gtest/gtest.h>

#include "worker/testing/tiny_model.h"
#include "worker/vulkan/program_builder.h"
#include "worker/vulkan/test_device.h"

namespace orch::worker::vulkan {
namespace {

using ::orch::worker::testing::TinyShape;

TinyShape shape_of(const std::string& architecture) {
  TinyShape shape;
  shape.architecture = architecture;
  if (architecture == "gemma3") shape.window = 90;
  return shape;
}

// As Q4_K_M files mix types: q, k and v of one layer are then not one matrix.
TinyShape mixture() {
  TinyShape shape;
  shape.embedding = 256;
  shape.feed_forward = 512;
  shape.heads = 8;
  shape.head_dim = 32;
  shape.matrices = TensorType::q4_k;
  shape.embedding_type = TensorType::q6_k;
  shape.value_and_down = TensorType::q6_k;
  return shape;
}

// `device`: shared by programs that are built one after the other, for its compiled pipelines; null: one of its own.
struct Wish {
  OwnInputs own = OwnInputs::none;
  std::uint32_t tile_tokens = 4;
  std::optional<std::uint32_t> shared_bytes = std::nullopt;
  Validation validation = Validation::off;
  std::shared_ptr<KernelDevice> device = nullptr;
};

std::shared_ptr<KernelDevice> open(const Wish& wish, std::string& why) {
  KernelDeviceOptions options;
  options.device = software_allowed();
  options.validation = wish.validation;
  options.shared_bytes = wish.shared_bytes;
  auto device = KernelDevice::Create(options);
  if (device.ok()) return std::move(device).value();
  why = device.error().message;
  return nullptr;
}

// A model on a device, as far as the list of its dispatches.
struct Built {
  static std::unique_ptr<Built> Create(const TinyShape& shape, const Wish& wish, std::string& why) {
    auto built = std::make_unique<Built>();
    built->device = wish.device != nullptr ? wish.device : open(wish, why);
    if (built->device == nullptr) return nullptr;
    built->model = testing::tiny_model(shape);
    built->weights = std::make_unique<WeightStore>(*built->device, built->model.weights);
    StepShape step{shape.context, 8, 0, false};
    for (const QTensor& tensor : built->model.weights.tensors) {
      if (tensor.layout != TensorLayout::tiled) continue;
      step.columns_max = std::max(step.columns_max, tensor.cols);
      step.wide_records = step.wide_records || is_wide(tensor.type);
    }
    auto buffers = StepBuffers::Create(*built->device, built->model.config, built->model.weights, step);
    if (!buffers.ok()) {
      why = buffers.error().message;
      return nullptr;
    }
    built->buffers = std::move(buffers).value();
    const ProgramForm form{wish.tile_tokens, wish.own};
    auto dispatches = ProgramBuilder(*built->device, *built->weights, *built->buffers, built->model, form).build();
    if (!dispatches.ok()) {
      why = dispatches.error().message;
      return nullptr;
    }
    built->dispatches = std::move(dispatches).value();
    return built;
  }

  // Records the step as StepProgram does, but for the barrier before `dropped`.
  Status<VulkanError> record_without(std::size_t dropped) {
    auto arguments = device->make_buffer(MemoryUse::host, "arguments", dispatches.size() * sizeof(GroupCount));
    if (!arguments.ok()) return Err{arguments.error()};
    auto recorder = device->make_recorder();
    if (!recorder.ok()) return Err{recorder.error()};
    ORCH_TRY(begun, (*recorder)->begin());
    static_cast<void>(begun);
    for (std::size_t i = 0; i < dispatches.size(); ++i) {
      const PlannedDispatch& dispatch = dispatches[i];
      if (dispatch.barrier_before && i != dropped) (*recorder)->barrier();
      (*recorder)->dispatch_indirect({dispatch.pipeline, dispatch.set, dispatch.push}, **arguments,
                                     i * sizeof(GroupCount));
    }
    return (*recorder)->end();
  }

  std::shared_ptr<KernelDevice> device;
  Model model;
  std::unique_ptr<WeightStore> weights;
  std::unique_ptr<StepBuffers> buffers;
  std::vector<PlannedDispatch> dispatches;
};

class StepProgramTest : public DeviceTest {};

std::size_t dispatches_of(TinyShape shape, std::uint32_t layers, const Wish& wish) {
  shape.layers = layers;
  std::string why;
  const auto built = Built::Create(shape, wish, why);
  EXPECT_NE(built, nullptr) << why;
  return built == nullptr ? 0 : built->dispatches.size();
}

std::size_t dispatches_of_a_layer(const TinyShape& shape, const Wish& wish) {
  return dispatches_of(shape, 3, wish) - dispatches_of(shape, 2, wish);
}

// worker/vulkan/README.md says what each of them is. Fewer are wanted; more are a step back.
TEST_F(StepProgramTest, OC_ENGINE_1014_dispatches_of_a_layer_are_counted) {
  std::string why;
  const Wish wish{.device = open({}, why)};
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    EXPECT_EQ(dispatches_of_a_layer(shape_of(architecture), wish), 10U) << architecture;
  }
  EXPECT_EQ(dispatches_of_a_layer(mixture(), wish), 11U);
  EXPECT_EQ(dispatches_of(shape_of("llama"), 2, wish), 1 + 2 * 10U + 2) << "embedding, layers, prepared row and head";
}

TEST_F(StepProgramTest, OC_DEVICE_1006_dispatches_of_a_layer_whose_matmuls_make_their_inputs_are_counted) {
  std::string why;
  const Wish norms{.own = OwnInputs::norms, .tile_tokens = 1, .device = open({}, why)};
  const Wish all{.own = OwnInputs::norms_and_joins, .tile_tokens = 1, .device = norms.device};
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    EXPECT_EQ(dispatches_of_a_layer(shape_of(architecture), norms), 8U) << architecture;
    EXPECT_EQ(dispatches_of_a_layer(shape_of(architecture), all), 7U) << architecture;
  }
  EXPECT_EQ(dispatches_of_a_layer(mixture(), norms), 9U);
  EXPECT_EQ(dispatches_of_a_layer(mixture(), all), 8U);
  EXPECT_EQ(dispatches_of(shape_of("llama"), 2, all), 1 + 2 * 7U + 2) << "the head has its row prepared";
}

// A row of 96 elements of a nibble type takes 240 bytes, and 12 for its norm; four rows 960 and 12.
TEST_F(StepProgramTest, OC_DEVICE_1006_what_does_not_fit_or_is_read_as_floats_keeps_its_dispatch) {
  const auto of_layers = [](std::uint32_t tokens, std::uint32_t shared_bytes) {
    const Wish wish{.own = OwnInputs::norms_and_joins, .tile_tokens = tokens, .shared_bytes = shared_bytes};
    return dispatches_of(shape_of("llama"), 2, wish) - 3;  // but for the embedding, the head and its row
  };
  EXPECT_EQ(of_layers(1, 252), 2 * 7U);
  EXPECT_EQ(of_layers(1, 251), 2 * 9U) << "the norms";
  EXPECT_EQ(of_layers(1, 243), 2 * 10U) << "the join as well";
  EXPECT_EQ(of_layers(4, 972), 2 * 7U);
  EXPECT_EQ(of_layers(4, 971), 2 * 9U);
  TinyShape floats = shape_of("llama");
  floats.matrices = TensorType::f16;
  EXPECT_EQ(dispatches_of(floats, 2, {.own = OwnInputs::norms_and_joins}), 3 + 2 * 10U);
  TinyShape some = shape_of("llama");
  some.value_and_down = TensorType::bf16;  // v reads floats: q and k have prepare make the records too
  EXPECT_EQ(dispatches_of(some, 2, {.own = OwnInputs::norms_and_joins}), 3 + 2 * 9U);
}

// Every barrier is needed, and the layer that is to be silent about the real program sees each one that is missing.
TEST_F(StepProgramTest, OC_NUM_1001_the_synchronisation_layer_sees_every_missing_barrier) {
  for (const OwnInputs own : {OwnInputs::none, OwnInputs::norms_and_joins}) {
    for (const TinyShape& shape : {shape_of("llama"), shape_of("qwen3"), shape_of("gemma3"), mixture()}) {
      std::string why;
      const auto built = Built::Create(shape, {.own = own, .validation = Validation::synchronization}, why);
      if (built == nullptr && why.find("vulkan-validationlayers") != std::string::npos) GTEST_SKIP() << why;
      ASSERT_NE(built, nullptr) << why;
      ASSERT_TRUE(built->record_without(built->dispatches.size()).ok());
      EXPECT_EQ(built->device->validation_messages(), std::vector<std::string>()) << shape.architecture;
      for (std::size_t i = 0; i < built->dispatches.size(); ++i) {
        if (!built->dispatches[i].barrier_before) continue;
        built->device->forget_validation_messages();
        ASSERT_TRUE(built->record_without(i).ok());
        EXPECT_FALSE(built->device->validation_messages().empty())
            << shape.architecture << ": the barrier before dispatch " << i;
      }
    }
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
