#include "worker/model/gguf_parser.h"

#include <cstring>

#include "worker/model/gguf_types.h"

namespace orch::worker {
namespace {

constexpr std::uint32_t kMagic = 0x4655'4747U;  // "GGUF", little endian
constexpr std::uint64_t kMetadataBytesMin = 8 + 4 + 1;
constexpr std::uint64_t kTensorInfoBytesMin = 8 + 4 + 8 + 4 + 8;

// Bytes of a scalar; 0 for strings, arrays and unknown types.
std::uint64_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

// Keys of hostile files go into messages: cut and made printable.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 80)) out += (c >= ' ' && c <= '~') ? c : '?';
  return out;
}

}  // namespace

ModelError GgufParser::bad(std::string_view field, std::string message) {
  return {ModelErrorKind::bad_file, printable(field), std::move(message)};
}

ModelError GgufParser::truncated(std::string_view field, std::uint64_t wanted) const {
  return bad(field, "truncated: needs " + std::to_string(wanted) + " bytes at offset " + std::to_string(at_) +
                        ", the file has " + std::to_string(bytes_.size()));
}

template <typename T>
Result<T, ModelError> GgufParser::read(std::string_view field) {
  if (left() < sizeof(T)) return Err{truncated(field, sizeof(T))};
  T value;
  std::memcpy(&value, bytes_.data() + at_, sizeof(T));
  at_ += sizeof(T);
  return value;
}

Result<std::string_view, ModelError> GgufParser::read_string(std::string_view field, std::uint64_t bytes_max) {
  ORCH_TRY(length, read<std::uint64_t>(field));
  if (length > bytes_max) {
    return Err{bad(field, "string of " + std::to_string(length) + " bytes, limit " + std::to_string(bytes_max))};
  }
  if (length > left()) return Err{truncated(field, length)};
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<std::size_t>(length));
  at_ += length;
  return text;
}

Result<GgufValue, ModelError> GgufParser::read_array(std::string_view key, std::uint32_t depth) {
  if (depth >= limits_.array_depth_max) {
    return Err{bad(key, "arrays nested deeper than " + std::to_string(limits_.array_depth_max))};
  }
  ORCH_TRY(type, read<std::uint32_t>(key));
  ORCH_TRY(count, read<std::uint64_t>(key));
  if (type > static_cast<std::uint32_t>(GgufType::f64))
    return Err{bad(key, "unknown element type " + std::to_string(type))};
  if (count > limits_.array_elements_max) {
    return Err{bad(
        key, "array of " + std::to_string(count) + " elements, limit " + std::to_string(limits_.array_elements_max))};
  }
  GgufArray array;
  array.element = static_cast<GgufType>(type);
  array.count = count;
  if (const std::uint64_t each = scalar_bytes(array.element); each != 0) {
    if (count * each > left()) return Err{truncated(key, count * each)};  // count <= 2^24, no overflow
    array.raw = bytes_.subspan(at_, count * each);
    at_ += count * each;
    return GgufValue{std::move(array)};
  }
  const std::uint64_t each_min = array.element == GgufType::string ? 8 : 12;
  if (count * each_min > left()) return Err{truncated(key, count * each_min)};
  if (array.element == GgufType::string) array.strings.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (array.element == GgufType::string) {
      ORCH_TRY(text, read_string(key, limits_.string_bytes_max));
      array.strings.push_back(text);
    } else {
      ORCH_TRY(nested, read_array(key, depth + 1));
      static_cast<void>(nested);
    }
  }
  return GgufValue{std::move(array)};
}

