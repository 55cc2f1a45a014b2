// Activation buffers of one step: one row per token, allocated once for rows_max rows.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "worker/cpu/kernels.h"
#include "worker/model/aligned_bytes.h"
#include "worker/model/model_config.h"
#include "worker/model/plan.h"

namespace orch::worker::cpu {

// Where one row's quantised form in groups of 256 goes.
struct WideInput {
  std::int8_t* xq = nullptr;
  float* dx = nullptr;
  std::int16_t* sum16 = nullptr;
  std::int16_t* sum32 = nullptr;
};

class StepScratch {
 public:
  StepScratch(const ModelConfig& config, std::uint32_t rows_max, std::uint32_t threads, std::uint32_t context);

  float* row(Buffer buffer, std::uint32_t row) {
    const std::size_t b = static_cast<std::size_t>(buffer);
    return buffers_[b].as<float>() + std::size_t{row} * widths_[b];
  }
  std::size_t width(Buffer buffer) const { return widths_[static_cast<std::size_t>(buffer)]; }

  // The input of the next matmul: f32 and quantised.
  float* input_row(std::uint32_t row, std::uint32_t cols) { return input_.as<float>() + std::size_t{row} * cols; }
  std::int8_t* quant_row(std::uint32_t row, std::uint32_t cols) {
    return quants_.as<std::int8_t>() + std::size_t{row} * cols;
  }
  float* dx_row(std::uint32_t row, std::uint32_t cols) {
    return dx_.as<float>() + std::size_t{row} * (cols / kTileCols);
  }
  float* s_row(std::uint32_t row, std::uint32_t cols) { return s_.as<float>() + std::size_t{row} * (cols / kTileCols); }
  std::int32_t* sum_row(std::uint32_t row, std::uint32_t cols) {
    return sums_.as<std::int32_t>() + std::size_t{row} * (cols / kTileCols);
  }

  // `row` rows of `cols` values from the start; only for cols that are a multiple of 256 where row > 0.
  WideInput wide_row(std::uint32_t row, std::uint32_t cols) {
    const std::size_t at = std::size_t{row} * cols;
    return {wide_quants_.as<std::int8_t>() + at, wide_dx_.as<float>() + at / kWideTileCols,
            sums16_.as<std::int16_t>() + at / 16, sums32_.as<std::int16_t>() + at / 32};
  }

  float* workspace(std::uint32_t thread) { return workspaces_[thread].as<float>(); }
  std::size_t byte_size() const;

 private:
  std::array<AlignedBytes, kBuffers> buffers_;
  std::array<std::size_t, kBuffers> widths_{};
  AlignedBytes input_;
  AlignedBytes quants_;
  AlignedBytes dx_;
  AlignedBytes s_;
  AlignedBytes sums_;
  AlignedBytes wide_quants_;
  AlignedBytes wide_dx_;
  AlignedBytes sums16_;
  AlignedBytes sums32_;
  std::vector<AlignedBytes> workspaces_;
};

}  // namespace orch::worker::cpu
