#include "worker/shell/native_engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace orch::worker {

namespace {

EngineFailure failure(Outcome outcome, std::string message, std::string field = {}) {
  return {outcome, std::move(message), std::move(field)};
}

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

std::optional<NativeEngine::Texts> NativeEngine::texts() const {
  const std::lock_guard lock(mutex_);
  if (!info_.ready) return std::nullopt;
  return texts_;
}

Result<std::vector<TokenId>, EngineFailure> NativeEngine::prompt_ids(const Texts& texts, const EnginePrompt& prompt) {
  const int kinds =
      (prompt.messages.empty() ? 0 : 1) + (prompt.text.empty() ? 0 : 1) + (prompt.token_ids.empty() ? 0 : 1);
  if (kinds != 1) {
    return Err{failure(Outcome::INVALID_PARAMS,
                       "exactly one of messages, text and token_ids is needed; " + std::to_string(kinds) + " are given",
                       "prompt")};
  }
  if (!prompt.token_ids.empty()) return prompt.token_ids;
  if (!prompt.text.empty()) return texts.tokenizer->encode(prompt.text, false);
  if (texts.chat_template == nullptr) {
    return Err{failure(Outcome::INVALID_PARAMS, "this model has no chat template; send text", "messages")};
  }
  const auto rendered = texts.chat_template->render(prompt.messages);
  if (!rendered.ok()) return Err{failure(Outcome::INVALID_PARAMS, rendered.error(), "messages")};
  return texts.tokenizer->encode(rendered.value());
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
  if (const auto ready = texts()) {
    auto ids = prompt_ids(*ready, request.prompt);
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
    submission.refusal = failure(Outcome::POOL_UNREADY, "the model is not loaded");
  }
  {
    const std::lock_guard lock(mutex_);
    letters_.submissions.push_back(std::move(submission));
  }
  mail_.notify_one();
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
  const auto ready = texts();
  if (!ready) return Err{failure(Outcome::POOL_UNREADY, "the model is not loaded")};
  const auto ids = prompt_ids(*ready, prompt);
  if (!ids.ok()) return Err{ids.error()};
  return std::pair{static_cast<std::uint32_t>(ids.value().size()), false};
}

Result<TokenizedText, EngineFailure> NativeEngine::tokenize(const EnginePrompt& prompt) {
  const auto ready = texts();
  if (!ready) return Err{failure(Outcome::POOL_UNREADY, "the model is not loaded")};
  auto ids = prompt_ids(*ready, prompt);
  if (!ids.ok()) return Err{ids.error()};
  TokenizedText out;
  for (const TokenId id : ids.value()) {
    if (id >= ready->tokenizer->size()) {
      return Err{
          failure(Outcome::INVALID_PARAMS,
                  "token id " + std::to_string(id) + "; the vocabulary has " + std::to_string(ready->tokenizer->size()),
                  "prompt.token_ids")};
    }
    const std::string& visible = ready->tokenizer->bytes_of(id);
    out.pieces.push_back(visible.empty() ? ready->tokenizer->text_of(id) : visible);
  }
  out.ids = std::move(ids.value());
  return out;
}

Result<std::string, EngineFailure> NativeEngine::apply_template(const EnginePrompt& prompt) {
  const auto ready = texts();
  if (!ready) return Err{failure(Outcome::POOL_UNREADY, "the model is not loaded")};
  if (prompt.messages.empty()) return Err{failure(Outcome::INVALID_PARAMS, "messages must not be empty", "messages")};
  if (ready->chat_template == nullptr) {
    return Err{failure(Outcome::INVALID_PARAMS, "this model has no chat template; send text", "messages")};
  }
  const auto segments = ready->chat_template->render(prompt.messages);
  if (!segments.ok()) return Err{failure(Outcome::INVALID_PARAMS, segments.error(), "messages")};
  std::string out;
  for (const TextSegment& segment : segments.value()) out += segment.text;
  return out;
}

// One prompt per item. Query and item are one text before they become tokens, as the client would have written it.
Result<ScoreJob, EngineFailure> NativeEngine::make_score_job(ScoreRequest request) const {
  const auto ready = texts();
  if (!ready) return Err{failure(Outcome::POOL_UNREADY, "the model is not loaded")};
  if (const auto checked = check_score(request); !checked.ok()) return Err{checked.error()};
  std::vector<std::vector<TokenId>> prompts;
  for (const std::string& item : request.item_texts) {
    prompts.push_back(
        ready->tokenizer->encode(request.item_first ? item + request.query_text : request.query_text + item, false));
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

// ---- engine thread

void NativeEngine::run() {
  if (options_.on_thread_start) options_.on_thread_start();
  if (load()) serve();
  refuse_rest();
}

bool NativeEngine::load() {
  const auto progress = [this](float done) {
    const std::lock_guard lock(mutex_);
    info_.load_progress = std::clamp(done, 0.0F, 0.99F);
  };
  auto loaded = loader_(progress);
  loader_ = nullptr;
  if (!loaded.ok()) {
    fail(loaded.error());
    return false;
  }
  NativeModel model = std::move(loaded.value());
  if (const auto wrong = self_test(model)) {
    fail(*wrong);
    return false;
  }
  model_ = std::move(model);
  BatchLimits limits;
  limits.slots = model_.info.slots;
  limits.context = model_.info.ctx_max;
  limits.rows_max = std::max(std::min(options_.step_rows_max, model_.backend->rows_max()), limits.slots);
  limits.pages_total = model_.backend->info().pages_total;
  limits.vocabulary = model_.vocabulary;
  limits.scope.model_digest = model_.info.model_digest;
  limits.scope.numeric_class = model_.info.numeric_class;
  limits.share_prefixes = options_.share_prefixes;
  batch_ = std::make_unique<GenerationBatch>(limits, *model_.tokenizer);
  tally_.kv_pages_total = limits.pages_total;
  tally_.memory_used_bytes = model_.info.memory_bytes;
  publish_counters();
  {
    const std::lock_guard lock(constraints_mutex_);
    constraints_ = std::make_unique<ConstraintStore>(std::make_shared<const VocabularyTrie>(*model_.tokenizer));
  }
  const std::lock_guard lock(mutex_);
  texts_ = {model_.tokenizer, model_.chat_template};
  info_ = model_.info;
  info_.load_progress = 1;
  info_.ready = true;
  return true;
}

// One token through the whole model, before anybody is told that it is ready.
std::optional<EngineFailure> NativeEngine::self_test(NativeModel& model) {
  const std::uint32_t rows_max = model.backend->rows_max();
  if (model.vocabulary < model.tokenizer->size() || rows_max < model.info.slots) {
    return failure(Outcome::INTERNAL, "the model has " + std::to_string(model.vocabulary) + " logits for " +
                                          std::to_string(model.tokenizer->size()) + " tokens, " +
                                          std::to_string(rows_max) + " rows a step for " +
                                          std::to_string(model.info.slots) + " slots");
  }
  const Row row{model.tokenizer->bos().value_or(0), 0, 0, true};
  const std::vector<std::vector<PageId>> tables = {{0}};
  std::vector<float> logits(model.vocabulary);
  const auto stepped = model.backend->step({std::span(&row, 1), tables}, logits);
  if (!stepped.ok()) return failure(stepped.error().outcome, "self-test: " + stepped.error().message);
  const bool finite = std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); });
  if (!finite) return failure(Outcome::NUMERIC_FAULT, "self-test: a logit of the first token is not finite");
  return std::nullopt;
}

