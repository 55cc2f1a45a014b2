// Purpose: between the callers of operations and the core: hands each reply to who asked, and each end to who waits for
// it (OC-POOL-3050). Loop thread. Bounds: kWaitersMax; beyond it a caller follows the operation by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>

#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/events.h"

namespace orch::pool {

class OperationDesk {
 public:
  using Replied = std::function<void(const OperationReply&)>;
  using Ended = std::function<void(const Operation&)>;
  static constexpr std::size_t kWaitersMax = 64;

  // `raise` hands the event to the core, whose reply comes back by replied().
  explicit OperationDesk(std::function<void(Event)> raise) : raise_(std::move(raise)) {}

  void start(StartOperation operation, Replied replied);
  // 0: too many wait. `ended` is called once, unless forget() comes first.
  std::uint64_t wait(OperationId id, Ended ended);
  void forget(std::uint64_t waiter) { waiters_.erase(waiter); }

  void replied(const OperationReply& reply);
  void ended(const Operation& operation);

 private:
  struct Waiter {
    OperationId id;
    Ended ended;
  };
  std::function<void(Event)> raise_;
  std::map<RequestId, Replied> asked_;
  std::map<std::uint64_t, Waiter> waiters_;
  std::uint64_t last_ = 0;
};

}  // namespace orch::pool
