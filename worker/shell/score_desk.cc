#include "worker/shell/score_desk.h"

#include <utility>

#include "worker/core/attempts.h"

namespace orch::worker {

namespace {

constexpr std::uint32_t kPromptAttempt = kAttemptMax + 1;  // no dispatch has it

}  // namespace

void ScoreDesk::add(ScoreJob job, std::shared_ptr<ScoreSink> sink) {
  const DispatchId id = job.id();
  jobs_.emplace(id, Entry{std::move(job), std::move(sink), {}});
}

void ScoreDesk::admit(GenerationBatch& batch, Instant now) {
  std::vector<std::pair<DispatchId, EngineFailure>> failed;
  for (auto& [id, entry] : jobs_) {
    for (;;) {
      const DispatchId as{{Uuid{0, prompts_made_ + 1}}, kPromptAttempt};
      auto request = entry.job.next(as);
      if (!request) break;
      std::vector<BatchEvent> none;
      const auto admitted = batch.admit(std::move(*request), now, none);
      if (!admitted.ok()) {
        if (admitted.error().outcome != Outcome::NO_PAGES || batch.running() == 0)
          failed.emplace_back(id, admitted.error());
        break;
      }
      ++prompts_made_;
      entry.prompts[as] = entry.job.begun();
      owners_[as] = id;
      entry.job.began();
    }
  }
  for (const auto& [id, why] : failed) end(id, why, batch);
}

bool ScoreDesk::take(const BatchEvent& event, GenerationBatch& batch) {
  if (event.id.attempt != kPromptAttempt) return false;
  const auto owner = owners_.find(event.id);
  if (owner == owners_.end()) return true;  // its job has ended in the same step
  const DispatchId id = owner->second;
  Entry& entry = jobs_.at(id);
  const std::size_t item = entry.prompts.at(event.id);
  entry.prompts.erase(event.id);
  owners_.erase(owner);
  if (const auto* scores = std::get_if<BatchLabelScores>(&event.what)) {
    entry.job.ended(item, scores->log_probabilities, scores->cached_prompt_tokens);
    if (!entry.job.complete()) return true;
    ended_.push_back({id, std::move(entry.sink), entry.job.result()});
    jobs_.erase(id);
    return true;
  }
  const auto* failure = std::get_if<EngineFailure>(&event.what);
  ORCH_CHECK(failure != nullptr);  // a sequence with labels has no other end
  end(id, *failure, batch);
  return true;
}

void ScoreDesk::drop_prompts(Entry& entry, GenerationBatch& batch) {
  for (const auto& [prompt, item] : entry.prompts) {
    owners_.erase(prompt);
    std::vector<BatchEvent> ignored;
    batch.cancel(prompt, ignored);
  }
}

bool ScoreDesk::end(const DispatchId& id, const EngineFailure& why, GenerationBatch& batch) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return false;
  drop_prompts(found->second, batch);
  ended_.push_back({id, std::move(found->second.sink), Err{why}});
  jobs_.erase(found);
  return true;
}

void ScoreDesk::expire(Instant now, GenerationBatch& batch) {
  std::vector<DispatchId> overdue;
  for (const auto& [id, entry] : jobs_) {
    if (entry.job.deadline() <= now) overdue.push_back(id);
  }
  for (const DispatchId& id : overdue) {
    end(id, {Outcome::DECODE_TIMEOUT, "the deadline passed before all items had their scores", "deadline_ms"}, batch);
  }
}

void ScoreDesk::deliver(const std::function<void(const DispatchId&)>& before) {
  for (const Ended& each : std::exchange(ended_, {})) {
    before(each.id);
    if (each.result.ok())
      each.sink->answered(each.result.value());
    else
      each.sink->failed(each.result.error());
  }
}

void ScoreDesk::end_all(const EngineFailure& why, GenerationBatch& batch) {
  while (!jobs_.empty()) {
    const DispatchId id = jobs_.begin()->first;
    end(id, why, batch);
  }
}

}  // namespace orch::worker
