#include "orchestratord/shell/wire.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace orch::gateway::wire {
namespace {

std::optional<Secret> read_secret(const std::string& bytes) {
  Secret out;
  if (bytes.size() != out.size()) return std::nullopt;
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

Incarnation read_inc(const v1::Incarnation& message) { return {message.boot(), message.counter()}; }
LeaseId read_lease(const v1::LeaseId& message) { return {message.boot(), message.counter()}; }
// Of what names no start nothing is made.
std::optional<StartReport> read_start(const v1::StartReport& message) {
  const std::optional<Uuid> orch = Uuid::parse(message.start().orch_id());
  if (!orch) return std::nullopt;
  StartReport out;
  out.start = {OrchId{*orch}, message.start().orch_boot()};
  out.number = message.number();
  out.over = message.over();
  for (const v1::FairRow& row : message.rows()) {
    out.rows.push_back({row.domain(), row.job_class() == v1::JOB_CLASS_BATCH, row.tenant(), row.delivered(),
                        row.reserved(), row.released(), row.lift(), row.waiting(), row.inside()});
  }
  for (const v1::UseRow& row : message.uses())
    out.uses.push_back({row.tenant(), row.requests(), row.tokens(), row.live()});
  return out;
}

void write_fence(const Fence& fence, v1::Fence* out) {
  out->set_manager_id(fence.manager.to_string());
  out->mutable_inc()->set_boot(fence.inc.boot);
  out->mutable_inc()->set_counter(fence.inc.counter);
  out->mutable_lease()->set_boot(fence.lease.boot);
  out->mutable_lease()->set_counter(fence.lease.counter);
  out->set_secret(std::string(fence.secret.begin(), fence.secret.end()));
}

ReplicaState read_state(v1::ReplicaState state) {
  switch (state) {
    case v1::REPLICA_STATE_PRELOADING:
      return ReplicaState::preloading;
    case v1::REPLICA_STATE_READY:
      return ReplicaState::ready;
    case v1::REPLICA_STATE_DRAINING:
      return ReplicaState::draining;
    case v1::REPLICA_STATE_BACKOFF:
      return ReplicaState::backoff;
    case v1::REPLICA_STATE_FAILED:
      return ReplicaState::failed;
    case v1::REPLICA_STATE_STOPPED:
      return ReplicaState::stopped;
    default:
      return ReplicaState::starting;
  }
}

Failure read_failure(const v1::Failure& message) {
  Failure out;
  out.outcome = outcome_from_code(message.code()).value_or(Outcome::INTERNAL);
  out.message = message.message();
  out.field = message.field();
  if (message.retry_after_ms() > 0) {
    out.retry_after = Duration::milliseconds(static_cast<std::int64_t>(message.retry_after_ms()));
  }
  return out;
}

void write_constraint(const grammar::Constraint& constraint, v1::Constraint* out) {
  switch (constraint.kind) {
    case grammar::ConstraintKind::json_object:
      return out->set_json_object(true);
    case grammar::ConstraintKind::json_schema:
      return out->set_json_schema(constraint.text);
    case grammar::ConstraintKind::regex:
      return out->set_regex(constraint.text);
    case grammar::ConstraintKind::gbnf:
      return out->set_gbnf(constraint.text);
  }
}

void write_shaping(const Sampling& sampling, v1::Sampling* out) {
  out->set_repetition_penalty(sampling.repetition_penalty);
  out->set_frequency_penalty(sampling.frequency_penalty);
  out->set_presence_penalty(sampling.presence_penalty);
  out->set_choice(sampling.choice);
  for (const LogitBias& bias : sampling.logit_bias) {
    v1::LogitBias* each = out->add_logit_bias();
    each->set_id(bias.id);
    each->set_bias(bias.bias);
  }
}

ScoredToken read_scored(const v1::ScoredToken& message) { return {message.id(), message.logprob(), message.token()}; }

// Of every id or of none: a part of them could not be told apart.
std::vector<TokenLogProbs> read_log_probs(const v1::Tokens& message) {
  std::vector<TokenLogProbs> out;
  if (message.logprobs_size() != message.ids_size()) return out;
  for (const v1::TokenLogprobs& each : message.logprobs()) {
    TokenLogProbs& entry = out.emplace_back();
    entry.token = read_scored(each.token());
    for (const v1::ScoredToken& top : each.top()) entry.top.push_back(read_scored(top));
  }
  return out;
}

Duration from_ms(double ms) { return {static_cast<std::int64_t>(std::clamp(ms, 0.0, 1e12) * 1e6)}; }

}  // namespace

void write_holder(const Holder& holder, v1::Holder* out) {
  out->set_orch_id(holder.orch.to_string());
  out->set_orch_boot(holder.boot);
}

void write_prompt(const Prompt& prompt, v1::Prompt* out) {
  if (prompt.messages.empty()) {
    out->set_text(prompt.text);
    return;
  }
  for (const ChatMessage& message : prompt.messages) {
    v1::ChatMessage* each = out->mutable_chat()->add_messages();
    each->set_role(message.role);
    each->set_content(message.content);
  }
}

void write_log_probs(const TokenLogProbs& log_probs, v1::TokenLogprobs* out) {
  const auto write = [](const ScoredToken& scored, v1::ScoredToken* each) {
    each->set_id(scored.id);
    each->set_logprob(scored.log_probability);
    each->set_token(scored.bytes);
  };
  write(log_probs.token, out->mutable_token());
  for (const ScoredToken& top : log_probs.top) write(top, out->add_top());
}

v1::AttachRequest attach_hello(const Holder& holder, const std::string& public_url) {
  v1::AttachRequest out;
  v1::AttachHello* hello = out.mutable_hello();
  hello->mutable_hello()->set_protocol_major(kProtocolMajor);
  hello->mutable_hello()->set_protocol_minor(kProtocolMinor);
  hello->mutable_hello()->set_build("orchestratord");
  write_holder(holder, hello->mutable_holder());
  hello->set_public_url(public_url);
  return out;
}

v1::AttachRequest attach_update(const SendUpdate& update) {
  v1::AttachRequest out;
  v1::HolderUpdate* message = out.mutable_update();
  message->set_seq(update.seq);
  for (const PoolBid& bid : update.bids) {
    v1::Bid* each = message->add_bids();
    each->set_pool_id(bid.pool_id);
    each->set_running(bid.running);
    each->set_waiting(bid.waiting);
    for (const TenantBid& tenant : bid.tenants) {
      v1::TenantBid* entry = each->add_tenants();
      entry->set_job_class(tenant.priority == Priority::batch ? v1::JOB_CLASS_BATCH : v1::JOB_CLASS_INTERACTIVE);
      entry->set_class_v(tenant.class_v);
      entry->set_tenant_v(tenant.tenant_v);
      entry->set_waiting(tenant.waiting);
      entry->set_age_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(tenant.age.ms(), 0)));
    }
  }
  const auto add = [](const LeaseId& lease, v1::LeaseId* each) {
    each->set_boot(lease.boot);
    each->set_counter(lease.counter);
  };
  for (const LeaseId& lease : update.renew) add(lease, message->add_renew());
  for (const LeaseId& lease : update.release) add(lease, message->add_release());
  for (const LeaseUse& use : update.beyond) {
    v1::LeaseCalls* each = message->add_beyond();
    add(use.id, each->mutable_lease());
    each->set_calls(use.running);
  }
  message->set_grants_seen(update.grants_seen);
  message->set_grant_age_us(static_cast<std::uint64_t>(std::max<std::int64_t>(update.grant_age.ns / 1000, 0)));
  return out;
}

