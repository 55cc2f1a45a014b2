#include "orchestratord/shell/json_fields.h"

#include <algorithm>

#include "common/runtime/json_text.h"

namespace orch::gateway {
using nlohmann::json;

namespace {

constexpr std::size_t kFieldNameShownMax = 64;
constexpr std::size_t kFieldsUsual = 32;

// A caller's own name of a member, bounded, never cut inside a code point, and never invisible.
std::string shown_name(const std::string& name) {
  std::string shown = name.substr(0, kFieldNameShownMax);
  if (const std::size_t at = runtime::find_invalid_utf8(shown); at != std::string::npos) shown.resize(at);
  return shown.empty() ? "\"\"" : shown;
}

std::string text_of(double value) {
  std::string out;
  runtime::append_number(out, value);
  return out;
}

}  // namespace

Failure invalid(std::string field, std::string message) {
  Failure failure;
  failure.outcome = Outcome::INVALID_PARAMS;
  failure.field = std::move(field);
  failure.message = std::move(message);
  return failure;
}

Failure not_built(std::string field, std::string message) {
  Failure failure = invalid(std::move(field), std::move(message));
  failure.outcome = Outcome::NOT_IMPLEMENTED;
  return failure;
}

Result<json, Failure> parse_json_object(std::string_view body) {
  if (body.empty()) return Err{invalid("body", "the body is empty; a JSON object is required")};
  if (const std::size_t at = runtime::find_invalid_utf8(body); at != std::string_view::npos) {
    return Err{invalid("body", "the body is not valid UTF-8 at byte " + std::to_string(at))};
  }
  try {
    json document = json::parse(body.begin(), body.end());
    if (!document.is_object()) return Err{invalid("body", "the body must be a JSON object")};
    return document;
  } catch (const json::exception& error) {
    // Its own words quote the input; the position is enough.
    const auto* parse = dynamic_cast<const json::parse_error*>(&error);
    const std::string where = parse == nullptr ? std::string() : " at byte " + std::to_string(parse->byte);
    return Err{invalid("body", "the body is not valid JSON" + where)};
  }
}

std::string JsonFields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
}

void JsonFields::fail(std::string_view name, std::string message) {
  if (!failure_) failure_ = invalid(path_of(name), path_of(name) + " " + std::move(message));
}
void JsonFields::fail_not_built(std::string_view name, std::string message) {
  if (!failure_) failure_ = not_built(path_of(name), path_of(name) + " " + std::move(message));
}
void JsonFields::adopt(Failure failure) {
  if (!failure_) failure_ = std::move(failure);
}

const json* JsonFields::find(std::string_view name, bool required) {
  if (known_.empty()) known_.reserve(kFieldsUsual);
  known_.push_back(name);
  const auto found = object_.find(name);
  if (found != object_.end() && !found->is_null()) return &*found;
  if (required) fail(name, "is required");
  return nullptr;
}

bool JsonFields::has(std::string_view name) {
  const auto found = object_.find(name);
  return found != object_.end() && !found->is_null();
}

const json* JsonFields::any(std::string_view name) { return find(name, false); }

std::string JsonFields::string(std::string_view name, bool required, std::size_t min_bytes, std::size_t max_bytes) {
  const json* value = find(name, required);
  if (value == nullptr) return {};
  if (!value->is_string()) {
    fail(name, "must be a string");
    return {};
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() < min_bytes || text.size() > max_bytes) {
    fail(name, text.empty() ? "must not be empty"
                            : "must have " + std::to_string(min_bytes) + ".." + std::to_string(max_bytes) +
                                  " bytes, has " + std::to_string(text.size()));
    return {};
  }
  return text;
}

std::size_t JsonFields::choice(std::string_view name, std::initializer_list<std::string_view> values,
                               std::size_t fallback) {
  const json* value = find(name, false);
  if (value == nullptr) return fallback;
  std::string allowed;
  if (value->is_string()) {
    const auto& text = value->get_ref<const std::string&>();
    const auto found = std::find(values.begin(), values.end(), std::string_view(text));
    if (found != values.end()) return static_cast<std::size_t>(found - values.begin());
  }
  for (const std::string_view option : values) allowed += (allowed.empty() ? "" : ", ") + std::string(option);
  fail(name, "must be one of " + allowed);
  return fallback;
}

std::optional<std::uint64_t> JsonFields::integer(std::string_view name, bool required, std::uint64_t min,
                                                 std::uint64_t max) {
  const json* value = find(name, required);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) {
    fail(name, "must be an integer");
    return std::nullopt;
  }
  const bool negative = !value->is_number_unsigned() && value->get<std::int64_t>() < 0;
  const std::uint64_t number = negative ? 0 : value->get<std::uint64_t>();
  if (negative || number < min || number > max) {
    fail(name, "must be " + std::to_string(min) + ".." + std::to_string(max));
    return std::nullopt;
  }
  return number;
}

std::optional<double> JsonFields::number(std::string_view name, double min, double max, bool min_exclusive) {
  const json* value = find(name, false);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    fail(name, "must be a number");
    return std::nullopt;
  }
  const double number = value->get<double>();
  if (!(number >= min && number <= max) || (min_exclusive && number <= min)) {
    fail(name, "must be " + std::string(min_exclusive ? "above " : "") + text_of(min) +
                   (min_exclusive ? " and at most " : "..") + text_of(max));
    return std::nullopt;
  }
  return number;
}

bool JsonFields::boolean(std::string_view name, bool fallback) {
  const json* value = find(name, false);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    fail(name, "must be true or false");
    return fallback;
  }
  return value->get<bool>();
}

const json* JsonFields::array(std::string_view name, bool required, std::size_t min_items, std::size_t max_items) {
  const json* value = find(name, required);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) {
    fail(name, "must be an array");
    return nullptr;
  }
  if (value->size() < min_items || value->size() > max_items) {
    fail(name, "must have " + std::to_string(min_items) + ".." + std::to_string(max_items) + " items, has " +
                   std::to_string(value->size()));
    return nullptr;
  }
  return value;
}

const json* JsonFields::object(std::string_view name) {
  const json* value = find(name, false);
  if (value == nullptr || value->is_object()) return value;
  fail(name, "must be an object");
  return nullptr;
}

std::optional<Failure> JsonFields::finish() {
  if (failure_) return failure_;
  for (const auto& [name, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    fail(shown_name(name), "is not a field of this request");
    break;
  }
  return failure_;
}

}  // namespace orch::gateway
