// Purpose: the manager's stream without gRPC: what it sends goes to the state, what it must hear is gathered so that
// only the newest report waits. Threads: any; one mutex, never held while the state or the writer is called.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "orch/v1/worker.pb.h"
#include "worker/shell/worker_state.h"

namespace orch::worker {

class ControlWriter {
 public:
  virtual ~ControlWriter() = default;
  // Answered by ControlStream::written().
  virtual void write(const v1::ControlReport& report) = 0;
  virtual void finish(const std::optional<EngineFailure>& failure) = 0;  // no further call follows
};

class ControlStream final : public ControlLink, public std::enable_shared_from_this<ControlStream> {
 public:
  ControlStream(std::shared_ptr<WorkerState> state, ControlWriter& writer);

  bool received(const v1::ControlRequest& request);  // false: read no more
  void written(bool ok);
  void peer_gone();

  void report_due() override;
  void self_checked(SelfCheckVerdict verdict) override;
  void replaced() override;

 private:
  Status<EngineFailure> handle(const v1::ControlRequest& request);
  Status<EngineFailure> hello(const v1::ControlHello& message);
  void close(std::optional<EngineFailure> failure);
  void pump();

  const std::shared_ptr<WorkerState> state_;
  ControlWriter& writer_;

  std::mutex mutex_;
  bool greeted_ = false;
  bool due_ = false;
  bool table_due_ = false;  // asked for by a manager that comes back (L8)
  bool busy_ = false;
  bool closing_ = false;
  bool closed_ = false;
  std::optional<EngineFailure> failure_;
  std::deque<SelfCheckVerdict> verdicts_;  // one check runs at a time: at most a few
};

}  // namespace orch::worker
