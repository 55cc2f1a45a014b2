// From a file's block formats to QTensor tiles (q_tensor.h), and single rows back to f32 for the embedding.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "worker/model/q_tensor.h"

namespace orch::worker {

// The types this build computes with; nullopt: refused by name.
std::optional<TensorType> tensor_type_of(std::uint32_t ggml_type);
std::string supported_tensor_types();  // their names, for refusals

// `bytes` holds tensor.rows rows of tensor.cols elements in the file's format (extent checked by the parser). name,
// type, rows, cols and layout are set; fills quants and scales, in `arena` when there is one. The same as allocating
// and then filling all rows; separate ranges of rows may be filled by different threads.
void repack(QTensor& tensor, std::span<const std::byte> bytes, Arena* arena = nullptr);
void allocate_tiles(QTensor& tensor, Arena* arena);
void fill_tiles(QTensor& tensor, std::span<const std::byte> bytes, std::uint32_t row_begin, std::uint32_t row_end);

std::size_t repacked_bytes(TensorType type, TensorLayout layout, std::uint64_t rows, std::uint64_t cols);

// What `embed` writes: numerics::store of each element.
void dequantise_row(const QTensor& tensor, std::uint32_t row, float* out);

}  // namespace orch::worker
