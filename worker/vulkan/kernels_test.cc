// Each kernel alone against the scalar functions of the contract, to the byte.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "worker/core/numerics.h"
#include "worker/cpu/kernels.h"
#include "worker/model/repack.h"
#include "worker/testing/tiny_model.h"
#include "worker/vulkan/kernel_arguments.h"
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
  constexpr float kScale = 1.7F;
  for (const TensorType type : kTensorTypes) {
    const std::uint32_t cols = is_wide(type) ? 512 : 96;
    const QTensor tensor = testing::random_tensor(type, kRows, cols, 3);
    const std::vector<std::pair<std::uint32_t, std::uint32_t>> rows{{0, 0}, {36, 1}, {17, 2}};
    KernelCall call;
    call.kernel = Kernel::embed;
    call.constants = {type_code(type)};
    call.reads[0] = {step_words(rows, {0}), View::words};
    call.reads[1] = {device_quants(tensor), View::texels};
    call.reads[2] = {device_scales(tensor), View::words};
    call.writes[0] = Words(rows.size() * cols);
    call.push = {cols / 32, cols, cols / 4, 0, std::bit_cast<std::uint32_t>(kScale)};
    call.groups = {lanes(cols / 32), static_cast<std::uint32_t>(rows.size()), 1};
    const Words got = run_kernel(*device_, call)[0];
    std::vector<float> want(rows.size() * cols);
    for (std::size_t i = 0; i < rows.size(); ++i) dequantise_row(tensor, rows[i].first, want.data() + i * cols);
    for (float& value : want) value = numerics::store(value * kScale);
    EXPECT_EQ(got, words_of(want)) << to_string(type);
  }
}

// prepare.comp on `source`; {records, floats}. Wide records are behind those of 32.
std::array<Words, kWriteBindings> prepare(KernelDevice& device, const std::vector<float>& source, std::uint32_t rows,
                                          std::uint32_t cols, const std::vector<float>& norm, std::uint32_t outputs) {
  KernelCall call;
  call.kernel = Kernel::prepare;
  call.constants = {norm.empty() ? 0U : 2U, outputs};
  call.reads[0] = {step_words({{0, 0}}, {0}), View::words};
  call.reads[1] = {words_of(source), View::texels};
  call.reads[2] = {words_of(norm), View::texels};
  const std::uint32_t groups = cols / 32;
  call.writes[0] = Words(std::size_t{rows} * (groups * 8 + groups / 8 * kWideRecordTexels) * 4);
  call.writes[1] = Words(std::size_t{rows} * cols);
  call.push = {groups,
               0,
               rows * groups * kNibbleRecordTexels,
               rows * groups * (kNibbleRecordTexels + kByteRecordTexels),
               0,
               cols / 4,
               0,
               0,
               std::bit_cast<std::uint32_t>(1.0F / static_cast<float>(cols)),
               std::bit_cast<std::uint32_t>(1e-5F),
               0,
               0,
               0};
  const std::uint32_t width = device.tuning().width;
  call.groups = {norm.empty() ? (groups + width - 1) / width : 1, rows, 1};
  return run_kernel(device, call);
}

struct Quantised {
  std::vector<std::int8_t> wide_xq;
  std::vector<float> wide_dx;
  std::vector<std::int16_t> sum16;
  std::vector<std::int16_t> sum32;
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
  if (cols % 256 != 0) return q;
  q.wide_xq.resize(x.size());
  q.wide_dx.resize(x.size() / 256);
  q.sum16.resize(x.size() / 16);
  q.sum32.resize(x.size() / 32);
  cpu::scalar_kernels().quantise_wide(x.data(), static_cast<std::uint32_t>(x.size()), q.wide_xq.data(),
                                      q.wide_dx.data(), q.sum16.data(), q.sum32.data());
  return q;
}

