// The heads of requests and responses as bytes. Private to the HTTP server. Threads: loop only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/runtime/http_message.h"

namespace orch::runtime {

// The Date header's value, formatted once a second.
class HttpDate {
 public:
  std::string_view current();

 private:
  std::string text_;
  std::int64_t second_ = -1;
};

// How the body behind a head is delimited.
enum class HttpFraming : unsigned char { whole, chunked, until_close };

struct HttpHeadOptions {
  HttpFraming framing = HttpFraming::whole;
  bool keep_alive = true;
  bool say_keep_alive = false;  // HTTP/1.0, where close is the default
};

void append_response_head(std::string& out, const HttpRequest& request, const HttpResponse& response,
                          HttpHeadOptions options, HttpDate& date);

// Origin or absolute form to path and query; false for anything else.
bool split_target(std::string_view target, HttpRequest& request);

// OC-CTRL-2076. The parser reads `chunked` where it stands alone at the end and passes over any other transfer coding:
// a body whose end others see elsewhere would become the next request.
bool has_sure_end(const HttpRequest& head, bool is_http_1_1);

}  // namespace orch::runtime
