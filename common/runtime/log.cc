#include "common/runtime/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <string>
#include <type_traits>

#include "common/runtime/json_text.h"
#include "common/runtime/line_writer.h"

namespace orch::runtime {
namespace {

constexpr std::size_t kQueuedBytesMax = 4 * 1024 * 1024;
constexpr std::size_t kLineBytesUsual = 512;

struct Sink {
  std::shared_ptr<spdlog::logger> logger;  // one of the two, once initialised
  std::unique_ptr<LineWriter> writer;
  std::string service;
  LogLevel level = LogLevel::off;
};
Sink& sink() {
  static Sink instance;
  return instance;
}

std::string_view name_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warn:
      return "warn";
    case LogLevel::error:
      return "error";
    case LogLevel::off:
      break;
  }
  return "off";
}

void append_time(std::string& out) {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
  const std::time_t seconds = ms / 1000;
  // Most lines of a busy process share their second with the line before.
  thread_local std::time_t written = -1;
  thread_local char text[40];
  if (seconds != written) {
    std::tm utc{};
    ::gmtime_r(&seconds, &utc);
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    written = seconds;
  }
  out.append(text);
  const auto part = static_cast<int>(ms % 1000);
  const char tail[] = {'.', static_cast<char>('0' + part / 100), static_cast<char>('0' + part / 10 % 10),
                       static_cast<char>('0' + part % 10), 'Z'};
  out.append(tail, sizeof tail);
}

}  // namespace

LogLevel log_level_from(std::string_view name) {
  for (const LogLevel level : {LogLevel::debug, LogLevel::warn, LogLevel::error, LogLevel::off}) {
    if (name == name_of(level)) return level;
  }
  return LogLevel::info;
}

void log_init(std::string_view service, LogLevel level, bool asynchronous) {
  Sink& out = sink();
  out.service = std::string(service);
  out.level = level;
  if (asynchronous) {
    out.writer = std::make_unique<LineWriter>(STDERR_FILENO, kQueuedBytesMax);
    return;
  }
  out.logger = std::make_shared<spdlog::logger>("orch", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  out.logger->set_pattern("%v");
  out.logger->set_level(spdlog::level::trace);
}

void log_shutdown() {
  sink().writer.reset();
  sink().logger.reset();
  spdlog::shutdown();
}

bool log_enabled(LogLevel level) {
  const Sink& out = sink();
  return (out.logger != nullptr || out.writer != nullptr) && level >= out.level && level != LogLevel::off;
}

void log(LogLevel level, std::string_view event, LogFields fields) {
  if (!log_enabled(level)) return;
  std::string line;
  line.reserve(kLineBytesUsual);
  line += R"({"ts":")";
  append_time(line);
  line += R"(","level":")";
  line += name_of(level);
  line += R"(","service":)";
  append_json_string(line, sink().service);
  line += R"(,"event":)";
  append_json_string(line, event);
  for (const LogField& field : fields) {
    line.push_back(',');
    append_json_string(line, field.name);
    line.push_back(':');
    std::visit(
        [&line](const auto& value) {
          using Value = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<Value, std::string_view>) {
            append_json_string(line, value);
          } else if constexpr (std::is_same_v<Value, bool>) {
            line += value ? "true" : "false";
          } else {
            append_number(line, value);
          }
        },
        field.value);
  }
  line.push_back('}');
  if (sink().writer != nullptr) return sink().writer->push(line);
  sink().logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace orch::runtime
