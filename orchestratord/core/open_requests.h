// Requests for a job whose head is here and whose body is not (OC-ADMIT-1005), with what of their tenant's quotas they
// hold until then.
//
// Threads: owned by the core's loop. Bounds: kRequestsMax; each has an end by which it is given up.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/quota_book.h"

namespace orch::gateway {

struct OpenRequest {
  std::string tenant;  // as it is accounted under
  QuotaHold hold;
  Instant until;
};

class OpenRequests {
 public:
  static constexpr std::size_t kRequestsMax = 65'536;

  void add(RequestId id, OpenRequest request);
  std::optional<OpenRequest> take(RequestId id);
  // One whose end has come, taken out.
  std::optional<OpenRequest> take_overdue(Instant now);
  Instant next_end() const;  // never() when there is none

  bool full() const { return requests_.size() >= kRequestsMax; }
  const std::map<RequestId, OpenRequest>& all() const { return requests_; }

 private:
  std::map<RequestId, OpenRequest> requests_;
  std::set<std::pair<Instant, RequestId>> by_end_;
};

}  // namespace orch::gateway
