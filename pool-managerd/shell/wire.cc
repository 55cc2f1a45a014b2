#include "pool-managerd/shell/wire.h"

#include <algorithm>

namespace orch::pool::wire {
namespace {

constexpr std::uint64_t kLongestMs = 24ULL * 3600 * 1000;

template <typename Id, typename Message>
Id parse_pair(const Message& message) {
  return Id{.boot = message.boot(), .counter = message.counter()};
}
template <typename Id, typename Message>
void write_pair(const Id& id, Message* out) {
  out->set_boot(id.boot);
  out->set_counter(id.counter);
}
std::uint64_t ms_of(Duration duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.ms_ceil(), 0));
}

std::string bytes_of(const Secret& secret) { return {secret.begin(), secret.end()}; }

v1::ReplicaState state_of(ReplicaState state) {
  switch (state) {
    case ReplicaState::starting:
      return v1::REPLICA_STATE_STARTING;
    case ReplicaState::preloading:
      return v1::REPLICA_STATE_PRELOADING;
    case ReplicaState::ready:
      return v1::REPLICA_STATE_READY;
    case ReplicaState::draining:
      return v1::REPLICA_STATE_DRAINING;
    case ReplicaState::backoff:
      return v1::REPLICA_STATE_BACKOFF;
    case ReplicaState::failed:
      return v1::REPLICA_STATE_FAILED;
    case ReplicaState::stopped:
      return v1::REPLICA_STATE_STOPPED;
  }
  return v1::REPLICA_STATE_UNSPECIFIED;
}

Outcome outcome_named(const std::string& code) {
  for (const OutcomeRow& row : kOutcomes) {
    if (row.code == code) return row.outcome;
  }
  return Outcome::INTERNAL;
}

void write_start(const StartReport& start, v1::StartReport* out) {
  out->mutable_start()->set_orch_id(start.start.orch.to_string());
  out->mutable_start()->set_orch_boot(start.start.boot);
  out->set_number(start.number);
  out->set_over(start.over);
  for (const FairRow& row : start.rows) {
    v1::FairRow* each = out->add_rows();
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
  for (const UseRow& row : start.uses) {
    v1::UseRow* each = out->add_uses();
    each->set_tenant(row.tenant);
    each->set_requests(row.requests);
    each->set_tokens(row.tokens);
    each->set_live(row.live);
  }
}

}  // namespace

Result<AttachOpened, BadMessage> parse_attach_hello(LinkId link, const v1::AttachHello& message) {
  if (message.hello().protocol_major() != kProtocolMajor) {
    return Err{BadMessage{"hello.hello.protocol_major", "protocol_major: is " +
                                                            std::to_string(message.hello().protocol_major()) +
                                                            ", this manager speaks " + std::to_string(kProtocolMajor)}};
  }
  const auto orch = Uuid::parse(message.holder().orch_id());
  if (!orch) return Err{BadMessage{"hello.holder.orch_id", "orch_id: not a UUID"}};
  if (!message.public_url().empty() && !is_public_url(message.public_url())) {
    return Err{BadMessage{"hello.public_url", "public_url: scheme, host and port expected, at most " +
                                                  std::to_string(kPublicUrlBytesMax) + " bytes"}};
  }
  return AttachOpened{.link = link,
                      .holder = {.orch = OrchId{*orch}, .boot = message.holder().orch_boot()},
                      .public_url = message.public_url()};
}

