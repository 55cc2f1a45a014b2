// The parsing half of GgufFile: one pass over the header, every read bounded. Leaf of gguf_file.cc, not for other
// users.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "worker/model/gguf_file.h"

namespace orch::worker {

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, const GgufLimits& limits) : bytes_(bytes), limits_(limits) {}

  Result<std::unique_ptr<GgufFile>, ModelError> parse();

 private:
  using Step = Status<ModelError>;

  Step parse_header(GgufFile& file, std::uint64_t& tensors, std::uint64_t& metadata);
  Step parse_metadata(GgufFile& file, std::uint64_t count);
  Step parse_tensor_infos(GgufFile& file, std::uint64_t count);
  Step parse_tensor_info(GgufTensor& tensor, std::uint64_t& offset);
  Step place_tensors(GgufFile& file);

  Result<GgufValue, ModelError> read_value(GgufType type, std::string_view key, std::uint32_t depth);
  Result<GgufValue, ModelError> read_array(std::string_view key, std::uint32_t depth);
  Result<std::string_view, ModelError> read_string(std::string_view field, std::uint64_t bytes_max);

  template <typename T>
  Result<T, ModelError> read(std::string_view field);

  std::uint64_t left() const { return bytes_.size() - at_; }
  ModelError truncated(std::string_view field, std::uint64_t wanted) const;
  static ModelError bad(std::string_view field, std::string message);

  std::span<const std::byte> bytes_;
  GgufLimits limits_;
  std::uint64_t at_ = 0;
  std::vector<std::uint64_t> offsets_;  // of tensors, relative to the data section
};

}  // namespace orch::worker
