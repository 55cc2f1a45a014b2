// The tiles of q_tensor.h hold what the file's blocks say, element by element; the decoding here is written against the
// formats' description, not against repack.cc.
#include "worker/model/repack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "worker/core/numerics.h"
#include "worker/model/gguf_file.h"
#include "worker/model/weights.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker {
namespace {

std::uint16_t u16_at(const std::vector<std::byte>& bytes, std::size_t at) {
  std::uint16_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

struct Block {
  const std::vector<std::byte>& bytes;
  std::size_t start;

  std::uint32_t u8(std::size_t at) const { return static_cast<std::uint8_t>(bytes[start + at]); }
  float i8(std::size_t at) const { return static_cast<float>(static_cast<std::int8_t>(bytes[start + at])); }
  float f16(std::size_t at) const { return numerics::f16_to_f32(u16_at(bytes, start + at)); }
  std::uint32_t bit(std::size_t from, std::size_t index) const { return (u8(from + index / 8) >> (index % 8)) & 1U; }
  // Elements 0..15 in the low nibbles of 16 bytes, 16..31 in the high ones.
  std::uint32_t nibble(std::size_t from, std::size_t k) const {
    return k < 16 ? u8(from + k) & 15U : u8(from + k - 16) >> 4U;
  }
};

float as_float(std::uint32_t value) { return static_cast<float>(value); }

// Q4_K and Q5_K, written as ggml's description of the packed scales says it.
float k_quant_with_minimum(const Block& b, std::size_t k, bool five_bits) {
  const std::size_t sub = k / 32;
  std::uint32_t scale = 0;
  std::uint32_t minimum = 0;
  if (sub < 4) {
    scale = b.u8(4 + sub) % 64;
    minimum = b.u8(8 + sub) % 64;
  } else {
    scale = b.u8(8 + sub) % 16 + b.u8(sub) / 64 * 16;
    minimum = b.u8(8 + sub) / 16 + b.u8(4 + sub) / 64 * 16;
  }
  const std::uint32_t byte = b.u8((five_bits ? 48 : 16) + k / 64 * 32 + k % 32);
  std::uint32_t q = sub % 2 == 0 ? byte % 16 : byte / 16;
  if (five_bits) q += ((b.u8(16 + k % 32) >> sub) & 1U) * 16;
  return b.f16(0) * as_float(scale * q) - b.f16(2) * as_float(minimum);
}

float q6_k(const Block& b, std::size_t k) {
  const std::size_t half = k / 128;
  const std::size_t quarter = k % 128 / 32;
  const std::size_t l = k % 32;
  const std::uint32_t byte = b.u8(half * 64 + quarter % 2 * 32 + l);
  const std::uint32_t low = quarter < 2 ? byte % 16 : byte / 16;
  const std::uint32_t high = (b.u8(128 + half * 32 + l) >> (2 * quarter)) % 4;
  return b.f16(208) * (b.i8(192 + k / 16) * (as_float(low + 16 * high) - 32.0F));
}

float element(TensorType type, const std::vector<std::byte>& bytes, std::size_t index) {
  const std::size_t k = index % 32;
  const auto block = [&](std::size_t size) { return Block{bytes, index / 32 * size}; };
  const auto wide = [&](std::size_t size) { return Block{bytes, index / 256 * size}; };
  switch (type) {
    case TensorType::f32: {
      float value = 0;
      std::memcpy(&value, bytes.data() + index * 4, sizeof(value));
      return value;
    }
    case TensorType::f16:
      return numerics::f16_to_f32(u16_at(bytes, index * 2));
    case TensorType::bf16:
      return numerics::float_of(static_cast<std::uint32_t>(u16_at(bytes, index * 2)) << 16);
    case TensorType::q8_0:
      return block(34).f16(0) * block(34).i8(2 + k);
    case TensorType::q4_0:
      return block(18).f16(0) * (as_float(block(18).nibble(2, k)) - 8.0F);
    case TensorType::q4_1:
      return block(20).f16(0) * as_float(block(20).nibble(4, k)) + block(20).f16(2);
    case TensorType::q5_0:
      return block(22).f16(0) * (as_float(block(22).nibble(6, k) + 16 * block(22).bit(2, k)) - 16.0F);
    case TensorType::q5_1:
      return block(24).f16(0) * as_float(block(24).nibble(8, k) + 16 * block(24).bit(4, k)) + block(24).f16(2);
    case TensorType::q4_k:
      return k_quant_with_minimum(wide(144), index % 256, false);
    case TensorType::q5_k:
      return k_quant_with_minimum(wide(176), index % 256, true);
    case TensorType::q6_k:
      return q6_k(wide(210), index % 256);
  }
  return 0;
}

TEST(Repack, OC_ENGINE_1003_every_element_of_every_type_is_in_its_tile) {
  for (const TensorType type : kTensorTypes) {
    constexpr std::uint32_t kRows = 37;
    const std::uint32_t cols = is_wide(type) ? 768 : 96;
    const std::vector<std::byte> bytes = testing::random_tensor_bytes(type, kRows, cols, 8);
    const QTensor tensor = testing::random_tensor(type, kRows, cols, 8);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.quants.data()) % 64, 0u);
    EXPECT_EQ(tensor.row_groups(), 3u);
    std::vector<float> row(cols);
    for (std::uint32_t r = 0; r < kRows; ++r) {
      dequantise_row(tensor, r, row.data());
      for (std::uint32_t c = 0; c < cols; ++c) {
        ASSERT_EQ(row[c], numerics::store(element(type, bytes, std::size_t{r} * cols + c)))
            << to_string(type) << " " << r << "," << c;
      }
    }
    // Padding rows weigh nothing.
    for (std::uint32_t r = kRows; r < 48; ++r) {
      dequantise_row(tensor, r, row.data());
      for (const float value : row) ASSERT_EQ(value, 0.0F);
    }
  }
}

