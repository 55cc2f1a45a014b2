// Purpose: asks the engine what it is and whether it is ready (row A8), and writes the answer to the status. The
// identity is fixed once ready: an engine that comes back as another one makes loading fail. Threads: one of its own,
// which blocks in HTTP exchanges and while a model file is hashed. Ownership: dialect and status must outlive it.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "adapters/core/dialect.h"
#include "adapters/shell/engine_status.h"
#include "adapters/shell/transfer.h"
#include "common/base/time.h"

namespace orch::adapter {

class EngineProber {
 public:
  struct Options {
    std::string model_name;                 // served under
    std::uint32_t slots = 0;                // 0: as many as the engine has
    bool digest_local_model = false;        // hash the engine's model file when this process can read it
    Duration every = Duration::seconds(5);  // once ready
    Duration every_loading = Duration::milliseconds(200);
    Duration unreachable = Duration::seconds(60);  // never reached for this long: loading has failed
  };

  EngineProber(const Dialect& dialect, EngineAddress address, Options options, EngineStatus& status);
  ~EngineProber();
  EngineProber(const EngineProber&) = delete;
  EngineProber& operator=(const EngineProber&) = delete;

 private:
  void run();
  EngineView look() const;
  void take(const EngineView& view);
  void became_ready(const EngineView& view);
  void not_ready(const EngineView& view);

  const Dialect& dialect_;
  const EngineAddress address_;
  const Options options_;
  EngineStatus& status_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;

  // --- the thread's own ---
  std::optional<EngineView> identity_;
  int misses_ = 0;
  std::uint64_t steps_ = 0;  // at the last probe that failed
  Instant began_;
  std::thread thread_;
};

}  // namespace orch::adapter