v1::AttachRequest attach_fair(const SendFair& fair) {
  v1::AttachRequest out;
  v1::FairReport* report = out.mutable_fair();
  for (const FairRow& row : fair.report.rows) {
    v1::FairRow* each = report->add_rows();
    each->set_domain(row.domain);
    each->set_job_class(row.batch ? v1::JOB_CLASS_BATCH : v1::JOB_CLASS_INTERACTIVE);
    each->set_tenant(row.tenant);
    each->set_delivered(row.delivered);
    each->set_reserved(row.reserved);
    each->set_released(row.released);
    each->set_lift(row.lift);
    each->set_waiting(row.waiting);
    each->set_inside(row.inside);
  }
  for (const UseRow& row : fair.report.uses) {
    v1::UseRow* each = report->add_uses();
    each->set_tenant(row.tenant);
    each->set_requests(row.requests);
    each->set_tokens(row.tokens);
    each->set_live(row.live);
  }
  for (const RefusedPrompt& refused : fair.report.refused) {
    v1::RefusedPrompt* each = report->add_refused();
    each->set_prompt(digest_bytes(refused.prompt));
    each->set_rest_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(refused.rest.ms_ceil(), 0)));
  }
  report->set_number(fair.report.number);
  return out;
}

void write_dispatch(const Dispatch& dispatch, v1::Dispatch* out) {
  write_fence(dispatch.fence, out->mutable_fence());
  out->set_job_id(dispatch.dispatch.job.to_string());
  out->set_attempt(dispatch.dispatch.attempt);
  write_prompt(dispatch.payload->prompt, out->mutable_prompt());
  const Sampling& sampling = dispatch.payload->sampling;
  out->mutable_sampling()->set_temperature(sampling.temperature);
  out->mutable_sampling()->set_top_k(sampling.top_k);
  out->mutable_sampling()->set_top_p(sampling.top_p);
  out->mutable_sampling()->set_min_p(sampling.min_p);
  out->mutable_sampling()->set_seed(sampling.seed);
  write_shaping(sampling, out->mutable_sampling());
  if (dispatch.payload->log_probs) out->set_logprobs(*dispatch.payload->log_probs);
  out->set_max_tokens(dispatch.max_tokens);
  for (const std::string& stop : dispatch.payload->stop) out->add_stop(stop);
  if (dispatch.payload->constraint) write_constraint(*dispatch.payload->constraint, out->mutable_constraint());
  if (dispatch.deadline)
    out->set_deadline_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(1, dispatch.deadline->ms_ceil())));
  for (const std::uint32_t id : dispatch.resume_ids) out->add_resume_ids(id);
  out->set_tenant_id(dispatch.tenant);
  out->set_lease_slots(dispatch.lease_slots);
}

