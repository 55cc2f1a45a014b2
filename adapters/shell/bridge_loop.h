// Purpose: runs the exchanges of all jobs on one curl multi handle, watches their time budgets and gives a slot back
// only when the engine says that it is idle or cancel_settle has passed (DESIGN-RULES "Adapters"). Threads: one of its
// own; submit() and cancel() from any. Ownership: owns the jobs; dialect and status must outlive it. Bounds: as many
// jobs as are submitted (the lease arbiter limits them); bytes per exchange as the dialect says.
#pragma once

#include <curl/curl.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "adapters/core/dialect.h"
#include "adapters/shell/engine_status.h"
#include "adapters/shell/transfer.h"
#include "common/base/time.h"
#include "worker/core/engine_port.h"

namespace orch::adapter {

// Row A6: each budget has its own words, so that a failure says which one was spent.
struct Budgets {
  Duration connect = Duration::seconds(5);        // POOL_UNAVAILABLE
  Duration first_event = Duration::seconds(300);  // from an exchange's begin to its first token; POOL_UNAVAILABLE
  Duration idle = Duration::seconds(60);          // between tokens, whatever comments keep coming; DECODE_TIMEOUT
  Duration total = Duration::seconds(3600);       // DECODE_TIMEOUT; a job's own deadline may end it earlier
  Duration cancel_settle = Duration::seconds(5);  // from closing to idle when the engine does not confirm it
};

class BridgeLoop {
 public:
  BridgeLoop(const Dialect& dialect, EngineAddress address, Budgets budgets, EngineStatus& status);
  ~BridgeLoop();  // ends every job with WORKER_RESET
  BridgeLoop(const BridgeLoop&) = delete;
  BridgeLoop& operator=(const BridgeLoop&) = delete;

  void submit(worker::GenerationRequest request, std::shared_ptr<worker::GenerationSink> sink);
  void cancel(const DispatchId& id);
  // As in GenerationEngine: before the first submission, which publishes it.
  void on_burst_over(std::function<void()> over) { burst_over_ = std::move(over); }

 private:
  enum class State : std::uint8_t {
    exchanging,  // an exchange is under way
    closing,     // its connection is to be closed outside curl's own calls
    settling,    // closed; the engine may still be decoding
    tail,        // ended for the sink; the last bytes of the answer are awaited so that the connection can be reused
    over,
  };
  struct Job {
    DispatchId id;
    std::shared_ptr<worker::GenerationSink> sink;
    std::unique_ptr<Conversation> conversation;
    std::unique_ptr<Transfer> transfer;
    State state = State::exchanging;
    Instant submitted;
    std::optional<Instant> deadline;
    Instant exchange_began;
    Instant last_event;
    bool has_event = false;
    std::optional<EngineFailure> why;  // what the sink will hear once the slot is idle
    Instant closed;
    Instant until;  // of settling and tail
  };
  struct Submit {
    worker::GenerationRequest request;
    std::shared_ptr<worker::GenerationSink> sink;
    Instant at;
  };
  using Command = std::variant<Submit, DispatchId>;

  void push(Command command);
  void run();
  bool take_commands();  // false: stop
  void begin(Submit submit);
  void begin_exchange(Job& job);
  bool received(Job& job, std::string_view bytes);
  void deliver(Job& job, std::vector<Event>& events);
  void take_tokens(Job& job, Tokens tokens);
  void exchange_ended(Job& job, CURLcode code);
  void read_messages();
  void check_budgets(Job& job, Instant now);
  void note_waits();
  std::optional<std::pair<Instant, EngineFailure>> next_budget(const Job& job) const;
  void close_because(Job& job, EngineFailure failure);
  void close_connections(Instant now);
  void settle(Instant now);
  void ask_slots(Instant now);
  void slots_answered();
  void end_failed(Job& job, EngineFailure failure);
  void end_finished(Job& job, const worker::GenerationResult& result);
  void note_ended(bool canceled, std::uint32_t tokens_in);
  void end_burst();
  void wait(Instant now);

  const Dialect& dialect_;
  const EngineAddress address_;
  const Budgets budgets_;
  EngineStatus& status_;
  CURLM* multi_;

  std::mutex mutex_;
  std::deque<Command> commands_;
  bool stopping_ = false;

  std::function<void()> burst_over_;

  // --- the loop's own ---
  std::map<DispatchId, std::unique_ptr<Job>> jobs_;
  std::unique_ptr<Transfer> slots_transfer_;
  HttpReply slots_reply_;
  Instant slots_asked_;
  bool slots_done_ = false;
  bool told_ = false;  // a sink was called in this turn
  std::thread thread_;
};

}  // namespace orch::adapter
