// Fields of our own daemons' replies. One of another type than expected reads as absent; nlohmann's own value() would
// throw.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace orch::cli {

inline std::string text_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

inline double number_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0.0;
}

}  // namespace orch::cli
