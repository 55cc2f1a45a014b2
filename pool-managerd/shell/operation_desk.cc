#include "pool-managerd/shell/operation_desk.h"

#include <utility>
#include <vector>

namespace orch::pool {

void OperationDesk::start(StartOperation operation, Replied replied) {
  operation.request = RequestId{++last_};
  asked_.emplace(operation.request, std::move(replied));
  raise_(operation);
}

std::uint64_t OperationDesk::wait(OperationId id, Ended ended) {
  if (waiters_.size() >= kWaitersMax) return 0;
  waiters_.emplace(++last_, Waiter{.id = id, .ended = std::move(ended)});
  return last_;
}

void OperationDesk::replied(const OperationReply& reply) {
  const auto found = asked_.find(reply.request);
  if (found == asked_.end()) return;
  const Replied answer = std::move(found->second);
  asked_.erase(found);
  answer(reply);
}

void OperationDesk::ended(const Operation& operation) {
  std::vector<Ended> due;
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    if (it->second.id != operation.id) {
      ++it;
      continue;
    }
    due.push_back(std::move(it->second.ended));
    it = waiters_.erase(it);
  }
  for (const Ended& each : due) each(operation);
}

}  // namespace orch::pool
