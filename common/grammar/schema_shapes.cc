// What a schema can be, as far as it is evident: enough to see that alternatives of oneOf exclude each other.
#include <algorithm>
#include <utility>

#include "common/grammar/limits.h"
#include "common/grammar/schema_writer.h"

namespace orch::grammar {

namespace {

constexpr int kShapeDepthMax = 16;  // references and alternatives followed

// Equal for equal values; nullopt where that is not evident: structures, numbers of many digits.
std::optional<std::string> key_of(const JsonTree& value) {
  if (value.is(JsonKind::array) || value.is(JsonKind::object)) return std::nullopt;
  if (!value.is(JsonKind::number)) {
    std::string out;
    append_json(out, value);
    return out;
  }
  const auto number = parse_decimal(value.text);
  if (!number) return std::nullopt;
  return (number->negative ? "-" : "") + number->whole + "." + number->fraction;
}

// The values of `const` or `enum`; nullopt: there are none, or not all are evident.
std::optional<std::set<std::string>> values_of(const JsonTree& schema, std::uint8_t& types) {
  std::set<std::string> out;
  types = kNoType;
  const JsonTree* constant = schema.member("const");
  const JsonTree* list = schema.member("enum");
  if (constant == nullptr && (list == nullptr || !list->is(JsonKind::array))) {
    types = kAnyType;
    return std::nullopt;
  }
  bool evident = true;
  const auto take = [&](const JsonTree& value) {
    types |= type_of_value(value);
    const auto key = key_of(value);
    if (key) out.insert(*key);
    evident = evident && key.has_value();
  };
  if (constant != nullptr) {
    take(*constant);
  } else {
    std::for_each(list->items.begin(), list->items.end(), take);
  }
  return evident ? std::optional(std::move(out)) : std::nullopt;
}

bool share_none(const std::set<std::string>& a, const std::set<std::string>& b, std::size_t& steps) {
  steps += a.size();
  return std::none_of(a.begin(), a.end(), [&](const std::string& each) { return b.contains(each); });
}

}  // namespace

std::uint8_t type_of_value(const JsonTree& value) {
  switch (value.kind) {
    case JsonKind::null:
      return kNull;
    case JsonKind::boolean:
      return kBoolean;
    case JsonKind::string:
      return kString;
    case JsonKind::array:
      return kArray;
    case JsonKind::object:
      return kObject;
    case JsonKind::number:
      break;
  }
  const auto number = parse_decimal(value.text);
  return !number ? kNumber : number->fraction.empty() ? kInteger : kFraction;
}

bool SchemaWriter::evidently_apart(const Shape& a, const Shape& b) {
  if (++disjoint_steps_ > kDisjointStepsMax) return false;
  if ((a.types & b.types) == 0) return true;
  if (a.values && b.values) return share_none(*a.values, *b.values, disjoint_steps_);
  if ((a.types | b.types) != kObject) return false;
  for (const auto& [name, values] : a.markers) {
    const auto other = b.markers.find(name);
    if (other != b.markers.end() && share_none(values, other->second, disjoint_steps_)) return true;
  }
  return false;
}

SchemaWriter::Shape SchemaWriter::shape_of(const JsonTree& schema, int depth) {
  Shape out;
  if (depth > kShapeDepthMax || ++disjoint_steps_ > kDisjointStepsMax || !schema.is(JsonKind::object)) return out;
  if (const JsonTree* reference = schema.member("$ref"); reference != nullptr && reference->text.starts_with('#')) {
    const JsonTree* target = resolve(reference->text);
    return target == nullptr ? out : shape_of(*target, depth + 1);
  }
  for (const std::string_view keyword : {"anyOf", "oneOf", "allOf"}) {
    const JsonTree* list = schema.member(keyword);
    if (list == nullptr) continue;
    out = {kNoType, std::set<std::string>{}, {}};
    for (const JsonTree& item : list->items) {
      const Shape part = shape_of(item, depth + 1);
      if (list->items.size() == 1) return part;
      out.types |= part.types;
      if (!part.values) out.values.reset();
      if (out.values) out.values->insert(part.values->begin(), part.values->end());
    }
    return out;
  }
  std::uint8_t types = kAnyType;
  out.values = values_of(schema, types);
  out.types = static_cast<std::uint8_t>(types_of(schema, "") & types);
  const JsonTree* properties = schema.member("properties");
  const JsonTree* required = schema.member("required");
  if (out.types != kObject || properties == nullptr || required == nullptr) return out;
  for (const JsonTree& name : required->items) {
    const JsonTree* property = properties->member(name.text);
    if (property == nullptr) continue;
    const Shape marker = shape_of(*property, depth + 1);
    if (marker.values) out.markers.emplace(name.text, *marker.values);
  }
  return out;
}

}  // namespace orch::grammar
