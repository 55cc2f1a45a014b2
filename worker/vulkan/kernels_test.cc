// Each kernel alone against the scalar functions of the contract, to the byte.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "worker/core/numerics.h"
#include "worker/cpu/kernels.h"
#include "worker/model/repack.h"
#include "worker/testing/tiny_model.h"
#include "worker/vulkan/kernel_runner.h"
#include "worker/vulkan/self_test.h"
#include "worker/vulkan/weight_store.h"

namespace orch::worker::vulkan {
namespace {

using View = KernelInput::View;
using testing::random_floats;

class KernelTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    device_ = open_test_device();
    ASSERT_NE(device_, nullptr);
  }
  std::uint32_t lanes(std::uint32_t items) const {
    return (items + device_->tuning().width - 1) / device_->tuning().width;
  }

  std::unique_ptr<KernelDevice> device_;
};

TEST_F(KernelTest, OC_NUM_1102_every_function_answers_as_numerics_h) {
  for (const ProbeCase& question : self_test_cases()) {
    const auto answers = must(ask(*device_, question));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const std::uint32_t want = expected(question.probe, question.a[i], question.b[i]);
      const bool both_nan = std::isnan(std::bit_cast<float>(want)) && std::isnan(std::bit_cast<float>(answers[i]));
      wrong += answers[i] == want || both_nan ? 0 : 1;
    }
    EXPECT_EQ(wrong, 0U) << to_string(question.probe);
  }
}

TEST_F(KernelTest, OC_NUM_1306_embed_equals_dequantise_row_for_every_type) {
  constexpr std::uint32_t kRows = 37;
  constexpr std::uint32_t kCols = 96;
  for (const TensorType type :
       {TensorType::q4_0, TensorType::q4_1, TensorType::q8_0, TensorType::f16, TensorType::f32}) {
    const QTensor tensor = testing::random_tensor(type, kRows, kCols, 3);
    const std::vector<std::pair<std::uint32_t, std::uint32_t>> rows{{0, 0}, {36, 1}, {17, 2}};
    KernelCall call;
    call.kernel = Kernel::embed;
    call.constants = {type == TensorType::q4_0   ? 0U
                      : type == TensorType::q4_1 ? 1U
                      : type == TensorType::q8_0 ? 2U
                      : type == TensorType::f16  ? 3U
                                                 : 4U};
    call.reads[0] = {step_words(rows, {0}), View::words};
    call.reads[1] = {device_quants(tensor), View::texels};
    call.reads[2] = {device_scales(tensor), View::words};
    call.writes[0] = Words(rows.size() * kCols);
    call.push = {kCols / 32, kCols, kCols / 4, 0};
    call.groups = {lanes(kCols / 32), static_cast<std::uint32_t>(rows.size()), 1};
    const Words got = run_kernel(*device_, call)[0];
    std::vector<float> want(rows.size() * kCols);
    for (std::size_t i = 0; i < rows.size(); ++i) dequantise_row(tensor, rows[i].first, want.data() + i * kCols);
    EXPECT_EQ(got, words_of(want)) << to_string(type);
  }
}

// prepare.comp on `source`; {records, floats}.
std::array<Words, kWriteBindings> prepare(KernelDevice& device, const std::vector<float>& source, std::uint32_t rows,
                                          std::uint32_t cols, const std::vector<float>& norm, std::uint32_t outputs) {
  KernelCall call;
  call.kernel = Kernel::prepare;
  call.constants = {norm.empty() ? 0U : 2U, outputs};
  call.reads[0] = {step_words({{0, 0}}, {0}), View::words};
  call.reads[1] = {words_of(source), View::texels};
  call.reads[2] = {words_of(norm), View::texels};
  const std::uint32_t groups = cols / 32;
  call.writes[0] = Words(std::size_t{rows} * groups * 8 * 4);
  call.writes[1] = Words(std::size_t{rows} * cols);
  call.push = {groups,
               cols / 4,
               0,
               0,
               0,
               rows * groups * 5,
               0,
               std::bit_cast<std::uint32_t>(1.0F / static_cast<float>(cols)),
               std::bit_cast<std::uint32_t>(1e-5F)};
  const std::uint32_t width = device.tuning().width;
  call.groups = {norm.empty() ? (groups + width - 1) / width : 1, rows, 1};
  return run_kernel(device, call);
}

struct Quantised {
  std::vector<std::int8_t> xq;
  std::vector<float> dx;
  std::vector<float> s;
  std::vector<std::int32_t> sum;
};

Quantised quantise(const std::vector<float>& x, std::uint32_t rows, std::uint32_t cols) {
  Quantised q;
  q.xq.resize(x.size());
  q.dx.resize(x.size() / 32);
  q.s.resize(x.size() / 32);
  q.sum.resize(x.size() / 32);
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t g = row * cols / 32;
    cpu::scalar_kernels().quantise(x.data() + row * cols, cols, q.xq.data() + row * cols, q.dx.data() + g,
                                   q.s.data() + g, q.sum.data() + g);
  }
  return q;
}

