// Purpose: where a job's events go: one sink per reader, one kind per API. Threads: loop only.
// The calls come in the order of orchestratord/core/effects.h; refused() and closed() are the last.
#pragma once

#include <functional>

#include "orchestratord/core/effects.h"

namespace orch::gateway {

class ReaderSink {
 public:
  enum class [[nodiscard]] Took : unsigned char { ok, overflow };

  virtual ~ReaderSink() = default;
  virtual void opened(JobId job) = 0;
  virtual void served_by(const ServedBy& served_by) = 0;
  virtual Took event(const StreamEvent& event) = 0;
  virtual void refused(const Failure& failure) = 0;
  virtual void closed() = 0;
  // The reader fell behind its limit: its connection is cut.
  virtual void cut() = 0;
  // Once, when what it was given has left; at once, where nothing leaves before the end.
  virtual void when_drained(std::function<void()> callback) { callback(); }
};

}  // namespace orch::gateway