ReplicaView read_replica(const v1::Replica& message) {
  const v1::WorkerInfo& info = message.info();
  ReplicaView out;
  out.replica_id = message.replica_id();
  out.pool_id = message.pool_id();
  out.state = read_state(message.state());
  out.inc = read_inc(message.inc());
  out.endpoint = message.endpoint();
  out.engine = info.engine();
  out.engine_version = info.engine_version();
  out.sampler_profile_version = info.sampler_profile_version();
  out.model_name = info.model_name();
  out.model_digest = info.model_digest();
  out.quant = info.quant();
  out.numeric_class = info.numeric_class();
  out.accelerator = info.accelerator();
  out.device_name = info.device_name();
  out.last_error = message.last_error();
  if (message.has_last_end()) out.last_end = ProcessEnd{read_inc(message.last_end().inc()), message.last_end().code()};
  out.has_process = message.pid() != 0;
  out.ctx_max = info.ctx_max();
  out.slots = info.slots();
  out.template_fixed_bytes = info.template_fixed_bytes();
  out.template_per_message_bytes = info.template_per_message_bytes();
  out.token_bytes_expansion = info.token_bytes_expansion();
  out.was_ready = message.was_ready();
  out.prefix_cache = info.prefix_cache();
  out.prefill_rate =
      std::isfinite(info.prefill_tokens_per_second()) ? std::max(info.prefill_tokens_per_second(), 0.0) : 0;
  out.decode_rate = std::isfinite(info.decode_tokens_per_second()) ? std::max(info.decode_tokens_per_second(), 0.0) : 0;
  out.kv = {info.kv_page_tokens(), message.kv_pages_total(), message.kv_pages_used()};
  out.retry_in =
      Duration::milliseconds(static_cast<std::int64_t>(std::min<std::uint64_t>(message.retry_in_ms(), 86'400'000)));
  return out;
}

