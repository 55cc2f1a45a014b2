// Test double: an HTTP server whose every byte a test writes, on a free loopback port. One thread per connection,
// joined at the end. A route's function gets the request and writes the whole answer, head included.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace orch::adapter {

class StubEngine {
 public:
  struct Request {
    std::string head;
    std::string path;
    std::string body;
  };
  class Connection {
   public:
    Connection(int fd, StubEngine& stub) : fd_(fd), stub_(stub) {}
    bool write(const std::string& bytes) const {
      return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
    }
    // Until the client closes, or the stub ends.
    bool wait_closed() const {
      while (!stub_.ended()) {
        pollfd entry{.fd = fd_, .events = POLLIN, .revents = 0};
        if (::poll(&entry, 1, 5) <= 0) continue;
        char byte = 0;
        if (::recv(fd_, &byte, 1, 0) <= 0) return true;
      }
      return false;
    }
    // True: the client has not closed within this time.
    bool open_for(std::chrono::milliseconds time) const {
      pollfd entry{.fd = fd_, .events = POLLIN, .revents = 0};
      char byte = 0;
      const bool event = ::poll(&entry, 1, static_cast<int>(time.count())) > 0;
      return !stub_.ended() && !(event && ::recv(fd_, &byte, 1, MSG_PEEK) <= 0);
    }
    StubEngine& stub() const { return stub_; }

   private:
    int fd_;
    StubEngine& stub_;
  };
  using Route = std::function<void(const Connection&, const Request&)>;

  StubEngine() {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 64), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~StubEngine() { end(); }

  std::uint16_t port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void route(const std::string& path, Route route) {
    const std::lock_guard lock(mutex_);
    routes_[path] = std::move(route);
  }
  // An answer with a length and the connection kept open.
  static std::string reply(int status, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(status) +
           " X\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  static std::string stream_head() {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
  }
  void reply_on(const std::string& path, int status, const std::string& body) {
    route(path, [text = reply(status, body)](const Connection& connection, const Request&) { connection.write(text); });
  }
  void end() {
    {
      const std::lock_guard lock(mutex_);
      if (ended_) return;
      ended_ = true;
    }
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    for (std::thread& thread : threads_) thread.join();
  }
  bool ended() const {
    const std::lock_guard lock(mutex_);
    return ended_;
  }
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  // A named note by a route, and waiting for it.
  void note(const std::string& what) {
    {
      const std::lock_guard lock(mutex_);
      ++notes_[what];
    }
    changed_.notify_all();
  }
  bool wait_note(const std::string& what, int times = 1) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return notes_[what] >= times; });
  }

 private:
  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const std::lock_guard lock(mutex_);
      threads_.emplace_back([this, fd] {
        serve(fd);
        ::close(fd);
      });
    }
  }
  bool read_more(int fd, std::string& buffer) const {
    while (!ended()) {
      pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
      if (::poll(&entry, 1, 5) <= 0) continue;
      char block[4096];
      const ssize_t count = ::recv(fd, block, sizeof block, 0);
      if (count <= 0) return false;
      buffer.append(block, static_cast<std::size_t>(count));
      return true;
    }
    return false;
  }
  void serve(int fd) {
    std::string buffer;
    for (;;) {
      std::size_t end = 0;
      while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
        if (!read_more(fd, buffer)) return;
      }
      Request request;
      request.head = buffer.substr(0, end + 2);
      const std::size_t space = request.head.find(' ');
      request.path = request.head.substr(space + 1, request.head.find(' ', space + 1) - space - 1);
      std::size_t length = 0;
      if (const std::size_t at = request.head.find("Content-Length: "); at != std::string::npos) {
        length = static_cast<std::size_t>(std::strtoull(request.head.c_str() + at + 16, nullptr, 10));
      }
      buffer.erase(0, end + 4);
      while (buffer.size() < length) {
        if (!read_more(fd, buffer)) return;
      }
      request.body = buffer.substr(0, length);
      buffer.erase(0, length);
      Route route;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
        const auto found = routes_.find(request.path);
        if (found != routes_.end()) route = found->second;
      }
      const Connection connection(fd, *this);
      if (!route) {
        connection.write(reply(404, R"({"error":{"message":"File Not Found","type":"not_found_error","code":404}})"));
        continue;
      }
      route(connection, request);
      if (request.path == "/completion") return;
    }
  }

  int listener_ = -1;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::map<std::string, Route> routes_;
  std::vector<Request> requests_;
  std::map<std::string, int> notes_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// A port on which the kernel completes no further connection: its backlog is full and nobody accepts.
class FullListener {
 public:
  explicit FullListener(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    const int fd = add();
    const int yes = 1;
    EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), 0);
    EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd, 0), 0);
    for (int i = 0; i < 8; ++i) ::connect(add(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  ~FullListener() {
    for (const int fd : fds_) ::close(fd);
  }
  FullListener(const FullListener&) = delete;
  FullListener& operator=(const FullListener&) = delete;

 private:
  int add() {
    fds_.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (fds_.empty() ? 0 : SOCK_NONBLOCK), 0));
    return fds_.back();
  }
  std::vector<int> fds_;
};

}  // namespace orch::adapter