TEST_F(KernelTest, OC_NUM_1205_norm_and_quantiser_equal_the_scalar_ones) {
  constexpr std::uint32_t kRows = 3;
  for (const std::uint32_t cols : {32U, 96U, 576U, 1184U}) {
    std::vector<float> x = random_floats(std::size_t{kRows} * cols, cols, 2.0F);
    for (std::uint32_t i = 0; i < 32; ++i) x[cols + i] = 0.0F;  // a silent group
    x[2 * cols] = 1e-19F;                                       // under 2^-60
    const std::vector<float> w = random_floats(cols, 5, 1.0F);
    const auto [records, floats] = prepare(*device_, x, kRows, cols, w, 7);
    std::vector<float> want(x.size());
    for (std::uint32_t r = 0; r < kRows; ++r) {
      cpu::scalar_kernels().rms_norm(x.data() + r * cols, w.data(), cols, 1e-5F, want.data() + r * cols);
    }
    ASSERT_EQ(floats, words_of(want)) << cols;
    const Quantised q = quantise(want, kRows, cols);
    const std::size_t groups = q.dx.size();
    for (std::size_t g = 0; g < groups; ++g) {
      const std::uint32_t* nibble = records.data() + g * 20;
      const std::uint32_t* byte = records.data() + groups * 20 + g * 12;
      ASSERT_EQ(0, std::memcmp(byte, q.xq.data() + g * 32, 32)) << cols << " group " << g;
      for (const std::uint32_t* tail : {nibble + 16, byte + 8}) {
        EXPECT_EQ(tail[0], std::bit_cast<std::uint32_t>(q.dx[g]));
        EXPECT_EQ(tail[1], std::bit_cast<std::uint32_t>(q.s[g]));
        EXPECT_EQ(static_cast<std::int32_t>(tail[2]), q.sum[g]);
      }
    }
  }
}

// One matmul through prepare.comp and the kernel of its type.
Words device_matmul(KernelDevice& device, const QTensor& w, const std::vector<float>& x, std::uint32_t rows,
                    std::uint32_t tokens_per_group, const std::vector<float>& bias,
                    const std::vector<float>& residual) {
  const bool quantised = is_quantised(w.type);
  const std::uint32_t outputs = !quantised ? 4 : (w.type == TensorType::q8_0 ? 2 : 1);
  auto prepared = prepare(device, x, rows, w.cols, {}, outputs);
  KernelCall call;
  call.kernel = quantised ? Kernel::matmul_quant : Kernel::matmul_float;
  const Tuning& tuning = device.tuning();
  const std::uint32_t code = w.type == TensorType::q4_0 ? 0 : (w.type == TensorType::q4_1 ? 1 : 2);
  if (quantised)
    call.constants = {tokens_per_group, tuning.rows_per_lane, code, tuning.shuffle};
  else
    call.constants = {w.type == TensorType::f16 ? 1U : 0U};
  Words input = quantised ? prepared[0] : prepared[1];
  input.resize(input.size() + 8UL * w.blocks() * 20, 0);  // a wide group reads rows past the last
  call.reads[0] = {step_words(std::vector<std::pair<std::uint32_t, std::uint32_t>>(rows), {0}), View::words};
  call.reads[1] = {device_quants(w), View::texels};
  call.reads[2] = {device_scales(w), View::words};
  call.reads[3] = {input, View::texels};
  call.reads[4] = {words_of(residual), View::words};
  call.reads[5] = {words_of(bias), View::words};
  if (residual.empty()) call.reads[4] = {Words(4), View::words};
  if (bias.empty()) call.reads[5] = {Words(4), View::words};
  call.writes[0] = Words(std::size_t{rows} * w.rows);
  const std::uint32_t base = w.type == TensorType::q8_0 ? rows * w.blocks() * 5 : 0;
  call.push = {w.blocks(), w.rows,         w.rows,
               0,          w.rows,         0,
               base,       kRowsCountWord, (bias.empty() ? 0U : 1U) | (residual.empty() ? 0U : 2U)};
  const std::uint32_t per_group = quantised ? tuning.width * tuning.rows_per_lane : tuning.width;
  call.groups = {(w.rows + per_group - 1) / per_group,
                 quantised ? (rows + tokens_per_group - 1) / tokens_per_group : rows, 1};
  Words got = run_kernel(device, call)[0];
  got.resize(std::size_t{rows} * w.rows);
  return got;
}

