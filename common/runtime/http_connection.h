// Purpose: one HTTP/1.1 connection: read, parse, hand over, write, time out. Private to the server; includes Beast.
// Threads: loop only. Ownership: the server holds it until it is closed; its pending operations share it.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/runtime/http_head.h"
#include "common/runtime/http_server.h"

namespace orch::runtime {

class HttpConnection;

// The exchange a handler holds. It outlives its connection harmlessly.
class ServerExchange final : public HttpExchange {
 public:
  ServerExchange(std::shared_ptr<HttpConnection> connection, HttpRequest request);
  ~ServerExchange() override;

  const HttpRequest& request() const override { return request_; }
  std::string take_body() override { return std::move(request_.body); }
  void reply(HttpResponse response) override;
  void begin(HttpResponse head) override;
  void write(std::string_view bytes) override;
  void finish() override;
  std::size_t pending_bytes() const override;
  void on_drained(std::function<void()> callback) override;
  void set_heartbeat(Duration interval, std::string bytes) override;
  void on_overdue(Duration after, std::function<void()> callback) override;
  bool is_open() const override { return connection_ != nullptr; }
  void on_disconnect(std::function<void()> callback) override { on_disconnect_ = std::move(callback); }
  void abort() override;

  // By the connection: it is gone, or done with this exchange.
  void detach(bool disconnected);
  // By the connection's sweep, while nothing was answered.
  void check_overdue(Instant at);
  HttpRequest& mutable_request() { return request_; }
  void set_handler(HttpHandler handler) { handler_ = std::move(handler); }
  HttpHandler take_handler() { return std::exchange(handler_, nullptr); }

 private:
  std::shared_ptr<HttpConnection> connection_;
  HttpRequest request_;
  HttpHandler handler_;  // as the head's verdict has it, until the body is complete
  std::function<void()> on_disconnect_;
  std::function<void()> on_overdue_;
  Instant overdue_at_ = Instant::never();
};

// What all connections of one server share.
struct HttpShared {
  HttpShared(EventLoop& event_loop, HttpLimits http_limits, HttpHooks http_hooks)
      : loop(event_loop), limits(http_limits), hooks(std::move(http_hooks)) {}
  EventLoop& loop;
  HttpLimits limits;
  HttpHooks hooks;
  std::function<void(HttpConnection*)> on_closed;
  bool draining = false;
  std::string scratch = std::string(64 * 1024, '\0');  // one read at a time: connections keep no buffer of their own
  HttpDate date;
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  HttpConnection(HttpShared& shared, Socket socket);
  ~HttpConnection();

  void start();
  void sweep(Instant now);  // timeouts and heartbeats
  void close_if_idle();     // drain
  void close();             // cuts; a waiting exchange is told

  // For the current exchange only.
  void send_reply(const HttpRequest& request, HttpResponse response);
  void send_head(const HttpRequest& request, HttpResponse head);
  void send_bytes(std::string_view bytes);
  void send_end();
  void set_heartbeat(Duration interval, std::string bytes);
  void on_drained(std::function<void()> callback);
  std::size_t pending_bytes() const { return out_.size() + chunk_.size() + (writing_.size() - written_); }

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  enum class Phase : unsigned char { idle, head, body, answering, lingering, closed };

  void wait_readable();
  void on_readable(const boost::system::error_code& error);
  void process();
  bool parse_head();
  bool accept_head();
  bool judge_head();
  bool may_skip_body() const;
  bool parse_body();
  void dispatch();
  void refuse(int status, std::string_view message);
  void peer_closed();

  void append_head(const HttpRequest& request, const HttpResponse& response, HttpFraming framing);
  void release_exchange();  // the answer to it is whole
  void schedule_flush();
  void flush();
  void on_written(const boost::system::error_code& error, std::size_t bytes);
  void tell_drained();
  void answer_done();
  void next_request();
  void linger();
  void enter(Phase phase, Duration timeout);

  HttpShared& shared_;
  Socket socket_;
  Phase phase_ = Phase::idle;
  Instant deadline_ = Instant::never();
  std::optional<Parser> parser_;
  std::string in_;                            // received, not yet parsed
  std::shared_ptr<ServerExchange> starting_;  // until the body is complete
  ServerExchange* current_ = nullptr;         // being answered
  bool reading_ = false;
  std::size_t skip_ = 0;  // bytes of a refused request's body that are still to come

  std::string out_;      // framed, waits for the write in flight
  std::string chunk_;    // stream payload of this turn, not yet framed
  std::string writing_;  // in flight from written_ on
  std::size_t written_ = 0;
  bool write_active_ = false;
  bool flush_scheduled_ = false;
  Instant write_since_{};
  bool streaming_ = false;
  bool chunked_ = false;
  bool ended_ = false;  // the answer is complete in out_
  bool keep_alive_ = true;
  bool peer_is_loopback_ = false;
  Duration heartbeat_{};
  std::string heartbeat_bytes_;
  std::function<void()> on_drained_;

  friend class ServerExchange;
};

}  // namespace orch::runtime
