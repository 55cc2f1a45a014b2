// The preparing threads of NativeEngine: each makes of what is submitted to its lane what the engine thread can run,
// one after another and in order, and posts it there. What is cancelled or overdue before its turn has come to an end
// is posted as refused.
#include <algorithm>
#include <utility>

#include "worker/shell/native_engine.h"

namespace orch::worker {

namespace {

EngineFailure failure(Outcome outcome, std::string message, std::string field = {}) {
  return {outcome, std::move(message), std::move(field)};
}

}  // namespace

Instant NativeEngine::deadline_of(const std::optional<Duration>& left) const {
  return left ? options_.clock() + *left : Instant::never();
}

void NativeEngine::submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) {
  const DispatchId id = request.id;
  const Instant deadline = deadline_of(request.deadline);
  PreparationLane lane = lane_of(request.prompt);
  std::shared_ptr<TokenConstraint> kept;
  if (request.constraint) {
    kept = kept_constraint(*request.constraint);
    if (kept == nullptr) lane = PreparationLane::slow;
  }
  begin({id, deadline, std::move(sink),
         [this, deadline, kept = std::move(kept), request = std::move(request)]() mutable {
           return prepare(std::move(request), std::move(kept), deadline);
         }},
        lane);
}

// OC-ENGINE-1022.
void NativeEngine::embed(EmbedRequest request, std::shared_ptr<EmbedSink> sink) {
  const DispatchId id = request.id;
  const Instant deadline = deadline_of(request.deadline);
  const PreparationLane lane = lane_of(request.prompt);
  begin({id, deadline, std::move(sink),
         [this, deadline, request = std::move(request)] { return prepare(request, deadline); }},
        lane);
}

void NativeEngine::score(ScoreRequest request, std::shared_ptr<ScoreSink> sink) {
  const DispatchId id = request.id;
  const Instant deadline = deadline_of(request.deadline);
  const PreparationLane lane = lane_of(request);
  begin({id, deadline, std::move(sink),
         [this, deadline, request = std::move(request)]() mutable { return prepare(std::move(request), deadline); }},
        lane);
}

// OC-WORKER-1007.
void NativeEngine::begin(Preparation preparation, PreparationLane by_size) {
  Lane& lane = lanes_[static_cast<std::size_t>(by_size)];
  {
    const std::lock_guard lock(mutex_);
    if (open_.insert(preparation.id).second) {
      lane.waiting.push_back(std::make_shared<Preparation>(std::move(preparation)));
    } else {
      letters_.submissions.push_back({preparation.id, std::move(preparation.sink),
                                      failure(Outcome::DUPLICATE_ATTEMPT, "this job and attempt is running"), false});
    }
  }
  lane.wakes.notify_one();
  mail_.notify_one();  // a refusal to tell, or a deadline to keep
}

void NativeEngine::cancel(const DispatchId& id) {
  {
    const std::lock_guard lock(mutex_);
    bool is_prepared = true;
    for (Lane& lane : lanes_) {
      const auto found = std::find_if(lane.waiting.begin(), lane.waiting.end(),
                                      [&id](const auto& preparation) { return preparation->id == id; });
      if (found == lane.waiting.end()) continue;
      end_preparation(lane, found, failure(Outcome::CANCELED, "canceled before it ran"));
      is_prepared = false;
    }
    if (is_prepared) letters_.cancels.push_back(id);
  }
  mail_.notify_one();
}

// What its thread may still make of it is thrown away.
NativeEngine::Preparations::iterator NativeEngine::end_preparation(Lane& lane, Preparations::iterator preparation,
                                                                   EngineFailure why) {
  letters_.submissions.push_back({(*preparation)->id, std::move((*preparation)->sink), std::move(why)});
  return lane.waiting.erase(preparation);
}

Instant NativeEngine::expire_preparations(Instant now) {
  Instant next = Instant::never();
  for (Lane& lane : lanes_) {
    for (auto each = lane.waiting.begin(); each != lane.waiting.end();) {
      if ((*each)->deadline <= now) {
        each = end_preparation(
            lane, each, failure(Outcome::DECODE_TIMEOUT, "the deadline passed while it was prepared", "deadline_ms"));
        continue;
      }
      next = std::min(next, (*each)->deadline);
      ++each;
    }
  }
  return next;
}

void NativeEngine::run_preparations(Lane& lane) {
  if (options_.on_thread_start) options_.on_thread_start();
  std::unique_lock lock(mutex_);
  for (;;) {
    lane.wakes.wait(lock, [&] { return stopping_ || !lane.waiting.empty(); });
    if (stopping_) return;
    const std::shared_ptr<Preparation> turn = lane.waiting.front();
    lock.unlock();
    if (options_.on_preparation) options_.on_preparation(turn->id);
    Prepared what = turn->work();
    lock.lock();
    if (lane.waiting.empty() || lane.waiting.front() != turn) continue;  // it has been ended
    letters_.submissions.push_back({turn->id, std::move(turn->sink), std::move(what)});
    lane.waiting.pop_front();
    mail_.notify_one();
  }
}

