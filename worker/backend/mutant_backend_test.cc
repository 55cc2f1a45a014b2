// Every wrong engine loads by name and differs from the right one; a name that is none is refused.
#include "worker/backend/mutant_backend.h"

#include <gtest/gtest.h>

#include "worker/cpu/mutants.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker {
namespace {

class MutantEngines : public ::testing::Test {
 protected:
  void SetUp() override {
    auto parsed = GgufFile::parse(bytes);
    ASSERT_TRUE(parsed.ok());
    file = std::move(parsed).value();
    options.device = "cpu";
    options.context = 512;
    options.slots = 1;
    options.threads = 1;
  }
  std::string refused_field(std::string_view name) {
    auto made = create_mutant_backend(*file, options, name);
    return made.ok() ? "" : made.error().field;
  }
  const std::vector<std::byte> bytes = testing::tiny_model_file({});
  const std::vector<std::uint32_t> tokens = testing::tiny_tokens({}, 40, 2);
  std::unique_ptr<GgufFile> file;
  BackendOptions options;
};

TEST_F(MutantEngines, OC_NUM_1504_each_named_mutant_differs_from_the_right_engine) {
  auto right = create_backend(*file, options, {});
  ASSERT_TRUE(right.ok());
  const auto expected = testing::run_tokens(*right->backend, tokens, 40, right->config.vocabulary);
  for (const cpu::Mutant& mutant : cpu::mutants()) {
    auto made = create_mutant_backend(*file, options, mutant.name);
    ASSERT_TRUE(made.ok()) << mutant.name;
    const auto got = testing::run_tokens(*made->loaded.backend, tokens, 40, made->loaded.config.vocabulary);
    EXPECT_NE(testing::hash_floats(got), testing::hash_floats(expected)) << mutant.name;
  }
}

TEST_F(MutantEngines, OC_NUM_1504_an_unknown_name_is_refused_with_the_list) {
  auto made = create_mutant_backend(*file, options, "swapped-nibble");
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().field, "mutant");
  EXPECT_NE(made.error().message.find("swapped-nibbles"), std::string::npos);
  EXPECT_EQ(refused_field(""), "mutant");
}

TEST_F(MutantEngines, OC_NUM_1504_a_mutant_takes_no_device_and_no_kernels) {
  options.device = "vulkan";
  EXPECT_EQ(refused_field("neox-rope"), "device");
  options.device = "cpu";
  options.isa = "scalar";
  EXPECT_EQ(refused_field("neox-rope"), "isa");
}

}  // namespace
}  // namespace orch::worker
