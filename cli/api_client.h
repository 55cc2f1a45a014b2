// HTTP exchanges with our own daemons over libcurl, blocking, one connection per call. For people at a terminal; not a
// hot path.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
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

// Fetches an https URL of the outside world, through the user's proxy if one is set, following at most five redirects
// to https. `take` returns false to stop (disk full); `progress` gets bytes so far and, when known, in all.
Status<std::string> http_download(
    const std::string& url, const std::function<bool(std::string_view)>& take,
    const std::function<void(std::uint64_t done, std::optional<std::uint64_t> all)>& progress);

// Posts and hands over each SSE `data:` payload as it arrives. `on_data` returns false to stop reading, which closes
// the connection. A reply that is not an event stream ends up in `body`.
Result<HttpReply, std::string> http_post_events(const std::string& url, const std::string& json,
                                                const std::function<bool(std::string_view data)>& on_data);

}  // namespace orch::cli
