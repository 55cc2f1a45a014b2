// Every pipeline that any supported model needs compiles, with the validation layers on and silent. Run on the test
// device, and by ctest on drivers that compile for hardware which is not there (RADV's null device): nothing is
// executed here whose result matters.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>

#include "worker/testing/tiny_model.h"
#include "worker/vulkan/kernel_runner.h"
#include "worker/vulkan/step_program.h"

namespace orch::worker::vulkan {
namespace {

using ::orch::worker::testing::TinyShape;

// All weight types in both roles, all architectures.
std::vector<TinyShape> shapes() {
  std::vector<TinyShape> out;
  for (const TensorType type : kTensorTypes) {
    TinyShape shape;
    shape.layers = 1;
    shape.embedding = 256;
    shape.feed_forward = 256;
    shape.heads = 8;
    shape.head_dim = 32;
    shape.matrices = type;
    shape.embedding_type = type;
    out.push_back(shape);
  }
  for (const char* architecture : {"qwen2", "qwen3", "gemma3"}) {
    TinyShape shape;
    shape.architecture = architecture;
    shape.window = 90;
    out.push_back(shape);
  }
  return out;
}

// As VulkanBackend::open does, without the self-test: null hardware answers nothing.
void compile(KernelDevice& device, const TinyShape& shape) {
  constexpr std::uint32_t kContext = 128;
  Model model = testing::tiny_model(shape);
  WeightStore weights(device, model.weights);
  const auto buffers = must(StepBuffers::Create(device, model.config, model.weights, {kContext, 4, 512, true}));
  for (const std::uint32_t tile : {1U, 4U}) {
    const auto program = StepProgram::Create(device, weights, *buffers, model, tile);
    EXPECT_TRUE(program.ok()) << program.error().message;
  }
}

class EveryPipelineTest : public DeviceTest {};

TEST_F(EveryPipelineTest, OC_DEVICE_1003_every_pipeline_compiles_under_silent_validation) {
  KernelDeviceOptions options;
  options.device = software_allowed();
  options.validation = Validation::synchronization;
  options.compiles_only = true;
  auto opened = KernelDevice::Create(options);
  if (!opened.ok() && opened.error().kind == VulkanErrorKind::unsuitable) GTEST_SKIP() << opened.error().message;
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const std::unique_ptr<KernelDevice> device = std::move(opened).value();
  for (const TinyShape& shape : shapes()) {
    SCOPED_TRACE(shape.architecture + " " + to_string(shape.matrices));
    compile(*device, shape);
  }
  must(device->pipeline(Kernel::probe, {}));
  std::set<Kernel> compiled;
  for (const auto& entry : device->compiled()) compiled.insert(entry.first);
  EXPECT_EQ(compiled.size(), kKernels);
  std::printf("%zu pipelines on %s\n", device->compiled().size(), device->facts().entry.name.c_str());
  EXPECT_EQ(device->validation_messages(), std::vector<std::string>());
}

}  // namespace
}  // namespace orch::worker::vulkan
