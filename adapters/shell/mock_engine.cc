#include "adapters/shell/mock_engine.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <string_view>
#include <utility>

#include "adapters/core/unsupported.h"
#include "common/runtime/clock.h"

namespace orch::adapter {
namespace {

using worker::EngineFailure;
using worker::FinishReason;
using Fault = MockScript::Fault;

constexpr std::array<std::string_view, 32> kWords{
    "amber",  "basin",  "cedar",  "delta",  "ember",  "fjord",  "grove", "harbor", "inlet",  "jetty", "knoll",
    "lagoon", "meadow", "north",  "ochre",  "pebble", "quartz", "ridge", "silt",   "tundra", "umber", "valley",
    "willow", "xenon",  "yarrow", "zephyr", "brook",  "cliff",  "dune",  "fern",   "gale",   "heath"};
constexpr std::uint32_t kFirstId = 100;
// Bounds of estimate(): one token besides the text, and roles of at most 16 bytes.
constexpr std::uint32_t kTemplateFixedBytes = 4;
constexpr std::uint32_t kTemplatePerMessageBytes = 16;
constexpr std::uint32_t kShortest = 64;  // long enough for a self-check to cancel it

bool spares(const DispatchId& id) { return id.attempt == std::numeric_limits<std::uint32_t>::max(); }

std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char byte : text) {
    if (byte == ' ' && !word.empty()) {
      words.push_back(std::exchange(word, std::string()));
    }
    word.push_back(byte);
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

std::uint32_t estimate(const worker::EnginePrompt& prompt) {
  std::size_t bytes = prompt.text.size() + 4 * prompt.token_ids.size();
  for (const auto& [role, content] : prompt.messages) bytes += role.size() + content.size();
  return static_cast<std::uint32_t>(bytes / 4 + 1);
}

}  // namespace

MockEngine::MockEngine(Options options)
    : options_(std::move(options)),
      script_words_(split_words(options_.script.text)),
      ready_at_(runtime::now() + options_.script.load) {
  thread_ = std::thread([this] { run(); });
}

MockEngine::~MockEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

worker::EngineInfo MockEngine::info() const {
  worker::EngineInfo info;
  const bool loaded = runtime::now() >= ready_at_;
  info.engine = "mock";
  info.engine_version = "mock-1";
  info.sampler_profile_version = "mock-1";
  info.model_name = options_.model_name;
  info.model_digest = options_.script.model_digest.empty() ? "mock" : options_.script.model_digest;
  info.architecture = "mock";
  info.ctx_max = options_.script.ctx_max;
  info.slots = options_.slots;
  info.numeric_class = "none";
  info.accelerator = "external";
  info.device_name = "mock";
  info.template_available = true;
  info.template_fixed_bytes = kTemplateFixedBytes;
  info.template_per_message_bytes = kTemplatePerMessageBytes;
  info.token_bytes_expansion = 1.0F;  // estimate() never counts more than one token a byte
  info.ready = loaded && options_.script.load_failure.empty();
  info.load_progress = loaded ? 1.0F : 0.5F;
  if (loaded && !options_.script.load_failure.empty()) {
    info.load_failure =
        EngineFailure{.outcome = Outcome::INTERNAL, .message = options_.script.load_failure, .field = {}};
  }
  return info;
}

worker::EngineCounters MockEngine::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

template <typename Change>
void MockEngine::count(Change change) {
  if (options_.script.fault == Fault::counters_frozen) return;
  const std::lock_guard lock(mutex_);
  change(counters_);
}

void MockEngine::submit(worker::GenerationRequest request, std::shared_ptr<worker::GenerationSink> sink) {
  const Instant now = runtime::now();
  auto job =
      std::make_unique<Job>(Job{.request = {},
                                .sink = std::move(sink),
                                .random = Prng(request.seed + options_.seed + (std::uint64_t{request.choice} << 32)),
                                .submitted = now,
                                .next = now,
                                .text = {}});
  job->prompt_tokens = estimate(request.prompt);
  job->length = length_of(job->random);
  const DispatchId id = request.id;
  job->refusal = refuse_scores(request, "mock");
  if (!job->refusal) job->refusal = refuse_shaping(request, "mock");
  job->request = std::move(request);
  {
    const std::lock_guard lock(mutex_);
    if (options_.script.fault != Fault::counters_frozen) ++counters_.running;
    jobs_[id] = std::move(job);
  }
  changed_.notify_all();
}

void MockEngine::cancel(const DispatchId& id) {
  if (options_.script.fault == Fault::cancel_ignored) return;
  {
    const std::lock_guard lock(mutex_);
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) return;
    found->second->canceled = true;
    found->second->next = {};
  }
  changed_.notify_all();
}

Result<std::pair<std::uint32_t, bool>, worker::EngineFailure> MockEngine::count_tokens(
    const worker::EnginePrompt& prompt) {
  return std::pair<std::uint32_t, bool>{estimate(prompt), true};
}

