// The kernels that norm spans of an activation row against the scalar functions of the contract, to the byte.
#include <gtest/gtest.h>

#include <bit>

#include "worker/core/numerics.h"
#include "worker/cpu/kernels.h"
#include "worker/testing/tiny_model.h"
#include "worker/vulkan/kernel_runner.h"

namespace orch::worker::vulkan {
namespace {

using View = KernelInput::View;
using testing::random_floats;

class NormKernelTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    device_ = open_test_device();
    ASSERT_NE(device_, nullptr);
  }

  std::unique_ptr<KernelDevice> device_;
};

// The norm of what a half of a layer adds to a span in front of it.
TEST_F(NormKernelTest, OC_NUM_1302_norms_of_spans_that_are_added_equal_the_scalar_ones) {
  constexpr std::uint32_t kRows = 3;
  for (const std::uint32_t width : {8U, 24U, 32U, 40U, 128U, 264U}) {
    const std::uint32_t stride = 2 * width + 8;
    const std::vector<float> x = random_floats(std::size_t{kRows} * stride, width, 2.0F);
    const std::vector<float> w = random_floats(width, 5, 1.0F);
    KernelCall call;
    call.kernel = Kernel::norm;
    call.reads[0] = {step_words({{0, 0}}, {0}), View::words};
    call.reads[1] = {words_of(x), View::texels};
    call.reads[2] = {words_of(w), View::texels};
    call.aliases[0] = 1;
    call.push = {width / 4,
                 stride / 4,
                 (8 + width) / 4,
                 0,
                 0,
                 std::bit_cast<std::uint32_t>(1.0F / static_cast<float>(width)),
                 std::bit_cast<std::uint32_t>(1e-5F)};
    call.groups = {1, kRows, 1};
    Words got = run_kernel(*device_, call)[0];
    got.resize(x.size());
    std::vector<float> want = x;
    for (std::size_t r = 0; r < kRows; ++r) {
      std::vector<float> y(width);
      cpu::scalar_kernels().rms_norm(x.data() + r * stride + 8 + width, w.data(), width, 1e-5F, y.data());
      for (std::uint32_t i = 0; i < width; ++i) want[r * stride + i] = numerics::store(y[i] + x[r * stride + i]);
    }
    EXPECT_EQ(got, words_of(want)) << width;
  }
}

// Heads shorter and longer than a leaf, normed or not, under a rotation by no angle: q in its place, k and v in the
// page.
TEST_F(NormKernelTest, OC_NUM_1302_norms_of_spans_that_are_rotated_equal_the_scalar_ones) {
  constexpr std::uint32_t kRows = 3;
  constexpr std::uint32_t kHeads = 3;
  constexpr std::uint32_t kKvHeads = 2;
  for (const std::uint32_t dims : {8U, 24U, 32U, 40U, 128U, 264U}) {
    const std::uint32_t stride = 8 + (kHeads + 2 * kKvHeads) * dims;
    const std::vector<float> x = random_floats(std::size_t{kRows} * stride, dims, 2.0F);
    const std::vector<std::vector<float>> norms{random_floats(dims, 5, 1.0F), random_floats(dims, 6, 1.0F)};
    std::vector<float> table(std::size_t{kRows} * dims, 0.0F);
    for (std::size_t i = 0; i < table.size(); ++i) table[i] = i % dims < dims / 2 ? 1.0F : 0.0F;
    for (std::uint32_t variant = 0; variant < 8; ++variant) {
      const std::uint32_t normed = variant / 2;
      KernelCall call;
      call.kernel = Kernel::rope_store_kv;
      call.constants = {variant % 2, normed};
      call.reads[0] = {step_words({{0, 0}, {0, 1}, {0, 2}}, {0}), View::words};
      call.reads[1] = {words_of(x), View::texels};
      call.reads[2] = {words_of(table), View::words};
      call.reads[3] = {words_of(x), View::words};
      call.reads[4] = {words_of(norms[0]), View::words};
      call.reads[5] = {words_of(norms[1]), View::words};
      call.aliases[0] = 1;
      call.writes[1] = Words(std::size_t{32} * kKvHeads * dims);
      call.push = {stride,
                   8,
                   8 + kHeads * dims,
                   8 + (kHeads + kKvHeads) * dims,
                   kHeads,
                   kKvHeads,
                   dims,
                   dims,
                   0,
                   std::bit_cast<std::uint32_t>(1.0F / static_cast<float>(dims)),
                   std::bit_cast<std::uint32_t>(1e-5F)};
      call.groups = {kHeads + 2 * kKvHeads, kRows, 1};
      auto got = run_kernel(*device_, call);
      got[0].resize(x.size());
      std::vector<float> want = x;
      std::vector<std::uint16_t> halves(call.writes[1].size() * 2);
      for (std::uint32_t unit = 0; unit < kRows * (kHeads + 2 * kKvHeads); ++unit) {
        const std::uint32_t row = unit / (kHeads + 2 * kKvHeads);
        const std::uint32_t head = unit % (kHeads + 2 * kKvHeads);
        const bool of_query = head < kHeads;
        const bool of_value = head >= kHeads + kKvHeads;
        const std::size_t from = std::size_t{row} * stride + 8 + std::size_t{head} * dims;
        std::vector<float> y(x.begin() + static_cast<std::ptrdiff_t>(from),
                             x.begin() + static_cast<std::ptrdiff_t>(from + dims));
        if (!of_value && (normed & (of_query ? 1U : 2U)) != 0) {
          cpu::scalar_kernels().rms_norm(x.data() + from, norms[of_query ? 0 : 1].data(), dims, 1e-5F, y.data());
        }
        const std::size_t kv_head = head - kHeads - (of_value ? kKvHeads : 0);  // not of q
        for (std::uint32_t d = 0; d < dims; ++d) {
          const std::size_t key_at = ((kv_head * (dims / 8) + d / 8) * 32 + row) * 8 + d % 8;
          const std::size_t value_at = halves.size() / 2 + (kv_head * 32 + row) * dims + d;
          if (of_query)
            want[from + d] = y[d];
          else
            halves[of_value ? value_at : key_at] = numerics::f32_to_f16(y[d]);
        }
      }
      EXPECT_EQ(got[0], words_of(want)) << dims << ", variant " << variant;
      EXPECT_EQ(0, std::memcmp(got[1].data(), halves.data(), halves.size() * 2)) << dims << ", variant " << variant;
    }
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
