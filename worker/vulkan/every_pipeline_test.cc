// Every pipeline that any supported model needs compiles, with the validation layers on and silent. ctest runs this on
// the test device and on drivers that compile for hardware which is not there (RADV's null device), where nothing can
// be allocated or run.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>

#include "worker/testing/tiny_model.h"
#include "worker/vulkan/kernel_runner.h"
#include "worker/vulkan/kernel_variants.h"
#include "worker/vulkan/step_program.h"

namespace orch::worker::vulkan {
namespace {

using ::orch::worker::testing::TinyShape;

class EveryPipelineTest : public DeviceTest {};

TEST_F(EveryPipelineTest, OC_DEVICE_1003_every_variant_compiles_under_silent_validation) {
  KernelDeviceOptions options;
  options.device = software_allowed();
  options.validation = Validation::synchronization;
  options.compiles_only = true;
  auto opened = KernelDevice::Create(options);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  KernelDevice& device = **opened;
  const std::vector<KernelVariant> all = every_variant(device.tuning(), {{64, 80, 128, 256}, {576, 4096}});
  std::set<Kernel> kernels;
  for (const KernelVariant& variant : all) {
    const auto made = device.pipeline(variant);
    ASSERT_TRUE(made.ok()) << static_cast<int>(variant.kernel) << ": " << made.error().message;
    kernels.insert(variant.kernel);
  }
  EXPECT_EQ(kernels.size(), kKernels);
  EXPECT_EQ(device.compiled().size(), all.size());
  std::printf("%zu pipelines for %s\n", all.size(), device.facts().entry.name.c_str());
  EXPECT_EQ(device.validation_messages(), std::vector<std::string>());
}

class VariantsTest : public DeviceTest {};

// The list above is complete: programs of models of every type and architecture compile nothing beside it.
TEST_F(VariantsTest, OC_DEVICE_1003_programs_use_listed_variants_only) {
  std::vector<TinyShape> shapes(4);
  shapes[1].architecture = "qwen3";
  shapes[2].architecture = "gemma3";
  shapes[2].window = 90;
  shapes[3].embedding = 256;
  shapes[3].feed_forward = 256;
  shapes[3].heads = 8;
  shapes[3].head_dim = 32;
  shapes[3].matrices = TensorType::q4_k;
  shapes[3].embedding_type = TensorType::bf16;
  shapes[3].value_and_down = TensorType::q5_1;
  const auto device = open_test_device();
  ASSERT_NE(device, nullptr);
  for (const TinyShape& shape : shapes) {
    Model model = testing::tiny_model(shape);
    WeightStore weights(*device, model.weights);
    const auto buffers = must(StepBuffers::Create(*device, model.config, model.weights, {128, 4, 512, true}));
    for (const OwnInputs own : {OwnInputs::none, OwnInputs::norms_and_joins}) {
      must(StepProgram::Create(*device, weights, *buffers, model, {kTileTokens[0], own}));
    }
  }
  const std::vector<KernelVariant> all = every_variant(device->tuning(), {{16, 32}, {96, 256}});
  for (const KernelVariant& used : device->compiled()) {
    EXPECT_NE(std::find(all.begin(), all.end(), used), all.end()) << "kernel " << static_cast<int>(used.kernel);
  }
  EXPECT_GE(device->compiled().size(), 15U);
}

}  // namespace
}  // namespace orch::worker::vulkan
