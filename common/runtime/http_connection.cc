#include "common/runtime/http_connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>
#include <charconv>

#include "common/runtime/entropy.h"

namespace orch::runtime {
namespace asio = boost::asio;
namespace beast_http = boost::beast::http;

namespace {

// A peer may pipeline; what it may pile up while one request is answered is bounded by pausing the reads.
constexpr std::size_t kPipelinedBytesMax = 16 * 1024;
constexpr Duration kLingerTime = Duration::seconds(2);

}  // namespace

// --- reading ---

HttpConnection::HttpConnection(HttpShared& shared, Socket socket) : shared_(shared), socket_(std::move(socket)) {}
HttpConnection::~HttpConnection() = default;

void HttpConnection::start() {
  boost::system::error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
  peer_is_loopback_ = socket_.remote_endpoint(ignored).address().is_loopback();
  next_request();
}

void HttpConnection::enter(Phase phase, Duration timeout) {
  phase_ = phase;
  deadline_ = timeout == Duration::max() ? Instant::never() : now() + timeout;
}

void HttpConnection::wait_readable() {
  if (reading_ || phase_ == Phase::closed) return;
  reading_ = true;
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](const boost::system::error_code& error) {
    self->reading_ = false;
    self->on_readable(error);
  });
}

void HttpConnection::on_readable(const boost::system::error_code& wait_error) {
  if (phase_ == Phase::closed) return;
  boost::system::error_code error = wait_error;
  std::size_t got = 0;
  if (!error) got = socket_.read_some(asio::buffer(shared_.scratch), error);
  if (error == asio::error::would_block || error == asio::error::try_again) return wait_readable();
  if (error) return peer_closed();
  if (phase_ == Phase::lingering) return wait_readable();  // discarded
  in_.append(shared_.scratch, 0, got);
  if (phase_ != Phase::answering) return process();
  if (in_.size() < kPipelinedBytesMax) wait_readable();
}

void HttpConnection::process() {
  const auto alive = shared_from_this();
  if (phase_ == Phase::idle && !in_.empty()) enter(Phase::head, shared_.limits.header_timeout);
  if (phase_ == Phase::head && !parse_head()) return;
  if (phase_ == Phase::body && !parse_body()) return;
  if (phase_ == Phase::idle) wait_readable();
}

// True: the head is complete and accepted. False: waits for more, or refused.
bool HttpConnection::parse_head() {
  boost::system::error_code error;
  const std::size_t used = parser_->put(asio::buffer(in_), error);
  in_.erase(0, used);
  if (error == beast_http::error::need_more) {
    // The parser counts a limit only over what it could take; an endless line stays with us.
    if (in_.size() > shared_.limits.header_bytes) error = beast_http::error::header_limit;
  }
  if (error == beast_http::error::need_more || (!error && !parser_->is_header_done())) {
    wait_readable();
    return false;
  }
  if (error == beast_http::error::header_limit) {
    refuse(431, "the request head exceeds " + std::to_string(shared_.limits.header_bytes) + " bytes");
    return false;
  }
  if (error) {
    refuse(400, "malformed HTTP request: " + error.message());
    return false;
  }
  return accept_head();
}

bool HttpConnection::accept_head() {
  const auto& message = parser_->get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.headers.reserve(8);
  for (const auto& field : message)
    request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  const std::string_view wanted_id = request.header("X-Correlation-Id");
  request.correlation_id = is_valid_correlation_id(wanted_id) ? std::string(wanted_id) : random_uuid().to_string();
  request.peer_is_loopback = peer_is_loopback_;
  keep_alive_ = message.keep_alive() && !shared_.draining;
  chunked_ = message.version() >= 11;
  const std::string target(message.target());
  const bool target_ok = split_target(target, request);
  starting_ = std::make_shared<ServerExchange>(shared_from_this(), std::move(request));
  current_ = starting_.get();
  HttpRequest& head = starting_->mutable_request();
  if (!target_ok) {
    refuse(400, "malformed request target");
    return false;
  }
  if (!has_sure_end(head, chunked_)) {
    refuse(400, "Transfer-Encoding: only 'chunked', once and in HTTP/1.1");
    return false;
  }
  if (chunked_ && !head.has_header("Host")) {
    refuse(400, "the Host header is missing");
    return false;
  }
  if (shared_.hooks.on_head) {
    if (std::optional<HttpResponse> refusal = shared_.hooks.on_head(head)) {
      refusal->close = refusal->close || !parser_->is_done();
      starting_->reply(std::move(*refusal));
      starting_.reset();
      return false;
    }
  }
  const auto length = parser_->content_length();
  if (length && *length > shared_.limits.body_bytes) {
    refuse(413, "the body exceeds " + std::to_string(shared_.limits.body_bytes) + " bytes");
    return false;
  }
  const std::string_view expect = head.header("Expect");
  if (!expect.empty() && !equals_ignoring_case(expect, "100-continue")) {
    refuse(417, "only Expect: 100-continue is supported");
    return false;
  }
  enter(Phase::body, shared_.limits.body_timeout);
  if (!expect.empty() && !parser_->is_done() && in_.empty()) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    flush();
  }
  return true;
}

