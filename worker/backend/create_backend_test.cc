// The factory refuses by name and limit, and what it builds gives the bytes of the reference.
#include "worker/backend/create_backend.h"

#include <gtest/gtest.h>

#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/kernels.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker {
namespace {

class CreateBackend : public ::testing::Test {
 protected:
  void SetUp() override {
    auto parsed = GgufFile::parse(bytes);
    ASSERT_TRUE(parsed.ok());
    file = std::move(parsed).value();
  }
  ModelError refusal(const BackendOptions& wanted) {
    auto loaded = create_backend(*file, wanted, {});
    EXPECT_FALSE(loaded.ok());
    return loaded.ok() ? ModelError{} : loaded.error();
  }
  const std::vector<std::byte> bytes = testing::tiny_model_file({});
  std::unique_ptr<GgufFile> file;
  BackendOptions options;
};

TEST_F(CreateBackend, OC_ENGINE_1006_refuses_unknown_devices_kernels_and_limits) {
  options.device = "cuda";
  EXPECT_EQ(refusal(options).field, "device");
  options.device = "vulkan:99";
  EXPECT_EQ(refusal(options).kind, ModelErrorKind::device_unavailable);
  options.device = "cpu";
  options.isa = "sse2";
  EXPECT_EQ(refusal(options).field, "isa");
  options.isa = "auto";
  options.threads = 257;
  EXPECT_EQ(refusal(options).field, "threads");
  options.threads = 1;
  options.context = 4096;
  EXPECT_EQ(refusal(options).field, "ctx");
  options.context = 512;
  options.memory_max_bytes = 1000;
  EXPECT_EQ(refusal(options).kind, ModelErrorKind::memory);
  options.memory_max_bytes = 0;
  for (const std::uint32_t sharers : {0u, 4097u}) {
    options.memory_sharers = sharers;
    EXPECT_EQ(refusal(options).field, "memory_sharers") << sharers;
  }
}

TEST_F(CreateBackend, OC_NUM_1003_what_is_created_without_a_choice_is_of_class_X) {
  options.context = 128;
  for (const char* device : {"auto", "cpu"}) {
    options.device = device;
    auto loaded = create_backend(*file, options, {});
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    EXPECT_EQ(loaded->backend->info().numeric_class, "X") << device;
  }
}

// Every table by its name: what this CPU has serves as asked, what it lacks is refused with the features' names.
TEST_F(CreateBackend, OC_DEVICE_1005_a_forced_table_serves_or_names_what_is_missing) {
  const struct {
    const char* isa;
    const cpu::CpuKernels* kernels;
    std::string missing;
  } tables[] = {{"scalar", &cpu::scalar_kernels(), ""},
                {"avx2", cpu::avx2_kernels(), cpu::missing_for_avx2()},
                {"avx512vnni", cpu::avx512vnni_kernels(), cpu::missing_for_avx512vnni()}};
  options.device = "cpu";
  options.context = 128;
  for (const auto& table : tables) {
    options.isa = table.isa;
    if (table.kernels != nullptr) {
      EXPECT_EQ(table.missing, "");
      auto loaded = create_backend(*file, options, {});
      ASSERT_TRUE(loaded.ok()) << table.isa << ": " << loaded.error().message;
      EXPECT_EQ(loaded->backend->info().name, table.kernels->name);
      continue;
    }
    const ModelError error = refusal(options);
    EXPECT_EQ(error.kind, ModelErrorKind::device_unavailable) << table.isa;
    EXPECT_EQ(error.field, "isa");
    EXPECT_FALSE(table.missing.empty());
    EXPECT_NE(error.message.find(table.missing), std::string::npos) << error.message;
  }
}

TEST_F(CreateBackend, OC_DEVICE_1005_auto_takes_the_fastest_table) {
  options.device = "cpu";
  options.context = 128;
  auto loaded = create_backend(*file, options, {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  const auto tables = cpu::simd_kernels();
  EXPECT_EQ(loaded->backend->info().name, tables.empty() ? "cpu-scalar" : tables.back()->name);
}

TEST_F(CreateBackend, OC_NUM_1501_the_cpu_backend_outlives_the_file_and_equals_the_reference) {
  options.device = "cpu";
  options.context = 128;
  options.slots = 2;
  float last = 0;
  auto loaded = create_backend(*file, options, [&last](float p) { last = p; });
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(last, 1.0F);
  EXPECT_EQ(loaded->memory.pages, 8u);
  file.reset();
  const std::vector<std::uint32_t> tokens = testing::tiny_tokens({}, 100, 2);
  const auto got = testing::run_tokens(*loaded->backend, tokens, 50, loaded->config.vocabulary);
  cpu::CpuBackendOptions cpu_options;
  cpu_options.context = 128;
  cpu_options.pages = 8;
  auto reference = cpu::create_cpu_backend(testing::tiny_model({}), cpu::scalar_kernels(), cpu_options);
  ASSERT_TRUE(reference.ok());
  const auto expected = testing::run_tokens(**reference, tokens, 1, loaded->config.vocabulary);
  EXPECT_EQ(testing::hash_floats(got), testing::hash_floats(expected));
  EXPECT_EQ(loaded->backend->info().accelerator, "cpu");
}

TEST_F(CreateBackend, OC_ENGINE_1007_auto_never_takes_a_software_device) {
  options.device = "auto";
  options.context = 128;
  auto loaded = create_backend(*file, options, {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_NE(loaded->backend->info().accelerator, "software-vulkan");
}

TEST_F(CreateBackend, OC_DEVICE_1011_the_cpu_does_not_serve_in_place_of_a_gpu_without_a_word) {
  options.device = "auto";
  options.context = 128;
  auto loaded = create_backend(*file, options, {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  const bool on_gpu = loaded->backend->info().accelerator == "vulkan";
  EXPECT_TRUE(on_gpu || !loaded->skipped_devices.empty());
  options.device = "cpu";
  loaded = create_backend(*file, options, {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(loaded->skipped_devices, "") << "nothing else was asked for";
}

TEST(Devices, OC_DEVICE_1011_a_listed_device_has_no_class_that_was_not_tested) {
  DeviceLine line;
  line.name = "vulkan:0";
  line.description = "card (driver)";
  line.memory_bytes = std::uint64_t{3} << 29U;
  EXPECT_EQ(to_text(line), "vulkan:0\tcard (driver)\t1.5 GiB\tclass not tested\tusable");
  line.excluded = "no compute queue";
  EXPECT_EQ(to_text(line), "vulkan:0\tcard (driver)\t1.5 GiB\tclass not tested\tno compute queue");
}

TEST(Devices, OC_ENGINE_1007_the_cpu_is_always_listed) {
  const std::vector<DeviceLine> lines = list_devices();
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines.back().name, "cpu");
  EXPECT_TRUE(lines.back().excluded.empty());
}

}  // namespace
}  // namespace orch::worker
