#include "worker/shell/lifeline.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/ids.h"
#include "common/runtime/clock.h"

namespace orch::worker {
namespace {

// Byte by byte: nothing behind the line may be swallowed, and it is one line per process.
Result<std::string, std::string> read_line(int fd, Duration limit) {
  std::string line;
  const Instant end = runtime::now() + limit;
  while (line.size() <= Lifeline::kSecretDigits) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    const Duration left = end - runtime::now();
    if (left <= Duration{}) return Err{std::string("no control secret came over the lifeline in time")};
    const int ready = ::poll(&entry, 1, static_cast<int>(left.ms_ceil()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) continue;
    char byte = 0;
    const ssize_t count = ready < 0 ? -1 : ::read(fd, &byte, 1);
    if (count < 0) return Err{std::string("the lifeline cannot be read: ") + std::strerror(errno)};
    if (count == 0) return Err{std::string("the lifeline ended before the control secret")};
    if (byte == '\n') return line;
    line.push_back(byte);
  }
  return Err{std::string("the lifeline's first line is longer than 32 hex digits")};
}

}  // namespace

Result<std::unique_ptr<Lifeline>, std::string> Lifeline::open(int fd, Duration limit) {
  ORCH_TRY(line, read_line(fd, limit));
  if (line.size() != kSecretDigits) return Err{std::string("the lifeline's first line is not 32 hex digits")};
  std::string secret;
  for (std::size_t i = 0; i < line.size(); i += 2) {
    const int high = detail::hex_digit(line[i]);
    const int low = detail::hex_digit(line[i + 1]);
    if (high < 0 || low < 0) return Err{std::string("the lifeline's first line is not 32 hex digits")};
    secret.push_back(static_cast<char>(high * 16 + low));
  }
  return std::unique_ptr<Lifeline>(new Lifeline(fd, std::move(secret)));
}

Lifeline::Lifeline(int fd, std::string secret) : fd_(fd), secret_(std::move(secret)) {
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
  ORCH_CHECK(wake_fd_ >= 0);
}

Lifeline::~Lifeline() {
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    ORCH_CHECK(::write(wake_fd_, &one, sizeof one) == sizeof one);
    thread_.join();
  }
  ::close(wake_fd_);
  ::close(fd_);
}

void Lifeline::watch(std::function<void()> on_lost) {
  ORCH_CHECK(!thread_.joinable());
  thread_ = std::thread([this, on_lost = std::move(on_lost)] { run(on_lost); });
}

void Lifeline::run(const std::function<void()>& on_lost) {
  for (;;) {
    std::array<pollfd, 2> entries{pollfd{.fd = fd_, .events = POLLIN, .revents = 0},
                                  pollfd{.fd = wake_fd_, .events = POLLIN, .revents = 0}};
    if (::poll(entries.data(), entries.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return on_lost();
    }
    if (entries[1].revents != 0) return;
    if (entries[0].revents == 0) continue;
    std::array<char, 256> ignored{};
    const ssize_t count = ::read(fd_, ignored.data(), ignored.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return on_lost();
  }
}

}  // namespace orch::worker
