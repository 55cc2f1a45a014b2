// Whose task a link means, and where a client is sent that asks the wrong gateway (OC-JOB-1016).
//
// Threads: the loop's.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "common/base/ids.h"
#include "common/runtime/http_message.h"
#include "orchestratord/core/other_gateways.h"

namespace orch::gateway {

class TaskHome {
 public:
  // `public_url`: this gateway's own, empty when it does not say.
  TaskHome(OrchId self, std::string public_url, const OtherGateways& others)
      : self_(self), public_url_(std::move(public_url)), others_(others) {}

  // JSON object: the paths of the task's routes, with the gateway whose it is.
  std::string links(JobId task) const;
  // The answer to a request for a task of another gateway; nullopt: it is to be looked up here.
  std::optional<runtime::HttpResponse> elsewhere(const runtime::HttpRequest& request) const;

 private:
  OrchId self_;
  std::string public_url_;
  const OtherGateways& others_;
};

}  // namespace orch::gateway
