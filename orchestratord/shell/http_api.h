// Purpose: the public HTTP surface: routes, authentication, envelopes. It decides nothing: bodies become events of the
// core, the core's answers become replies. Threads: loop only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/http_server.h"
#include "common/runtime/key_ring.h"
#include "gen/config_orchestratord.h"
#include "orchestratord/core/orchestrator.h"
#include "orchestratord/shell/client_desk.h"

namespace orch::gateway {

class HttpApi {
 public:
  struct Hooks {
    std::function<std::string()> metrics_text;
    std::function<void(std::string_view route, int status)> on_answered;
  };
  HttpApi(runtime::EventLoop& loop, OrchId self, const gateway_config::Config& config, const runtime::KeyRing& keys,
          const Orchestrator& core, ClientDesk& desk, Hooks hooks);
  ~HttpApi();
  HttpApi(const HttpApi&) = delete;
  HttpApi& operator=(const HttpApi&) = delete;

  Result<std::uint16_t, runtime::ListenError> listen(const runtime::ListenAddress& address);
  // Accepts nothing more; `on_drained` when every answer begun has been taken by its client.
  void drain(std::function<void()> on_drained);
  void close();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace orch::gateway
