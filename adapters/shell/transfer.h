// Purpose: one HTTP exchange on a curl multi handle, with bounds on its head and its own view of when it connected.
// Threads: the owner's one thread. Ownership: owns its easy handle and is removed from the multi handle, which closes
// an unfinished connection, when it is destroyed; the multi handle must outlive it.
#pragma once

#include <curl/curl.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "adapters/core/dialect.h"
#include "common/base/time.h"

namespace orch::adapter {

// What every exchange with one engine has in common. Nothing of a caller's own headers is ever in it (row A13).
struct EngineAddress {
  std::string url;  // scheme, host and port, without a path
  std::string key;  // sent as a bearer token; empty: none; never logged
};

class Transfer {
 public:
  struct Events {
    std::function<void(int status)> on_head;
    std::function<bool(std::string_view)> on_body;  // false: stop, the transfer ends as aborted
  };

  // Null when curl has no memory for it.
  static std::unique_ptr<Transfer> start(CURLM* multi, const EngineAddress& address, const HttpRequest& request,
                                         Events events);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  CURL* handle() const { return easy_; }
  bool connected() const { return connected_; }
  // In words, for a transfer that ended with this code.
  static std::string describe(CURLcode code);

 private:
  Transfer(CURLM* multi, Events events) : multi_(multi), events_(std::move(events)) {}
  bool configure(const EngineAddress& address, const HttpRequest& request);
  bool add_header(const std::string& line);
  bool take_head();

  static std::size_t on_write(char* bytes, std::size_t size, std::size_t count, void* self);
  static std::size_t on_header(char* bytes, std::size_t size, std::size_t count, void* self);
  static int on_connected(void* self, char*, char*, int, int);

  CURLM* multi_;
  Events events_;
  CURL* easy_ = nullptr;
  curl_slist* headers_ = nullptr;
  std::string body_;
  std::size_t head_bytes_ = 0;
  bool connected_ = false;
  bool head_told_ = false;
};

// One exchange on the caller's thread, gathered whole, within `limit`. Status 0: no answer.
HttpReply fetch(const EngineAddress& address, const HttpRequest& request, Duration limit, std::size_t bytes_max);

}  // namespace orch::adapter
