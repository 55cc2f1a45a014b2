// The seam between the Worker service (leases, fences, gRPC) and whatever generates: the native engine in workerd, an
// HTTP bridge in adapterd, a script in tests. One implementation per process.
//
// Threads: every method may be called from any thread and returns without waiting for decoding. Sink calls come from
// the engine's own thread, in order per job, and end with exactly one of finished() and failed(); none comes after
// that. A sink may call cancel() and counters() from within its own calls, so an engine holds none of its locks while
// it calls one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "common/base/token_scores.h"
#include "common/grammar/constraint.h"
#include "gen/outcome.h"
#include "worker/core/pooling.h"

namespace orch::worker {

struct EngineFailure {
  Outcome outcome = Outcome::INTERNAL;
  std::string message{};  // names the field and the limit when there is one
  std::string field{};
  // The worker's device is lost and its process ends over it (OC-DEVICE-1004): to the holder that is a death of the
  // worker (OC-MIGR-M6), and no other job is to be sent there.
  bool worker_ends = false;
};

// Constant once ready. Field meanings: WorkerInfo in proto/orch/v1/worker.proto.
struct EngineInfo {
  bool ready = false;
  float load_progress = 0;
  std::optional<EngineFailure> load_failure;
  std::string engine;
  std::string engine_version;
  std::string sampler_profile_version;
  std::string model_name;
  std::string model_digest;
  std::string quant;
  std::string architecture;
  std::uint32_t ctx_max = 0;
  std::uint32_t ctx_wanted = 0;  // above ctx_max: memory was short; 0: not known
  std::uint32_t slots = 0;
  std::string numeric_class;
  std::string accelerator;
  std::string device_name;
  std::string skipped_devices;  // passed over for device_name, with the reasons; empty: none
  std::string kernels;          // what the native engine computes with, as cpu-avx2; empty: not known
  bool template_available = false;
  std::uint32_t template_fixed_bytes = 0;
  std::uint32_t template_per_message_bytes = 0;
  float token_bytes_expansion = 0;
  std::string cancel = "confirmed";
  std::uint64_t model_bytes = 0;
  std::uint64_t memory_bytes = 0;
  bool token_ids = true;
  bool interruptible_decode = false;
  bool prefix_cache = false;
  std::uint32_t kv_page_tokens = 0;
  double prefill_tokens_per_second = 0;  // of one job alone; 0: not measured
  double decode_tokens_per_second = 0;
  std::string waits_for = {};  // while it loads: what it waits for outside of itself, in words
};

// Monotone counters and gauges of the running engine.
struct EngineCounters {
  std::uint64_t steps_done = 0;
  std::uint64_t waits_done = 0;       // looks at an engine elsewhere that is waited for within its time budgets
  std::uint64_t step_longest_ms = 0;  // as long as none was longer, what was predicted for the largest one
  std::uint64_t tokens_out_total = 0;
  std::uint64_t tokens_in_total = 0;
  std::uint64_t cached_prompt_tokens_total = 0;  // prompt tokens that were not computed: shared pages held them
  std::uint64_t preemptions_total = 0;           // jobs whose pages were taken away for a while
  std::uint64_t canceled_total = 0;
  std::uint64_t kv_saturated_total = 0;  // keys and values that were beyond binary16 (OC-NUM-1305)
  std::uint64_t kv_pages_used = 0;
  std::uint64_t kv_pages_total = 0;
  std::uint64_t memory_used_bytes = 0;
  std::uint32_t running = 0;
};

struct EnginePrompt {
  std::vector<std::pair<std::string, std::string>> messages;  // (role, content); exactly one of the three is used
  std::string text;
  std::vector<std::uint32_t> token_ids;
};

struct GenerationRequest {
  DispatchId id;
  EnginePrompt prompt;
  float temperature = 1.0F;
  std::uint32_t top_k = 0;
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;  // 1: off
  float frequency_penalty = 0.0F;
  float presence_penalty = 0.0F;
  std::vector<LogitBias> logit_bias;
  std::uint64_t seed = 0;
  std::uint32_t choice = 0;                       // which of several answers to one prompt
  std::optional<std::uint32_t> log_probs;         // of each token; so many of the likeliest beside it
  std::optional<std::uint32_t> prompt_log_probs;  // likewise of each prompt token but the first
  std::optional<grammar::Constraint> constraint;  // what the text must be
  std::uint32_t max_tokens = 0;
  std::vector<std::string> stop;
  std::optional<Duration> deadline;  // from submission
  std::vector<std::uint32_t> resume_ids;
  std::string tenant;
};

enum class FinishReason : std::uint8_t { stop, length };

struct GenerationResult {
  FinishReason reason = FinishReason::stop;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t completion_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;
  bool estimated = false;
  Duration prefill{};
  Duration decode{};
};

struct GeneratedTokens {
  std::uint32_t index = 0;                    // of the first id, among the completion's tokens
  std::vector<std::uint32_t> ids;             // those since the last call
  std::string text;                           // valid UTF-8, may be empty
  std::vector<TokenLogProbs> log_probs = {};  // one per id, when asked for
};

class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  // Its computation begins. What is found from then on is in the result alone.
  virtual void started(std::uint32_t prompt_tokens, std::uint32_t cached_prompt_tokens) = 0;
  // Before any tokens, when asked for: one entry per prompt token from the second on, in parts, in order.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps what it gets
  virtual void prompt_scored(std::vector<TokenLogProbs> /*log_probs*/) {}
  // Never blocks.
  virtual void tokens(GeneratedTokens tokens) = 0;
  virtual void finished(const GenerationResult& result) = 0;
  virtual void failed(const EngineFailure& failure) = 0;
};