bool HttpConnection::parse_body() {
  while (!parser_->is_done() && !in_.empty()) {
    boost::system::error_code error;
    const std::size_t used = parser_->put(asio::buffer(in_), error);
    in_.erase(0, used);
    if (parser_->get().body().size() > shared_.limits.body_bytes) {
      refuse(413, "the body exceeds " + std::to_string(shared_.limits.body_bytes) + " bytes");
      return false;
    }
    if (error == beast_http::error::need_more) {
      if (in_.size() > shared_.limits.header_bytes) {
        refuse(431, "a chunk extension or trailer exceeds " + std::to_string(shared_.limits.header_bytes) + " bytes");
        return false;
      }
      break;
    }
    if (error) {
      refuse(400, "malformed HTTP body: " + error.message());
      return false;
    }
    if (used == 0) break;
  }
  if (!parser_->is_done()) {
    wait_readable();
    return false;
  }
  dispatch();
  return true;
}

void HttpConnection::dispatch() {
  const std::shared_ptr<ServerExchange> exchange = std::move(starting_);
  exchange->mutable_request().body = std::move(parser_->get().body());
  parser_.reset();
  enter(Phase::answering, Duration::max());
  // One read stays pending while the request is answered: it is how a disconnect is seen.
  if (in_.size() < kPipelinedBytesMax) wait_readable();
  shared_.hooks.on_request(exchange);
}

// Answers for the handler and ends the connection: what follows on it cannot be trusted.
void HttpConnection::refuse(int status, std::string_view message) {
  std::string path;
  if (starting_ != nullptr) path = starting_->request().path;
  HttpResponse response = shared_.hooks.on_error({status, message, path, ""});
  response.close = true;
  if (starting_ == nullptr) {
    HttpRequest nameless;
    nameless.correlation_id = random_uuid().to_string();
    phase_ = Phase::answering;
    send_reply(nameless, std::move(response));
    return;
  }
  phase_ = Phase::answering;
  const std::shared_ptr<ServerExchange> exchange = std::move(starting_);
  exchange->reply(std::move(response));
}

void HttpConnection::peer_closed() { close(); }

void HttpConnection::close() {
  if (phase_ == Phase::closed) return;
  const auto alive = shared_from_this();
  phase_ = Phase::closed;
  boost::system::error_code ignored;
  socket_.close(ignored);
  ServerExchange* exchange = current_;
  current_ = nullptr;
  if (exchange != nullptr) exchange->detach(true);
  starting_.reset();
  shared_.on_closed(this);
}

void HttpConnection::close_if_idle() {
  if (phase_ == Phase::idle) close();
}

void HttpConnection::sweep(Instant at) {
  if (write_active_ && at - write_since_ > shared_.limits.write_timeout) return close();
  if (streaming_ && !ended_ && heartbeat_.ns > 0 && !write_active_ && out_.empty() && chunk_.empty() &&
      at - write_since_ >= heartbeat_) {
    send_bytes(heartbeat_bytes_);
  }
  if (current_ != nullptr && phase_ == Phase::answering && !streaming_ && !ended_) current_->check_overdue(at);
  if (at < deadline_) return;
  deadline_ = Instant::never();
  switch (phase_) {
    case Phase::head:
      return refuse(408, "the request head did not arrive in time");
    case Phase::body:
      return refuse(408, "the request body did not arrive in time");
    case Phase::idle:
    case Phase::lingering:
      return close();
    case Phase::answering:
    case Phase::closed:
      return;
  }
}

// --- writing ---

void HttpConnection::append_head(const HttpRequest& request, const HttpResponse& response, HttpFraming framing) {
  if (shared_.hooks.on_answered) shared_.hooks.on_answered(request, response.status);
  append_response_head(out_, request, response,
                       {.framing = framing, .keep_alive = keep_alive_, .say_keep_alive = !chunked_}, shared_.date);
}

void HttpConnection::send_reply(const HttpRequest& request, HttpResponse response) {
  if (phase_ == Phase::closed || ended_) return;
  ORCH_CHECK(!streaming_);
  keep_alive_ = keep_alive_ && !response.close && !shared_.draining;
  phase_ = Phase::answering;
  deadline_ = Instant::never();
  append_head(request, response, HttpFraming::whole);
  if (request.method != "HEAD") out_ += response.body;
  ended_ = true;
  if (current_ != nullptr) {
    ServerExchange* exchange = current_;
    current_ = nullptr;
    const auto alive = shared_from_this();
    exchange->detach(false);
  }
  flush();
}

