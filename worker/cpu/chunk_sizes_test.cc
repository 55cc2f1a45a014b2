// Every size of a step that a prompt can be fed in gives the same bytes (OC-NUM-1001). Minutes of work for the scalar
// kernels, so that the sizes where a tile, a page or a split most likely ends wrongly run by day and all of them at
// night.
#include <gtest/gtest.h>

#include <vector>

#include "worker/cpu/cpu_backend.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker::cpu {
namespace {

using testing::run_tokens;
using testing::TinyShape;

constexpr std::uint32_t kTokens = 300;  // of two attention splits
constexpr std::uint32_t kLargest = 256;

std::vector<float> logits_of(const TinyShape& shape, const CpuKernels& kernels, std::uint32_t chunk) {
  auto backend = create_cpu_backend(testing::tiny_model(shape), kernels, {.threads = 1, .context = 320, .pages = 10});
  ORCH_CHECK(backend.ok());
  return run_tokens(**backend, testing::tiny_tokens(shape, kTokens, 11), chunk, shape.vocabulary);
}

// Those of `chunks` whose logits are not those of the largest step, with the name of the kernels.
std::vector<std::string> differing(const TinyShape& shape, const std::vector<std::uint32_t>& chunks) {
  const std::uint64_t expected = testing::hash_floats(logits_of(shape, scalar_kernels(), kLargest));
  std::vector<std::string> out;
  for (const CpuKernels* kernels : {&scalar_kernels(), avx2_kernels(), avx512vnni_kernels()}) {
    if (kernels == nullptr) continue;
    for (const std::uint32_t chunk : chunks) {
      if (testing::hash_floats(logits_of(shape, *kernels, chunk)) == expected) continue;
      out.push_back(std::string(kernels->name) + " " + std::to_string(chunk));
    }
  }
  return out;
}

bool is_prime(std::uint32_t number) {
  for (std::uint32_t i = 2; i * i <= number; ++i) {
    if (number % i == 0) return false;
  }
  return number > 1;
}

bool is_power_of_two(std::uint32_t number) { return number > 0 && (number & (number - 1)) == 0; }

TEST(ChunkSizes, OC_NUM_1001_bytes_are_the_same_for_every_prime_and_beside_every_power_of_two) {
  std::vector<std::uint32_t> chunks;
  for (std::uint32_t chunk = 1; chunk <= kLargest; ++chunk) {
    const bool beside = is_power_of_two(chunk - 1) || is_power_of_two(chunk) || is_power_of_two(chunk + 1);
    if (beside || is_prime(chunk)) chunks.push_back(chunk);
  }
  EXPECT_GT(chunks.size(), 60U);
  EXPECT_EQ(differing({}, chunks), std::vector<std::string>{});
}

// Groups of 256 activations, and windows that begin within a chunk: beside tiles, pages and splits.
TEST(ChunkSizes, OC_NUM_1001_bytes_of_k_quants_and_of_windows_do_not_depend_on_the_chunk) {
  const std::vector<std::uint32_t> chunks = {1, 5, 15, 17, 31, 33, 63, 65, 129, 250};
  const TinyShape k_quants{.embedding = 256,
                           .feed_forward = 256,
                           .heads = 16,
                           .kv_heads = 4,
                           .matrices = TensorType::q4_k,
                           .embedding_type = TensorType::q5_k,
                           .value_and_down = TensorType::q6_k,
                           .tied = false};
  const TinyShape windows{.architecture = "gemma3",
                          .window = 40,
                          .layers = 7,
                          .matrices = TensorType::q5_0,
                          .value_and_down = TensorType::q8_0};
  EXPECT_EQ(differing(k_quants, chunks), std::vector<std::string>{});
  EXPECT_EQ(differing(windows, chunks), std::vector<std::string>{});
}

TEST(ChunkSizes, OC_NUM_1001_bytes_are_the_same_for_all_256) {
  std::vector<std::uint32_t> chunks;
  for (std::uint32_t chunk = 1; chunk <= kLargest; ++chunk) chunks.push_back(chunk);
  EXPECT_EQ(differing({}, chunks), std::vector<std::string>{});
}

}  // namespace
}  // namespace orch::worker::cpu
