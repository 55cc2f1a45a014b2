// The engine thread of NativeEngine: loads, then takes mail and runs steps.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "worker/shell/native_engine.h"
#include "worker/shell/speed_probe.h"

namespace orch::worker {

namespace {

constexpr std::uint32_t kDraftTokensMax = 8;  // of a sequence in one step
// How long nothing may run before the deadlines of what is being prepared are looked at.
constexpr Duration kDeadlineLook = Duration::milliseconds(100);

EngineFailure failure(Outcome outcome, std::string message, std::string field = {}) {
  return {outcome, std::move(message), std::move(field)};
}

}  // namespace

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
  limits.embedding = model_.embedding;
  limits.scope.model_digest = model_.info.model_digest;
  limits.scope.numeric_class = model_.info.numeric_class;
  limits.share_prefixes = options_.share_prefixes;
  limits.draft_tokens_max = options_.speculation ? kDraftTokensMax : 0;
  batch_ = std::make_unique<GenerationBatch>(limits, *model_.tokenizer);
  tally_.kv_pages_total = limits.pages_total;
  tally_.memory_used_bytes = model_.info.memory_bytes;
  const EngineSpeed speed{model_.info.prefill_tokens_per_second, model_.info.decode_tokens_per_second};
  tally_.step_longest_ms = static_cast<std::uint64_t>(predicted_step(speed, limits.rows_max).ms());
  publish_counters();
  vocabulary_ = std::make_shared<const VocabularyTrie>(*model_.tokenizer);
  constraint_work_ = std::make_shared<WorkBudget>(grammar::kWorkBytesMax, kWorkShareMax);
  const std::lock_guard lock(mutex_);
  loaded_ = {{model_.tokenizer, model_.chat_template}, model_.pooling, limits.context};
  info_ = model_.info;
  info_.kv_page_tokens = kPageTokens;
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
  const Row row{model.tokenizer->bos().value_or(0), 0, 0, true, false};
  const std::vector<std::vector<PageId>> tables = {{0}};
  std::vector<float> logits(model.vocabulary);
  const auto stepped = model.backend->step({std::span(&row, 1), tables}, {logits});
  if (!stepped.ok()) {
    EngineFailure why = failure_of(stepped.error());
    why.message = "self-test: " + why.message;
    return why;
  }
  const bool finite = std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); });
  if (!finite) return failure(Outcome::NUMERIC_FAULT, "self-test: a logit of the first token is not finite");
  return std::nullopt;
}

void NativeEngine::serve() {
  Mail mail;
  while (!lost_ && take_mail(mail)) {
    for (Submission& submission : mail.submissions) admit(std::move(submission));
    for (const DispatchId& id : mail.cancels) {
      const bool scoring = scores_.end(id, failure(Outcome::CANCELED, "canceled while it ran"), *batch_);
      if (scoring || batch_->cancel(id, events_)) ++tally_.canceled_total;
    }
    mail = {};
    scores_.expire(options_.clock(), *batch_);
    batch_->expire(options_.clock(), events_);
    scores_.admit(*batch_, options_.clock());
    conclude();
    if (!batch_->plan()) continue;
    tell_starts();
    run_step();
  }
}

// Waits for mail when nothing runs. False: stopping.
bool NativeEngine::take_mail(Mail& mail) {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Instant now = options_.clock();
    const Instant next = expire_preparations(now);
    if (stopping_) return false;  // refused by refuse_rest()
    if (!letters_.empty() || batch_->running() > 0 || scores_.jobs() > 0) break;
    if (next.is_never())
      mail_.wait(lock);
    else
      mail_.wait_for(lock, std::chrono::nanoseconds(std::min(next - now, kDeadlineLook).ns));
  }
  std::swap(mail, letters_);
  return true;
}

// Before its sink is told of its end: whoever is told may use the name again.
void NativeEngine::forget(const DispatchId& id) {
  const std::lock_guard lock(mutex_);
  open_.erase(id);
}

void NativeEngine::refuse(const Submission& submission, const EngineFailure& why) {
  if (submission.named) forget(submission.id);
  std::visit([&why](const auto& sink) { sink->failed(why); }, submission.sink);
}

void NativeEngine::admit(Submission submission) {
  if (auto* request = std::get_if<SequenceRequest>(&submission.what)) {
    return admit(submission.id, std::move(*request), std::move(submission.sink));
  }
  if (auto* job = std::get_if<ScoreJob>(&submission.what)) {
    return scores_.add(std::move(*job), std::move(std::get<std::shared_ptr<ScoreSink>>(submission.sink)));
  }
  const auto& why = std::get<EngineFailure>(submission.what);
  if (why.outcome == Outcome::CANCELED) {
    ++tally_.canceled_total;
    publish_counters();
  }
  refuse(submission, why);
}

