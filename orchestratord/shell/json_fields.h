// Purpose: strict reading of one JSON object against a contract. Every member must be asked for; the first violation
// wins and names the path of the field and the limit (ORCH-2006). `null` counts as absent, except where a value is
// required. Threads: none. Ownership: refers to the document, which must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "orchestratord/core/events.h"

namespace orch::gateway {

Failure invalid(std::string field, std::string message);
Failure not_built(std::string field, std::string message);

// The body as an object; broken UTF-8, broken JSON and other types are refused with the offset.
Result<nlohmann::json, Failure> parse_json_object(std::string_view body);

class JsonFields {
 public:
  // `path` is the object's own: "" for the body, "messages[2]" for an element.
  JsonFields(const nlohmann::json& object, std::string path) : object_(object), path_(std::move(path)) {}

  bool has(std::string_view name);  // present and not null
  // Length in bytes.
  std::string string(std::string_view name, bool required, std::size_t min_bytes, std::size_t max_bytes);
  // Index into `values`; `fallback` when absent.
  std::size_t choice(std::string_view name, std::initializer_list<std::string_view> values, std::size_t fallback);
  std::optional<std::uint64_t> integer(std::string_view name, bool required, std::uint64_t min, std::uint64_t max);
  std::optional<double> number(std::string_view name, double min, double max, bool min_exclusive = false);
  bool boolean(std::string_view name, bool fallback);
  // Null: absent. The type is checked.
  const nlohmann::json* array(std::string_view name, bool required, std::size_t min_items, std::size_t max_items);
  const nlohmann::json* object(std::string_view name);
  const nlohmann::json* any(std::string_view name);  // marks it known; null when absent

  void fail(std::string_view name, std::string message);
  void fail_not_built(std::string_view name, std::string message);
  void adopt(Failure failure);  // of a nested object
  bool ok() const { return !failure_.has_value(); }
  std::string path_of(std::string_view name) const;
  // The first violation; looks for unknown members last.
  std::optional<Failure> finish();

 private:
  const nlohmann::json* find(std::string_view name, bool required);

  const nlohmann::json& object_;
  std::string path_;
  std::vector<std::string_view> known_;  // literals of whoever asks
  std::optional<Failure> failure_;
};

}  // namespace orch::gateway