void HttpConnection::send_head(const HttpRequest& request, HttpResponse head) {
  if (phase_ == Phase::closed || ended_) return;
  ORCH_CHECK(!streaming_);
  keep_alive_ = keep_alive_ && chunked_ && !head.close && !shared_.draining;
  streaming_ = true;
  append_head(request, head, chunked_ ? HttpFraming::chunked : HttpFraming::until_close);
  schedule_flush();
}

void HttpConnection::send_bytes(std::string_view bytes) {
  if (phase_ == Phase::closed || ended_ || bytes.empty()) return;
  ORCH_CHECK(streaming_);
  chunk_ += bytes;
  schedule_flush();
}

void HttpConnection::send_end() {
  if (phase_ == Phase::closed || ended_) return;
  ended_ = true;
  if (current_ != nullptr) {
    ServerExchange* exchange = current_;
    current_ = nullptr;
    const auto alive = shared_from_this();
    exchange->detach(false);
  }
  schedule_flush();
}

void HttpConnection::set_heartbeat(Duration interval, std::string bytes) {
  heartbeat_ = interval;
  heartbeat_bytes_ = std::move(bytes);
}

void HttpConnection::on_drained(std::function<void()> callback) {
  on_drained_ = std::move(callback);
  if (pending_bytes() > 0) return;  // told when it is written
  asio::post(socket_.get_executor(), [self = shared_from_this()] { self->tell_drained(); });
}

void HttpConnection::tell_drained() {
  if (!on_drained_ || pending_bytes() > 0 || phase_ == Phase::closed) return;
  const std::function<void()> callback = std::exchange(on_drained_, nullptr);
  callback();
}

void HttpConnection::schedule_flush() {
  if (flush_scheduled_ || write_active_) return;  // the write in flight flushes what has piled up
  flush_scheduled_ = true;
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    self->flush_scheduled_ = false;
    self->flush();
  });
}

void HttpConnection::flush() {
  if (write_active_ || phase_ == Phase::closed) return;
  if (streaming_) {
    if (!chunk_.empty()) {
      if (chunked_) {
        char size[20];
        const auto [end, error] = std::to_chars(size, size + sizeof size, chunk_.size(), 16);
        out_.append(size, end).append("\r\n").append(chunk_).append("\r\n");
      } else {
        out_ += chunk_;
      }
      chunk_.clear();
    }
    if (ended_ && chunked_) {
      out_ += "0\r\n\r\n";
      chunked_ = false;
    }
  }
  if (out_.empty()) {
    if (ended_) answer_done();
    return;
  }
  std::swap(out_, writing_);
  out_.clear();
  written_ = 0;
  write_active_ = true;
  write_since_ = now();
  socket_.async_write_some(asio::buffer(writing_),
                           [self = shared_from_this()](const boost::system::error_code& error, std::size_t bytes) {
                             self->on_written(error, bytes);
                           });
}

void HttpConnection::on_written(const boost::system::error_code& error, std::size_t bytes) {
  if (phase_ == Phase::closed) return;
  if (error) return peer_closed();
  written_ += bytes;
  if (written_ < writing_.size()) {
    write_since_ = now();
    socket_.async_write_some(asio::buffer(writing_.data() + written_, writing_.size() - written_),
                             [self = shared_from_this()](const boost::system::error_code& again, std::size_t more) {
                               self->on_written(again, more);
                             });
    return;
  }
  // Large buffers are not kept: an idle stream should cost little.
  if (writing_.capacity() > 4096) std::string().swap(writing_);
  writing_.clear();
  written_ = 0;
  write_active_ = false;
  flush();
  tell_drained();
}

void HttpConnection::answer_done() {
  if (phase_ != Phase::answering) return;
  if (keep_alive_ && !shared_.draining) return next_request();
  linger();
}

void HttpConnection::next_request() {
  streaming_ = false;
  ended_ = false;
  chunked_ = true;
  heartbeat_ = Duration{};
  heartbeat_bytes_.clear();
  on_drained_ = nullptr;
  parser_.emplace();
  parser_->eager(false);
  parser_->header_limit(static_cast<std::uint32_t>(shared_.limits.header_bytes));
  parser_->body_limit(boost::none);
  enter(Phase::idle, shared_.limits.idle_timeout);
  if (in_.empty()) return wait_readable();
  // A pipelined request; through the loop, so that a flood of them does not recurse.
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (self->phase_ == Phase::idle) self->process();
  });
}

// The peer may still be sending; closing at once would reset the connection before it reads the answer.
void HttpConnection::linger() {
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  in_.clear();
  enter(Phase::lingering, kLingerTime);
  wait_readable();
}

}  // namespace orch::runtime
