#include "common/runtime/accept_thread.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "common/base/check.h"

namespace orch::runtime {
namespace {

constexpr int kFullPauseMs = 100;  // no files left: until a connection has closed one, perhaps

}  // namespace

AcceptThread::AcceptThread(int socket, Taken taken)
    : socket_(socket), taken_(std::move(taken)), stop_(::eventfd(0, EFD_CLOEXEC)) {
  ORCH_CHECK(stop_ >= 0);
  thread_ = std::thread([this] { accept_all(); });
}

AcceptThread::~AcceptThread() {
  const std::uint64_t one = 1;
  while (::write(stop_, &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
  ::close(stop_);
}

void AcceptThread::accept_all() {
  for (;;) {
    std::array<pollfd, 2> wanted{pollfd{stop_, POLLIN, 0}, pollfd{socket_, POLLIN, 0}};
    if (::poll(wanted.data(), wanted.size(), -1) < 0) continue;  // EINTR
    if (wanted[0].revents != 0) return;
    const int fd = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      taken_(fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      ::poll(wanted.data(), 1, kFullPauseMs);  // the connection waits; without a pause this loop would spin
    }
  }
}

}  // namespace orch::runtime
