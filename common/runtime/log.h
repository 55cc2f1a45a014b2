// Purpose: one JSON object per line on standard error. Threads: any, after log_init. Never prompts, tokens, keys or
// lease secrets: callers pass identities, counts, durations and outcomes.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <variant>

namespace orch::runtime {

enum class LogLevel : unsigned char { debug, info, warn, error, off };

struct LogField {
  using Value = std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool>;
  std::string_view name;
  Value value;

  LogField(std::string_view field, std::string_view text) : name(field), value(text) {}
  LogField(std::string_view field, const char* text) : name(field), value(std::string_view(text)) {}
  LogField(std::string_view field, bool flag) : name(field), value(flag) {}
  LogField(std::string_view field, double number) : name(field), value(number) {}
  LogField(std::string_view field, std::signed_integral auto number)
      : name(field), value(static_cast<std::int64_t>(number)) {}
  LogField(std::string_view field, std::unsigned_integral auto number)
    requires(!std::same_as<decltype(number), bool>)
      : name(field), value(static_cast<std::uint64_t>(number)) {}
};
using LogFields = std::initializer_list<LogField>;

// debug | info | warn | error | off; anything else is info.
LogLevel log_level_from(std::string_view name);
// `service` appears on every line. Asynchronous logging hands lines to a thread through a bounded buffer, so that
// neither a blocked pipe nor a system call per line stalls the loop; log_shutdown() flushes it. What does not fit is
// dropped, and a line says how many were.
void log_init(std::string_view service, LogLevel level, bool asynchronous = false);
void log_shutdown();
bool log_enabled(LogLevel level);
void log(LogLevel level, std::string_view event, LogFields fields = {});

inline void log_debug(std::string_view event, LogFields fields = {}) { log(LogLevel::debug, event, fields); }
inline void log_info(std::string_view event, LogFields fields = {}) { log(LogLevel::info, event, fields); }
inline void log_warn(std::string_view event, LogFields fields = {}) { log(LogLevel::warn, event, fields); }
inline void log_error(std::string_view event, LogFields fields = {}) { log(LogLevel::error, event, fields); }

}  // namespace orch::runtime