Result<GgufValue, ModelError> GgufParser::read_value(GgufType type, std::string_view key, std::uint32_t depth) {
  switch (type) {
    case GgufType::u8: {
      ORCH_TRY(v, read<std::uint8_t>(key));
      return GgufValue{std::uint64_t{v}};
    }
    case GgufType::u16: {
      ORCH_TRY(v, read<std::uint16_t>(key));
      return GgufValue{std::uint64_t{v}};
    }
    case GgufType::u32: {
      ORCH_TRY(v, read<std::uint32_t>(key));
      return GgufValue{std::uint64_t{v}};
    }
    case GgufType::u64: {
      ORCH_TRY(v, read<std::uint64_t>(key));
      return GgufValue{std::uint64_t{v}};
    }
    case GgufType::i8: {
      ORCH_TRY(v, read<std::int8_t>(key));
      return GgufValue{std::int64_t{v}};
    }
    case GgufType::i16: {
      ORCH_TRY(v, read<std::int16_t>(key));
      return GgufValue{std::int64_t{v}};
    }
    case GgufType::i32: {
      ORCH_TRY(v, read<std::int32_t>(key));
      return GgufValue{std::int64_t{v}};
    }
    case GgufType::i64: {
      ORCH_TRY(v, read<std::int64_t>(key));
      return GgufValue{std::int64_t{v}};
    }
    case GgufType::f32: {
      ORCH_TRY(v, read<float>(key));
      return GgufValue{static_cast<double>(v)};
    }
    case GgufType::f64: {
      ORCH_TRY(v, read<double>(key));
      return GgufValue{v};
    }
    case GgufType::boolean: {
      ORCH_TRY(v, read<std::uint8_t>(key));
      if (v > 1) return Err{bad(key, "boolean with value " + std::to_string(v))};
      return GgufValue{v == 1};
    }
    case GgufType::string: {
      ORCH_TRY(v, read_string(key, limits_.string_bytes_max));
      return GgufValue{v};
    }
    case GgufType::array:
      return read_array(key, depth);
  }
  return Err{bad(key, "unknown value type " + std::to_string(static_cast<std::uint32_t>(type)))};
}

GgufParser::Step GgufParser::parse_header(GgufFile& file, std::uint64_t& tensors, std::uint64_t& metadata) {
  ORCH_TRY(magic, read<std::uint32_t>("magic"));
  if (magic != kMagic) return Err{bad("magic", "not a GGUF file")};
  ORCH_TRY(version, read<std::uint32_t>("version"));
  if (version != 2 && version != 3)
    return Err{bad("version", "GGUF version " + std::to_string(version) + ", supported: 2, 3")};
  ORCH_TRY(tensor_count, read<std::uint64_t>("tensor_count"));
  ORCH_TRY(metadata_count, read<std::uint64_t>("metadata_kv_count"));
  if (tensor_count > limits_.tensors_max || tensor_count > left() / kTensorInfoBytesMin) {
    return Err{bad("tensor_count", std::to_string(tensor_count) + " tensors; limit " +
                                       std::to_string(limits_.tensors_max) + " and what the file's bytes can hold")};
  }
  if (metadata_count > limits_.metadata_max || metadata_count > left() / kMetadataBytesMin) {
    return Err{bad("metadata_kv_count", std::to_string(metadata_count) + " entries; limit " +
                                            std::to_string(limits_.metadata_max) +
                                            " and what the file's bytes can hold")};
  }
  file.version_ = version;
  tensors = tensor_count;
  metadata = metadata_count;
  return Ok{};
}

GgufParser::Step GgufParser::parse_metadata(GgufFile& file, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string where = "metadata[" + std::to_string(i) + "]";
    ORCH_TRY(key, read_string(where, limits_.key_bytes_max));
    if (key.empty()) return Err{bad(where, "empty key")};
    ORCH_TRY(type, read<std::uint32_t>(key));
    if (type > static_cast<std::uint32_t>(GgufType::f64))
      return Err{bad(key, "unknown value type " + std::to_string(type))};
    ORCH_TRY(value, read_value(static_cast<GgufType>(type), key, 0));
    if (!file.metadata_.emplace(key, std::move(value)).second) return Err{bad(key, "key appears twice")};
  }
  return Ok{};
}

