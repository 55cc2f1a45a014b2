#include "orchestratord/shell/submit_request.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/runtime/entropy.h"
#include "common/runtime/json_text.h"
#include "orchestratord/shell/constraint_request.h"
#include "orchestratord/shell/json_fields.h"
#include "orchestratord/shell/request_limits.h"
#include "orchestratord/shell/task_request.h"
#include "orchestratord/shell/wire.h"

namespace orch::gateway {
namespace {

std::string limit(std::uint64_t low, std::uint64_t high) {
  return " must be " + std::to_string(low) + ".." + std::to_string(high);
}

Status<Failure> read_prompt(const v1::Prompt& message, Prompt& out) {
  if (message.has_token_ids()) return Err{not_built("prompt.token_ids", "prompt.token_ids is not built yet")};
  if (message.has_text()) {
    if (message.text().empty()) return Err{invalid("prompt.text", "prompt.text must not be empty")};
    out.text = message.text();
    return Ok{};
  }
  if (!message.has_chat() || message.chat().messages().empty()) {
    return Err{invalid("prompt", "prompt needs a text or at least one chat message")};
  }
  if (static_cast<std::size_t>(message.chat().messages_size()) > kMessagesMax) {
    return Err{invalid("prompt.chat.messages",
                       "prompt.chat.messages must have at most " + std::to_string(kMessagesMax) + " items")};
  }
  for (const v1::ChatMessage& each : message.chat().messages()) {
    const std::string path = "prompt.chat.messages[" + std::to_string(out.messages.size()) + "]";
    if (each.role() != "system" && each.role() != "user" && each.role() != "assistant") {
      return Err{invalid(path + ".role", path + ".role must be one of system, user, assistant")};
    }
    if (each.content().empty()) return Err{invalid(path + ".content", path + ".content must not be empty")};
    out.messages.push_back({each.role(), each.content()});
  }
  return Ok{};
}

// Written so that a NaN is refused too.
bool within(float value, double low, double high) {
  return static_cast<double>(value) >= low && static_cast<double>(value) <= high;
}

Status<Failure> read_shaping(const v1::Sampling& sampling, Sampling& out) {
  if (!within(sampling.frequency_penalty(), -kPenaltyMax, kPenaltyMax))
    return Err{invalid("sampling.frequency_penalty", "sampling.frequency_penalty must be -2..2")};
  if (!within(sampling.presence_penalty(), -kPenaltyMax, kPenaltyMax))
    return Err{invalid("sampling.presence_penalty", "sampling.presence_penalty must be -2..2")};
  out.frequency_penalty = sampling.frequency_penalty();
  out.presence_penalty = sampling.presence_penalty();
  out.repetition_penalty = sampling.repetition_penalty() == 0 ? 1.0F : sampling.repetition_penalty();
  if (!within(out.repetition_penalty, static_cast<double>(static_cast<float>(kRepetitionPenaltyMin)),
              kRepetitionPenaltyMax)) {
    return Err{invalid("sampling.repetition_penalty", "sampling.repetition_penalty must be 0.01..10")};
  }
  if (sampling.choice() != 0) return Err{invalid("sampling.choice", "sampling.choice is not for clients")};
  if (static_cast<std::size_t>(sampling.logit_bias_size()) > kLogitBiasEntriesMax) {
    return Err{invalid("sampling.logit_bias",
                       "sampling.logit_bias must have at most " + std::to_string(kLogitBiasEntriesMax) + " entries")};
  }
  for (const v1::LogitBias& bias : sampling.logit_bias()) {
    if (!within(bias.bias(), -kLogitBiasMax, kLogitBiasMax))
      return Err{invalid("sampling.logit_bias", "sampling.logit_bias must hold numbers of -100..100")};
    out.logit_bias.push_back({bias.id(), bias.bias()});
  }
  return Ok{};
}

Status<Failure> read_sampling(const v1::SubmitRequest& message, const std::string& task_id, Sampling& out) {
  const v1::Sampling& sampling = message.sampling();
  if (message.has_sampling()) {
    out.temperature = sampling.temperature();
    out.top_p = sampling.top_p();
    out.top_k = sampling.top_k();
    out.min_p = sampling.min_p();
  }
  // Written so that a NaN is refused too.
  if (!(out.temperature >= 0 && static_cast<double>(out.temperature) <= kTemperatureMax)) {
    return Err{invalid("sampling.temperature", "sampling.temperature must be 0..2")};
  }
  if (!(out.top_p > 0 && out.top_p <= 1))
    return Err{invalid("sampling.top_p", "sampling.top_p must be above 0 and at most 1")};
  if (!(out.min_p >= 0 && out.min_p <= 1)) return Err{invalid("sampling.min_p", "sampling.min_p must be 0..1")};
  if (out.top_k > kTopKMax) return Err{invalid("sampling.top_k", "sampling.top_k" + limit(0, kTopKMax))};
  if (const auto shaped = read_shaping(sampling, out); !shaped.ok()) return shaped;
  if (message.has_seed() && message.seed() > kSeedMax) return Err{invalid("seed", "seed must fit 63 bits")};
  out.seed = message.has_seed() ? message.seed() : runtime::seed_of_task(task_id);
  return Ok{};
}

Status<Failure> read_names(const google::protobuf::RepeatedPtrField<std::string>& names, const std::string& path,
                           std::vector<std::string>& out) {
  if (static_cast<std::size_t>(names.size()) > kPlacementNamesMax)
    return Err{invalid(path, path + " must have at most " + std::to_string(kPlacementNamesMax) + " items")};
  for (const std::string& name : names) {
    if (name.empty() || name.size() > kPlacementNameBytesMax) {
      return Err{invalid(path, path + " must hold names of 1.." + std::to_string(kPlacementNameBytesMax) + " bytes")};
    }
    out.push_back(name);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return Ok{};
}

// OC-CORE-1015.
Status<Failure> read_wish(const v1::SubmitRequest& message, PlacementWish& out) {
  if (!message.has_placement()) return Ok{};
  const v1::PlacementWish& wish = message.placement();
  if (wish.pin().size() > kPlacementNameBytesMax) {
    return Err{invalid("placement.pin",
                       "placement.pin must have at most " + std::to_string(kPlacementNameBytesMax) + " bytes")};
  }
  out.pin = wish.pin();
  ORCH_TRY(prefer, read_names(wish.prefer(), "placement.prefer", out.prefer));
  ORCH_TRY(avoid, read_names(wish.avoid(), "placement.avoid", out.avoid));
  ORCH_TRY(devices, read_names(wish.devices(), "placement.devices", out.devices));
  static_cast<void>(prefer);
  static_cast<void>(avoid);
  static_cast<void>(devices);
  out.allow_fallback = !wish.has_allow_fallback() || wish.allow_fallback();
  return Ok{};
}

// OC-GRAMMAR-1032.
Status<Failure> read_constraint(const v1::SubmitRequest& message, JobPayload& payload) {
  using grammar::ConstraintKind;
  if (!message.has_constraint()) return Ok{};
  const v1::Constraint& wanted = message.constraint();
  grammar::Constraint out;
  std::string name = "json_object";
  if (wanted.has_json_schema()) {
    out = {ConstraintKind::json_schema, wanted.json_schema()};
    name = "json_schema";
  } else if (wanted.has_regex()) {
    out = {ConstraintKind::regex, wanted.regex()};
    name = "regex";
  } else if (wanted.has_gbnf()) {
    out = {ConstraintKind::gbnf, wanted.gbnf()};
    name = "gbnf";
  } else if (!wanted.json_object()) {
    return Err{invalid("constraint", "constraint needs one of json_object (true), json_schema, regex and gbnf")};
  }
  if (auto checked = check_constraint(out, "constraint." + name); !checked.ok()) return checked;
  if (!payload.stop.empty()) return Err{invalid("stop", "stop would cut the text that constraint asks for")};
  payload.constraint = std::move(out);
  return Ok{};
}

}  // namespace

Result<JobSpec, Failure> read_submit_request(const v1::SubmitRequest& message) {
  JobSpec spec;
  JobPayload payload;
  const auto id = Uuid::parse(message.task_id());
  if (!id || id->is_nil()) return Err{invalid("task_id", "task_id must be a UUID of 36 characters")};
  spec.id = JobId{*id};
  if (!message.session_id().empty() && !Uuid::parse(message.session_id())) {
    return Err{invalid("session_id", "session_id must be a UUID of 36 characters")};
  }
  spec.session = message.session_id();
  if (message.model_ref().empty() || message.model_ref().size() > kModelRefBytesMax) {
    return Err{invalid("model_ref", "model_ref must have 1.." + std::to_string(kModelRefBytesMax) + " bytes")};
  }
  spec.model_ref = message.model_ref();
  if (!message.priority().empty() && message.priority() != "interactive" && message.priority() != "batch") {
    return Err{invalid("priority", "priority must be one of interactive, batch")};
  }
  spec.priority = message.priority() == "batch" ? Priority::batch : Priority::interactive;
  if (!message.determinism().empty() && message.determinism() != "strict" && message.determinism() != "best_effort") {
    return Err{invalid("determinism", "determinism must be one of strict, best_effort")};
  }
  spec.determinism = message.determinism() == "strict" ? Determinism::strict : Determinism::best_effort;
  if (message.max_tokens() == 0 || message.max_tokens() > kMaxTokensMax) {
    return Err{invalid("max_tokens", "max_tokens" + limit(1, kMaxTokensMax))};
  }
  spec.max_tokens = message.max_tokens();
  if (message.deadline_ms() > kDeadlineMsMax)
    return Err{invalid("deadline_ms", "deadline_ms" + limit(0, kDeadlineMsMax))};
  if (message.deadline_ms() > 0)
    spec.deadline = Duration::milliseconds(static_cast<std::int64_t>(message.deadline_ms()));
  if (static_cast<std::size_t>(message.stop_size()) > kStopsMax) {
    return Err{invalid("stop", "stop must have at most " + std::to_string(kStopsMax) + " items")};
  }
  for (const std::string& stop : message.stop()) {
    if (stop.empty() || stop.size() > kStopBytesMax) {
      return Err{invalid("stop", "a stop string must have 1.." + std::to_string(kStopBytesMax) + " bytes")};
    }
    payload.stop.push_back(stop);
  }
  if (message.has_logprobs()) {
    if (message.logprobs() > kTopLogProbsMax) return Err{invalid("logprobs", "logprobs" + limit(0, kTopLogProbsMax))};
    payload.log_probs = message.logprobs();
  }
  spec.attachment = message.detached() ? Attachment::detached : Attachment::task;
  spec.require_gpu = message.require_gpu();
  ORCH_TRY(sampling, read_sampling(message, spec.id.to_string(), payload.sampling));
  ORCH_TRY(prompt, read_prompt(message.prompt(), payload.prompt));
  ORCH_TRY(wish, read_wish(message, spec.wish));
  if (auto constraint = read_constraint(message, payload); !constraint.ok()) return Err{constraint.error()};
  static_cast<void>(sampling);
  static_cast<void>(prompt);
  static_cast<void>(wish);
  attach_payload(spec, std::move(payload));
  return spec;
}

void write_budget(const BudgetLeft& left, v1::BudgetLeft& out) {
  const auto whole = [](std::int64_t value) { return static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0)); };
  if (left.turns) out.set_turns(whole(*left.turns));
  if (left.tokens) out.set_tokens(whole(*left.tokens));
  if (left.time) out.set_time_ms(whole(left.time->ms()));
  if (left.cost) out.set_cost_billionths(whole(*left.cost));
}

