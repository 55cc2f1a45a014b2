// JSON text appended to a string, for the hot path where building a document would cost more than the socket write.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace orch::runtime {

// Quoted and escaped. `text` must be UTF-8; invalid bytes become U+FFFD, so the output always parses.
void append_json_string(std::string& out, std::string_view text);
void append_number(std::string& out, std::uint64_t value);
void append_number(std::string& out, std::int64_t value);
void append_number(std::string& out, double value);  // finite; otherwise null

// Offset of the first byte that is not part of well-formed UTF-8; npos: all of it is.
std::size_t find_invalid_utf8(std::string_view text);

// Comma bookkeeping for one flat object.
class JsonObject {
 public:
  explicit JsonObject(std::string& out) : out_(out) { out_.push_back('{'); }
  JsonObject& string(std::string_view name, std::string_view value);
  JsonObject& number(std::string_view name, std::uint64_t value);
  JsonObject& number(std::string_view name, double value);
  JsonObject& boolean(std::string_view name, bool value);
  JsonObject& null(std::string_view name);
  // Writes `"name":`; the caller appends the value.
  std::string& key(std::string_view name);
  void close() { out_.push_back('}'); }

 private:
  std::string& out_;
  bool first_ = true;
};

}  // namespace orch::runtime
