#include "worker/shell/native_engine.h"

#include <utility>

namespace orch::worker {

namespace {

EngineFailure failure(Outcome outcome, std::string message, std::string field = {}) {
  return {outcome, std::move(message), std::move(field)};
}

EngineFailure unloaded() { return failure(Outcome::POOL_UNREADY, "the model is not loaded"); }

}  // namespace

NativeEngine::NativeEngine(Options options, Loader loader)
    : options_(std::move(options)), loader_(std::move(loader)), info_(options_.initial) {
  ORCH_CHECK(options_.clock != nullptr);
  thread_ = std::thread([this] { run(); });
}

NativeEngine::~NativeEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  mail_.notify_all();
  thread_.join();
}

EngineInfo NativeEngine::info() const {
  const std::lock_guard lock(mutex_);
  return info_;
}

EngineCounters NativeEngine::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::optional<NativeEngine::Loaded> NativeEngine::loaded() const {
  const std::lock_guard lock(mutex_);
  if (!info_.ready) return std::nullopt;
  return loaded_;
}

void NativeEngine::submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) {
  Submission submission;
  submission.sink = std::move(sink);
  SequenceRequest& sequence = submission.request;
  sequence.id = request.id;
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
  if (request.deadline) sequence.deadline = options_.clock() + *request.deadline;
  if (const auto ready = loaded()) {
    auto ids = ready->texts.prompt_ids(request.prompt);
    if (ids.ok())
      sequence.prompt = std::move(ids.value());
    else
      submission.refusal = ids.error();
    if (!submission.refusal && request.constraint) {
      auto mask = mask_of(*request.constraint, request.max_tokens);
      if (mask.ok())
        sequence.mask = std::move(mask.value());
      else
        submission.refusal = mask.error();
    }
  } else {
    submission.refusal = unloaded();
  }
  post(std::move(submission));
}

void NativeEngine::post(Submission submission) {
  {
    const std::lock_guard lock(mutex_);
    letters_.submissions.push_back(std::move(submission));
  }
  mail_.notify_one();
}

// OC-ENGINE-1022.
void NativeEngine::embed(EmbedRequest request, std::shared_ptr<EmbedSink> sink) {
  Submission submission;
  submission.embed_sink = std::move(sink);
  SequenceRequest& sequence = submission.request;
  sequence.id = request.id;
  sequence.tenant = std::move(request.tenant);
  sequence.max_tokens = 1;
  if (request.deadline) sequence.deadline = options_.clock() + *request.deadline;
  if (const auto ready = loaded()) {
    sequence.pooling = request.pooling ? request.pooling : ready->pooling;
    auto ids = ready->texts.prompt_ids(request.prompt);
    if (!ids.ok())
      submission.refusal = ids.error();
    else if (!sequence.pooling)
      submission.refusal =
          failure(Outcome::INVALID_PARAMS, "the model's own pooling is not built; name one", "pooling");
    else
      sequence.prompt = std::move(ids.value());
  } else {
    submission.refusal = unloaded();
  }
  post(std::move(submission));
}

Result<std::shared_ptr<const TokenMask>, EngineFailure> NativeEngine::mask_of(const grammar::Constraint& constraint,
                                                                              std::uint32_t tokens_max) {
  const std::lock_guard lock(constraints_mutex_);
  const auto compiled = constraints_->find(constraint);
  if (!compiled.ok()) {
    const grammar::GrammarError& error = compiled.error();
    return Err{failure(Outcome::INVALID_PARAMS, (error.where.empty() ? "" : error.where + ": ") + error.message,
                       "constraint")};
  }
  return std::shared_ptr<const TokenMask>(std::make_shared<ConstraintMask>(compiled.value(), tokens_max));
}

void NativeEngine::cancel(const DispatchId& id) {
  {
    const std::lock_guard lock(mutex_);
    letters_.cancels.push_back(id);
  }
  mail_.notify_one();
}

Result<std::pair<std::uint32_t, bool>, EngineFailure> NativeEngine::count_tokens(const EnginePrompt& prompt) {
  const auto ready = loaded();
  if (!ready) return Err{unloaded()};
  const auto ids = ready->texts.prompt_ids(prompt);
  if (!ids.ok()) return Err{ids.error()};
  return std::pair{static_cast<std::uint32_t>(ids.value().size()), false};
}

Result<TokenizedText, EngineFailure> NativeEngine::tokenize(const EnginePrompt& prompt) {
  const auto ready = loaded();
  if (!ready) return Err{unloaded()};
  return ready->texts.tokenize(prompt);
}

Result<std::string, EngineFailure> NativeEngine::apply_template(const EnginePrompt& prompt) {
  const auto ready = loaded();
  if (!ready) return Err{unloaded()};
  return ready->texts.apply_template(prompt);
}

// One prompt per item. Query and item are one text before they become tokens, as the client would have written it.
Result<ScoreJob, EngineFailure> NativeEngine::make_score_job(ScoreRequest request) const {
  const auto ready = loaded();
  if (!ready) return Err{unloaded()};
  const Tokenizer& tokenizer = *ready->texts.tokenizer;
  if (const auto checked = check_score(request); !checked.ok()) return Err{checked.error()};
  std::vector<std::vector<TokenId>> prompts;
  for (const std::string& item : request.item_texts) {
    prompts.push_back(
        tokenizer.encode(request.item_first ? item + request.query_text : request.query_text + item, false));
  }
  for (const std::vector<TokenId>& item : request.item_ids) {
    prompts.push_back(request.item_first ? item : request.query_ids);
    const std::vector<TokenId>& rest = request.item_first ? request.query_ids : item;
    prompts.back().insert(prompts.back().end(), rest.begin(), rest.end());
  }
  const Instant deadline = request.deadline ? options_.clock() + *request.deadline : Instant::never();
  return ScoreJob(std::move(request), std::move(prompts), deadline);
}

void NativeEngine::score(ScoreRequest request, std::shared_ptr<ScoreSink> sink) {
  ScoreSubmission submission;
  submission.id = request.id;
  submission.sink = std::move(sink);
  auto job = make_score_job(std::move(request));
  if (job.ok())
    submission.job = std::move(job.value());
  else
    submission.refusal = job.error();
  {
    const std::lock_guard lock(mutex_);
    letters_.scores.push_back(std::move(submission));
  }
  mail_.notify_one();
}

}  // namespace orch::worker