TEST(Repack, OC_NUM_1105_tiny_f32_weights_load_as_zero) {
  std::vector<std::byte> bytes(32 * 4);
  const float tiny = 0x1p-61F;
  for (std::size_t i = 0; i < 32; ++i) std::memcpy(bytes.data() + i * 4, &tiny, 4);
  QTensor tensor;
  tensor.rows = 1;
  tensor.cols = 32;
  repack(tensor, bytes);
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(numerics::bits_of(tensor.plain()[i]), 0U);
}

TEST(Repack, OC_NUM_1105_tiny_bf16_weights_load_as_zero) {
  std::vector<std::byte> bytes(64);
  const std::uint16_t tiny = 0x2100;  // 2^-61
  const std::uint16_t kept = 0x2180;  // 2^-60
  std::memcpy(bytes.data(), &tiny, 2);
  std::memcpy(bytes.data() + 2, &kept, 2);
  QTensor tensor;
  tensor.type = TensorType::bf16;
  tensor.layout = TensorLayout::tiled;
  tensor.rows = 1;
  tensor.cols = 32;
  repack(tensor, bytes);
  EXPECT_EQ(tensor.quants.as<std::uint16_t>()[0], 0U);
  EXPECT_EQ(tensor.quants.as<std::uint16_t>()[kTileRows], kept);
}

TEST(Repack, OC_ENGINE_1006_the_estimated_bytes_are_the_repacked_ones) {
  for (const TensorType type : kTensorTypes) {
    const QTensor tensor = testing::random_tensor(type, 37, 512, 5);
    EXPECT_EQ(tensor.byte_size(), repacked_bytes(type, TensorLayout::tiled, 37, 512)) << to_string(type);
  }
}

TEST(Weights, OC_ENGINE_1003_a_load_on_many_threads_gives_the_same_tiles_and_reports_progress_once_each) {
  testing::TinyShape shape;
  shape.vocabulary = 3000;  // many units
  const std::vector<std::byte> bytes = testing::tiny_model_file(shape);
  auto file = GgufFile::parse(bytes);
  ASSERT_TRUE(file.ok());
  std::vector<float> seen;
  auto one = load_model(**file, {}, 1);
  auto many = load_model(**file, [&seen](float done) { seen.push_back(done); }, 5);
  ASSERT_TRUE(one.ok() && many.ok());
  for (std::size_t i = 0; i < one->weights.tensors.size(); ++i) {
    const QTensor& a = one->weights.tensors[i];
    const QTensor& b = many->weights.tensors[i];
    EXPECT_TRUE(std::ranges::equal(a.quants.span(), b.quants.span())) << a.name;
    EXPECT_TRUE(std::ranges::equal(a.scales.span(), b.scales.span())) << a.name;
  }
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 1.0F);
}

TEST(Weights, OC_NUM_1306_a_tied_head_is_the_embedding) {
  const Model tied = testing::tiny_model({});
  EXPECT_EQ(tied.weights.output, tied.weights.token_embedding);
  testing::TinyShape shape;
  shape.tied = false;
  const Model untied = testing::tiny_model(shape);
  EXPECT_NE(untied.weights.output, untied.weights.token_embedding);
  EXPECT_EQ(untied.plan.ops.back().parts[0].weight, untied.weights.output);
}

}  // namespace
}  // namespace orch::worker