void NativeEngine::admit(const DispatchId& id, SequenceRequest request, Sink sink) {
  const auto prompt_tokens = static_cast<std::uint32_t>(request.prompt.size());
  std::vector<BatchEvent> ended;
  const auto admitted = batch_->admit(std::move(request), options_.clock(), ended);
  if (!admitted.ok()) return refuse({id, std::move(sink), {}}, admitted.error());
  tally_.tokens_in_total += prompt_tokens;
  if (auto* tells = std::get_if<std::shared_ptr<GenerationSink>>(&sink)) {
    if (!ended.empty()) (*tells)->started(prompt_tokens, admitted.value());  // it is in no step
    sinks_.emplace(id, std::move(*tells));
  } else {
    embed_sinks_.emplace(id, std::move(std::get<std::shared_ptr<EmbedSink>>(sink)));
  }
  std::move(ended.begin(), ended.end(), std::back_inserter(events_));
}

// OC-ENGINE-1026: before the step, which may take long.
void NativeEngine::tell_starts() {
  bool told = false;
  for (const BatchStart& start : batch_->starts()) {
    const auto at = sinks_.find(start.id);
    if (at == sinks_.end()) continue;
    at->second->started(start.prompt_tokens, start.cached_prompt_tokens);
    told = true;
  }
  if (told && burst_over_) burst_over_();
}

void NativeEngine::run_step() {
  logits_.resize(std::size_t{batch_->logit_rows()} * model_.vocabulary);
  hidden_.resize(std::size_t{batch_->hidden_rows()} * model_.embedding);
  const Instant begun = options_.clock();
  const auto stepped = batch_->run_on(*model_.backend, {logits_, hidden_});
  const Instant ended = options_.clock();
  if (!stepped.ok()) {
    lost_ = true;
    const EngineFailure why = failure_of(stepped.error());
    batch_->fail_all(why, events_);
    scores_.end_all(why, *batch_);
    conclude();
    return fail(why);
  }
  batch_->complete(logits_, hidden_, ended, events_);
  ++tally_.steps_done;
  tally_.kv_saturated_total = model_.backend->kv_saturated_total();
  tally_.step_longest_ms = std::max(tally_.step_longest_ms, static_cast<std::uint64_t>((ended - begun).ms_ceil()));
  conclude();
}

// Counters first: who is told that a job ended sees its slot free.
void NativeEngine::conclude() {
  std::erase_if(events_, [this](const BatchEvent& event) { return scores_.take(event, *batch_); });
  publish_counters();
  deliver();
  if (burst_over_) burst_over_();
}

// False: not of an embedding.
bool NativeEngine::deliver_embedding(BatchEvent& event) {
  const auto at = embed_sinks_.find(event.id);
  if (at == embed_sinks_.end()) return false;
  const std::shared_ptr<EmbedSink> sink = std::move(at->second);
  embed_sinks_.erase(at);
  forget(event.id);
  if (const auto* result = std::get_if<EmbedResult>(&event.what))
    sink->answered(*result);
  else
    sink->failed(std::get<EngineFailure>(event.what));
  return true;
}

void NativeEngine::deliver() {
  scores_.deliver([this](const DispatchId& id) { forget(id); });
  for (BatchEvent& event : events_) {
    if (deliver_embedding(event)) continue;
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
    forget(event.id);
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
    tally_.running = batch_->slots_used() + scores_.jobs() + batch_->embeddings();
  }
  const std::lock_guard lock(mutex_);
  counters_ = tally_;
}

// OC-DEVICE-1004: a job whose device went away can be run again; one that broke the step would break the next one too.
EngineFailure NativeEngine::failure_of(const BackendFault& fault) const {
  if (options_.on_fault) options_.on_fault(fault);
  const bool gone = fault.kind != BackendFaultKind::broken;
  EngineFailure why = failure(gone ? Outcome::WORKER_RESET : Outcome::INTERNAL, fault.message);
  why.worker_ends = gone;
  return why;
}

void NativeEngine::fail(EngineFailure why) {
  {
    const std::lock_guard lock(mutex_);
    info_.ready = false;
    info_.load_failure = why;
    // OC-DEVICE-1004: a job that comes from now on has seen no step, and goes on where there is a worker.
    if (lost_) refusal_ = {.outcome = Outcome::WORKER_RESET, .message = why.message, .worker_ends = true};
  }
  if (options_.on_failure) options_.on_failure(why);
}

// After a failed load or a lost backend: answers every submission until the engine is destroyed, then ends what is
// left.
void NativeEngine::refuse_rest() {
  const EngineFailure stopping = failure(Outcome::CANCELED, "the worker is stopping");
  for (bool last = false; !last;) {
    Mail mail;
    EngineFailure refusal = stopping;
    {
      std::unique_lock lock(mutex_);
      mail_.wait(lock, [this] { return stopping_ || !letters_.empty(); });
      last = stopping_;
      if (!last) refusal = refusal_;
      for (Lane& lane : lanes_) {
        while (last && !lane.waiting.empty()) end_preparation(lane, lane.waiting.begin(), stopping);
      }
      std::swap(mail, letters_);
    }
    if (last && batch_ != nullptr) {
      scores_.end_all(stopping, *batch_);
      batch_->fail_all(stopping, events_);
      conclude();
    }
    for (const Submission& submission : mail.submissions) {
      const auto* own = std::get_if<EngineFailure>(&submission.what);
      refuse(submission, own != nullptr ? *own : refusal);
    }
    if (burst_over_) burst_over_();
  }
}

}  // namespace orch::worker