HolderUpdate parse_update(LinkId link, const v1::HolderUpdate& message) {
  HolderUpdate update;
  update.link = link;
  update.seq = message.seq();
  for (const v1::Bid& bid : message.bids()) {
    Bid& entry =
        update.bids.emplace_back(Bid{.pool_id = bid.pool_id(), .running = bid.running(), .waiting = bid.waiting()});
    for (const v1::TenantBid& tenant : bid.tenants()) {
      entry.tenants.push_back(
          {.job_class = tenant.job_class() == v1::JOB_CLASS_BATCH ? JobClass::batch : JobClass::interactive,
           .class_v = tenant.class_v(),
           .tenant_v = tenant.tenant_v(),
           .waiting = tenant.waiting(),
           .age = Duration::milliseconds(static_cast<std::int64_t>(std::min(tenant.age_ms(), kLongestMs)))});
    }
  }
  for (const v1::LeaseId& id : message.renew()) update.renew.push_back(parse_pair<LeaseId>(id));
  update.grants_seen = message.grants_seen();
  update.grant_age =
      Duration::microseconds(static_cast<std::int64_t>(std::min(message.grant_age_us(), kLongestMs * 1000)));
  for (const v1::LeaseId& id : message.release()) update.release.push_back(parse_pair<LeaseId>(id));
  for (const v1::LeaseCalls& each : message.beyond())
    update.beyond.push_back({.id = parse_pair<LeaseId>(each.lease()), .running = each.calls()});
  return update;
}

FairReport parse_fair(const v1::FairReport& message) {
  FairReport report;
  for (const v1::FairRow& row : message.rows()) {
    report.rows.push_back({row.domain(), row.job_class() == v1::JOB_CLASS_BATCH, row.tenant(), row.delivered(),
                           row.reserved(), row.released(), row.lift(), row.waiting(), row.inside()});
  }
  for (const v1::UseRow& row : message.uses())
    report.uses.push_back({row.tenant(), row.requests(), row.tokens(), row.live()});
  for (const v1::RefusedPrompt& each : message.refused()) {
    if (const auto prompt = digest_in(each.prompt())) report.refused.push_back({*prompt, rest_of(each.rest_ms())});
  }
  report.number = message.number();
  return report;
}

v1::AttachEvent others_event(const SendOthers& effect) {
  v1::AttachEvent out;
  v1::OthersReport* report = out.mutable_others();
  for (const StartReport& start : effect.others.starts) write_start(start, report->add_starts());
  for (const RefusedPrompt& refused : effect.others.refused) {
    v1::RefusedPrompt* each = report->add_refused();
    each->set_prompt(digest_bytes(refused.prompt));
    each->set_rest_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(refused.rest.ms_ceil(), 0)));
  }
  return out;
}

v1::AttachEvent gateways_event(const SendGateways& effect) {
  v1::AttachEvent out;
  v1::Gateways* gateways = out.mutable_gateways();
  for (const GatewayAddress& address : effect.gateways) {
    v1::GatewayAddress* each = gateways->add_gateways();
    each->set_orch_id(address.orch.to_string());
    each->set_public_url(address.url);
  }
  return out;
}

WorkerFacts parse_info(const v1::WorkerInfo& message) {
  WorkerFacts facts;
  facts.ready = message.ready();
  facts.load_progress = message.load_progress();
  if (message.has_load_failure()) {
    const v1::Failure& failure = message.load_failure();
    facts.load_failure = worker::EngineFailure{
        .outcome = outcome_named(failure.code()), .message = failure.message(), .field = failure.field()};
  }
  facts.engine = message.engine();
  facts.engine_version = message.engine_version();
  facts.sampler_profile_version = message.sampler_profile_version();
  facts.model_name = message.model_name();
  facts.model_digest = message.model_digest();
  facts.quant = message.quant();
  facts.architecture = message.architecture();
  facts.ctx_max = message.ctx_max();
  facts.ctx_wanted = message.ctx_wanted();
  facts.slots = message.slots();
  facts.numeric_class = message.numeric_class();
  facts.accelerator = message.accelerator();
  facts.device_name = message.device_name();
  facts.skipped_devices = message.skipped_devices();
  facts.template_available = message.template_available();
  facts.template_fixed_bytes = message.template_fixed_bytes();
  facts.template_per_message_bytes = message.template_per_message_bytes();
  facts.token_bytes_expansion = message.token_bytes_expansion();
  facts.cancel = message.cancel();
  facts.model_bytes = message.model_bytes();
  facts.memory_bytes = message.memory_bytes();
  facts.token_ids = message.token_ids();
  facts.waits_for = message.waits_for();
  facts.interruptible_decode = message.interruptible_decode();
  facts.prefix_cache = message.prefix_cache();
  facts.kv_page_tokens = message.kv_page_tokens();
  facts.prefill_tokens_per_second = message.prefill_tokens_per_second();
  facts.decode_tokens_per_second = message.decode_tokens_per_second();
  return facts;
}

