#include "worker/shell/wire.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "common/grammar/limits.h"
#include "worker/core/attempts.h"
#include "worker/core/sampling_limits.h"

namespace orch::worker::wire {
namespace {

constexpr std::size_t kMessagesMax = 1024;
constexpr std::size_t kStopsMax = 16;
constexpr std::size_t kStopBytesMax = 256;

Err<EngineFailure> invalid(const std::string& field, const std::string& message) {
  return Err{EngineFailure{.outcome = Outcome::INVALID_PARAMS, .message = field + ": " + message, .field = field}};
}

Result<Fence, EngineFailure> parse_fence(const v1::Fence& message) {
  const auto manager = Uuid::parse(message.manager_id());
  if (!manager) return invalid("fence.manager_id", "not a UUID");
  Fence fence;
  if (message.secret().size() != fence.secret.size()) return invalid("fence.secret", "not 16 bytes");
  fence.manager.value = *manager;
  fence.inc = {message.inc().boot(), message.inc().counter()};
  fence.lease = {message.lease().boot(), message.lease().counter()};
  std::copy(message.secret().begin(), message.secret().end(), fence.secret.begin());
  return fence;
}

std::optional<Duration> deadline_of(std::uint64_t ms) {
  constexpr std::uint64_t kLongest = 7ULL * 24 * 3600 * 1000;  // keeps the sum with an instant far from overflow
  if (ms == 0) return std::nullopt;
  return Duration::milliseconds(static_cast<std::int64_t>(std::min(ms, kLongest)));
}

// Limits of single values are the batch's (request_check.h); here only what would be too large to carry.
Status<EngineFailure> parse_shaping(const v1::Sampling& message, GenerationRequest& out) {
  out.frequency_penalty = message.frequency_penalty();
  out.presence_penalty = message.presence_penalty();
  out.repetition_penalty = message.repetition_penalty() == 0 ? 1.0F : message.repetition_penalty();
  if (static_cast<std::size_t>(message.logit_bias_size()) > kLogitBiasEntriesMax) {
    return invalid("sampling.logit_bias", "more than " + std::to_string(kLogitBiasEntriesMax) + " entries");
  }
  for (const auto& entry : message.logit_bias()) out.logit_bias.push_back({entry.id(), entry.bias()});
  if (message.choice() > kChoiceMax) return invalid("sampling.choice", "above " + std::to_string(kChoiceMax));
  out.choice = message.choice();
  return Ok{};
}

Status<EngineFailure> parse_sampling(const v1::Sampling& message, GenerationRequest& out) {
  if (!std::isfinite(message.temperature()) || message.temperature() < 0) {
    return invalid("sampling.temperature", "must be finite and at least 0");
  }
  if (!std::isfinite(message.top_p()) || message.top_p() < 0 || message.top_p() > 1) {
    return invalid("sampling.top_p", "must be within 0 and 1");
  }
  if (!std::isfinite(message.min_p()) || message.min_p() < 0 || message.min_p() > 1) {
    return invalid("sampling.min_p", "must be within 0 and 1");
  }
  out.temperature = message.temperature();
  out.top_k = message.top_k();
  out.top_p = message.top_p();
  out.min_p = message.min_p();
  out.seed = message.seed();
  return parse_shaping(message, out);
}

Status<EngineFailure> parse_log_probs(const v1::Dispatch& message, GenerationRequest& out) {
  const std::string limit = "must be at most " + std::to_string(kTopLogProbsMax);
  if (message.has_logprobs()) out.log_probs = message.logprobs();
  if (message.has_prompt_logprobs()) out.prompt_log_probs = message.prompt_logprobs();
  if (out.log_probs.value_or(0) > kTopLogProbsMax) return invalid("logprobs", limit);
  if (out.prompt_log_probs.value_or(0) > kTopLogProbsMax) return invalid("prompt_logprobs", limit);
  return Ok{};
}

Status<EngineFailure> parse_stops(const v1::Dispatch& message, GenerationRequest& out) {
  if (static_cast<std::size_t>(message.stop_size()) > kStopsMax) {
    return invalid("stop", "more than " + std::to_string(kStopsMax) + " strings");
  }
  for (const auto& stop : message.stop()) {
    if (stop.empty() || stop.size() > kStopBytesMax) {
      return invalid("stop", "a string must have 1 to " + std::to_string(kStopBytesMax) + " bytes");
    }
    out.stop.push_back(stop);
  }
  return Ok{};
}

}  // namespace

Result<Holder, EngineFailure> parse_holder(const v1::Holder& message) {
  const auto orch = Uuid::parse(message.orch_id());
  if (!orch) return invalid("holder.orch_id", "not a UUID");
  return Holder{.orch = {*orch}, .boot = message.orch_boot()};
}

Result<EnginePrompt, EngineFailure> parse_prompt(const v1::Prompt& message) {
  EnginePrompt prompt;
  switch (message.kind_case()) {
    case v1::Prompt::kChat:
      if (message.chat().messages().empty()) return invalid("prompt.chat.messages", "must not be empty");
      if (static_cast<std::size_t>(message.chat().messages_size()) > kMessagesMax) {
        return invalid("prompt.chat.messages", "more than " + std::to_string(kMessagesMax));
      }
      for (const auto& entry : message.chat().messages()) prompt.messages.emplace_back(entry.role(), entry.content());
      return prompt;
    case v1::Prompt::kText:
      if (message.text().empty()) return invalid("prompt.text", "must not be empty");
      prompt.text = message.text();
      return prompt;
    case v1::Prompt::kTokenIds:
      if (message.token_ids().ids().empty()) return invalid("prompt.token_ids", "must not be empty");
      prompt.token_ids.assign(message.token_ids().ids().begin(), message.token_ids().ids().end());
      return prompt;
    case v1::Prompt::KIND_NOT_SET:
      break;
  }
  return invalid("prompt", "missing");
}

// What it says is judged by whoever can run it.
Status<EngineFailure> parse_constraint(const v1::Dispatch& message, GenerationRequest& out) {
  using grammar::ConstraintKind;
  const v1::Constraint& constraint = message.constraint();
  if (!message.has_constraint()) return Ok{};
  if (constraint.has_json_schema()) out.constraint = {ConstraintKind::json_schema, constraint.json_schema()};
  if (constraint.has_regex()) out.constraint = {ConstraintKind::regex, constraint.regex()};
  if (constraint.has_gbnf()) out.constraint = {ConstraintKind::gbnf, constraint.gbnf()};
  if (constraint.has_json_object() && constraint.json_object()) out.constraint = grammar::Constraint{};
  if (!out.constraint) return invalid("constraint", "one of json_schema, json_object (true), regex and gbnf is needed");
  if (out.constraint->text.size() > grammar::kTextBytesMax) {
    return invalid("constraint", "more than " + std::to_string(grammar::kTextBytesMax) + " bytes");
  }
  if (!out.stop.empty()) return invalid("stop", "a stop string would cut the text that constraint asks for");
  return Ok{};
}

namespace {

// What every dispatch says, whatever it asks for.
template <typename Request, typename Message>
Result<Dispatched<Request>, EngineFailure> parse_head(const Message& message) {
  ORCH_TRY(fence, parse_fence(message.fence()));
  const auto job = Uuid::parse(message.job_id());
  if (!job) return invalid("job_id", "not a UUID");
  if (message.attempt() > kAttemptMax) {
    return invalid("attempt", std::to_string(message.attempt()) + "; at most " + std::to_string(kAttemptMax));
  }
  Dispatched<Request> out{.fence = fence, .request = {}};
  if (message.lease_slots() > 0) out.lease_slots = message.lease_slots();
  out.request.id = {.job = {*job}, .attempt = message.attempt()};
  out.request.tenant = message.tenant_id();
  out.request.deadline = deadline_of(message.deadline_ms());
  return out;
}

}  // namespace

Result<Dispatched<GenerationRequest>, EngineFailure> parse_dispatch(const v1::Dispatch& message) {
  ORCH_TRY(out, parse_head<GenerationRequest>(message));
  GenerationRequest& request = out.request;
  ORCH_TRY(prompt, parse_prompt(message.prompt()));
  if (message.max_tokens() == 0) return invalid("max_tokens", "must be at least 1");
  request.prompt = std::move(prompt);
  request.max_tokens = message.max_tokens();
  request.resume_ids.assign(message.resume_ids().begin(), message.resume_ids().end());
  if (const auto sampling = parse_sampling(message.sampling(), request); !sampling.ok()) return Err{sampling.error()};
  if (const auto scores = parse_log_probs(message, request); !scores.ok()) return Err{scores.error()};
  if (const auto stops = parse_stops(message, request); !stops.ok()) return Err{stops.error()};
  if (const auto text = parse_constraint(message, request); !text.ok()) return Err{text.error()};
  return out;
}

Result<Dispatched<ScoreRequest>, EngineFailure> parse_score(const v1::ScoreRequest& message) {
  ORCH_TRY(out, parse_head<ScoreRequest>(message));
  ORCH_TRY(holder, parse_holder(message.holder()));
  out.holder = holder;
  ScoreRequest& request = out.request;
  request.query_text = message.query();
  request.query_ids.assign(message.query_ids().ids().begin(), message.query_ids().ids().end());
  request.item_texts.assign(message.items().begin(), message.items().end());
  for (const auto& item : message.item_ids()) request.item_ids.emplace_back(item.ids().begin(), item.ids().end());
  request.labels.assign(message.label_token_ids().begin(), message.label_token_ids().end());
  request.apply_softmax = message.apply_softmax();
  request.item_first = message.item_first();
  return out;
}

void write_answer(const ScoreResult& result, v1::ScoreReply* out) {
  for (const std::vector<double>& row : result.scores) {
    out->add_rows()->mutable_scores()->Add(row.begin(), row.end());
  }
  out->mutable_usage()->set_prompt_tokens(result.prompt_tokens);
  out->mutable_usage()->set_cached_prompt_tokens(result.cached_prompt_tokens);
  out->set_query_shared(result.query_shared);
}

Result<Dispatched<EmbedRequest>, EngineFailure> parse_embed(const v1::EmbedRequest& message) {
  ORCH_TRY(out, parse_head<EmbedRequest>(message));
  ORCH_TRY(holder, parse_holder(message.holder()));
  out.holder = holder;
  ORCH_TRY(prompt, parse_prompt(message.prompt()));
  out.request.prompt = std::move(prompt);
  switch (message.pooling()) {
    case v1::POOLING_OF_MODEL:
      return out;
    case v1::POOLING_MEAN:
      out.request.pooling = Pooling::mean;
      return out;
    case v1::POOLING_CLS:
      out.request.pooling = Pooling::cls;
      return out;
    case v1::POOLING_LAST:
      out.request.pooling = Pooling::last;
      return out;
    default:
      return invalid("pooling", std::to_string(message.pooling()) + " is unknown");
  }
}

void write_answer(const EmbedResult& result, v1::EmbedReply* out) {
  constexpr std::array kNames = {v1::POOLING_MEAN, v1::POOLING_CLS, v1::POOLING_LAST};
  out->mutable_embedding()->Add(result.embedding.begin(), result.embedding.end());
  out->set_pooling(kNames[static_cast<std::size_t>(result.pooling)]);
  out->mutable_usage()->set_prompt_tokens(result.prompt_tokens);
  out->mutable_usage()->set_cached_prompt_tokens(result.cached_prompt_tokens);
}

Result<LeaseTable, EngineFailure> parse_table(const v1::LeaseTable& message) {
  constexpr std::uint64_t kTtlMaxMs = 24ULL * 3600 * 1000;
  if (message.ttl_ms() == 0 || message.ttl_ms() > kTtlMaxMs) return invalid("ttl_ms", "must be 1 to 86400000");
  LeaseTable table;
  table.version = {message.version_boot(), message.version_counter()};
  table.ttl = Duration::milliseconds(static_cast<std::int64_t>(message.ttl_ms()));
  table.leases.reserve(static_cast<std::size_t>(message.leases_size()));
  for (const auto& entry : message.leases()) {
    ORCH_TRY(holder, parse_holder(entry.holder()));
    LeaseEntry lease;
    if (entry.secret().size() != lease.secret.size()) return invalid("leases.secret", "not 16 bytes");
    lease.id = {entry.id().boot(), entry.id().counter()};
    lease.holder = holder;
    lease.slots = entry.slots();
    std::copy(entry.secret().begin(), entry.secret().end(), lease.secret.begin());
    lease.renewal_seq = entry.renewal_seq();
    lease.stop = entry.stop();
    table.leases.push_back(lease);
  }
  return table;
}

void write_table(const LeaseTable& table, v1::LeaseTable* out) {
  out->set_version_boot(table.version.boot);
  out->set_version_counter(table.version.counter);
  out->set_ttl_ms(static_cast<std::uint64_t>(table.ttl.ms()));
  for (const LeaseEntry& entry : table.leases) {
    v1::LeaseEntry* lease = out->add_leases();
    lease->mutable_id()->set_boot(entry.id.boot);
    lease->mutable_id()->set_counter(entry.id.counter);
    lease->mutable_holder()->set_orch_id(entry.holder.orch.to_string());
    lease->mutable_holder()->set_orch_boot(entry.holder.boot);
    lease->set_slots(entry.slots);
    lease->set_secret(entry.secret.data(), entry.secret.size());
    lease->set_renewal_seq(entry.renewal_seq);
    lease->set_stop(entry.stop);
  }
}

void write_failure(const EngineFailure& failure, v1::Failure* out) {
  const OutcomeRow& row = outcome_row(failure.outcome);
  out->set_code(std::string(row.code));
  out->set_message(failure.message.empty() ? std::string(row.text) : failure.message);
  out->set_field(failure.field);
  out->set_worker_ends(failure.worker_ends);
}

namespace {

void write_one(const StartedNote& note, v1::JobEvent* out) {
  out->mutable_started()->set_prompt_tokens(note.prompt_tokens);
  out->mutable_started()->set_cached_prompt_tokens(note.cached_prompt_tokens);
}

void write_scored(const ScoredToken& scored, v1::ScoredToken* out) {
  out->set_id(scored.id);
  out->set_logprob(scored.log_probability);
  out->set_token(scored.bytes);
}

template <typename Messages>
void write_scores(const std::vector<TokenLogProbs>& scores, Messages* out) {
  for (const TokenLogProbs& each : scores) {
    v1::TokenLogprobs* entry = out->Add();
    write_scored(each.token, entry->mutable_token());
    for (const ScoredToken& top : each.top) write_scored(top, entry->add_top());
  }
}

void write_one(const PromptScores& scores, v1::JobEvent* out) {
  write_scores(scores.log_probs, out->mutable_prompt_logprobs()->mutable_logprobs());
}

void write_one(TokenBatch&& batch, v1::JobEvent* out) {
  auto* tokens = out->mutable_tokens();
  tokens->set_index(batch.index);
  tokens->mutable_ids()->Add(batch.ids.begin(), batch.ids.end());
  tokens->set_text(std::move(batch.text));
  tokens->mutable_text_ends()->Add(batch.text_ends.begin(), batch.text_ends.end());
  write_scores(batch.log_probs, tokens->mutable_logprobs());
}

void write_one(const GenerationResult& result, v1::JobEvent* out) {
  auto* finished = out->mutable_finished();
  finished->set_reason(result.reason == FinishReason::stop ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
  finished->mutable_usage()->set_prompt_tokens(result.prompt_tokens);
  finished->mutable_usage()->set_completion_tokens(result.completion_tokens);
  finished->mutable_usage()->set_cached_prompt_tokens(result.cached_prompt_tokens);
  finished->mutable_usage()->set_estimated(result.estimated);
  finished->set_prefill_ms(result.prefill.ms_double());
  finished->set_decode_ms(result.decode.ms_double());
}

void write_one(const EngineFailure& failure, v1::JobEvent* out) { write_failure(failure, out->mutable_failure()); }

}  // namespace

void write_item(TokenOutbox::Item&& item, v1::JobEvent* out) {
  std::visit([out](auto&& value) { write_one(std::forward<decltype(value)>(value), out); }, std::move(item));
}

void write_info(const EngineInfo& info, v1::WorkerInfo* out) {
  out->set_ready(info.ready);
  if (info.load_failure) write_failure(*info.load_failure, out->mutable_load_failure());
  out->set_load_progress(info.load_progress);
  out->set_engine(info.engine);
  out->set_engine_version(info.engine_version);
  out->set_sampler_profile_version(info.sampler_profile_version);
  out->set_model_name(info.model_name);
  out->set_model_digest(info.model_digest);
  out->set_quant(info.quant);
  out->set_architecture(info.architecture);
  out->set_ctx_max(info.ctx_max);
  out->set_ctx_wanted(info.ctx_wanted);
  out->set_slots(info.slots);
  out->set_numeric_class(info.numeric_class);
  out->set_accelerator(info.accelerator);
  out->set_device_name(info.device_name);
  out->set_skipped_devices(info.skipped_devices);
  out->set_template_available(info.template_available);
  out->set_template_fixed_bytes(info.template_fixed_bytes);
  out->set_template_per_message_bytes(info.template_per_message_bytes);
  out->set_token_bytes_expansion(info.token_bytes_expansion);
  out->set_cancel(info.cancel);
  out->set_model_bytes(info.model_bytes);
  out->set_memory_bytes(info.memory_bytes);
  out->set_process_id(std::to_string(::getpid()));
  out->set_token_ids(info.token_ids);
  out->set_waits_for(info.waits_for);
  out->set_interruptible_decode(info.interruptible_decode);
  out->set_prefix_cache(info.prefix_cache);
  out->set_kv_page_tokens(info.kv_page_tokens);
  out->set_prefill_tokens_per_second(info.prefill_tokens_per_second);
  out->set_decode_tokens_per_second(info.decode_tokens_per_second);
}

void write_counters(const EngineCounters& counters, v1::ControlReport* out) {
  out->set_steps_done(counters.steps_done);
  out->set_waits_done(counters.waits_done);
  out->set_step_longest_ms(counters.step_longest_ms);
  out->set_tokens_out_total(counters.tokens_out_total);
  out->set_tokens_in_total(counters.tokens_in_total);
  out->set_kv_pages_used(counters.kv_pages_used);
  out->set_kv_pages_total(counters.kv_pages_total);
  out->set_memory_used_bytes(counters.memory_used_bytes);
  out->set_cached_prompt_tokens_total(counters.cached_prompt_tokens_total);
  out->set_preemptions_total(counters.preemptions_total);
  out->set_kv_saturated_total(counters.kv_saturated_total);
}

}  // namespace orch::worker::wire