v1::TaskEvent write_task_event(const StreamEvent& event, const ServedBy& served_by) {
  v1::TaskEvent out;
  out.set_id(event.id);
  if (const auto* started = std::get_if<StartedEvent>(&event.body)) {
    out.mutable_started()->set_queue_position(started->queue_position);
    out.mutable_started()->set_predicted_start_ms(
        static_cast<std::uint64_t>(std::max<std::int64_t>(0, started->predicted_start.ms())));
    out.mutable_started()->set_estimated(started->estimated);
    if (started->on_time_probability) out.mutable_started()->set_on_time_probability(*started->on_time_probability);
  } else if (const auto* token = std::get_if<TokenEvent>(&event.body)) {
    out.mutable_token()->set_t(token->text);
    out.mutable_token()->set_i(token->i);
    for (const std::uint32_t id : token->ids) out.mutable_token()->add_ids(id);
    for (const TokenLogProbs& each : token->log_probs) wire::write_log_probs(each, out.mutable_token()->add_logprobs());
  } else if (const auto* metrics = std::get_if<MetricsEvent>(&event.body)) {
    out.mutable_metrics()->set_queue_depth(metrics->queue_depth);
    out.mutable_metrics()->set_preempted(metrics->preempted);
    if (metrics->kv_warmth) out.mutable_metrics()->set_kv_warmth(*metrics->kv_warmth);
    write_budget(metrics->budget, *out.mutable_metrics()->mutable_budget());
  } else if (const auto* end = std::get_if<EndEvent>(&event.body)) {
    out.mutable_end()->set_tokens_out(end->tokens_out);
    out.mutable_end()->set_decode_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(0, end->decode.ms())));
    out.mutable_end()->set_reason(end->reason == FinishReason::length ? v1::FINISH_REASON_LENGTH
                                                                      : v1::FINISH_REASON_STOP);
    out.mutable_end()->set_migrated(end->migrated);
    out.mutable_end()->set_replayable(end->migrated);
    out.mutable_end()->set_accelerator(served_by.accelerator);  // ORCH-1101
    out.mutable_end()->set_numeric_class(served_by.numeric_class);
    out.mutable_end()->mutable_usage()->set_prompt_tokens(end->prompt_tokens);
    out.mutable_end()->mutable_usage()->set_completion_tokens(end->tokens_out);
    out.mutable_end()->mutable_usage()->set_estimated(end->estimated);
    out.mutable_end()->mutable_usage()->set_cached_prompt_tokens(end->cached_prompt_tokens);
  } else if (const auto* error = std::get_if<ErrorEvent>(&event.body)) {
    const OutcomeRow& row = outcome_row(error->failure.outcome);
    out.mutable_error()->set_code(std::string(row.code));
    out.mutable_error()->set_message(error->failure.message);
    out.mutable_error()->set_retriable(error->failure.retriable());
    if (error->failure.retry_after) {
      out.mutable_error()->set_retry_after_ms(static_cast<std::uint64_t>(error->failure.retry_after->ms_ceil()));
    }
    out.mutable_error()->set_engine(error->failure.engine);
  }
  return out;
}

}  // namespace orch::gateway