void NativeEngine::serve() {
  Mail mail;
  while (!lost_ && take_mail(mail)) {
    for (Submission& submission : mail.submissions) admit(std::move(submission));
    for (ScoreSubmission& submission : mail.scores) admit(std::move(submission));
    for (const DispatchId& id : mail.cancels) {
      const bool scoring = scores_.end(id, failure(Outcome::CANCELED, "canceled while it ran"), *batch_);
      if (scoring || batch_->cancel(id, events_)) ++tally_.canceled_total;
    }
    mail = {};
    batch_->expire(options_.clock(), events_);
    scores_.admit(*batch_, options_.clock());
    conclude();
    if (batch_->plan()) run_step();
  }
}

// Waits for mail when nothing runs. False: stopping.
bool NativeEngine::take_mail(Mail& mail) {
  std::unique_lock lock(mutex_);
  mail_.wait(lock, [this] { return stopping_ || !letters_.empty() || batch_->running() > 0 || scores_.jobs() > 0; });
  if (stopping_) return false;  // refused by refuse_rest()
  std::swap(mail, letters_);
  return true;
}

void NativeEngine::admit(Submission submission) {
  const DispatchId id = submission.request.id;
  if (!submission.refusal && (sinks_.contains(id) || scores_.knows(id))) {
    submission.refusal = failure(Outcome::DUPLICATE_ATTEMPT, "this job and attempt is running");
  }
  if (submission.refusal) return submission.sink->failed(*submission.refusal);
  const auto prompt_tokens = static_cast<std::uint32_t>(submission.request.prompt.size());
  std::vector<BatchEvent> ended;
  const auto admitted = batch_->admit(std::move(submission.request), options_.clock(), ended);
  if (!admitted.ok()) return submission.sink->failed(admitted.error());
  tally_.tokens_in_total += prompt_tokens;
  submission.sink->started(prompt_tokens, admitted.value());
  sinks_.emplace(id, std::move(submission.sink));
  std::move(ended.begin(), ended.end(), std::back_inserter(events_));
}

