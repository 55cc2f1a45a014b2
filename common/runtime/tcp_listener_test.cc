// How many connections a port takes, and that whoever closes one makes room.
#include "common/runtime/tcp_listener.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/runtime/http_fixture.h"

namespace orch::runtime {
namespace {

// Takes connections, greets each with a byte and closes them when it is told to.
class Host {
 public:
  explicit Host(std::size_t connections_max) {
    auto started = TcpListener::start({false, "", "127.0.0.1", 0}, connections_max, [this](int fd) { take(fd); });
    EXPECT_TRUE(started.ok());
    listener_ = std::move(started).value();
  }
  ~Host() {
    listener_.reset();
    for (const int fd : taken_) ::close(fd);
  }
  TcpListener& listener() { return *listener_; }
  std::unique_ptr<RawClient> connect() { return std::make_unique<RawClient>(listener_->port()); }
  void close_one(std::size_t i) {
    const std::lock_guard lock(mutex_);
    ::close(std::exchange(taken_[i], -1));
  }
  // So that its number is another file's when the next connection comes.
  void replace_one(std::size_t i) {
    const std::lock_guard lock(mutex_);
    const int number = taken_[i];
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    EXPECT_EQ(::dup2(ends[0], number), number);
    ::close(ends[0]);
    ::close(ends[1]);
  }

 private:
  void take(int fd) {
    EXPECT_EQ(::send(fd, "y", 1, MSG_NOSIGNAL), 1);
    const std::lock_guard lock(mutex_);
    taken_.push_back(fd);
  }
  std::mutex mutex_;
  std::vector<int> taken_;
  std::unique_ptr<TcpListener> listener_;
};

TEST(TcpListener, OC_PLAT_1002_connections_beyond_the_bound_are_closed_and_a_closed_one_makes_room) {
  Host host(2);
  const auto first = host.connect();
  const auto second = host.connect();
  EXPECT_EQ(first->read_until("y"), "y");
  EXPECT_EQ(second->read_until("y"), "y");
  for (std::uint64_t n = 1; n <= 3; ++n) {
    EXPECT_EQ(host.connect()->read_to_end(), "");
    EXPECT_EQ(host.listener().refused(), n);
  }
  host.close_one(0);
  EXPECT_EQ(first->read_to_end(), "");
  const auto third = host.connect();
  EXPECT_EQ(third->read_until("y"), "y");
  EXPECT_EQ(host.connect()->read_to_end(), "") << "the second one is open";
  host.replace_one(1);
  const auto fourth = host.connect();
  EXPECT_EQ(fourth->read_until("y"), "y") << "its number stands for another file now";
  EXPECT_EQ(host.connect()->read_to_end(), "");
}

TEST(TcpListener, a_port_in_use_and_an_address_of_another_host_are_told_apart) {
  Host host(1);
  const auto second = TcpListener::start({false, "", "127.0.0.1", host.listener().port()}, 1, [](int) {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ListenError::Kind::in_use);
  const auto elsewhere = TcpListener::start({false, "", "192.0.2.1", 0}, 1, [](int) {});
  ASSERT_FALSE(elsewhere.ok());
  EXPECT_EQ(elsewhere.error().kind, ListenError::Kind::bad_address);
}

}  // namespace
}  // namespace orch::runtime
