#include "adapters/shell/mock_script.h"

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace orch::adapter {
namespace {

using Fault = MockScript::Fault;

constexpr std::array<std::pair<std::string_view, Fault>, 9> kFaults{{{"none", Fault::none},
                                                                     {"fail", Fault::fail},
                                                                     {"malformed", Fault::malformed},
                                                                     {"hang", Fault::hang},
                                                                     {"die", Fault::die},
                                                                     {"no_decode", Fault::no_decode},
                                                                     {"cancel_ignored", Fault::cancel_ignored},
                                                                     {"slot_leaked", Fault::slot_leaked},
                                                                     {"counters_frozen", Fault::counters_frozen}}};

bool take_string(const nlohmann::json& value, std::string& out) {
  if (!value.is_string()) return false;
  out = value.get<std::string>();
  return true;
}

bool take_number(const nlohmann::json& value, std::uint32_t& out) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 1'000'000'000) return false;
  out = value.get<std::uint32_t>();
  return true;
}

bool take_flag(const nlohmann::json& value, bool& out) {
  if (!value.is_boolean()) return false;
  out = value.get<bool>();
  return true;
}

bool take_milliseconds(const nlohmann::json& value, Duration& out) {
  std::uint32_t number = 0;
  if (!take_number(value, number)) return false;
  out = Duration::milliseconds(number);
  return true;
}

bool take_fault(const nlohmann::json& value, Fault& out) {
  if (!value.is_string()) return false;
  for (const auto& [name, fault] : kFaults) {
    if (value.get_ref<const std::string&>() != name) continue;
    out = fault;
    return true;
  }
  return false;
}

bool take(const std::string& key, const nlohmann::json& value, MockScript& out) {
  if (key == "text") return take_string(value, out.text);
  if (key == "repeat") return take_number(value, out.repeat);
  if (key == "clock") return take_flag(value, out.clock);
  if (key == "model_digest") return take_string(value, out.model_digest);
  if (key == "ctx_max") return take_number(value, out.ctx_max);
  if (key == "load_ms") return take_milliseconds(value, out.load);
  if (key == "load_failure") return take_string(value, out.load_failure);
  if (key == "token_delay_ms") return take_milliseconds(value, out.token_delay);
  if (key == "first_token_delay_ms") return take_milliseconds(value, out.first_token_delay);
  if (key == "fault") return take_fault(value, out.fault);
  if (key == "fault_after") return take_number(value, out.fault_after);
  return false;
}

}  // namespace

Result<MockScript, std::string> MockScript::parse(std::string_view json) {
  const nlohmann::json document = nlohmann::json::parse(json, nullptr, false);
  if (!document.is_object()) return Err{std::string("the mock script is no JSON object")};
  MockScript script;
  for (const auto& [key, value] : document.items()) {
    if (!take(key, value, script)) return Err{"mock script: key '" + key + "' is unknown or has a wrong value"};
  }
  return script;
}

}  // namespace orch::adapter
