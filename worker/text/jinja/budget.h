// What one rendering may cost, and its first error. A template comes out of a model file and is as untrusted as that.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "worker/text/jinja/lexer.h"
#include "worker/text/jinja/value.h"

namespace orch::worker::jinja {

struct Limits {
  std::uint64_t steps_max = 2'000'000;        // expressions and statements evaluated
  std::uint64_t work_bytes_max = 256u << 20;  // bytes of all texts made on the way
  std::uint64_t output_bytes_max = 8u << 20;
  int depth_max = 400;  // of evaluation
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;
  ~Budget() {
    for (const Value& value : changed_) {
      if (List* list = value.list()) List ended = std::move(*list);
      if (Map* map = value.map()) auto ended = std::move(map->entries);
    }
  }

  void step() {
    if (++steps_ > limits_.steps_max)
      fail("the template took more than " + std::to_string(limits_.steps_max) + " steps");
  }
  // Before `bytes` of text or list entries are made. False: do not make them.
  bool charge(std::uint64_t bytes) {
    if (bytes > limits_.work_bytes_max - work_) {
      fail("the template handled more than " + std::to_string(limits_.work_bytes_max) + " bytes");
      return false;
    }
    work_ += bytes;
    return true;
  }
  std::uint64_t bytes_left() const { return limits_.work_bytes_max - work_; }
  // `container` got `what` after it was made, so it may lead to itself; it is emptied when the rendering is over.
  void note_change(const Value& container, const Value& what) {
    if (what.is_container() && charge(sizeof(Value))) changed_.push_back(container);
  }
  const Limits& limits() const { return limits_; }

  void at_line(std::uint32_t line) { line_ = line; }
  void fail(std::string message) {
    if (failed_) return;
    failed_ = true;
    error_ = {std::move(message), line_};
  }
  bool failed() const { return failed_; }
  const TemplateError& error() const { return error_; }

 private:
  Limits limits_;
  std::uint64_t steps_ = 0;
  std::uint64_t work_ = 0;
  std::uint32_t line_ = 0;
  std::vector<Value> changed_;
  bool failed_ = false;
  TemplateError error_;
};

}  // namespace orch::worker::jinja
