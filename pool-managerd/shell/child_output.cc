#include "pool-managerd/shell/child_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <vector>

namespace orch::pool {
namespace {

constexpr std::size_t kLineMax = 512;

// Makes room for one more log of the replica.
void remove_old_logs(const std::filesystem::path& path, const std::string& prefix, std::size_t kept) {
  std::error_code error;
  std::vector<std::filesystem::directory_entry> logs;
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    // Behind the prefix stands "<boot>.<counter>.log": replica "a-1" must not take the logs of replica "a-1-0" for its
    // own.
    const std::size_t end = name.find_first_not_of("0123456789", prefix.size());
    if (end != prefix.size() && end != std::string::npos && name[end] == '.') logs.push_back(entry);
  }
  if (logs.size() < kept) return;
  std::sort(logs.begin(), logs.end(), [](const auto& a, const auto& b) {
    std::error_code ignored;
    return a.last_write_time(ignored) < b.last_write_time(ignored);
  });
  for (std::size_t i = 0; i + kept <= logs.size(); ++i) std::filesystem::remove(logs[i].path(), error);
}

}  // namespace

int ChildOutput::make_pipe(const std::string& path) {
  ::unlink(path.c_str());
  if (::mkfifo(path.c_str(), 0600) != 0) return -1;
  const int fd = open_pipe(path);
  if (fd >= 0) ::fcntl(fd, F_SETPIPE_SZ, kPipeBytes);  // refused: the system's size will do
  return fd;
}

int ChildOutput::open_pipe(const std::string& path) {
  return ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
}

ChildOutput::ChildOutput(int pipe_fd, std::string path, const std::string& prefix, std::size_t bytes_max,
                         std::size_t kept)
    : pipe_fd_(pipe_fd), path_(std::move(path)), bytes_max_(bytes_max) {
  remove_old_logs(path_, prefix, kept);
  file_fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  struct stat info{};
  if (file_fd_ >= 0 && ::fstat(file_fd_, &info) == 0) written_ = static_cast<std::size_t>(info.st_size);
}

ChildOutput::~ChildOutput() {
  if (pipe_fd_ >= 0) ::close(pipe_fd_);
  if (file_fd_ >= 0) ::close(file_fd_);
}

void ChildOutput::drain() {
  std::array<char, 16 * 1024> buffer;
  while (pipe_fd_ >= 0) {
    const ssize_t count = ::read(pipe_fd_, buffer.data(), buffer.size());
    if (count > 0) {
      append({buffer.data(), static_cast<std::size_t>(count)});
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    ::close(pipe_fd_);
    pipe_fd_ = -1;
  }
}

void ChildOutput::append(std::string_view bytes) {
  if (written_ + bytes.size() > bytes_max_ && written_ > 0) rotate();
  written_ += bytes.size();
  // A full disk loses log lines, never the worker.
  std::string_view rest = bytes;
  while (file_fd_ >= 0 && !rest.empty()) {
    const ssize_t count = ::write(file_fd_, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    rest.remove_prefix(static_cast<std::size_t>(count));
  }
  for (const char c : bytes) {
    if (c != '\n') {
      if (line_.size() < kLineMax) line_.push_back(c);
      continue;
    }
    if (!line_.empty()) last_line_ = std::move(line_);
    line_.clear();
  }
}

void ChildOutput::rotate() {
  if (file_fd_ >= 0) ::close(file_fd_);
  std::rename(path_.c_str(), (path_ + ".1").c_str());
  file_fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  written_ = 0;
}

std::string ChildOutput::last_line() const {
  const std::string& line = line_.empty() ? last_line_ : line_;
  std::string out;
  // Bytes of an unknown process go into logs and JSON: printable ASCII only, the rest as '?'.
  for (const char c : line) out.push_back(c >= 0x20 && c < 0x7F ? c : '?');
  return out;
}

}  // namespace orch::pool
