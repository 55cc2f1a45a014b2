#include "common/runtime/http_server.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <map>

#include "common/runtime/http_connection.h"

namespace orch::runtime {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr char kBusy[] =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";

ListenError::Kind kind_of(const boost::system::error_code& error) {
  if (error == asio::error::address_in_use) return ListenError::Kind::in_use;
  if (error == asio::error::access_denied) return ListenError::Kind::denied;
  if (error == boost::system::errc::address_not_available) return ListenError::Kind::bad_address;
  return ListenError::Kind::other;
}

}  // namespace

// The listening socket and the set of connections; kept alive by its own pending accept.
class HttpServer::Acceptor : public std::enable_shared_from_this<HttpServer::Acceptor> {
 public:
  Acceptor(EventLoop& loop, HttpLimits limits, HttpHooks hooks)
      : shared_(loop, limits, std::move(hooks)), socket_(loop.io()), sweeper_(loop, [this] { sweep(); }) {
    shared_.on_closed = [this](HttpConnection* connection) { forget(connection); };
    const std::int64_t shortest = std::min({limits.header_timeout.ns, limits.body_timeout.ns, limits.idle_timeout.ns});
    interval_ = Duration{std::clamp<std::int64_t>(shortest / 8, 5'000'000, 250'000'000)};
  }

  Result<std::uint16_t, ListenError> listen(const ListenAddress& address) {
    const auto fail = [&](const boost::system::error_code& error) {
      return Err{
          ListenError{kind_of(error), "HTTP cannot listen on " + address.grpc_target() + ": " + error.message()}};
    };
    if (address.is_unix)
      return Err{ListenError{ListenError::Kind::bad_address, "HTTP needs host:port, not a unix socket"}};
    boost::system::error_code error;
    const auto host = asio::ip::make_address(address.host, error);
    if (error) return fail(error);
    const tcp::endpoint endpoint(host, address.port);
    socket_.open(endpoint.protocol(), error);
    if (!error) socket_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) socket_.bind(endpoint, error);
    if (!error) socket_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return fail(error);
    accept();
    return socket_.local_endpoint().port();
  }

  void accept() {
    socket_.async_accept([self = shared_from_this()](const boost::system::error_code& error, tcp::socket peer) {
      if (!self->socket_.is_open()) return;
      if (!error) {
        self->admit(std::move(peer));
      } else if (error != asio::error::connection_aborted) {
        // Out of descriptors: wait for the next sweep instead of spinning.
        self->accept_paused_ = true;
        self->sweeper_.set(now() + self->interval_);
        return;
      }
      self->accept();
    });
  }

  void admit(tcp::socket peer) {
    if (connections_.size() >= shared_.limits.connections) {
      boost::system::error_code ignored;
      peer.non_blocking(true, ignored);
      peer.write_some(asio::buffer(kBusy, sizeof kBusy - 1), ignored);
      return;
    }
    const auto connection = std::make_shared<HttpConnection>(shared_, std::move(peer));
    connections_.emplace(connection.get(), connection);
    if (sweeper_.at().is_never()) sweeper_.set(now() + interval_);
    connection->start();
  }

  void forget(HttpConnection* connection) {
    connections_.erase(connection);
    if (connections_.empty() && on_drained_) {
      const auto callback = std::move(on_drained_);
      on_drained_ = nullptr;
      shared_.loop.post(callback);
    }
  }

  void sweep() {
    const Instant at = now();
    for (const auto& connection : snapshot()) connection->sweep(at);
    if (accept_paused_ && socket_.is_open()) {
      accept_paused_ = false;
      accept();
    }
    if (!connections_.empty()) sweeper_.set(at + interval_);
  }

  void drain(std::function<void()> on_drained) {
    stop_accepting();
    shared_.draining = true;
    for (const auto& connection : snapshot()) connection->close_if_idle();
    if (connections_.empty()) {
      shared_.loop.post(std::move(on_drained));
    } else {
      on_drained_ = std::move(on_drained);
    }
  }

  void close() {
    stop_accepting();
    for (const auto& connection : snapshot()) connection->close();
    sweeper_.set(Instant::never());
  }

  std::size_t size() const { return connections_.size(); }

 private:
  std::vector<std::shared_ptr<HttpConnection>> snapshot() const {
    std::vector<std::shared_ptr<HttpConnection>> all;
    all.reserve(connections_.size());
    for (const auto& [key, connection] : connections_) all.push_back(connection);
    return all;
  }
  void stop_accepting() {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

  HttpShared shared_;
  tcp::acceptor socket_;
  LoopTimer sweeper_;
  Duration interval_{};
  bool accept_paused_ = false;
  std::map<HttpConnection*, std::shared_ptr<HttpConnection>> connections_;
  std::function<void()> on_drained_;
};

HttpServer::HttpServer(EventLoop& loop, HttpLimits limits, HttpHooks hooks)
    : acceptor_(std::make_shared<Acceptor>(loop, limits, std::move(hooks))) {}
HttpServer::~HttpServer() { acceptor_->close(); }
Result<std::uint16_t, ListenError> HttpServer::listen(const ListenAddress& address) {
  return acceptor_->listen(address);
}
void HttpServer::drain(std::function<void()> on_drained) { acceptor_->drain(std::move(on_drained)); }
void HttpServer::close() { acceptor_->close(); }
std::size_t HttpServer::connections() const { return acceptor_->size(); }

}  // namespace orch::runtime
