// The seam between the Worker service (leases, fences, gRPC) and whatever generates: the native engine in workerd, an
// HTTP bridge in adapterd, a script in tests. One implementation per process.
//
// Threads: every method may be called from any thread and returns without waiting for decoding. Sink calls come from
// the engine's own thread, in order per job, and end with exactly one of finished() and failed(); none comes after
// that. A sink may call cancel() and counters() from within its own calls, so an engine holds none of its locks while
// it calls one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "gen/outcome.h"

namespace orch::worker {

struct EngineFailure {
  Outcome outcome = Outcome::INTERNAL;
  std::string message{};  // names the field and the limit when there is one
  std::string field{};
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
  std::uint32_t slots = 0;
  std::string numeric_class;
  std::string accelerator;
  std::string device_name;
  bool template_available = false;
  std::uint32_t template_fixed_bytes = 0;
  std::uint32_t template_per_message_bytes = 0;
  float token_bytes_expansion = 0;
  std::string cancel = "confirmed";
  std::uint64_t model_bytes = 0;
  std::uint64_t memory_bytes = 0;
  bool token_ids = true;
};

// Monotone counters and gauges of the running engine.
struct EngineCounters {
  std::uint64_t steps_done = 0;
  std::uint64_t step_longest_ms = 0;
  std::uint64_t tokens_out_total = 0;
  std::uint64_t tokens_in_total = 0;
  std::uint64_t canceled_total = 0;
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
  std::uint64_t seed = 0;
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

class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  virtual void started(std::uint32_t prompt_tokens, std::uint32_t cached_prompt_tokens) = 0;
  // `text` is valid UTF-8 and may be empty; `ids` are those since the last call. Never blocks.
  virtual void tokens(std::uint32_t index, std::vector<std::uint32_t> ids, std::string text) = 0;
  virtual void finished(const GenerationResult& result) = 0;
  virtual void failed(const EngineFailure& failure) = 0;
};

class GenerationEngine {
 public:
  virtual ~GenerationEngine() = default;

  virtual EngineInfo info() const = 0;
  virtual EngineCounters counters() const = 0;

  // The sink is released by the engine after its terminal call.
  virtual void submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) = 0;

  // Stops the job within one step and ends it with failed(CANCELED). No effect when it has ended or is unknown.
  virtual void cancel(const DispatchId& id) = 0;

  // Tokens of the prompt as it would be fed, template included; second: whether it is an estimate. May block for the
  // length of one tokenization or one HTTP exchange: never call it on a loop thread.
  virtual Result<std::pair<std::uint32_t, bool>, EngineFailure> count_tokens(const EnginePrompt& prompt) = 0;
};

}  // namespace orch::worker
