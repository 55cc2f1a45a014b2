#include "orchestratord/core/open_requests.h"

namespace orch::gateway {

void OpenRequests::add(RequestId id, OpenRequest request) {
  by_end_.emplace(request.until, id);
  requests_.emplace(id, std::move(request));
}

std::optional<OpenRequest> OpenRequests::take(RequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return std::nullopt;
  OpenRequest out = std::move(found->second);
  by_end_.erase({out.until, id});
  requests_.erase(found);
  return out;
}

std::optional<OpenRequest> OpenRequests::take_overdue(Instant now) {
  if (by_end_.empty() || by_end_.begin()->first > now) return std::nullopt;
  return take(by_end_.begin()->second);
}

Instant OpenRequests::next_end() const { return by_end_.empty() ? Instant::never() : by_end_.begin()->first; }

}  // namespace orch::gateway