NativeEngine::Prepared NativeEngine::prepare(GenerationRequest request, std::shared_ptr<TokenConstraint> kept,
                                             Instant deadline) {
  const auto ready = loaded();
  if (!ready.ok()) return ready.error();
  SequenceRequest sequence;
  sequence.id = request.id;
  sequence.deadline = deadline;
  sequence.resume_ids = std::move(request.resume_ids);
  SamplerParams& sampling = sequence.sampling;
  sampling.temperature = request.temperature;
  sampling.top_k = request.top_k;
  sampling.top_p = request.top_p;
  sampling.min_p = request.min_p;
  sampling.repetition_penalty = request.repetition_penalty;
  sampling.frequency_penalty = request.frequency_penalty;
  sampling.presence_penalty = request.presence_penalty;
  sampling.logit_bias = std::move(request.logit_bias);
  sampling.choice = request.choice;
  sequence.log_probs = request.log_probs;
  sequence.prompt_log_probs = request.prompt_log_probs;
  sequence.tenant = std::move(request.tenant);
  sequence.seed = request.seed;
  sequence.max_tokens = request.max_tokens;
  sequence.stop = std::move(request.stop);
  auto ids = ready->texts.prompt_ids(request.prompt, ready->context);
  if (!ids.ok()) return ids.error();
  sequence.prompt = std::move(ids.value());
  if (request.constraint) {
    if (kept == nullptr) {
      auto made = compiled(*request.constraint);
      if (!made.ok()) return made.error();
      kept = std::move(made.value());
    }
    sequence.mask = std::make_shared<ConstraintMask>(std::move(kept), request.max_tokens);
  }
  return sequence;
}

NativeEngine::Prepared NativeEngine::prepare(const EmbedRequest& request, Instant deadline) const {
  const auto ready = loaded();
  if (!ready.ok()) return ready.error();
  SequenceRequest sequence;
  sequence.id = request.id;
  sequence.deadline = deadline;
  sequence.tenant = request.tenant;
  sequence.max_tokens = 1;
  sequence.pooling = request.pooling ? request.pooling : ready->pooling;
  auto ids = ready->texts.prompt_ids(request.prompt, ready->context);
  if (!ids.ok()) return ids.error();
  if (!sequence.pooling) {
    return failure(Outcome::INVALID_PARAMS, "the model's own pooling is not built; name one", "pooling");
  }
  sequence.prompt = std::move(ids.value());
  return sequence;
}

// OC-ENGINE-1021.
NativeEngine::Prepared NativeEngine::prepare(ScoreRequest request, Instant deadline) const {
  const auto ready = loaded();
  if (!ready.ok()) return ready.error();
  const Tokenizer& tokenizer = *ready->texts.tokenizer;
  if (const auto checked = check_score(request, tokenizer.size()); !checked.ok()) return checked.error();
  const ScoreBounds bounds{ready->context,
                           [&tokenizer](std::uint64_t bytes) { return tokenizer.tokens_at_least(bytes); }};
  auto prompts =
      make_prompts(request, bounds, [&tokenizer](const std::string& text) { return tokenizer.encode(text, false); });
  if (!prompts.ok()) return prompts.error();
  return ScoreJob(std::move(request), std::move(prompts.value()), deadline);
}

std::shared_ptr<TokenConstraint> NativeEngine::kept_constraint(const grammar::Constraint& constraint) {
  const std::lock_guard lock(mutex_);
  return constraints_.find(constraint);
}

Result<std::shared_ptr<TokenConstraint>, EngineFailure> NativeEngine::compiled(const grammar::Constraint& constraint) {
  if (auto kept = kept_constraint(constraint)) return kept;  // by one before it in this lane
  auto made = TokenConstraint::create(constraint, vocabulary_, constraint_work_);
  if (!made.ok()) {
    const grammar::GrammarError& error = made.error();
    return Err{failure(Outcome::INVALID_PARAMS, (error.where.empty() ? "" : error.where + ": ") + error.message,
                       "constraint")};
  }
  const std::lock_guard lock(mutex_);
  if (auto kept = constraints_.keep(constraint, std::move(made).value())) return kept;
  // OC-GRAMMAR-1035.
  return Err{failure(Outcome::NO_PAGES, "the constraints in use leave no room for one more", "constraint")};
}

}  // namespace orch::worker