// A worker's own table; whatever is malformed in it gives a lease that nobody holds.
LeaseTable parse_table(const v1::LeaseTable& message) {
  LeaseTable table;
  table.version = {.boot = message.version_boot(), .counter = message.version_counter()};
  table.ttl = Duration::milliseconds(static_cast<std::int64_t>(std::min(message.ttl_ms(), kLongestMs)));
  for (const v1::LeaseEntry& entry : message.leases()) {
    LeaseEntry lease;
    lease.id = parse_pair<LeaseId>(entry.id());
    lease.holder.orch = OrchId{Uuid::parse(entry.holder().orch_id()).value_or(Uuid{})};
    lease.holder.boot = entry.holder().orch_boot();
    lease.slots = entry.slots();
    std::copy_n(entry.secret().begin(), std::min(entry.secret().size(), lease.secret.size()), lease.secret.begin());
    lease.renewal_seq = entry.renewal_seq();
    lease.stop = entry.stop();
    table.leases.push_back(lease);
  }
  return table;
}

WorkerReport parse_report(Incarnation inc, const v1::ControlReport& message) {
  WorkerReport report;
  report.inc = inc;
  report.version = {.boot = message.version_boot(), .counter = message.version_counter()};
  for (const v1::LeaseUse& use : message.uses()) {
    report.uses.push_back({.id = parse_pair<LeaseId>(use.id()), .running = use.running()});
  }
  report.slots = message.slots();
  report.steps_done = message.steps_done();
  report.waits_done = message.waits_done();
  report.step_longest =
      Duration::milliseconds(static_cast<std::int64_t>(std::min(message.step_longest_ms(), kLongestMs)));
  report.tokens_out_total = message.tokens_out_total();
  report.tokens_in_total = message.tokens_in_total();
  report.kv_pages_used = message.kv_pages_used();
  report.kv_pages_total = message.kv_pages_total();
  report.memory_used_bytes = message.memory_used_bytes();
  report.kv_saturated_total = message.kv_saturated_total();
  report.jobs_ended = message.jobs_ended();
  report.jobs_cut = message.jobs_cut();
  if (message.has_drain_left_ms()) {
    report.drain_left =
        Duration::milliseconds(static_cast<std::int64_t>(std::min(message.drain_left_ms(), kLongestMs)));
  }
  if (message.has_table()) report.table = parse_table(message.table());
  if (message.has_self_check()) {
    const v1::SelfCheckResult& result = message.self_check();
    report.self_check = SelfCheckOutcome{.id = result.id(),
                                         .decoded = result.decoded(),
                                         .cancel_freed = result.cancel_freed(),
                                         .counters_moved = result.counters_moved(),
                                         .detail = result.detail()};
  }
  return report;
}

void write_incarnation(Incarnation inc, v1::Incarnation* out) { write_pair(inc, out); }

