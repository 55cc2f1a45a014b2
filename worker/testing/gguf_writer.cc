#include "worker/testing/gguf_writer.h"

#include <cstring>

namespace orch::worker::testing {
namespace {

constexpr std::uint32_t kU32 = 4;
constexpr std::uint32_t kI32 = 5;
constexpr std::uint32_t kF32 = 6;
constexpr std::uint32_t kBool = 7;
constexpr std::uint32_t kString = 8;
constexpr std::uint32_t kArray = 9;

void append(std::vector<std::byte>& out, const void* data, std::size_t size) {
  const std::byte* bytes = static_cast<const std::byte*>(data);
  out.insert(out.end(), bytes, bytes + size);
}

}  // namespace

void append_u32(std::vector<std::byte>& out, std::uint32_t value) { append(out, &value, sizeof(value)); }
void append_u64(std::vector<std::byte>& out, std::uint64_t value) { append(out, &value, sizeof(value)); }
void append_text(std::vector<std::byte>& out, std::string_view text) {
  append_u64(out, text.size());
  append(out, text.data(), text.size());
}

void GgufWriter::key(std::string_view key, std::uint32_t type) {
  append_text(metadata_, key);
  append_u32(metadata_, type);
  ++metadata_count_;
}

GgufWriter& GgufWriter::add_u32(std::string_view name, std::uint32_t value) {
  key(name, kU32);
  append_u32(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::add_f32(std::string_view name, float value) {
  key(name, kF32);
  append(metadata_, &value, sizeof(value));
  return *this;
}

GgufWriter& GgufWriter::add_bool(std::string_view name, bool value) {
  key(name, kBool);
  metadata_.push_back(value ? std::byte{1} : std::byte{0});
  return *this;
}

GgufWriter& GgufWriter::add_string(std::string_view name, std::string_view value) {
  key(name, kString);
  append_text(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::add_strings(std::string_view name, const std::vector<std::string>& values) {
  key(name, kArray);
  append_u32(metadata_, kString);
  append_u64(metadata_, values.size());
  for (const std::string& value : values) append_text(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::add_i32s(std::string_view name, const std::vector<std::int32_t>& values) {
  key(name, kArray);
  append_u32(metadata_, kI32);
  append_u64(metadata_, values.size());
  append(metadata_, values.data(), values.size() * sizeof(std::int32_t));
  return *this;
}

GgufWriter& GgufWriter::add_f32s(std::string_view name, const std::vector<float>& values) {
  key(name, kArray);
  append_u32(metadata_, kF32);
  append_u64(metadata_, values.size());
  append(metadata_, values.data(), values.size() * sizeof(float));
  return *this;
}

GgufWriter& GgufWriter::add_raw(std::string_view name, std::uint32_t type, const std::vector<std::byte>& value) {
  key(name, type);
  append(metadata_, value.data(), value.size());
  return *this;
}

GgufWriter& GgufWriter::add_tensor(std::string_view name, std::vector<std::uint64_t> dims, std::uint32_t type,
                                   std::vector<std::byte> bytes) {
  tensors_.push_back({std::string(name), std::move(dims), type, std::move(bytes)});
  return *this;
}

std::vector<std::byte> GgufWriter::finish() const {
  std::vector<std::byte> out;
  append(out, "GGUF", 4);
  append_u32(out, version);
  append_u64(out, tensors_.size());
  append_u64(out, metadata_count_);
  append(out, metadata_.data(), metadata_.size());
  std::uint64_t offset = 0;
  const auto padded = [this](std::uint64_t size) { return (size + alignment - 1) / alignment * alignment; };
  for (const Tensor& tensor : tensors_) {
    append_text(out, tensor.name);
    append_u32(out, static_cast<std::uint32_t>(tensor.dims.size()));
    for (const std::uint64_t dim : tensor.dims) append_u64(out, dim);
    append_u32(out, tensor.type);
    append_u64(out, offset);
    offset += padded(tensor.bytes.size());
  }
  out.resize(padded(out.size()));
  for (const Tensor& tensor : tensors_) {
    append(out, tensor.bytes.data(), tensor.bytes.size());
    out.resize(padded(out.size()));
  }
  return out;
}

}  // namespace orch::worker::testing