void MockEngine::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Instant now = runtime::now();
    Instant next = now + Duration::seconds(1);
    std::vector<Job*> due;
    bool reads_a_prompt = false;
    for (auto& [id, job] : jobs_) {
      if (job->next <= now) due.push_back(job.get());
      reads_a_prompt = reads_a_prompt || now < job->speaks_at;
      next = std::min(next, job->next);
    }
    lock.unlock();
    if (reads_a_prompt) count([](auto& counters) { ++counters.waits_done; });  // OC-ADAPT-5085
    for (Job* job : due) step(*job, now);
    if (!due.empty() && burst_over_) burst_over_();
    lock.lock();
    std::erase_if(jobs_, [](const auto& entry) { return entry.second->sink == nullptr; });
    if (due.empty()) changed_.wait_for(lock, std::chrono::nanoseconds((next - now).ns));
  }
  lock.unlock();
  for (auto& [id, job] : jobs_) {
    if (job->sink) fail(*job, {.outcome = Outcome::WORKER_RESET, .message = "the mock engine stops", .field = {}});
  }
  if (!jobs_.empty() && burst_over_) burst_over_();
}

void MockEngine::step(Job& job, Instant now) {
  bool canceled = false;
  {
    const std::lock_guard lock(mutex_);
    canceled = job.canceled;
    job.next = now + std::max(options_.script.token_delay, Duration::microseconds(50));
  }
  if (job.refusal) return fail(job, *job.refusal);
  if (canceled) return fail(job, {.outcome = Outcome::CANCELED, .message = "canceled", .field = {}});
  if (job.request.deadline && now >= job.submitted + *job.request.deadline) {
    return fail(job, {.outcome = Outcome::DECODE_TIMEOUT, .message = "the job's deadline passed", .field = {}});
  }
  if (!std::exchange(job.started, true)) {
    job.sink->started(job.prompt_tokens, 0);
    count([&job](auto& counters) { counters.tokens_in_total += job.prompt_tokens; });
    if (options_.script.first_token_delay.ns > 0 && !spares(job.request.id)) {
      const std::lock_guard lock(mutex_);
      job.next = job.speaks_at = now + options_.script.first_token_delay;
      return;
    }
  }
  if (!fault_strikes(job)) give_token(job, now);
}

bool MockEngine::fault_strikes(Job& job) {
  if (options_.script.fault == Fault::no_decode) return true;
  if (spares(job.request.id) || job.given < options_.script.fault_after) return false;
  switch (options_.script.fault) {
    case Fault::fail:
      fail(job, {.outcome = Outcome::WORKER_RESET, .message = "scripted failure", .field = {}});
      return true;
    case Fault::malformed:
      fail(job, {.outcome = Outcome::WORKER_RESET, .message = "upstream malformed: scripted", .field = {}});
      return true;
    case Fault::die:
      ::_exit(1);
    case Fault::hang:
      return true;
    default:
      return false;
  }
}

std::uint32_t MockEngine::length_of(Prng& random) const {
  if (options_.script.clock) return options_.script.repeat;
  if (!script_words_.empty()) return static_cast<std::uint32_t>(script_words_.size()) * options_.script.repeat;
  return kShortest + static_cast<std::uint32_t>(random.below(64));
}

MockEngine::Word MockEngine::next_word(Job& job) const {
  if (options_.script.clock) return {kFirstId, " " + std::to_string(runtime::now().ns)};
  if (!script_words_.empty()) {
    const std::size_t at = job.given % script_words_.size();
    return {kFirstId + job.given, (job.given > 0 && at == 0 ? " " : "") + script_words_[at]};
  }
  const auto pick = static_cast<std::uint32_t>(job.random.below(kWords.size()));
  return {kFirstId + pick, (job.given == 0 ? "" : " ") + std::string(kWords[pick])};
}

void MockEngine::give_token(Job& job, Instant now) {
  if (job.given >= job.length) return finish(job, FinishReason::stop, now);
  Word word = next_word(job);
  const std::size_t before = job.text.size();
  job.text += word.text;
  std::size_t stop_at = std::string::npos;
  for (const std::string& stop : job.request.stop) stop_at = std::min(stop_at, job.text.find(stop));
  if (stop_at != std::string::npos) word.text = job.text.substr(before, std::max(stop_at, before) - before);
  count([](auto& counters) {
    ++counters.steps_done;
    ++counters.tokens_out_total;
  });
  job.sink->tokens({job.given++, {word.id}, std::move(word.text)});
  if (stop_at != std::string::npos) return finish(job, FinishReason::stop, now);
  if (job.given >= job.request.max_tokens) finish(job, FinishReason::length, now);
}

void MockEngine::finish(Job& job, FinishReason reason, Instant now) {
  worker::GenerationResult result;
  result.reason = reason;
  result.prompt_tokens = job.prompt_tokens;
  result.completion_tokens = job.given;
  result.estimated = true;
  result.decode = now - job.submitted;
  count([](auto& counters) { --counters.running; });
  std::exchange(job.sink, nullptr)->finished(result);
}

void MockEngine::fail(Job& job, worker::EngineFailure failure) {
  const bool canceled = failure.outcome == Outcome::CANCELED;
  count([&](auto& counters) {
    if (!canceled || options_.script.fault != Fault::slot_leaked) --counters.running;
    if (canceled) ++counters.canceled_total;
  });
  std::exchange(job.sink, nullptr)->failed(failure);
}

}  // namespace orch::adapter
