// Reader of GGUF v2 and v3 files, safe against hostile ones: every count, length and offset is checked against the
// bytes that exist and against a limit before it is used, and each refusal names the field and the limit. Sources of
// the format: the GGUF description of the ggml project (little endian; counts u64; tensor offsets relative to the
// aligned data section).
//
// GgufFile owns a read-only mapping (or borrows bytes, for tests); strings and tensor bytes it hands out are views that
// live as long as it does. Immutable after open: any thread may read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "worker/model/model_error.h"

namespace orch::worker {

struct GgufLimits {
  std::uint64_t metadata_max = 65'536;
  std::uint64_t tensors_max = 65'536;
  std::uint64_t key_bytes_max = 65'535;
  std::uint64_t string_bytes_max = 16'777'216;
  std::uint64_t array_elements_max = 16'777'216;
  std::uint32_t array_depth_max = 4;
  std::uint64_t tensor_name_bytes_max = 64;
  std::uint32_t tensor_dims_max = 4;
  std::uint64_t tensor_elements_max = std::uint64_t{1} << 40;
  std::uint64_t alignment_max = 1'048'576;
};

enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

// An array of scalars keeps its raw little-endian bytes; an array of strings its views. Arrays of arrays are validated
// and kept by type and count only.
struct GgufArray {
  GgufType element = GgufType::u8;
  std::uint64_t count = 0;
  std::span<const std::byte> raw;
  std::vector<std::string_view> strings;
};

using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray>;

struct GgufTensor {
  std::string_view name;
  std::uint32_t type = 0;            // ggml type id
  std::vector<std::uint64_t> dims;   // dims[0] is the contiguous row length
  std::span<const std::byte> bytes;  // inside the file; empty for a type whose size is unknown to this build
};

// "Q4_1" for 3; "type 57" for an id without a known name.
std::string ggml_type_name(std::uint32_t type);

class GgufFile {
 public:
  // `path` is a whole file, or the first of the parts NAME-00001-of-0000N.gguf, whose tensors then appear as one
  // file's.
  static Result<std::unique_ptr<GgufFile>, ModelError> open(const std::string& path, const GgufLimits& limits = {});
  // The bytes must outlive the result.
  static Result<std::unique_ptr<GgufFile>, ModelError> parse(std::span<const std::byte> bytes,
                                                             const GgufLimits& limits = {});

  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  std::uint32_t version() const { return version_; }
  // The bytes of the file, or of each part in order.
  std::vector<std::span<const std::byte>> contents() const;
  std::uint64_t content_bytes() const;

  const GgufValue* find(std::string_view key) const;
  // nullopt: absent. An error: present with another type, or out of range.
  Result<std::optional<std::uint64_t>, ModelError> unsigned_value(
      std::string_view key) const;                                                    // any integer type, >= 0
  Result<std::optional<double>, ModelError> float_value(std::string_view key) const;  // f32 or f64, finite
  Result<std::optional<bool>, ModelError> bool_value(std::string_view key) const;
  Result<std::optional<std::string_view>, ModelError> string_value(std::string_view key) const;
  Result<std::optional<std::span<const std::string_view>>, ModelError> string_array(std::string_view key) const;
  // Any integer element type, widened.
  Result<std::optional<std::vector<std::int64_t>>, ModelError> integer_array(std::string_view key) const;
  Result<std::optional<std::vector<float>>, ModelError> float_array(std::string_view key) const;

  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;

 private:
  friend class GgufParser;
  GgufFile() = default;
  static Result<std::unique_ptr<GgufFile>, ModelError> open_part(const std::string& path, const GgufLimits& limits);
  Status<ModelError> open_rest(const std::string& path, std::uint64_t count, const GgufLimits& limits);
  Status<ModelError> add_part(std::unique_ptr<GgufFile> part, std::uint64_t number, std::uint64_t count);

  std::uint32_t version_ = 0;
  std::span<const std::byte> bytes_;
  void* mapping_ = nullptr;
  std::map<std::string_view, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, std::size_t> tensor_index_;
  std::vector<std::unique_ptr<GgufFile>> parts_;  // after this one; own the bytes of their tensors
};

}  // namespace orch::worker
