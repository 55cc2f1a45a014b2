// Purpose: an external engine behind HTTP as a GenerationEngine: jobs become exchanges that a Dialect encodes and
// decodes. Threads: one for curl and all jobs (BridgeLoop), one for probing, which may block (EngineProber). Ownership:
// owns the dialect; sinks are released after their terminal call; the destructor ends every job with WORKER_RESET.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "adapters/core/dialect.h"
#include "adapters/shell/bridge_loop.h"
#include "adapters/shell/engine_prober.h"
#include "adapters/shell/engine_status.h"
#include "worker/core/engine_port.h"

namespace orch::adapter {

class HttpBridge final : public worker::GenerationEngine {
 public:
  struct Options {
    EngineAddress address;
    Budgets budgets{};
    EngineProber::Options probing{};
  };

  HttpBridge(std::unique_ptr<Dialect> dialect, Options options);
  ~HttpBridge() override = default;

  worker::EngineInfo info() const override;
  worker::EngineCounters counters() const override;
  void submit(worker::GenerationRequest request, std::shared_ptr<worker::GenerationSink> sink) override;
  void cancel(const DispatchId& id) override;
  bool on_burst_over(std::function<void()> over) override {
    loop_.on_burst_over(std::move(over));
    return true;
  }
  Result<std::pair<std::uint32_t, bool>, worker::EngineFailure> count_tokens(
      const worker::EnginePrompt& prompt) override;

 private:
  const std::unique_ptr<Dialect> dialect_;
  const Options options_;
  EngineStatus status_;
  BridgeLoop loop_;
  EngineProber prober_;
};

}  // namespace orch::adapter
