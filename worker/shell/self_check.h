// Purpose: proves that the engine decodes, that a cancelled generation gives its slot back and that the counters see
// both, before any client depends on it (DESIGN-RULES L6; readiness of a replica). Threads: advance() from one thread;
// the sinks report from the engine's. Ownership: keeps its probes alive; the engine must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/time.h"
#include "worker/core/engine_port.h"

namespace orch::worker {

struct SelfCheckVerdict {
  std::uint64_t id = 0;
  bool decoded = false;
  bool cancel_freed = false;
  bool counters_moved = false;
  std::string detail;  // what failed, in words; empty when nothing did
};

class SelfCheck {
 public:
  // `wake` is called from engine threads when advance() may have something to do.
  SelfCheck(GenerationEngine& engine, std::uint64_t id, Instant now, Duration limit, std::function<void()> wake);
  ~SelfCheck();

  // The verdict, once it is final. Past the limit what was not seen counts as failed.
  std::optional<SelfCheckVerdict> advance(Instant now);
  // Advance at least this often while it runs: the return of the slot is observed, not notified.
  static constexpr Duration kPollEvery = Duration::milliseconds(5);

 private:
  class Probe;
  enum class Phase : std::uint8_t { begin, decoding, cancel_pending, canceling, settling, done };

  DispatchId submit(std::uint32_t max_tokens);
  void begin();
  void after_decoding();
  void after_first_token();
  void after_cancel(Instant now);
  void settle(Instant now);
  void fail(std::string detail);
  void cancel_probe();

  GenerationEngine& engine_;
  Instant deadline_;
  std::function<void()> wake_;
  SelfCheckVerdict verdict_;
  Phase phase_ = Phase::begin;
  EngineCounters before_;
  std::shared_ptr<Probe> probe_;
  DispatchId probe_id_;
  Instant settle_end_;
};

}  // namespace orch::worker
