// Tenants in the control flow: quotas before and at admission, charges as work is delivered, changes at run time.
#include <algorithm>
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// --- whose a job is ---

bool Orchestrator::may_see(JobId id, const std::optional<std::string>& tenant) const {
  const auto job = jobs_.find(id);
  return job != jobs_.end() && !job->second.being_read_out() &&
         (!tenant || job->second.spec.tenant == tenants_.known_as(*tenant));
}

bool Orchestrator::may_see_decisions(JobId id, const std::optional<std::string>& tenant) const {
  const DecisionRecord* record = decisions_.find(id);
  return record != nullptr && (!tenant || record->tenant == tenants_.known_as(*tenant));
}

// --- quotas ---

void Orchestrator::note_quota(const std::string& tenant, const QuotaRefusal& refusal) {
  emit(NotedQuota{tenant, refusal.quota, !tenants_.config().dry_run});
}

Failure Orchestrator::quota_failure(const std::string& tenant, const QuotaRefusal& refusal) const {
  Failure failure;
  const std::string name = quota_name(refusal.quota);
  failure.message = "the quota " + name + " of tenant " + tenant + " is " + std::to_string(refusal.limit);
  if (refusal.never) {  // waiting does not help
    failure.outcome = Outcome::INVALID_PARAMS;
    failure.field = "max_tokens";
    failure.message += "; prompt and max_tokens together are more";
    return failure;
  }
  failure.outcome = Outcome::ADMISSION_REJECT;
  failure.field = name;
  failure.policy_label = "reject";
  // One of the tenant's own jobs has to end first, and a head does not say of which model it will ask; its bucket knows
  // its own time.
  const std::int64_t live = std::max<std::int64_t>(quotas_.live(tenant), 1);
  const auto latest = latest_flows_.find(tenant);
  const FlowId flow = latest == latest_flows_.end() ? FlowId{} : latest->second;
  failure.retry_after = refusal.retry_after.value_or(
      std::max(times_.service(flow.domain, flow.priority) / live, Duration::milliseconds(1)));
  return failure;
}

// OC-TENANT-1005
std::optional<Failure> Orchestrator::class_failure(const JobSpec& spec) const {
  if (spec.priority >= tenants_.policy(spec.tenant).highest) return std::nullopt;
  Failure failure;
  failure.outcome = Outcome::FORBIDDEN;
  failure.message = "tenant " + spec.tenant + " may not ask for priority interactive";
  failure.field = "priority";
  return failure;
}

// The prompt as counted, or four bytes a token, and everything it may write; settled at the end.
std::optional<Failure> Orchestrator::reserve_tokens(Job& job) {
  const std::uint64_t tokens = expected_work(job).input + job.spec.max_tokens;
  const std::optional<QuotaRefusal> refusal =
      quotas_.reserve(job.spec.tenant, tenants_, static_cast<std::int64_t>(tokens), job.quota, now_);
  if (!refusal) return std::nullopt;
  note_quota(job.spec.tenant, *refusal);
  if (tenants_.config().dry_run) return std::nullopt;
  return quota_failure(job.spec.tenant, *refusal);
}

// --- charges (F2) ---

std::uint32_t Orchestrator::weight_of(const std::string& tenant) const { return tenants_.weight(tenant); }

void Orchestrator::start_meter(Job& job) {
  scheduler_.dispatched(job.flow, expected_work(job), job.meter);
  ++running_[job.spec.tenant];
}

void Orchestrator::stop_meter(Job& job) {
  if (!job.meter.open) return;
  scheduler_.closed(job.flow, job.meter);
  const auto running = running_.find(job.spec.tenant);
  if (--running->second == 0) running_.erase(running);
}

void Orchestrator::note_input(Job& job, std::uint32_t tokens, std::uint32_t cached) {
  const std::uint64_t charged = scheduler_.delivered_input(job.flow, tokens > cached ? tokens - cached : 0, job.meter);
  if (charged > 0) shares_.add(job.spec.tenant, job.spec.priority, charged, now_);
}

