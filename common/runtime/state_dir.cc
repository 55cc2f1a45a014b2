#include "common/runtime/state_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>

#include "common/runtime/entropy.h"

namespace orch::runtime {
namespace {

using Kind = StateDir::Error::Kind;

Err<StateDir::Error> io_error(const std::string& what) {
  return Err{StateDir::Error{Kind::io, what + ": " + std::strerror(errno)}};
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

bool write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t wrote = ::write(fd, content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    content.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return true;
}

// Small files only. nullopt: does not exist or cannot be read.
std::optional<std::string> read_small(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return std::nullopt;
  char buffer[256];
  const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
  if (got < 0) return std::nullopt;
  std::string text(buffer, static_cast<std::size_t>(got));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

StateDir::StateDir(StateDir&& other) noexcept
    : path_(std::move(other.path_)), lock_fd_(other.lock_fd_), id_(other.id_), boot_(other.boot_) {
  other.lock_fd_ = -1;
}
StateDir::~StateDir() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

Result<StateDir, StateDir::Error> StateDir::open(const std::string& path) {
  std::error_code error;
  const bool existed = std::filesystem::exists(path, error);
  std::filesystem::create_directories(path, error);
  if (error) return Err{Error{Kind::io, "state directory " + path + ": " + error.message()}};
  if (!existed) ::chmod(path.c_str(), 0700);

  Fd lock(::open((path + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.get() < 0) return io_error(path + "/lock");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return io_error(path + "/lock");
    return Err{Error{Kind::locked, "state directory " + path + " is in use by another process"}};
  }
  StateDir dir(path, lock.release());

  const auto uuid_text = read_small(path + "/uuid");
  if (uuid_text) {
    const auto id = Uuid::parse(*uuid_text);
    if (!id) return Err{Error{Kind::corrupt, path + "/uuid does not hold a UUID"}};
    dir.id_ = *id;
  } else {
    dir.id_ = random_uuid();
    ORCH_TRY(written, dir.write_file("uuid", dir.id_.to_string() + "\n", true));
    static_cast<void>(written);
  }

  if (const auto text = read_small(path + "/boot")) {
    const auto [end, parse_error] = std::from_chars(text->data(), text->data() + text->size(), dir.boot_);
    if (parse_error != std::errc() || end != text->data() + text->size()) {
      // Guessing a value could repeat an old one, and with it old lease ids.
      return Err{Error{Kind::corrupt, path + "/boot does not hold a number"}};
    }
  }
  ++dir.boot_;
  ORCH_TRY(counted, dir.write_file("boot", std::to_string(dir.boot_) + "\n", true));
  static_cast<void>(counted);
  return dir;
}

Status<StateDir::Error> StateDir::write_file(std::string_view name, std::string_view content, bool durable) const {
  const std::string target = path_ + "/" + std::string(name);
  const std::string temporary = target + ".new";
  {
    const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (fd.get() < 0) return io_error(temporary);
    if (!write_all(fd.get(), content)) return io_error(temporary);
    if (durable && ::fsync(fd.get()) != 0) return io_error(temporary);
  }
  if (::rename(temporary.c_str(), target.c_str()) != 0) return io_error(target);
  if (durable) {
    const Fd dir(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir.get() < 0 || ::fsync(dir.get()) != 0) return io_error(path_);
  }
  return Ok{};
}

Status<StateDir::Error> StateDir::write_port(std::string_view name, std::uint16_t port) const {
  return write_file(std::string(name) + ".port", std::to_string(port) + "\n");
}

void StateDir::remove_file(std::string_view name) const { ::unlink((path_ + "/" + std::string(name)).c_str()); }

}  // namespace orch::runtime