void NativeEngine::admit(ScoreSubmission submission) {
  if (submission.job && (sinks_.contains(submission.id) || scores_.knows(submission.id))) {
    submission.job.reset();
    submission.refusal = failure(Outcome::DUPLICATE_ATTEMPT, "this job and attempt is running");
  }
  if (!submission.job) return submission.sink->failed(submission.refusal);
  scores_.add(std::move(*submission.job), std::move(submission.sink));
}

void NativeEngine::run_step() {
  logits_.resize(std::size_t{batch_->logit_rows()} * model_.vocabulary);
  const Instant begun = options_.clock();
  const auto stepped = model_.backend->step(batch_->input(), logits_);
  const Instant ended = options_.clock();
  if (!stepped.ok()) {
    lost_ = true;
    const EngineFailure why = failure(stepped.error().outcome, stepped.error().message);
    batch_->fail_all(why, events_);
    scores_.end_all(why, *batch_);
    conclude();
    return fail(why);
  }
  batch_->complete(logits_, ended, events_);
  ++tally_.steps_done;
  tally_.step_longest_ms = std::max(tally_.step_longest_ms, static_cast<std::uint64_t>((ended - begun).ms_ceil()));
  conclude();
}

// Counters first: who is told that a job ended sees its slot free.
void NativeEngine::conclude() {
  std::erase_if(events_, [this](const BatchEvent& event) { return scores_.take(event, *batch_); });
  publish_counters();
  deliver();
}

void NativeEngine::deliver() {
  scores_.deliver();
  for (BatchEvent& event : events_) {
    const auto at = sinks_.find(event.id);
    ORCH_CHECK(at != sinks_.end());
    if (auto* tokens = std::get_if<BatchTokens>(&event.what)) {
      at->second->tokens(std::move(*tokens));
      continue;
    }
    if (auto* scores = std::get_if<BatchPromptScores>(&event.what)) {
      at->second->prompt_scored(std::move(scores->log_probs));
      continue;
    }
    const std::shared_ptr<GenerationSink> sink = std::move(at->second);
    sinks_.erase(at);
    if (const auto* result = std::get_if<GenerationResult>(&event.what))
      sink->finished(*result);
    else
      sink->failed(std::get<EngineFailure>(event.what));
  }
  events_.clear();
}

void NativeEngine::publish_counters() {
  if (batch_ != nullptr) {
    tally_.tokens_out_total = batch_->counts().tokens_drawn;
    tally_.cached_prompt_tokens_total = batch_->counts().cached_prompt_tokens;
    tally_.preemptions_total = batch_->counts().preemptions;
    tally_.kv_pages_used = batch_->pages_used();
    tally_.running = batch_->slots_used() + scores_.jobs();
  }
  const std::lock_guard lock(mutex_);
  counters_ = tally_;
}

void NativeEngine::fail(EngineFailure why) {
  {
    const std::lock_guard lock(mutex_);
    info_.ready = false;
    info_.load_failure = why;
  }
  if (options_.on_failure) options_.on_failure(why);
}

// After a failed load or a lost backend: answers every submission until the engine is destroyed, then ends what is
// left.
void NativeEngine::refuse_rest() {
  for (bool last = false; !last;) {
    Mail mail;
    {
      std::unique_lock lock(mutex_);
      mail_.wait(lock, [this] { return stopping_ || !letters_.empty(); });
      std::swap(mail, letters_);
      last = stopping_;
    }
    if (last && batch_ != nullptr) {
      const EngineFailure stopping = failure(Outcome::CANCELED, "the worker is stopping");
      scores_.end_all(stopping, *batch_);
      batch_->fail_all(stopping, events_);
      conclude();
    }
    const EngineFailure why = last ? failure(Outcome::CANCELED, "the worker is stopping")
                                   : failure(Outcome::POOL_UNREADY, "the model is not loaded");
    for (const Submission& submission : mail.submissions) submission.sink->failed(why);
    for (const ScoreSubmission& submission : mail.scores) submission.sink->failed(why);
  }
}

}  // namespace orch::worker
