// Reading foreign JSON: what is absent or has another type reads as empty. Pure; never throws.
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace orch::adapter {

inline nlohmann::json parse_json(std::string_view text) { return nlohmann::json::parse(text, nullptr, false); }

inline std::string string_at(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// Any number, brought into the range; an engine may say 3.0, -1 or 1e12.
inline std::uint32_t number_at(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return 0;
  return static_cast<std::uint32_t>(std::clamp(found->get<double>(), 0.0, 4294967295.0));
}

}  // namespace orch::adapter
