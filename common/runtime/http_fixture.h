// Test fixture: a server on a loopback port with its loop in a thread, and a raw blocking client that says exactly what
// bytes go over the wire.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <thread>

#include "common/runtime/http_server.h"

namespace orch::runtime {

class RawClient {
 public:
  explicit RawClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // False once the server has cut the connection.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // Until `mark` has been received or the connection ends; bounded by ten seconds.
  std::string read_until(std::string_view mark) {
    while (received_.find(mark) == std::string::npos && read_some()) {
    }
    const std::size_t at = received_.find(mark);
    if (at == std::string::npos) return std::exchange(received_, {});
    std::string out = received_.substr(0, at + mark.size());
    received_.erase(0, at + mark.size());
    return out;
  }
  // What was still sent. The server has to end the connection: being silent is not enough.
  std::string read_to_end() {
    while (read_some()) {
    }
    EXPECT_TRUE(ended_) << "the server keeps the connection open";
    return std::exchange(received_, {});
  }
  // One response with Content-Length: head and body.
  std::string read_response() {
    std::string head = read_until("\r\n\r\n");
    const std::size_t at = head.find("Content-Length: ");
    if (at == std::string::npos) return head;
    const std::size_t length = std::stoul(head.substr(at + 16));
    while (received_.size() < length && read_some()) {
    }
    head += received_.substr(0, length);
    received_.erase(0, std::min(length, received_.size()));
    return head;
  }
  int fd() const { return fd_; }

 private:
  bool read_some() {
    pollfd waiter{fd_, POLLIN, 0};
    if (::poll(&waiter, 1, 10'000) <= 0) return false;
    char buffer[16384];
    const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
    if (got <= 0) {
      ended_ = true;
      return false;
    }
    received_.append(buffer, static_cast<std::size_t>(got));
    return true;
  }
  int fd_ = -1;
  bool ended_ = false;  // closed or reset by the server
  std::string received_;
};

class HttpServerFixture : public ::testing::Test {
 protected:
  void serve(HttpLimits limits, HttpHandler handler) {
    HttpHooks hooks;
    hooks.on_request = std::move(handler);
    hooks.on_head = head_hook_;
    hooks.on_answered = answered_hook_;
    hooks.on_error = [](const HttpServerError& error) {
      return HttpResponse::text(error.status, std::string(error.message));
    };
    server_ = std::make_unique<HttpServer>(loop_, limits, std::move(hooks));
    auto port = server_->listen({false, "", "127.0.0.1", 0});
    ASSERT_TRUE(port.ok());
    port_ = port.value();
    thread_ = std::thread([this] { loop_.run(); });
  }
  void TearDown() override {
    if (!thread_.joinable()) return;
    on_loop([this] { server_.reset(); });
    loop_.stop();
    thread_.join();
  }
  // Runs on the loop and waits for it.
  void on_loop(const std::function<void()>& task) {
    std::promise<void> done;
    loop_.post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }
  static std::string get(std::string_view path) {
    return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n\r\n";
  }

  EventLoop loop_;
  std::unique_ptr<HttpServer> server_;
  std::function<HttpVerdict(const HttpRequest&)> head_hook_;
  std::function<void(const HttpRequest&, int)> answered_hook_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace orch::runtime
