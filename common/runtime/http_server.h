// Purpose: HTTP/1.1 on the event loop: limits, timeouts, keep-alive, streamed responses, disconnects, drain.
// Threads: loop only. Ownership: the server owns its connections; a handler shares the HttpExchange it is given and may
// answer at any later time. Pipelined requests are answered one after another. Units: bytes, Durations.
// Errors the server answers itself: 400 malformed, 408 too slow, 413 body, 431 head, 503 too many connections, and
// from the router 404 and 405; their body comes from `on_error`, so that each API keeps its own envelope.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/http_message.h"
#include "common/runtime/listen_address.h"

namespace orch::runtime {

struct HttpLimits {
  std::size_t header_bytes = 16 * 1024;
  std::size_t body_bytes = 1024 * 1024;
  std::size_t connections = 4096;
  Duration header_timeout = Duration::seconds(10);  // from the first byte of a head to its end (slow loris)
  Duration body_timeout = Duration::seconds(30);    // from the head's end to the body's end
  Duration idle_timeout = Duration::seconds(60);    // between requests, and before the first
  Duration write_timeout = Duration::seconds(30);   // one write that makes no progress
};

struct HttpServerError {
  int status = 400;
  std::string_view message;  // names the limit
  std::string_view path;     // empty when the head was not read
  std::string_view allow;    // 405: the methods the route has
};

// One request and its answer. The answer is reply(), or begin() + write()* + finish(). After a disconnect all of them
// do nothing. Dropping the last reference without an answer sends 500.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;
  // The parsed body may be large; a handler that keeps the exchange takes it out.
  virtual std::string take_body() = 0;

  virtual void reply(HttpResponse response) = 0;

  // Streams of unknown length: sent at once with the head, chunked (HTTP/1.0: until close).
  virtual void begin(HttpResponse head) = 0;
  // Appended to what is pending; everything pending goes out in one write per turn.
  virtual void write(std::string_view bytes) = 0;
  virtual void finish() = 0;
  // Not yet taken by the kernel.
  virtual std::size_t pending_bytes() const = 0;
  // Called once, from the loop, when the kernel has taken everything that was written; the last call counts.
  virtual void on_drained(std::function<void()> callback) = 0;
  // Written whenever nothing else was for `interval`. Loop granularity (see HttpServer), zero: off.
  virtual void set_heartbeat(Duration interval, std::string bytes) = 0;

  // Called once, if the answer has not begun when `after` has passed; the last call counts, an empty callback takes it
  // back. Sweep granularity.
  virtual void on_overdue(Duration after, std::function<void()> callback) = 0;

  virtual bool is_open() const = 0;
  // Called once, within one turn of the peer's close or reset, if the answer is not finished by then.
  virtual void on_disconnect(std::function<void()> callback) = 0;
  // Cuts the connection; on_disconnect is not called.
  virtual void abort() = 0;
};
using HttpExchangePtr = std::shared_ptr<HttpExchange>;
using HttpHandler = std::function<void(HttpExchangePtr)>;

// What is made of a request by its head.
struct HttpVerdict {
  std::optional<HttpResponse> refusal;  // the answer; the body is not looked at
  // For the whole request, in the place of on_request; unset: that one. It is destroyed uncalled when the body is
  // refused or its peer goes, so what it owns is released then.
  HttpHandler handler = nullptr;
};

struct HttpHooks {
  // After the head, before a byte of the body is read (authentication comes first).
  std::function<HttpVerdict(const HttpRequest&)> on_head;
  HttpHandler on_request;
  std::function<HttpResponse(const HttpServerError&)> on_error;
  // Every response, when its head is written; `path` is empty when the head could not be read. May be unset.
  std::function<void(const HttpRequest&, int status)> on_answered;
};

class HttpServer {
 public:
  HttpServer(EventLoop& loop, HttpLimits limits, HttpHooks hooks);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The port it got.
  Result<std::uint16_t, ListenError> listen(const ListenAddress& address);
  // Stops accepting, closes idle connections; running exchanges end normally, then `on_drained` is called.
  void drain(std::function<void()> on_drained);
  // Cuts everything.
  void close();
  std::size_t connections() const;

 private:
  class Acceptor;
  std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace orch::runtime