std::optional<ManagerGreeting> read_manager_hello(LinkId link, const v1::ManagerHello& message) {
  const auto manager = Uuid::parse(message.manager_id());
  if (!manager) return std::nullopt;
  ManagerGreeting out;
  out.protocol_major = message.hello().protocol_major();
  out.up.link = link;
  out.up.manager = ManagerId{*manager};
  out.up.boot = message.boot();
  for (const v1::Replica& replica : message.replicas()) out.up.replicas.push_back(read_replica(replica));
  return out;
}

std::optional<Event> read_attach_event(LinkId link, const v1::AttachEvent& message) {
  if (message.has_replica()) return ReplicaChanged{link, read_replica(message.replica())};
  if (message.has_grant()) {
    const v1::Grant& grant = message.grant();
    const auto secret = read_secret(grant.secret());
    if (!secret) return std::nullopt;
    return LeaseGranted{
        .link = link,
        .lease = read_lease(grant.lease()),
        .replica_id = grant.replica_id(),
        .inc = read_inc(grant.inc()),
        .slots = grant.slots(),
        .secret = *secret,
        .update_seq = grant.update_seq(),
        .ttl = Duration::milliseconds(static_cast<std::int64_t>(std::min<std::uint64_t>(grant.ttl_ms(), 600'000))),
        .number = grant.number()};
  }
  if (message.has_gateways()) {
    GatewaysTold event{link, {}};
    for (const v1::GatewayAddress& each : message.gateways().gateways()) {
      const auto orch = Uuid::parse(each.orch_id());
      if (orch) event.gateways.push_back({OrchId{*orch}, each.public_url()});
    }
    return event;
  }
  if (message.has_others()) {
    OthersReported event{link, {}};
    for (const v1::StartReport& each : message.others().starts()) {
      if (auto start = read_start(each)) event.others.starts.push_back(std::move(*start));
    }
    for (const v1::RefusedPrompt& each : message.others().refused()) {
      if (const auto prompt = digest_in(each.prompt()))
        event.others.refused.push_back({*prompt, rest_of(each.rest_ms())});
    }
    return event;
  }
  if (message.has_load()) {
    const v1::ReplicaLoad& load = message.load();
    return ReplicaLoaded{link, load.replica_id(), read_inc(load.inc()), load.kv_pages_used()};
  }
  if (message.kind_case() == v1::AttachEvent::kGone) return ReplicaGone{link, message.gone()};
  if (message.has_earlier_over()) {
    const v1::EarlierOver& over = message.earlier_over();
    return EarlierOver{link, over.replica_id(), read_inc(over.inc())};
  }
  if (message.has_revoke()) return LeaseRevoked{link, read_lease(message.revoke().lease()), message.revoke().stop()};
  return std::nullopt;
}

std::optional<Event> read_job_event(DispatchId dispatch, const Fence& fence, v1::JobEvent&& message) {
  if (message.has_started()) {
    return DispatchStarted{dispatch, fence, message.started().prompt_tokens(),
                           message.started().cached_prompt_tokens()};
  }
  if (message.has_tokens()) {
    v1::Tokens& tokens = *message.mutable_tokens();
    return DispatchTokens{.dispatch = dispatch,
                          .fence = fence,
                          .index = tokens.index(),
                          .ids = {tokens.ids().begin(), tokens.ids().end()},
                          .text = std::move(*tokens.mutable_text()),
                          .text_ends = {tokens.text_ends().begin(), tokens.text_ends().end()},
                          .log_probs = read_log_probs(tokens)};
  }
  if (message.has_finished()) {
    const v1::Finished& finished = message.finished();
    return DispatchFinished{
        .dispatch = dispatch,
        .fence = fence,
        .reason = finished.reason() == v1::FINISH_REASON_LENGTH ? FinishReason::length : FinishReason::stop,
        .prompt_tokens = finished.usage().prompt_tokens(),
        .completion_tokens = finished.usage().completion_tokens(),
        .estimated = finished.usage().estimated(),
        .prefill = from_ms(finished.prefill_ms()),
        .decode = from_ms(finished.decode_ms()),
        .cached_prompt_tokens = finished.usage().cached_prompt_tokens()};
  }
  if (message.has_failure()) {
    return DispatchFailed{dispatch, fence, read_failure(message.failure()), message.failure().worker_ends()};
  }
  return std::nullopt;
}

}  // namespace orch::gateway::wire
