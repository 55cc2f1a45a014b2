// Purpose: a request that was let in by its head. While this lives untaken its tenant's quotas hold its place, so
// whoever gives up a request has only to drop this. Threads: loop only. Ownership: what holds it does not outlive the
// desk.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "common/base/ids.h"

namespace orch::gateway {

class LetIn {
 public:
  // `fresh` makes the id of a request of its own, `drop` tells that no job comes of one.
  LetIn(RequestId id, std::function<RequestId()> fresh, std::function<void(RequestId)> drop)
      : id_(id), fresh_(std::move(fresh)), drop_(std::move(drop)) {}
  ~LetIn() {
    if (id_) drop_(*id_);
  }
  LetIn(const LetIn&) = delete;
  LetIn& operator=(const LetIn&) = delete;

  // For its job. Of several jobs of one request the first has its place, the others are requests of their own.
  RequestId take() {
    const std::optional<RequestId> id = std::exchange(id_, std::nullopt);
    return id ? *id : fresh_();
  }

 private:
  std::optional<RequestId> id_;  // nullopt: taken
  const std::function<RequestId()> fresh_;
  const std::function<void(RequestId)> drop_;
};
// Shared, since a handler of the body is a copyable function.
using LetInPtr = std::shared_ptr<LetIn>;

}  // namespace orch::gateway
