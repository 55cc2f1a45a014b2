// HTTP exchanges with our own daemons over libcurl, blocking, one connection per call. For people at a terminal; not a
// hot path.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace orch::cli {

struct HttpReply {
  long status = 0;
  std::string body;     // at most 16 MiB
  std::string headers;  // raw, as received
  // The value of a header, empty when absent. Names compare without case.
  std::string header(std::string_view name) const;
};

// Error: the connection failed; says to what and why.
Result<HttpReply, std::string> http_get(const std::string& url, long timeout_ms);
Result<HttpReply, std::string> http_post(const std::string& url, const std::string& json, long timeout_ms);

// Posts and hands over each SSE `data:` payload as it arrives. `on_data` returns false to stop reading, which closes
// the connection. A reply that is not an event stream ends up in `body`.
Result<HttpReply, std::string> http_post_events(const std::string& url, const std::string& json,
                                                const std::function<bool(std::string_view data)>& on_data);

}  // namespace orch::cli
