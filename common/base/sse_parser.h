// Purpose: server-sent events out of bytes that arrive in any pieces (the event stream format of the HTML standard):
// LF, CRLF and CR line ends, comments, several data lines. Pure. Bounds: one line and one event; beyond them parsing
// stops for good.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace orch {

class SseParser {
 public:
  struct Limits {
    std::size_t line_bytes = 1024 * 1024;
    std::size_t event_bytes = 4 * 1024 * 1024;
  };
  struct Event {
    std::string name;  // "message" when the stream gave none
    std::string data;  // data lines joined by LF
    std::string id;    // the last id seen on the stream
  };
  enum class [[nodiscard]] Fed : std::uint8_t { ok, line_too_long, event_too_large };

  explicit SseParser(Limits limits) : limits_(limits) {}

  // Appends the events that `bytes` completed. After an error nothing more is parsed and the error stays. An event that
  // the end of the stream cuts off is never given.
  Fed feed(std::string_view bytes, std::vector<Event>& out);

 private:
  void end_line(std::vector<Event>& out);
  void field(std::string_view name, std::string_view value);

  Limits limits_;
  Fed state_ = Fed::ok;
  std::string line_;
  bool after_cr_ = false;   // the next byte may be the LF of a CRLF
  bool first_line_ = true;  // may begin with a byte order mark
  bool has_data_ = false;
  Event event_;
};

}  // namespace orch
