// Who may connect to a Unix socket, and what is left of it.
#include "common/runtime/unix_listener.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <string>

#include "common/testing/temp_folder.h"

namespace orch::runtime {
namespace {

int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

// Writes a byte to whoever was taken and closes.
void greet(int fd) {
  EXPECT_EQ(::send(fd, "y", 1, MSG_NOSIGNAL), 1);
  ::close(fd);
}

// What the server says before it closes.
std::string heard(int fd) {
  std::string out;
  char byte = 0;
  while (::recv(fd, &byte, 1, 0) == 1) out += byte;
  ::close(fd);
  return out;
}

TEST(UnixListener, OC_LEASE_L2_takes_its_own_user_and_closes_others_unread) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/s";
  {
    auto listener = UnixListener::start(path, ::geteuid(), greet);
    ASSERT_TRUE(listener.ok()) << listener.error().message;
    EXPECT_EQ(heard(connect_to(path)), "y");
    EXPECT_EQ(listener.value()->refused(), 0u);
  }
  auto strict = UnixListener::start(path, ::geteuid() + 1, greet);  // to it we are somebody else
  ASSERT_TRUE(strict.ok()) << strict.error().message;
  EXPECT_EQ(heard(connect_to(path)), "");
  EXPECT_EQ(heard(connect_to(path)), "");
  EXPECT_EQ(strict.value()->refused(), 2u);
}

TEST(UnixListener, its_path_is_its_users_alone_and_goes_with_it) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/s";
  struct stat info{};
  {
    auto listener = UnixListener::start(path, ::geteuid(), greet);
    ASSERT_TRUE(listener.ok());
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
    const auto second = UnixListener::start(path, ::geteuid(), greet);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().kind, ListenError::Kind::in_use);
    EXPECT_EQ(heard(connect_to(path)), "y") << "the path is the first one's still";
  }
  EXPECT_NE(::stat(path.c_str(), &info), 0);
  EXPECT_FALSE(UnixListener::start(folder.path() + "/" + std::string(200, 's'), ::geteuid(), greet).ok());
}

}  // namespace
}  // namespace orch::runtime
