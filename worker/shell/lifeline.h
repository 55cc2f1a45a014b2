// Purpose: the pipe from the manager that spawned this process: its first line is the control secret, its end means
// that the manager is gone (DESIGN-RULES L8, first version). Threads: one of its own from watch() on; `on_lost` runs
// there. Ownership: owns the descriptor.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "common/base/result.h"
#include "common/base/time.h"

namespace orch::worker {

class Lifeline {
 public:
  static constexpr std::size_t kSecretDigits = 32;

  // Reads the first line, waiting at most `limit`. The error is a sentence.
  static Result<std::unique_ptr<Lifeline>, std::string> open(int fd, Duration limit);
  ~Lifeline();  // on_lost is not called any more
  Lifeline(const Lifeline&) = delete;
  Lifeline& operator=(const Lifeline&) = delete;

  // 16 bytes.
  const std::string& secret() const { return secret_; }
  void watch(std::function<void()> on_lost);

 private:
  Lifeline(int fd, std::string secret);
  void run(const std::function<void()>& on_lost);

  int fd_;
  int wake_fd_ = -1;
  std::string secret_;
  std::thread thread_;
};

}  // namespace orch::worker
