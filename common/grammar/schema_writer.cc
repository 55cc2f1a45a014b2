#include "common/grammar/schema_writer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/grammar/limits.h"

namespace orch::grammar {

namespace {

// Say nothing about a document. `$defs` are read where a reference asks for them.
constexpr std::array<std::string_view, 12> kAnnotations{"title",      "description", "default",     "examples",
                                                        "deprecated", "readOnly",    "writeOnly",   "$comment",
                                                        "$schema",    "$defs",       "definitions", "$id"};
constexpr std::array<std::string_view, 6> kWhole{"$ref", "const", "enum", "anyOf", "oneOf", "allOf"};

struct TypedKeyword {
  std::string_view name;
  std::uint8_t types;
};
constexpr std::array<TypedKeyword, 16> kTyped{{{"properties", kObject},
                                               {"required", kObject},
                                               {"additionalProperties", kObject},
                                               {"items", kArray},
                                               {"prefixItems", kArray},
                                               {"minItems", kArray},
                                               {"maxItems", kArray},
                                               {"minLength", kString},
                                               {"maxLength", kString},
                                               {"pattern", kString},
                                               {"format", kString},
                                               {"minimum", kNumber},
                                               {"maximum", kNumber},
                                               {"exclusiveMinimum", kNumber},
                                               {"exclusiveMaximum", kNumber},
                                               {"uniqueItems", kArray}}};

template <typename List>
bool among(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

std::string escaped(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::uint8_t type_named(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::uint8_t>, 7> kNames{{{"null", kNull},
                                                                                    {"boolean", kBoolean},
                                                                                    {"integer", kInteger},
                                                                                    {"number", kNumber},
                                                                                    {"string", kString},
                                                                                    {"array", kArray},
                                                                                    {"object", kObject}}};
  for (const auto& [known, types] : kNames) {
    if (known == name) return types;
  }
  return kNoType;
}

}  // namespace

SchemaWriter::Place SchemaWriter::Place::at(std::string_view name) const {
  return {path + "/" + escaped(name), from, to};
}

void SchemaWriter::fail(const std::string& path, std::string message) {
  if (!error_) error_ = GrammarError{path, std::move(message)};
}

bool SchemaWriter::failed() { return error_.has_value() || network_.over_limit(); }

Result<Network, GrammarError> SchemaWriter::write() {
  const Rule root = network_.rule(network_.add_rule());
  add(root_, {"#", root.entry, root.exit});
  while (!pending_.empty() && !failed()) {
    const std::string pointer = pending_.back();
    pending_.pop_back();
    const Rule rule = network_.rule(references_.find(pointer)->second);
    add(*resolve(pointer), {pointer, rule.entry, rule.exit});
  }
  if (error_) return Err{*error_};
  return std::move(network_);
}

void SchemaWriter::add(const JsonTree& schema, const Place& place) {
  if (error_) return;
  if (network_.over_limit()) return fail(place.path, "the schema is too large from here on");
  if (schema.is(JsonKind::boolean)) {
    if (!schema.truth) return fail(place.path, "nothing satisfies false");
    return network_.add_call(place.from, any_value(), place.to);
  }
  if (!schema.is(JsonKind::object)) return fail(place.path, "a schema is an object or a boolean");
  if (!check_keywords(schema, place)) return;
  if (const JsonTree* reference = schema.member("$ref")) {
    if (stands_alone(schema, "$ref", place, false)) add_reference(*reference, place.at("$ref"));
    return;
  }
  if (schema.member("const") != nullptr || schema.member("enum") != nullptr) return add_values(schema, place);
  for (const std::string_view keyword : {"anyOf", "oneOf", "allOf"}) {
    const JsonTree* list = schema.member(keyword);
    if (list == nullptr) continue;
    if (stands_alone(schema, keyword, place, false)) add_alternatives(*list, keyword, place.at(keyword));
    return;
  }
  const std::uint8_t types = types_of(schema, place.path);
  if (!error_) add_types(schema, types, place);
}

bool SchemaWriter::check_keywords(const JsonTree& schema, const Place& place) {
  for (const JsonTree& value : schema.items) {
    const std::string& name = value.name;
    if (among(kAnnotations, name) || among(kWhole, name) || name == "type") continue;
    const auto typed =
        std::find_if(kTyped.begin(), kTyped.end(), [&](const TypedKeyword& keyword) { return keyword.name == name; });
    const bool unique_items = name == "uniqueItems" && !(value.is(JsonKind::boolean) && !value.truth);
    if (typed == kTyped.end() || unique_items) fail(place.at(name).path, "the keyword " + name + " is not supported");
    if (error_) return false;
  }
  if (schema.member("$id") != nullptr && place.path != "#") fail(place.at("$id").path, "$id is supported at the root");
  return !error_;
}

// Keywords of a schema hold together; those that choose another schema would have to be solved with the others.
bool SchemaWriter::stands_alone(const JsonTree& schema, std::string_view keyword, const Place& place,
                                bool beside_type) {
  for (const JsonTree& each : schema.items) {
    const std::string& name = each.name;
    if (name == keyword || among(kAnnotations, name) || (beside_type && name == "type")) continue;
    fail(place.at(name).path, name + " beside " + std::string(keyword) + " is not supported");
    return false;
  }
  return true;
}

// Without `type`, the keywords say which type is meant: documents of others would satisfy them too, and are not made.
std::uint8_t SchemaWriter::types_of(const JsonTree& schema, const std::string& path) {
  const JsonTree* type = schema.member("type");
  std::uint8_t out = kNoType;
  if (type == nullptr) {
    for (const TypedKeyword& keyword : kTyped) {
      if (schema.member(keyword.name) != nullptr) out |= keyword.types;
    }
    return out == kNoType ? std::uint8_t{kAnyType} : out;
  }
  const bool is_list = type->is(JsonKind::array);
  if (is_list && type->items.empty()) fail(path + "/type", "the list of types is empty");
  const std::size_t size = is_list ? type->items.size() : 1;
  for (std::size_t i = 0; i < size && !error_; ++i) {
    const JsonTree& name = is_list ? type->items[i] : *type;
    const std::uint8_t one = name.is(JsonKind::string) ? type_named(name.text) : std::uint8_t{kNoType};
    if (one == kNoType) fail(path + "/type", "JSON has no such type");
    out |= one;
  }
  return out;
}

void SchemaWriter::add_types(const JsonTree& schema, std::uint8_t types, const Place& place) {
  const bool has_keywords = std::any_of(kTyped.begin(), kTyped.end(), [&](const TypedKeyword& keyword) {
    return schema.member(keyword.name) != nullptr;
  });
  if (types == kAnyType && !has_keywords) return network_.add_call(place.from, any_value(), place.to);
  if ((types & kNull) != 0) network_.add_text(place.from, "null", place.to);
  if ((types & kBoolean) != 0) add_words({"false", "true"}, place.from, place.to);
  if ((types & kNumber) != 0) add_number(schema, (types & kFraction) == 0, place);
  if ((types & kString) != 0) add_string(schema, place);
  if ((types & kArray) != 0) add_array(schema, place);
  if ((types & kObject) != 0) add_object(schema, place);
}

void SchemaWriter::add_alternatives(const JsonTree& list, std::string_view keyword, const Place& place) {
  if (!list.is(JsonKind::array) || list.items.empty() || list.items.size() > kAlternativesMax) {
    return fail(place.path, "a list of 1 to " + std::to_string(kAlternativesMax) + " schemas belongs here");
  }
  if (keyword == "allOf" && list.items.size() > 1) return fail(place.path, "allOf of several schemas is not supported");
  for (std::size_t i = 0; i < list.items.size() && !error_; ++i) {
    add(list.items[i], place.at(std::to_string(i)));
  }
  if (keyword != "oneOf" || error_) return;
  std::vector<Shape> shapes;
  for (const JsonTree& item : list.items) shapes.push_back(shape_of(item, 0));
  for (std::size_t i = 1; i < shapes.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (evidently_apart(shapes[k], shapes[i])) continue;
      return fail(place.path, "alternatives " + std::to_string(k) + " and " + std::to_string(i) +
                                  " of oneOf are not evidently exclusive: give them other types, or a required member "
                                  "with other constants; or use anyOf");
    }
  }
}

void SchemaWriter::add_values(const JsonTree& schema, const Place& place) {
  const std::string_view keyword = schema.member("const") != nullptr ? "const" : "enum";
  if (!stands_alone(schema, keyword, place, true)) return;
  const JsonTree& value = *schema.member(keyword);
  if (keyword == "enum" && (!value.is(JsonKind::array) || value.items.empty())) {
    return fail(place.at(keyword).path, "a list of at least one value belongs here");
  }
  const std::uint8_t types = types_of(schema, place.path);
  std::vector<std::string> words;
  const auto take = [&](const JsonTree& each) {
    if ((type_of_value(each) & types) == 0) return;
    std::string text;
    append_json(text, each);
    words.push_back(std::move(text));
  };
  if (keyword == "const") {
    take(value);
  } else {
    for (const JsonTree& each : value.items) take(each);
  }
  if (words.empty()) return fail(place.at(keyword).path, "no value of it has the type asked for");
  add_words(std::move(words), place.from, place.to);
}

void SchemaWriter::add_reference(const JsonTree& reference, const Place& place) {
  if (!reference.is(JsonKind::string) || !reference.text.starts_with('#')) {
    return fail(place.path, "a reference begins with # and stays in the schema");
  }
  if (resolve(reference.text) == nullptr) return fail(place.path, "there is nothing at " + reference.text);
  auto found = references_.find(reference.text);
  if (found == references_.end()) {
    found = references_.emplace(reference.text, network_.add_rule()).first;
    pending_.push_back(reference.text);
  }
  network_.add_call(place.from, found->second, place.to);
}

const JsonTree* SchemaWriter::resolve(std::string_view pointer) const {
  const JsonTree* at = &root_;
  pointer.remove_prefix(1);
  while (!pointer.empty() && at != nullptr) {
    if (!pointer.starts_with('/')) return nullptr;
    pointer.remove_prefix(1);
    std::string name;
    while (!pointer.empty() && pointer.front() != '/') {
      const bool tilde = pointer.starts_with("~0") || pointer.starts_with("~1");
      name.push_back(!tilde ? pointer.front() : pointer[1] == '0' ? '~' : '/');
      pointer.remove_prefix(tilde ? 2 : 1);
    }
    if (at->is(JsonKind::array)) {
      const bool is_index =
          !name.empty() && name.size() <= 5 && name.find_first_not_of("0123456789") == std::string::npos;
      const std::size_t index = is_index ? static_cast<std::size_t>(std::stoul(name)) : at->items.size();
      at = index < at->items.size() ? &at->items[index] : nullptr;
    } else {
      at = at->member(name);
    }
  }
  return at;
}

std::optional<std::uint32_t> SchemaWriter::count(const JsonTree& schema, std::string_view keyword, const Place& place) {
  const JsonTree* value = schema.member(keyword);
  if (value == nullptr) return std::nullopt;
  const auto number = value->is(JsonKind::number) ? parse_decimal(value->text) : std::nullopt;
  const bool is_count = number && !number->negative && number->fraction.empty() && number->whole.size() <= 9;
  const std::uint32_t out = is_count ? static_cast<std::uint32_t>(std::stoul(number->whole)) : kUnbounded;
  if (out > kRepeatMax) fail(place.at(keyword).path, "a count of 0 to " + std::to_string(kRepeatMax) + " belongs here");
  return out;
}

}  // namespace orch::grammar
