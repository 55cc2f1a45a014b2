// Purpose: the gRPC client side towards this host's workers: one channel, one Control stream and GetInfo per
// incarnation. Threads: loop thread; gRPC reactions only push into the mailbox through `post`. Ownership: `on_event`
// must outlive it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/base/ids.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/events.h"

namespace orch::pool {

class WorkerLinks {
 public:
  // Runs a task on the loop thread; false: the mailbox is full.
  using Post = std::function<bool(std::function<void()>)>;
  WorkerLinks(ManagerId manager, Post post, std::function<void(Event)> on_event);
  ~WorkerLinks();
  WorkerLinks(const WorkerLinks&) = delete;
  WorkerLinks& operator=(const WorkerLinks&) = delete;

  void open(Incarnation inc, const std::string& endpoint, const Secret& control_secret);
  void connect(Incarnation inc, bool wants_table);  // closes an earlier stream
  void query_info(Incarnation inc);
  void send(const SendTable& effect);
  void send(const SendSelfCheck& effect);
  void send(const SendDrain& effect);
  void close(Incarnation inc);

 private:
  struct Shared;
  struct Link;
  std::shared_ptr<Shared> shared_;
};

}  // namespace orch::pool
