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

// A model on a device, as far as the list of its dispatches.
struct Built {
  static std::unique_ptr<Built> Create(const TinyShape& shape, Validation validation, std::string& why) {
    auto built = std::make_unique<Built>();
    KernelDeviceOptions options;
    options.device = software_allowed();
    options.validation = validation;
    auto device = KernelDevice::Create(options);
    if (!device.ok()) {
      why = device.error().message;
      return nullptr;
    }
    built->device = std::move(device).value();
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
    auto dispatches = ProgramBuilder(*built->device, *built->weights, *built->buffers, built->model, 8).build();
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

  std::unique_ptr<KernelDevice> device;
  Model model;
  std::unique_ptr<WeightStore> weights;
  std::unique_ptr<StepBuffers> buffers;
  std::vector<PlannedDispatch> dispatches;
};

class StepProgramTest : public DeviceTest {};

std::size_t dispatches_of(TinyShape shape, std::uint32_t layers) {
  shape.layers = layers;
  std::string why;
  const auto built = Built::Create(shape, Validation::off, why);
  EXPECT_NE(built, nullptr) << why;
  return built == nullptr ? 0 : built->dispatches.size();
}

// worker/vulkan/README.md says what each of them is. Fewer are wanted; more are a step back.
TEST_F(StepProgramTest, OC_ENGINE_1014_dispatches_of_a_layer_are_counted) {
  const auto of_layer = [](const TinyShape& shape) { return dispatches_of(shape, 3) - dispatches_of(shape, 2); };
  EXPECT_EQ(of_layer(shape_of("llama")), 10U);
  EXPECT_EQ(of_layer(shape_of("qwen2")), 10U);
  EXPECT_EQ(of_layer(shape_of("qwen3")), 10U);
  EXPECT_EQ(of_layer(shape_of("gemma3")), 10U);
  EXPECT_EQ(of_layer(mixture()), 11U);
  EXPECT_EQ(dispatches_of(shape_of("llama"), 2), 1 + 2 * 10U + 2) << "embedding, layers, prepared row and head";
}

// Every barrier is needed, and the layer that is to be silent about the real program sees each one that is missing.
TEST_F(StepProgramTest, OC_NUM_1001_the_synchronisation_layer_sees_every_missing_barrier) {
  for (const TinyShape& shape : {shape_of("llama"), shape_of("qwen3"), shape_of("gemma3"), mixture()}) {
    std::string why;
    const auto built = Built::Create(shape, Validation::synchronization, why);
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

}  // namespace
}  // namespace orch::worker::vulkan