void write_replica(const ReplicaView& view, v1::Replica* out) {
  out->set_replica_id(view.replica_id);
  out->set_pool_id(view.pool_id);
  out->set_state(state_of(view.state));
  write_pair(view.inc, out->mutable_inc());
  out->set_endpoint(view.endpoint);
  out->set_last_error(view.last_error);
  out->set_last_error_code(std::string(to_string(view.last_failure)));
  if (view.last_end) {
    write_pair(view.last_end->inc, out->mutable_last_end()->mutable_inc());
    out->mutable_last_end()->set_code(std::string(to_string(view.last_end->failure)));
  }
  out->set_restarts(view.restarts);
  out->set_was_ready(view.was_ready);
  out->set_running(view.running);
  out->set_retry_in_ms(ms_of(view.retry_in));
  out->set_pid(static_cast<std::uint64_t>(view.pid));
  out->set_routable(view.routable);
  out->set_kv_pages_total(view.kv.pages_total);
  out->set_kv_pages_used(view.kv.pages_used);
  const WorkerFacts& facts = view.facts;
  v1::WorkerInfo* info = out->mutable_info();
  info->set_ready(facts.ready);
  info->set_load_progress(facts.load_progress);
  if (facts.load_failure) {
    v1::Failure* failure = info->mutable_load_failure();
    failure->set_code(std::string(outcome_row(facts.load_failure->outcome).code));
    failure->set_message(facts.load_failure->message);
    failure->set_field(facts.load_failure->field);
  }
  // What a client may ask for is known from the configuration before any worker has said it (POOL-ADMIT).
  info->set_engine(facts.engine.empty() ? view.engine : facts.engine);
  info->set_model_name(facts.model_name.empty() ? view.model_name : facts.model_name);
  info->set_engine_version(facts.engine_version);
  info->set_sampler_profile_version(facts.sampler_profile_version);
  info->set_model_digest(facts.model_digest);
  info->set_quant(facts.quant);
  info->set_architecture(facts.architecture);
  info->set_ctx_max(facts.ctx_max);
  info->set_ctx_wanted(facts.ctx_wanted);
  info->set_slots(view.slots > 0 ? view.slots : facts.slots);
  info->set_numeric_class(facts.numeric_class);
  info->set_accelerator(facts.accelerator);
  info->set_device_name(facts.device_name);
  info->set_skipped_devices(facts.skipped_devices);
  info->set_template_available(facts.template_available);
  info->set_template_fixed_bytes(facts.template_fixed_bytes);
  info->set_template_per_message_bytes(facts.template_per_message_bytes);
  info->set_token_bytes_expansion(facts.token_bytes_expansion);
  info->set_cancel(facts.cancel);
  info->set_model_bytes(facts.model_bytes);
  info->set_memory_bytes(facts.memory_bytes);
  info->set_process_id(std::to_string(view.pid));
  info->set_token_ids(facts.token_ids);
  info->set_interruptible_decode(facts.interruptible_decode);
  info->set_prefix_cache(facts.prefix_cache);
  info->set_kv_page_tokens(facts.kv_page_tokens);
  info->set_prefill_tokens_per_second(facts.prefill_tokens_per_second);
  info->set_decode_tokens_per_second(facts.decode_tokens_per_second);
}

v1::AttachEvent manager_hello(ManagerId manager, std::uint64_t boot, const std::vector<ReplicaView>& replicas) {
  v1::AttachEvent event;
  v1::ManagerHello* hello = event.mutable_hello();
  hello->mutable_hello()->set_protocol_major(kProtocolMajor);
  hello->mutable_hello()->set_protocol_minor(kProtocolMinor);
  hello->set_manager_id(manager.to_string());
  hello->set_boot(boot);
  for (const ReplicaView& view : replicas) write_replica(view, hello->add_replicas());
  return event;
}

v1::AttachEvent replica_event(const ReplicaView& view) {
  v1::AttachEvent event;
  write_replica(view, event.mutable_replica());
  return event;
}

v1::AttachEvent load_event(const ReplicaLoaded& loaded) {
  v1::AttachEvent event;
  v1::ReplicaLoad* load = event.mutable_load();
  load->set_replica_id(loaded.replica_id);
  write_pair(loaded.inc, load->mutable_inc());
  load->set_kv_pages_used(loaded.kv_pages_used);
  return event;
}

v1::AttachEvent gone_event(const ReplicaGone& gone) {
  v1::AttachEvent event;
  event.set_gone(gone.replica_id);
  return event;
}

Result<StartOperation, BadMessage> parse_operation(const v1::StartOperationRequest& message) {
  StartOperation out;
  switch (message.kind()) {
    case v1::OPERATION_KIND_DRAIN:
      out.kind = OperationKind::drain;
      break;
    case v1::OPERATION_KIND_UNDRAIN:
      out.kind = OperationKind::undrain;
      break;
    case v1::OPERATION_KIND_RELOAD:
      out.kind = OperationKind::reload;
      break;
    case v1::OPERATION_KIND_RESTART:
      out.kind = OperationKind::restart;
      break;
    default:
      return Err{BadMessage{"kind", "kind: drain, undrain, reload or restart expected"}};
  }
  if (message.deadline_ms() > kLongestMs)
    return Err{BadMessage{"deadline_ms", "deadline_ms: at most " + std::to_string(kLongestMs)}};
  out.pool_id = message.pool_id();
  out.replica_id = message.replica_id();
  out.deadline = Duration::milliseconds(static_cast<std::int64_t>(message.deadline_ms()));
  if (!message.model_path().empty() || !message.model_digest().empty())
    out.model = ModelFile{.path = message.model_path(), .digest = message.model_digest()};
  return out;
}