void Orchestrator::note_output(Job& job, std::uint64_t tokens) {
  if (mutated(Mutation::forget_charge)) return;
  if (mutated(Mutation::charge_twice)) tokens *= 2;
  const std::uint64_t charged = scheduler_.delivered_output(job.flow, tokens, job.meter);
  if (charged > 0) shares_.add(job.spec.tenant, job.spec.priority, charged, now_);
}

// At its cap: skipped, and outside the bound.
bool Orchestrator::capped(const std::string& tenant) const {
  const std::int64_t most = tenants_.policy(tenant).running_max;
  if (most == 0) return false;
  const auto running = running_.find(tenant);
  return running != running_.end() && running->second >= most;
}

// --- several gateways (F4) ---

FairReport Orchestrator::own_report() const {
  FairReport report;
  for (const auto& [flow, own] : scheduler_.own_counters()) {
    if (report.rows.size() >= kFairRowsMax) break;
    report.rows.push_back({flow.domain, flow.priority == Priority::batch, flow.tenant, own.delivered, own.reserved,
                           own.released, own.lift, own.waiting, own.inside});
  }
  for (const auto& [tenant, use] : quotas_.own_use())
    report.uses.push_back({tenant, use.requests, use.tokens, use.live});
  report.refused = quarantine_.told(now_);
  report.number = fair_version();
  return report;
}

void Orchestrator::send_fair() {
  if (drained_) return;
  for (auto& [id, link] : fleet_.links()) {
    if (link.fair_told == fair_version()) continue;
    if (link.fair_told != 0 && link.fair_told_at + config_.limits.fair_interval > now_) continue;
    link.fair_told = fair_version();
    link.fair_told_at = now_;
    emit(SendFair{id, own_report()});
  }
}

void Orchestrator::on(const OthersReported& event) {
  if (!fleet_.manager_of(event.link)) {
    ++ignored_.unknown_link;
    return;
  }
  others_heard_at_ = now_;
  hear_refused(event.others.refused);
  for (const StartReport& start : event.others.starts) hear_start(others_.hear(event.link, start));
  // OC-QUOTA-1005. What it does not name has not changed: that is a word too. Of one that knows nobody it is none.
  if (others_.starts() > 0 && !mutated(Mutation::forget_others_use)) quotas_.merge(now_);
  ++load_version_;
}

void Orchestrator::hear_start(const OthersNews& news) {
  for (const FairRow& row : news.rows) {
    if (mutated(Mutation::forget_others_service)) break;
    const std::string tenant = row.tenant.empty() ? std::string() : tenants_.admit(row.tenant);
    const FlowCounters counters{row.delivered, row.reserved, row.released, row.lift, row.waiting, row.inside};
    scheduler_.others_say({row.domain, row.batch ? Priority::batch : Priority::interactive, tenant}, counters,
                          weight_of(tenant));
  }
  for (const OthersUse& use : news.uses) {
    if (mutated(Mutation::forget_others_use)) break;
    quotas_.others_use(tenants_.admit(use.tenant), tenants_, use, now_);
  }
}

// --- changes at run time (OC-TENANT-1003) ---

void Orchestrator::on(const TenantsChanged& event) {
  std::optional<TenantsFault> fault = check_tenants(event.config);
  if (!fault) fault = tenants_.check_room(event.config);
  if (fault) {
    Failure failure;
    failure.outcome = Outcome::INVALID_PARAMS;
    failure.message = fault->message;
    failure.field = fault->field;
    emit(TenantsReply{event.request, std::move(failure)});
    return;
  }
  tenants_.replace(event.config);
  quotas_.replace(tenants_, now_);
  for (const std::string& name : tenants_.names()) {
    scheduler_.set_weight(name, tenants_.weight(name));
    queue_.set_weight(name, tenants_.weight(name));
  }
  ++load_version_;
  emit(TenantsReply{event.request, std::nullopt});
}

}  // namespace orch::gateway
