// The score requests of the native engine: their prompts run in the same batch as generations, without slots of their
// own in it (the caller's lease holds one for the whole request). Engine thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "worker/core/generation_batch.h"
#include "worker/core/score_job.h"

namespace orch::worker {

class ScoreDesk {
 public:
  void add(ScoreJob job, std::shared_ptr<ScoreSink> sink);
  std::uint32_t jobs() const { return static_cast<std::uint32_t>(jobs_.size()); }

  // Starts what may start. What cannot for want of pages waits while anything runs.
  void admit(GenerationBatch& batch, Instant now);
  // True: the event was of a prompt of ours. Ends the job when it was the last one, or a failure.
  bool take(const BatchEvent& event, GenerationBatch& batch);
  bool end(const DispatchId& id, const EngineFailure& why, GenerationBatch& batch);
  // Ends what is overdue, whether its prompts run or wait for pages (E5).
  void expire(Instant now, GenerationBatch& batch);
  // Tells the callers of the jobs that have ended; `before` is called with each one's name first.
  void deliver(const std::function<void(const DispatchId&)>& before);
  void end_all(const EngineFailure& why, GenerationBatch& batch);

 private:
  struct Entry {
    ScoreJob job;
    std::shared_ptr<ScoreSink> sink;
    std::map<DispatchId, std::size_t> prompts;  // in the batch, by their item
  };
  void drop_prompts(Entry& entry, GenerationBatch& batch);

  struct Ended {
    DispatchId id;
    std::shared_ptr<ScoreSink> sink;
    Result<ScoreResult, EngineFailure> result;
  };

  std::map<DispatchId, Entry> jobs_;
  std::vector<Ended> ended_;
  std::map<DispatchId, DispatchId> owners_;  // of prompts
  std::uint64_t prompts_made_ = 0;
};

}  // namespace orch::worker