void write_operation(const Operation& operation, v1::Operation* out) {
  out->set_operation_id(to_string(operation.id));
  out->set_kind(static_cast<v1::OperationKind>(static_cast<int>(operation.kind) + 1));
  out->set_pool_id(operation.pool_id);
  out->set_replica_id(operation.replica_id);
  out->set_state(static_cast<v1::OperationState>(static_cast<int>(operation.state) + 1));
  out->set_step(operation.step);
  out->set_error(operation.error);
  out->set_replicas_done(operation.done);
  out->set_replicas_total(operation.total);
  out->set_jobs_cut(operation.jobs_cut);
}

v1::AttachEvent grant_event(const SendGrant& grant) {
  v1::AttachEvent event;
  v1::Grant* out = event.mutable_grant();
  write_pair(grant.lease, out->mutable_lease());
  out->set_replica_id(grant.replica_id);
  write_pair(grant.inc, out->mutable_inc());
  out->set_slots(grant.slots);
  out->set_secret(bytes_of(grant.secret));
  out->set_update_seq(grant.update_seq);
  out->set_number(grant.number);
  out->set_ttl_ms(static_cast<std::uint64_t>(grant.ttl.ms()));
  return event;
}

v1::AttachEvent earlier_over_event(const SendEarlierOver& over) {
  v1::AttachEvent event;
  v1::EarlierOver* out = event.mutable_earlier_over();
  out->set_replica_id(over.replica_id);
  write_pair(over.inc, out->mutable_inc());
  return event;
}

v1::AttachEvent revoke_event(const SendRevoke& revoke) {
  v1::AttachEvent event;
  v1::Revoke* out = event.mutable_revoke();
  write_pair(revoke.lease, out->mutable_lease());
  out->set_stop(revoke.stop);
  out->set_reason(revoke.reason);
  return event;
}

v1::AttachEvent refused_event(Outcome outcome, const std::string& message, const std::string& field) {
  v1::AttachEvent event;
  v1::Failure* out = event.mutable_refused();
  out->set_code(std::string(outcome_row(outcome).code));
  out->set_message(message);
  out->set_field(field);
  return event;
}

v1::ControlRequest control_hello(ManagerId manager, Incarnation inc, const Secret& control_secret, bool wants_table) {
  v1::ControlRequest request;
  v1::ControlHello* hello = request.mutable_hello();
  hello->set_manager_id(manager.to_string());
  write_pair(inc, hello->mutable_inc());
  hello->set_control_secret(bytes_of(control_secret));
  hello->set_want_table(wants_table);
  return request;
}

v1::ControlRequest table_request(const LeaseTable& table) {
  v1::ControlRequest request;
  v1::LeaseTable* out = request.mutable_table();
  out->set_version_boot(table.version.boot);
  out->set_version_counter(table.version.counter);
  out->set_ttl_ms(static_cast<std::uint64_t>(table.ttl.ms()));
  for (const LeaseEntry& entry : table.leases) {
    v1::LeaseEntry* lease = out->add_leases();
    write_pair(entry.id, lease->mutable_id());
    lease->mutable_holder()->set_orch_id(entry.holder.orch.to_string());
    lease->mutable_holder()->set_orch_boot(entry.holder.boot);
    lease->set_slots(entry.slots);
    lease->set_secret(bytes_of(entry.secret));
    lease->set_renewal_seq(entry.renewal_seq);
    lease->set_stop(entry.stop);
  }
  return request;
}

}  // namespace orch::pool::wire
