// Split files: part n of N is NAME-0000n-of-0000N.gguf; each part says its number (split.no, from 0) and how many there
// are (split.count), the tensors are spread over them and the metadata of the first part holds for all.
#include <cstdio>

#include "worker/model/gguf_file.h"

namespace orch::worker {
namespace {

constexpr std::uint64_t kPartsMax = 1024;

ModelError split_error(const char* field, std::string message) {
  return {ModelErrorKind::bad_file, field, std::move(message)};
}

std::string part_suffix(std::uint64_t number, std::uint64_t count) {
  char text[64];
  std::snprintf(text, sizeof(text), "-%05llu-of-%05llu.gguf", static_cast<unsigned long long>(number),
                static_cast<unsigned long long>(count));
  return text;
}

}  // namespace

Result<std::unique_ptr<GgufFile>, ModelError> GgufFile::open(const std::string& path, const GgufLimits& limits) {
  auto first = open_part(path, limits);
  if (!first.ok()) return first;
  ORCH_TRY(count, (*first)->unsigned_value("split.count"));
  if (count.value_or(0) <= 1) return first;
  ORCH_TRY(rest, (*first)->open_rest(path, *count, limits));
  static_cast<void>(rest);
  return first;
}

Status<ModelError> GgufFile::open_rest(const std::string& path, std::uint64_t count, const GgufLimits& limits) {
  if (count > kPartsMax) {
    return Err{split_error("split.count", std::to_string(count) + " parts, limit " + std::to_string(kPartsMax))};
  }
  ORCH_TRY(number, unsigned_value("split.no"));
  if (number.value_or(0) != 0) {
    return Err{split_error("split.no", "this is part " + std::to_string(*number + 1) + " of " + std::to_string(count) +
                                           "; open the first one, NAME" + part_suffix(1, count))};
  }
  const std::string suffix = part_suffix(1, count);
  if (!path.ends_with(suffix)) {
    return Err{split_error("model.path", "a file of " + std::to_string(count) + " parts must be named NAME" + suffix)};
  }
  const std::string name = path.substr(0, path.size() - suffix.size());
  for (std::uint64_t i = 1; i < count; ++i) {
    auto part = open_part(name + part_suffix(i + 1, count), limits);
    if (!part.ok()) return Err{part.error()};
    ORCH_TRY(added, add_part(std::move(part).value(), i, count));
    static_cast<void>(added);
  }
  ORCH_TRY(tensors, unsigned_value("split.tensors.count"));
  if (tensors && *tensors != tensors_.size()) {
    return Err{split_error("split.tensors.count",
                           std::to_string(*tensors) + " announced, the parts have " + std::to_string(tensors_.size()))};
  }
  return Ok{};
}

Status<ModelError> GgufFile::add_part(std::unique_ptr<GgufFile> part, std::uint64_t number, std::uint64_t count) {
  ORCH_TRY(part_number, part->unsigned_value("split.no"));
  ORCH_TRY(part_count, part->unsigned_value("split.count"));
  if (part_number != number || part_count != count) {
    return Err{split_error(
        "split.no", "the file named as part " + std::to_string(number + 1) + " of " + std::to_string(count) + " says " +
                        std::to_string(part_number.value_or(0) + 1) + " of " + std::to_string(part_count.value_or(0)))};
  }
  for (const GgufTensor& tensor : part->tensors_) {
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
      return Err{
          split_error("split.count", "a tensor of part " + std::to_string(number + 1) + " is in an earlier part too")};
    }
    tensors_.push_back(tensor);
  }
  parts_.push_back(std::move(part));
  return Ok{};
}

std::vector<std::span<const std::byte>> GgufFile::contents() const {
  std::vector<std::span<const std::byte>> out = {bytes_};
  for (const std::unique_ptr<GgufFile>& part : parts_) out.push_back(part->bytes_);
  return out;
}

std::uint64_t GgufFile::content_bytes() const {
  std::uint64_t sum = 0;
  for (const std::span<const std::byte> part : contents()) sum += part.size();
  return sum;
}

}  // namespace orch::worker