TEST_F(KernelTest, OC_NUM_1202_matmul_equals_the_scalar_one_for_every_type_tile_and_short_split) {
  constexpr std::uint32_t kRows = 5;
  constexpr std::uint32_t kWeightRows = 43;
  for (const TensorType type :
       {TensorType::q4_0, TensorType::q4_1, TensorType::q8_0, TensorType::f16, TensorType::f32}) {
    for (const std::uint32_t cols : {32U, 256U, 320U, 576U}) {
      const QTensor w = testing::random_tensor(type, kWeightRows, cols, cols);
      const std::vector<float> x = random_floats(std::size_t{kRows} * cols, 11, 3.0F);
      const std::vector<float> bias = cols == 320 ? random_floats(kWeightRows, 12, 1.0F) : std::vector<float>();
      const std::vector<float> residual =
          cols >= 320 ? random_floats(kRows * kWeightRows, 13, 1.0F) : std::vector<float>();
      const Quantised q = quantise(x, kRows, cols);
      std::vector<float> want(kRows * kWeightRows);
      cpu::MatmulArgs args;
      args.weight = &w;
      args.bias = bias.empty() ? nullptr : bias.data();
      args.residual = residual.empty() ? nullptr : residual.data();
      args.out = want.data();
      args.out_stride = kWeightRows;
      args.in = {cols, x.data(), q.xq.data(), q.dx.data(), q.s.data(), q.sum.data(), {}};
      args.rows = kRows;
      args.group_end = w.row_groups();
      cpu::scalar_kernels().matmul(args);
      for (const std::uint32_t tokens : {1U, 4U, 8U}) {
        EXPECT_EQ(device_matmul(*device_, w, x, kRows, tokens, bias, residual), words_of(want))
            << to_string(type) << " cols " << cols << " tokens per group " << tokens;
      }
    }
  }
}

struct AttentionShape {
  std::uint32_t kv_heads, heads_per_kv, dims;
};

TEST_F(KernelTest, OC_NUM_1303_attention_equals_the_scalar_one_over_pages_in_any_order_and_several_splits) {
  constexpr float kScale = 0.125F;
  for (const AttentionShape shape :
       {AttentionShape{2, 3, 16}, AttentionShape{1, 4, 64}, AttentionShape{2, 7, 32}, AttentionShape{1, 1, 128}}) {
    const std::uint32_t heads = shape.kv_heads * shape.heads_per_kv;
    const std::uint32_t width = heads * shape.dims;
    const std::uint32_t chunks = (shape.heads_per_kv + 3) / 4;
    const std::uint32_t in_chunk = (shape.heads_per_kv + chunks - 1) / chunks;
    const std::vector<std::uint32_t> positions{0, 31, 32, 255, 256, 700};
    constexpr std::uint32_t kPageCount = 24;
    Words pages(kPageCount);
    for (std::uint32_t i = 0; i < kPageCount; ++i) pages[i] = (i * 7 + 3) % kPageCount;
    const std::size_t page_values = std::size_t{2} * 32 * shape.kv_heads * shape.dims;
    std::vector<std::uint16_t> kv;
    for (const float value : random_floats(kPageCount * page_values, 21, 1.0F))
      kv.push_back(numerics::f32_to_f16(value));
    Words kv_words(kv.size() / 2);
    std::memcpy(kv_words.data(), kv.data(), kv.size() * 2);
    const std::vector<float> q = random_floats(positions.size() * width, 22, 2.0F);
    std::vector<float> query = q;
    query.resize(q.size() + 4UL * width, 0.0F);  // the last chunk may read past its heads

    std::vector<std::pair<std::uint32_t, std::uint32_t>> rows;
    for (const std::uint32_t position : positions) rows.emplace_back(0, position);
    constexpr std::uint32_t kSplits = 3;
    KernelCall call;
    call.kernel = Kernel::attention;
    call.constants = {in_chunk, device_->tuning().keys_per_lane, shape.dims, device_->tuning().shuffle};
    call.reads[0] = {step_words(rows, pages), View::words};
    call.reads[1] = {words_of(query), View::texels};
    call.reads[2] = {kv_words, View::texels};
    call.writes[0] = Words(rows.size() * heads * kSplits * (shape.dims + 4));
    call.push = {width / 4,          0,      heads,   shape.kv_heads,
                 shape.heads_per_kv, chunks, kSplits, std::bit_cast<std::uint32_t>(kScale)};
    call.groups = {shape.kv_heads * chunks, static_cast<std::uint32_t>(rows.size()), kSplits};
    const Words partials = run_kernel(*device_, call)[0];
    KernelCall merge;
    merge.kernel = Kernel::attention_merge;
    merge.reads[0] = call.reads[0];
    merge.reads[1] = {partials, View::texels};
    merge.writes[0] = Words(q.size());
    merge.push = {heads, shape.dims, kSplits, width / 4, 0};
    merge.groups = {lanes(width / 4), static_cast<std::uint32_t>(rows.size()), 1};
    Words got = run_kernel(*device_, merge)[0];
    got.resize(q.size());

    std::vector<float> want(q.size());
    for (std::size_t row = 0; row < rows.size(); ++row) {
      for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
        cpu::AttentionArgs args;
        const std::size_t at = row * width + std::size_t{head} * shape.heads_per_kv * shape.dims;
        args.query = q.data() + at;
        args.out = want.data() + at;
        args.stride = width;
        args.rows = 1;
        args.heads = shape.heads_per_kv;
        args.head_dim = shape.dims;
        args.first_position = positions[row];
        args.scale = kScale;
        args.kv_base = kv.data();
        args.page_stride = page_values;
        args.key_offset = std::size_t{head} * shape.dims * 32;
        args.value_offset = args.key_offset + page_values / 2;
        args.pages = pages;
        cpu::scalar_kernels().attention(args);
      }
    }
    EXPECT_EQ(got, words_of(want)) << shape.kv_heads << " x " << shape.heads_per_kv << " x " << shape.dims;
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
