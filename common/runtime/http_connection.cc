#include "common/runtime/http_connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>

#include "common/runtime/entropy.h"

namespace orch::runtime {
namespace asio = boost::asio;
namespace beast_http = boost::beast::http;

namespace {

// A peer may pipeline; what it may pile up while one request is answered is bounded by pausing the reads.
constexpr std::size_t kPipelinedBytesMax = 16 * 1024;
// The rest of a refused request is read past, up to here, so that its connection can be used again.
constexpr std::uint64_t kSkippedBytesMax = 64 * 1024;

}  // namespace

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
  const std::size_t skipped = std::min(skip_, in_.size());
  in_.erase(0, skipped);
  skip_ -= skipped;
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
  const std::string_view expect = head.header("Expect");
  if (!expect.empty() && !equals_ignoring_case(expect, "100-continue")) {
    refuse(417, "only Expect: 100-continue is supported");
    return false;
  }
  if (!judge_head()) return false;
  const auto length = parser_->content_length();
  if (length && *length > shared_.limits.body_bytes) {
    refuse(413, "the body exceeds " + std::to_string(shared_.limits.body_bytes) + " bytes");
    return false;
  }
  enter(Phase::body, shared_.limits.body_timeout);
  if (!expect.empty() && !parser_->is_done() && in_.empty()) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    flush();
  }
  return true;
}

// False: refused.
bool HttpConnection::judge_head() {
  if (!shared_.hooks.on_head) return true;
  HttpVerdict verdict = shared_.hooks.on_head(starting_->request());
  if (!verdict.refusal) {
    starting_->set_handler(std::move(verdict.handler));
    return true;
  }
  const bool skips = may_skip_body();
  if (skips) skip_ = static_cast<std::size_t>(parser_->content_length().value_or(0));
  verdict.refusal->close = verdict.refusal->close || !skips;
  const std::shared_ptr<ServerExchange> exchange = std::move(starting_);
  exchange->reply(std::move(*verdict.refusal));
  return false;
}

// Where it is sure what comes and that it comes: a peer that waits for 100 may send nothing.
bool HttpConnection::may_skip_body() const {
  if (parser_->is_done()) return true;
  const auto length = parser_->content_length();
  return length && *length <= kSkippedBytesMax && !starting_->request().has_header("Expect");
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
  const HttpHandler handler = exchange->take_handler();
  handler ? handler(exchange) : shared_.hooks.on_request(exchange);
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

}  // namespace orch::runtime
