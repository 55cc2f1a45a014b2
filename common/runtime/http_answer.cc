// What one connection sends: heads, bodies and chunks, one write at a time, and what follows an answer.
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <charconv>
#include <functional>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/http_connection.h"

namespace orch::runtime {
namespace asio = boost::asio;

namespace {

constexpr Duration kLingerTime = Duration::seconds(2);

}  // namespace

void HttpConnection::append_head(const HttpRequest& request, const HttpResponse& response, HttpFraming framing) {
  if (shared_.hooks.on_answered) shared_.hooks.on_answered(request, response.status);
  append_response_head(out_, request, response,
                       {.framing = framing, .keep_alive = keep_alive_, .say_keep_alive = !chunked_}, shared_.date);
}

void HttpConnection::release_exchange() {
  if (current_ == nullptr) return;
  ServerExchange* exchange = std::exchange(current_, nullptr);
  const auto alive = shared_from_this();
  exchange->detach(false);
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
  release_exchange();
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
  release_exchange();
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
