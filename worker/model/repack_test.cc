// The tiles of q_tensor.h hold what the file's blocks say, element by element; the decoding here is written against the
// formats' description, not against repack.cc.
#include "worker/model/repack.h"

#include <gtest/gtest.h>

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

float element(TensorType type, const std::vector<std::byte>& bytes, std::size_t index) {
  const std::size_t block = index / 32;
  const std::size_t k = index % 32;
  const auto nibble = [&](std::size_t start) {
    const std::uint8_t byte = static_cast<std::uint8_t>(bytes[start + k % 16]);
    return static_cast<float>(k < 16 ? (byte & 15) : (byte >> 4));
  };
  switch (type) {
    case TensorType::f32: {
      float value = 0;
      std::memcpy(&value, bytes.data() + index * 4, sizeof(value));
      return value;
    }
    case TensorType::f16:
      return numerics::f16_to_f32(u16_at(bytes, index * 2));
    case TensorType::q8_0:
      return numerics::f16_to_f32(u16_at(bytes, block * 34)) *
             static_cast<float>(static_cast<std::int8_t>(bytes[block * 34 + 2 + k]));
    case TensorType::q4_0:
      return numerics::f16_to_f32(u16_at(bytes, block * 18)) * (nibble(block * 18 + 2) - 8.0F);
    case TensorType::q4_1:
      return numerics::f16_to_f32(u16_at(bytes, block * 20)) * nibble(block * 20 + 4) +
             numerics::f16_to_f32(u16_at(bytes, block * 20 + 2));
  }
  return 0;
}

TEST(Repack, OC_ENGINE_1003_every_element_of_every_type_is_in_its_tile) {
  for (const TensorType type :
       {TensorType::f32, TensorType::f16, TensorType::q4_0, TensorType::q4_1, TensorType::q8_0}) {
    constexpr std::uint32_t kRows = 37;
    constexpr std::uint32_t kCols = 96;
    const std::vector<std::byte> bytes = testing::random_tensor_bytes(type, kRows, kCols, 8);
    const QTensor tensor = testing::random_tensor(type, kRows, kCols, 8);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.quants.data()) % 64, 0u);
    EXPECT_EQ(tensor.row_groups(), 3u);
    std::vector<float> row(kCols);
    for (std::uint32_t r = 0; r < kRows; ++r) {
      dequantise_row(tensor, r, row.data());
      for (std::uint32_t c = 0; c < kCols; ++c) {
        ASSERT_EQ(row[c], numerics::store(element(type, bytes, std::size_t{r} * kCols + c)))
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
