// Purpose: the gRPC client side towards workers: one Serve stream per worker with the heartbeats and dispatches of this
// gateway, and token counts. Threads: loop only; gRPC reactions push into the mailbox through `post`, one unconsumed
// message per stream ("Flow"). Ownership: channels live as long as something uses their endpoint.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"

namespace orch::gateway {

class WorkerCalls {
 public:
  using Post = std::function<bool(std::function<void()>)>;
  using OnEvents = std::function<void(std::vector<Event>)>;  // those of one message, in order
  WorkerCalls(Holder holder, Post post, OnEvents on_events);
  ~WorkerCalls();
  WorkerCalls(const WorkerCalls&) = delete;
  WorkerCalls& operator=(const WorkerCalls&) = delete;

  void dispatch(const Dispatch& effect);
  void cancel(DispatchId dispatch);
  void beat(const std::string& endpoint);
  void forget(const std::string& endpoint);
  void count(const CountTokens& effect);
  // Cancels everything; no event follows.
  void close();

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace orch::gateway