struct TokenizedText {
  std::vector<std::uint32_t> ids;
  std::vector<std::string> pieces;  // each id's own bytes
};

// Which of the labels comes next behind a query and each item (OC-ENGINE-1021). Query and items are both texts or both
// token ids.
struct ScoreRequest {
  DispatchId id;
  std::string query_text;
  std::vector<std::uint32_t> query_ids;
  std::vector<std::string> item_texts;
  std::vector<std::vector<std::uint32_t>> item_ids;
  std::vector<std::uint32_t> labels;
  bool apply_softmax = false;  // over the labels of an item; else the probability over the whole vocabulary
  bool item_first = false;     // the item stands before the query, and nothing is shared between items
  std::optional<Duration> deadline;
  std::string tenant;
};

struct ScoreResult {
  std::vector<std::vector<double>> scores;  // per item, per label
  std::uint32_t prompt_tokens = 0;          // of all prompts together
  std::uint32_t cached_prompt_tokens = 0;   // of them, not computed again
  bool query_shared = true;
};

// One vector for a text (OC-ENGINE-1022).
struct EmbedRequest {
  DispatchId id;
  EnginePrompt prompt;
  std::optional<Pooling> pooling;  // none: as the model says
  std::optional<Duration> deadline;
  std::string tenant;
};

struct EmbedResult {
  std::vector<float> embedding;  // of length 1
  Pooling pooling = Pooling::last;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;
};

// Exactly one call, on the engine's thread.
template <typename Answer>
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  virtual void answered(const Answer& answer) = 0;
  virtual void failed(const EngineFailure& failure) = 0;
};
using ScoreSink = AnswerSink<ScoreResult>;
using EmbedSink = AnswerSink<EmbedResult>;

class GenerationEngine {
 public:
  virtual ~GenerationEngine() = default;

  virtual EngineInfo info() const = 0;
  virtual EngineCounters counters() const = 0;

  // The sink is released by the engine after its terminal call.
  virtual void submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) = 0;

  // Stops the job within one step and ends it with failed(CANCELED). No effect when it has ended or is unknown.
  virtual void cancel(const DispatchId& id) = 0;

  // Sink calls come in bursts, one per turn of the engine's thread (a step, a poll). `over` is called behind each of
  // them, on that thread, so that what several jobs were told may leave as one message. Set once, before the first
  // submission. False: no bursts, each call stands for itself.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps what it gets
  virtual bool on_burst_over(std::function<void()> over) {
    static_cast<void>(over);
    return false;
  }

  // Tokens of the prompt as it would be fed, template included; second: whether it is an estimate. May block for the
  // length of one tokenization or one HTTP exchange: never call it on a loop thread.
  virtual Result<std::pair<std::uint32_t, bool>, EngineFailure> count_tokens(const EnginePrompt& prompt) = 0;

  // The tokens of a prompt as it would be fed, template included. May block like count_tokens().
  virtual Result<TokenizedText, EngineFailure> tokenize(const EnginePrompt& prompt) {
    static_cast<void>(prompt);
    return Err{EngineFailure{Outcome::NOT_IMPLEMENTED, "this engine names no tokens", {}}};
  }
  // The text that the model's chat template makes of a conversation. May block like count_tokens().
  virtual Result<std::string, EngineFailure> apply_template(const EnginePrompt& prompt) {
    static_cast<void>(prompt);
    return Err{EngineFailure{Outcome::NOT_IMPLEMENTED, "this engine shows no rendered prompts", {}}};
  }
  // Ends like submit(), and cancel() ends it.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps what it gets
  virtual void score(ScoreRequest /*request*/, std::shared_ptr<ScoreSink> sink) {
    const std::shared_ptr<ScoreSink> answer = std::move(sink);
    answer->failed({Outcome::NOT_IMPLEMENTED, "this engine does not score", {}});
  }
  // Likewise.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps what it gets
  virtual void embed(EmbedRequest /*request*/, std::shared_ptr<EmbedSink> sink) {
    const std::shared_ptr<EmbedSink> answer = std::move(sink);
    answer->failed({Outcome::NOT_IMPLEMENTED, "this engine makes no embeddings", {}});
  }
};

}  // namespace orch::worker
