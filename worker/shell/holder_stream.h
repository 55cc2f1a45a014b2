// Purpose: a holder's stream without gRPC: its heartbeats, dispatches and cancels go to the state and the engine, and
// what its jobs have to tell is gathered into replies, of which one at a time is under way (OC-WORKER-1001 to 1004).
// Threads: any; received() one call at a time. One mutex, never held while the engine, the state, a job or the writer
// is called. Ownership: shared by the call, the state and the jobs, which may outlive the call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "orch/v1/worker.pb.h"
#include "worker/shell/burst_gate.h"
#include "worker/shell/job_stream.h"
#include "worker/shell/worker_state.h"

namespace orch::worker {

// The stream's gRPC side. One write at a time: after write() the writer answers with HolderStream::written(). After
// finish() it is called no more.
class ReplyWriter {
 public:
  virtual ~ReplyWriter() = default;
  virtual void write(const v1::ServeReply& reply) = 0;  // valid until written()
  virtual void finish(const std::optional<EngineFailure>& failure) = 0;
};

class HolderStream final : public JobReader,
                           public HolderLink,
                           public BurstListener,
                           public std::enable_shared_from_this<HolderStream> {
 public:
  struct Limits {
    std::size_t outbox_bytes_max = 256 * 1024;    // of one job; whose reader is further behind ends in SLOW_CONSUMER
    std::size_t reply_bytes_enough = 256 * 1024;  // a reply takes no further job's events beyond
    std::size_t jobs_max = 4096;                  // open at once, refused ones that were not told yet included
  };

  // `gate` null: the engine makes no bursts, whatever it says may leave at once.
  HolderStream(std::shared_ptr<WorkerState> state, GenerationEngine& engine, ReplyWriter& writer,
               std::shared_ptr<BurstGate> gate, const Limits& limits);

  bool received(const v1::ServeRequest& request);  // false: read no further
  void written(bool ok);
  void peer_gone();

  void replaced() override;
  void burst_over() override;

  void started(std::uint64_t job, StartedNote note) override;
  bool prompt_scored(std::uint64_t job, PromptScores scores) override;
  bool tokens(std::uint64_t job, TokenBatch batch) override;
  void ended(std::uint64_t job, TokenOutbox::Terminal terminal, TokenBatch last) override;

 private:
  struct Open {
    std::shared_ptr<JobStream> run;
    TokenOutbox outbox;
    bool due = false;
  };
  using Told = std::pair<std::uint64_t, TokenOutbox::Item>;

  Status<EngineFailure> take(const v1::ServeRequest& request);
  Status<EngineFailure> greet(const v1::ServeRequest& request);
  Status<EngineFailure> dispatch(const v1::Dispatch& message);
  Status<EngineFailure> cancel(std::uint64_t number);
  void close(std::optional<EngineFailure> failure);
  template <typename Change>
  bool tell(std::uint64_t job, Change change);
  void release();
  std::vector<Told> gather();  // mutex_ held
  void pump();

  const std::shared_ptr<WorkerState> state_;
  GenerationEngine& engine_;
  ReplyWriter& writer_;
  const std::shared_ptr<BurstGate> gate_;
  const Limits limits_;
  v1::ServeReply reply_;  // belongs to whoever set busy_

  std::mutex mutex_;
  Holder holder_;
  std::uint64_t stream_ = 0;  // its number at the state; 0: the first message has not come yet
  std::uint64_t last_number_ = 0;
  std::map<std::uint64_t, Open> jobs_;                          // whose terminal has not been gathered
  std::deque<std::uint64_t> due_;                               // whose outbox is not empty, each once
  std::optional<std::pair<std::uint64_t, std::uint32_t>> ack_;  // newest heartbeat and who runs
  std::optional<EngineFailure> failure_;
  bool ready_ = false;    // what is due may leave
  bool waiting_ = false;  // at the gate
  bool busy_ = false;     // a write is in flight: whoever sets it may call the writer
  bool closing_ = false;
  bool closed_ = false;  // the writer must not be called again
};

}  // namespace orch::worker
