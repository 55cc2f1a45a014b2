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
  std::vector<AlignedBytes> workspaces_;
};

}  // namespace orch::worker::cpu
