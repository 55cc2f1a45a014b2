#include "worker/model/gguf_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "worker/model/gguf_parser.h"

namespace orch::worker {
namespace {

ModelError io_error(const std::string& path, const char* what, int error) {
  const bool missing = error == ENOENT || error == ENOTDIR;
  return {missing ? ModelErrorKind::missing_file : ModelErrorKind::io, "model.path",
          std::string(what) + " " + path + ": " + std::strerror(error)};
}

ModelError wrong_type(std::string_view key, const char* expected) {
  return {ModelErrorKind::bad_file, std::string(key), std::string("has another type than ") + expected};
}

std::uint64_t element_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
      return 8;
    case GgufType::f32:
    case GgufType::f64:
    case GgufType::boolean:
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

bool is_signed(GgufType type) {
  return type == GgufType::i8 || type == GgufType::i16 || type == GgufType::i32 || type == GgufType::i64;
}

std::int64_t read_integer(const std::byte* at, std::uint64_t size, bool sign_extend) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, size);
  const std::uint64_t bits = size * 8;
  if (sign_extend && bits < 64 && ((value >> (bits - 1)) & 1U) != 0) value |= ~std::uint64_t{0} << bits;
  return static_cast<std::int64_t>(value);
}

}  // namespace

GgufFile::~GgufFile() {
  if (mapping_ != nullptr) ::munmap(mapping_, bytes_.size());
}

Result<std::unique_ptr<GgufFile>, ModelError> GgufFile::parse(std::span<const std::byte> bytes,
                                                              const GgufLimits& limits) {
  return GgufParser(bytes, limits).parse();
}

Result<std::unique_ptr<GgufFile>, ModelError> GgufFile::open_part(const std::string& path, const GgufLimits& limits) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Err{io_error(path, "cannot open", errno)};
  struct stat info{};
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    return Err{io_error(path, "cannot stat", error)};
  }
  if (!S_ISREG(info.st_mode) || info.st_size <= 0) {
    ::close(fd);
    return Err{ModelError{ModelErrorKind::bad_file, "model.path", path + " is not a regular file with content"}};
  }
  const std::size_t size = static_cast<std::size_t>(info.st_size);
  void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (mapping == MAP_FAILED) return Err{io_error(path, "cannot map", error)};
  auto parsed = GgufParser(std::span(static_cast<const std::byte*>(mapping), size), limits).parse();
  if (!parsed.ok()) {
    ::munmap(mapping, size);
    return parsed;
  }
  parsed.value()->mapping_ = mapping;
  return parsed;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Result<std::optional<std::uint64_t>, ModelError> GgufFile::unsigned_value(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::uint64_t>{};
  if (const auto* u = std::get_if<std::uint64_t>(value)) return std::optional(*u);
  if (const auto* i = std::get_if<std::int64_t>(value); i != nullptr && *i >= 0) {
    return std::optional(static_cast<std::uint64_t>(*i));
  }
  return Err{wrong_type(key, "an integer of at least 0")};
}

Result<std::optional<double>, ModelError> GgufFile::float_value(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<double>{};
  if (const auto* d = std::get_if<double>(value); d != nullptr && std::isfinite(*d)) return std::optional(*d);
  return Err{wrong_type(key, "a finite float")};
}

Result<std::optional<bool>, ModelError> GgufFile::bool_value(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<bool>{};
  if (const auto* b = std::get_if<bool>(value)) return std::optional(*b);
  return Err{wrong_type(key, "a boolean")};
}

Result<std::optional<std::string_view>, ModelError> GgufFile::string_value(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::string_view>{};
  if (const auto* s = std::get_if<std::string_view>(value)) return std::optional(*s);
  return Err{wrong_type(key, "a string")};
}

Result<std::optional<std::span<const std::string_view>>, ModelError> GgufFile::string_array(
    std::string_view key) const {
  using Strings = std::span<const std::string_view>;
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<Strings>{};
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr || array->element != GgufType::string) return Err{wrong_type(key, "an array of strings")};
  return std::optional(Strings(array->strings));
}

Result<std::optional<std::vector<std::int64_t>>, ModelError> GgufFile::integer_array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::vector<std::int64_t>>{};
  const auto* array = std::get_if<GgufArray>(value);
  const std::uint64_t each = array != nullptr ? element_bytes(array->element) : 0;
  if (each == 0) return Err{wrong_type(key, "an array of integers")};
  std::vector<std::int64_t> out;
  out.reserve(array->count);
  for (std::uint64_t i = 0; i < array->count; ++i) {
    out.push_back(read_integer(array->raw.data() + i * each, each, is_signed(array->element)));
  }
  return std::optional(std::move(out));
}

Result<std::optional<std::vector<float>>, ModelError> GgufFile::float_array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::vector<float>>{};
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr || array->element != GgufType::f32) return Err{wrong_type(key, "an array of f32")};
  std::vector<float> out(array->count);
  if (!out.empty()) std::memcpy(out.data(), array->raw.data(), array->raw.size());
  return std::optional(std::move(out));
}

}  // namespace orch::worker