TEST_F(KernelTest, OC_NUM_1205_norm_and_quantiser_equal_the_scalar_ones) {
  constexpr std::uint32_t kRows = 3;
  for (const std::uint32_t cols : {32U, 96U, 576U, 1184U}) {
    std::vector<float> x = random_floats(std::size_t{kRows} * cols, cols, 2.0F);
    for (std::uint32_t i = 0; i < 32; ++i) x[cols + i] = 0.0F;  // a silent group
    x[2 * cols] = 1e-19F;                                       // under 2^-60
    const std::vector<float> w = random_floats(cols, 5, 1.0F);
    const auto [records, floats, joined] = prepare(*device_, x, kRows, cols, w, 7);
    std::vector<float> want(x.size());
    for (std::uint32_t r = 0; r < kRows; ++r) {
      cpu::scalar_kernels().rms_norm(x.data() + r * cols, w.data(), cols, 1e-5F, want.data() + r * cols);
    }
    EXPECT_TRUE(joined.empty());
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

std::uint32_t pair_word(std::int32_t high, std::int32_t low) {
  return static_cast<std::uint32_t>(high) * 65536U + static_cast<std::uint32_t>(low);
}

TEST_F(KernelTest, OC_NUM_1205_the_wide_quantiser_equals_the_scalar_one) {
  constexpr std::uint32_t kRows = 3;
  for (const std::uint32_t cols : {256U, 1024U}) {
    std::vector<float> x = random_floats(std::size_t{kRows} * cols, cols, 2.0F);
    for (std::uint32_t i = 0; i < 256; ++i) x[cols + i] = 0.0F;  // a silent group
    x[2 * cols] = 1e-19F;
    const Words records = prepare(*device_, x, kRows, cols, {}, kWideRecords)[0];
    const Quantised q = quantise(x, kRows, cols);
    const std::size_t groups = x.size() / 256;
    const std::uint32_t* record = records.data() + groups * 8 * (kNibbleRecordTexels + kByteRecordTexels) * 4;
    for (std::size_t g = 0; g < groups; ++g, record += std::size_t{kWideRecordTexels} * 4) {
      for (std::size_t k = 0; k < 256; k += 4) {
        const std::int8_t* xq = q.wide_xq.data() + g * 256 + k;
        ASSERT_EQ(record[k / 2], pair_word(xq[0], xq[2])) << cols << " group " << g << " at " << k;
        ASSERT_EQ(record[k / 2 + 1], pair_word(xq[1], xq[3])) << cols << " group " << g << " at " << k;
      }
      EXPECT_EQ(record[128], std::bit_cast<std::uint32_t>(q.wide_dx[g]));
      for (std::size_t i = 0; i < 8; ++i) {
        const std::int16_t* sums = q.sum16.data() + g * 16 + 2 * i;
        EXPECT_EQ(record[132 + i], static_cast<std::uint16_t>(sums[0]) |
                                       static_cast<std::uint32_t>(static_cast<std::uint16_t>(sums[1])) << 16U);
      }
    }
  }
}

// One matmul through prepare.comp and the kernel of its type.
Words device_matmul(KernelDevice& device, const QTensor& w, const std::vector<float>& x, std::uint32_t rows,
                    std::uint32_t tokens_per_group, const std::vector<float>& bias,
                    const std::vector<float>& residual) {
  const bool quantised = is_quantised(w.type);
  auto prepared = prepare(device, x, rows, w.cols, {}, record_kind(w.type));
  KernelCall call;
  call.kernel = matmul_kernel(w.type);
  const Tuning& tuning = device.tuning();
  const std::uint32_t code = matmul_type_code(w.type);
  if (quantised)
    call.constants = {tokens_per_group, tuning.rows_per_lane, code, tuning.shuffle};
  else
    call.constants = {code};
  Words input = quantised ? prepared[0] : prepared[1];
  input.resize(input.size() + 8UL * w.blocks() * kWideRecordTexels * 4, 0);  // groups of 8 read rows past the last
  call.reads[0] = {step_words(std::vector<std::pair<std::uint32_t, std::uint32_t>>(rows), {0}), View::words};
  call.reads[1] = {device_quants(w), View::texels};
  call.reads[2] = {device_scales(w), View::words};
  call.reads[3] = {input, View::texels};
  call.reads[4] = {words_of(residual), View::words};
  call.reads[5] = {words_of(bias), View::words};
  if (residual.empty()) call.reads[4] = {Words(4), View::words};
  if (bias.empty()) call.reads[5] = {Words(4), View::words};
  call.writes[0] = Words(std::size_t{rows} * w.rows);
  const std::uint32_t groups = rows * (w.cols / 32);
  const std::uint32_t base = is_wide(w.type)              ? groups * (kNibbleRecordTexels + kByteRecordTexels)
                             : w.type == TensorType::q8_0 ? groups * kNibbleRecordTexels
                                                          : 0;
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
  for (const TensorType type : kTensorTypes) {
    for (std::uint32_t cols : {32U, 256U, 320U, 576U}) {
      if (is_wide(type)) cols = cols / 256 * 256 + 256;  // 256, 512, 768
      const QTensor w = testing::random_tensor(type, kWeightRows, cols, cols);
      const std::vector<float> x = random_floats(std::size_t{kRows} * cols, 11, 3.0F);
      const std::vector<float> bias =
          cols == 320 || cols == 512 ? random_floats(kWeightRows, 12, 1.0F) : std::vector<float>();
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
      args.in.wide = {q.wide_xq.data(), q.wide_dx.data(), q.sum16.data(), q.sum32.data()};
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
  std::uint32_t kv_heads, heads_per_kv, dims, window;
};

TEST_F(KernelTest, OC_NUM_1303_attention_equals_the_scalar_one_over_pages_in_any_order_and_several_splits) {
  constexpr float kScale = 0.125F;
  for (const AttentionShape shape :
       {AttentionShape{2, 3, 16, 0}, AttentionShape{1, 4, 64, 0}, AttentionShape{2, 7, 32, 0},
        AttentionShape{1, 1, 128, 0}, AttentionShape{2, 3, 16, 40}, AttentionShape{1, 4, 64, 257},
        AttentionShape{1, 1, 32, 1}, AttentionShape{1, 2, 16, 445}}) {
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
    call.push = {width / 4,
                 0,
                 heads,
                 shape.kv_heads,
                 shape.heads_per_kv,
                 chunks,
                 kSplits,
                 shape.window,
                 std::bit_cast<std::uint32_t>(kScale)};
    call.groups = {shape.kv_heads * chunks, static_cast<std::uint32_t>(rows.size()), kSplits};
    const Words partials = run_kernel(*device_, call)[0];
    KernelCall merge;
    merge.kernel = Kernel::prepare;
    merge.constants = {static_cast<std::uint32_t>(MatmulSource::attention_splits), kFloats};
    merge.reads[0] = call.reads[0];
    merge.reads[1] = {partials, View::texels};
    merge.writes[1] = Words(q.size());
    merge.push = {width / 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, shape.dims / 4, kSplits, shape.window};
    merge.groups = {lanes(width / 32), static_cast<std::uint32_t>(rows.size()), 1};
    Words got = run_kernel(*device_, merge)[1];
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
        args.window = shape.window;
        args.kv_base = kv.data();
        args.page_stride = page_values;
        args.key_offset = std::size_t{head} * shape.dims * 32;
        args.value_offset = args.key_offset + page_values / 2;
        args.pages = pages;
        cpu::scalar_kernels().attention(args);
      }
    }
    EXPECT_EQ(got, words_of(want)) << shape.kv_heads << " x " << shape.heads_per_kv << " x " << shape.dims
                                   << ", window " << shape.window;
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
