// Builds small GGUF v3 files in memory, well-formed or deliberately broken. Test code only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace orch::worker::testing {

class GgufWriter {
 public:
  GgufWriter& add_u32(std::string_view key, std::uint32_t value);
  GgufWriter& add_f32(std::string_view key, float value);
  GgufWriter& add_bool(std::string_view key, bool value);
  GgufWriter& add_string(std::string_view key, std::string_view value);
  GgufWriter& add_strings(std::string_view key, const std::vector<std::string>& values);
  GgufWriter& add_i32s(std::string_view key, const std::vector<std::int32_t>& values);
  GgufWriter& add_f32s(std::string_view key, const std::vector<float>& values);
  // Raw value bytes under any type id, for broken files.
  GgufWriter& add_raw(std::string_view key, std::uint32_t type, const std::vector<std::byte>& value);

  // dims[0] is the contiguous row length; `type` is a ggml id.
  GgufWriter& add_tensor(std::string_view name, std::vector<std::uint64_t> dims, std::uint32_t type,
                         std::vector<std::byte> bytes);

  // Overrides for broken files.
  std::uint32_t version = 3;
  std::uint32_t alignment = 32;

  std::vector<std::byte> finish() const;

 private:
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dims;
    std::uint32_t type = 0;
    std::vector<std::byte> bytes;
  };

  void key(std::string_view key, std::uint32_t type);

  std::vector<std::byte> metadata_;
  std::uint64_t metadata_count_ = 0;
  std::vector<Tensor> tensors_;
};

// Little-endian append helpers for add_raw.
void append_u32(std::vector<std::byte>& out, std::uint32_t value);
void append_u64(std::vector<std::byte>& out, std::uint64_t value);
void append_text(std::vector<std::byte>& out, std::string_view text);

}  // namespace orch::worker::testing