GgufParser::Step GgufParser::parse_tensor_info(GgufTensor& tensor, std::uint64_t& offset) {
  ORCH_TRY(name, read_string("tensor name", limits_.tensor_name_bytes_max));
  if (name.empty()) return Err{bad("tensor name", "empty")};
  ORCH_TRY(dims, read<std::uint32_t>(name));
  if (dims == 0 || dims > limits_.tensor_dims_max) {
    return Err{bad(name, std::to_string(dims) + " dimensions, limit " + std::to_string(limits_.tensor_dims_max))};
  }
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < dims; ++i) {
    ORCH_TRY(dim, read<std::uint64_t>(name));
    if (dim == 0 || dim > limits_.tensor_elements_max || elements > limits_.tensor_elements_max / dim) {
      return Err{bad(name, "dimension " + std::to_string(dim) + " is 0 or makes more than " +
                               std::to_string(limits_.tensor_elements_max) + " elements")};
    }
    elements *= dim;
    tensor.dims.push_back(dim);
  }
  ORCH_TRY(type, read<std::uint32_t>(name));
  ORCH_TRY(relative, read<std::uint64_t>(name));
  tensor.name = name;
  tensor.type = type;
  offset = relative;
  return Ok{};
}

GgufParser::Step GgufParser::parse_tensor_infos(GgufFile& file, std::uint64_t count) {
  file.tensors_.reserve(count);
  offsets_.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    std::uint64_t offset = 0;
    ORCH_TRY(done, parse_tensor_info(tensor, offset));
    static_cast<void>(done);
    if (!file.tensor_index_.emplace(tensor.name, file.tensors_.size()).second) {
      return Err{bad(tensor.name, "tensor name appears twice")};
    }
    file.tensors_.push_back(std::move(tensor));
    offsets_.push_back(offset);
  }
  return Ok{};
}

GgufParser::Step GgufParser::place_tensors(GgufFile& file) {
  std::uint64_t alignment = 32;
  ORCH_TRY(wanted, file.unsigned_value("general.alignment"));
  if (wanted) alignment = *wanted;
  if (alignment < 8 || alignment > limits_.alignment_max || alignment % 8 != 0) {
    return Err{bad("general.alignment", std::to_string(alignment) + " is not a multiple of 8 up to " +
                                            std::to_string(limits_.alignment_max))};
  }
  const std::uint64_t data = (at_ + alignment - 1) / alignment * alignment;
  const std::uint64_t available = data < bytes_.size() ? bytes_.size() - data : 0;
  for (std::size_t i = 0; i < file.tensors_.size(); ++i) {
    GgufTensor& tensor = file.tensors_[i];
    const std::uint64_t offset = offsets_[i];
    if (offset % alignment != 0) {
      return Err{bad(tensor.name, "offset " + std::to_string(offset) + " is not a multiple of the alignment " +
                                      std::to_string(alignment))};
    }
    if (offset > available) {
      return Err{bad(tensor.name, "offset " + std::to_string(offset) + " is past the data section of " +
                                      std::to_string(available) + " bytes")};
    }
    const GgmlTypeShape* shape = find_ggml_type(tensor.type);
    if (shape == nullptr) continue;  // refused by name if the model needs it
    if (tensor.dims[0] % shape->block_elements != 0) {
      return Err{bad(tensor.name, "row of " + std::to_string(tensor.dims[0]) + " elements is not a multiple of the " +
                                      shape->name + " block of " + std::to_string(shape->block_elements))};
    }
    std::uint64_t elements = 1;
    for (const std::uint64_t dim : tensor.dims) elements *= dim;  // <= 2^40, checked
    const std::uint64_t size = elements / shape->block_elements * shape->block_bytes;
    if (size > available - offset) {
      return Err{bad(tensor.name, "needs " + std::to_string(size) + " bytes at offset " + std::to_string(offset) +
                                      ", the data section has " + std::to_string(available))};
    }
    tensor.bytes = bytes_.subspan(data + offset, size);
  }
  return Ok{};
}

Result<std::unique_ptr<GgufFile>, ModelError> GgufParser::parse() {
  std::unique_ptr<GgufFile> file(new GgufFile());
  file->bytes_ = bytes_;
  std::uint64_t tensors = 0;
  std::uint64_t metadata = 0;
  ORCH_TRY(header, parse_header(*file, tensors, metadata));
  ORCH_TRY(entries, parse_metadata(*file, metadata));
  ORCH_TRY(infos, parse_tensor_infos(*file, tensors));
  ORCH_TRY(placed, place_tensors(*file));
  static_cast<void>(header);
  static_cast<void>(entries);
  static_cast<void>(infos);
  static_cast<void>(placed);
  return file;
}

}  // namespace orch::worker
