// Purpose: the small HTTP server for people and scrapers: GET /livez, /readyz, /metrics, /v1/replicas, and the control
// routes of operation_http.h. Loop thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/http_server.h"
#include "common/runtime/listen_address.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/manager.h"
#include "pool-managerd/shell/operation_desk.h"

namespace orch::pool {

class AdminHttp {
 public:
  // `hosts`: names that this host may be asked for by, besides its addresses and localhost (OC-CTRL-2075).
  AdminHttp(runtime::EventLoop& loop, const Manager& manager, OperationDesk& desk, std::vector<std::string> hosts,
            std::function<std::string()> metrics_text);
  ~AdminHttp();

  Result<std::uint16_t, runtime::ListenError> listen(const runtime::ListenAddress& address);
  void close();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// {"manager_id":..., "boot":..., "replicas":[...]}
std::string replicas_json(const Manager& manager, Instant now);

}  // namespace orch::pool
