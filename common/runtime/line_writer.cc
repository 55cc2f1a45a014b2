#include "common/runtime/line_writer.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

namespace orch::runtime {
namespace {

constexpr std::chrono::milliseconds kGather{2};

}  // namespace

LineWriter::LineWriter(int descriptor, std::size_t bytes_max)
    : descriptor_(descriptor), bytes_max_(bytes_max), thread_([this] { run(); }) {}

LineWriter::~LineWriter() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LineWriter::push(std::string_view line) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() + line.size() + 1 > bytes_max_) {
      ++dropped_;
      return;
    }
    const bool first = waiting_.empty();
    waiting_.append(line).push_back('\n');
    if (!first) return;
  }
  changed_.notify_all();
}

void LineWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !waiting_.empty(); });
    changed_.wait_for(lock, kGather, [this] { return closing_; });
    const std::string text = std::exchange(waiting_, {});
    const std::uint64_t dropped = std::exchange(dropped_, 0);
    const bool last = closing_;
    lock.unlock();
    write_all(text);
    if (dropped > 0) {
      write_all(R"({"level":"warn","event":"log_lines_dropped","lines":)" + std::to_string(dropped) + "}\n");
    }
    if (last) return;
    lock.lock();
  }
}

// Nobody is left to tell when a log cannot be written.
void LineWriter::write_all(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t wrote = ::write(descriptor_, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

}  // namespace orch::runtime
