// Purpose: one Attach stream to each configured pool manager, reconnected with backoff. Every connection is a link of
// its own. Threads: loop only; gRPC reactions push into the mailbox through `post`, one unconsumed message per stream
// ("Flow").
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/runtime/event_loop.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"

namespace orch::gateway {

class ManagerLinks {
 public:
  using Post = std::function<bool(std::function<void()>)>;
  // `public_url`: where its clients reach this gateway, empty when it does not say.
  ManagerLinks(runtime::EventLoop& loop, Holder holder, std::string public_url, Post post,
               std::function<void(Event)> on_event);
  ~ManagerLinks();
  ManagerLinks(const ManagerLinks&) = delete;
  ManagerLinks& operator=(const ManagerLinks&) = delete;

  void start(const std::vector<std::string>& endpoints);
  // Dropped when the link is gone.
  void send(const SendUpdate& update);
  void send(const SendFair& fair);
  void send(const OperateReplica& operation);
  std::size_t attached() const;
  // Ends all streams; nothing is reconnected.
  void close();

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace orch::gateway
