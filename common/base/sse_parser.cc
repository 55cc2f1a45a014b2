#include "common/base/sse_parser.h"

#include <utility>

namespace orch {

SseParser::Fed SseParser::feed(std::string_view bytes, std::vector<Event>& out) {
  while (!bytes.empty() && state_ == Fed::ok) {
    if (after_cr_ && bytes.front() == '\n') {
      after_cr_ = false;
      bytes.remove_prefix(1);
      continue;
    }
    after_cr_ = false;
    const std::size_t end = bytes.find_first_of("\r\n");
    const std::string_view part = bytes.substr(0, end);
    if (line_.size() + part.size() > limits_.line_bytes) {
      state_ = Fed::line_too_long;
      break;
    }
    line_ += part;
    if (end == std::string_view::npos) break;
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    end_line(out);
  }
  return state_;
}

void SseParser::end_line(std::vector<Event>& out) {
  std::string_view line = line_;
  if (std::exchange(first_line_, false) && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  if (line.empty()) {
    if (std::exchange(has_data_, false)) {
      if (event_.name.empty()) event_.name = "message";
      out.push_back(event_);
    }
    event_.name.clear();
    event_.data.clear();
  } else if (line.front() != ':') {  // a comment begins with a colon
    const std::size_t colon = line.find(':');
    std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    field(line.substr(0, colon), value);
  }
  line_.clear();
}

void SseParser::field(std::string_view name, std::string_view value) {
  if (name == "data") {
    if (event_.data.size() + value.size() + 1 > limits_.event_bytes) {
      state_ = Fed::event_too_large;
      return;
    }
    if (std::exchange(has_data_, true)) event_.data.push_back('\n');
    event_.data += value;
  } else if (name == "event") {
    event_.name = value;
  } else if (name == "id" && value.find('\0') == std::string_view::npos) {
    event_.id = value;
  }
}

}  // namespace orch
