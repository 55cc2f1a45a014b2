// Whose task a link means, and where a client is sent that asks the wrong gateway (OC-JOB-1016).
//
// Threads: the loop's.
#pragma once

#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/runtime/http_message.h"
#include "orchestratord/core/other_gateways.h"

namespace orch::gateway {

class TaskHome {
 public:
  TaskHome(OrchId self, const OtherGateways& others) : self_(self), others_(others) {}

  // JSON object: the paths of the task's routes, with the gateway whose it is.
  std::string links(JobId task) const;
  // The answer to a request for a task of another gateway; nullopt: it is to be looked up here.
  std::optional<runtime::HttpResponse> elsewhere(const runtime::HttpRequest& request) const;

 private:
  OrchId self_;
  const OtherGateways& others_;
};

}  // namespace orch::gateway
