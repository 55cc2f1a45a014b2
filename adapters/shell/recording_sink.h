// Test doubles: what a job's sink heard, and waiting for its terminal or for any condition. Threads: any.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "worker/core/engine_port.h"

namespace orch::adapter {

// For what nobody announces. False: not within 20 s.
template <typename Condition>
bool wait_until(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

class RecordingSink final : public worker::GenerationSink {
 public:
  void started(std::uint32_t prompt_tokens, std::uint32_t) override {
    note([&] { prompt_tokens_ = prompt_tokens; });
  }
  void tokens(worker::GeneratedTokens tokens) override {
    note([&] {
      last_index_ = tokens.index;
      text_ += tokens.text;
      ++batches_;
    });
  }
  void finished(const worker::GenerationResult& result) override {
    note([&] {
      result_ = result;
      ++terminals_;
    });
  }
  void failed(const worker::EngineFailure& failure) override {
    note([&] {
      failure_ = failure;
      ++terminals_;
    });
  }

  bool wait_tokens() {
    return wait([this] { return batches_ > 0; });
  }
  bool wait_terminal() {
    return wait([this] { return terminals_ > 0; });
  }
  // "FINISHED", the code of the failure, or "NONE" after 20 s.
  std::string outcome() {
    if (!wait_terminal()) return "NONE";
    const std::lock_guard lock(mutex_);
    return failure_ ? std::string(outcome_row(failure_->outcome).code) : "FINISHED";
  }
  std::string message() const {
    const std::lock_guard lock(mutex_);
    return failure_ ? failure_->message : std::string();
  }
  worker::EngineFailure failure() const {
    const std::lock_guard lock(mutex_);
    return failure_.value_or(worker::EngineFailure{});
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }
  worker::GenerationResult result() const {
    const std::lock_guard lock(mutex_);
    return result_.value_or(worker::GenerationResult{});
  }
  std::uint32_t prompt_tokens() const {
    const std::lock_guard lock(mutex_);
    return prompt_tokens_;
  }
  int terminals() const {
    const std::lock_guard lock(mutex_);
    return terminals_;
  }

 private:
  template <typename Change>
  void note(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }
  template <typename Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), condition);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t prompt_tokens_ = 0;
  std::uint32_t last_index_ = 0;
  int batches_ = 0;
  int terminals_ = 0;
  std::string text_;
  std::optional<worker::GenerationResult> result_;
  std::optional<worker::EngineFailure> failure_;
};

}  // namespace orch::adapter
