#include "sim/quota_watch.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace orch::sim {
namespace {

double seconds(Duration duration) { return static_cast<double>(duration.ns) / 1e9; }
double burst(const gateway::TenantQuotas& quotas) {
  return static_cast<double>(quotas.request_burst > 0 ? quotas.request_burst : quotas.requests_per_second);
}

}  // namespace

QuotaWatch::QuotaWatch(World& world, std::string who, const gateway::TenantsConfig& config, Instant now)
    : world_(world), who_(std::move(who)) {
  put_in_force(config, now);
}

void QuotaWatch::put_in_force(const gateway::TenantsConfig& config, Instant now) {
  config_ = config;
  since_ = now;
  ++epoch_;
  for (auto& [name, of] : tenants_) fit(name, of, now);
}

void QuotaWatch::fit(const std::string& name, Tenant& of, Instant now) const {
  const auto listed = std::find_if(config_.tenants.begin(), config_.tenants.end(),
                                   [&](const gateway::TenantPolicy& each) { return each.name == name; });
  of.quotas = listed == config_.tenants.end() ? config_.defaults.quotas : listed->quotas;
  of.requests = of.requests_then = of.tokens_out = 0;
  of.left = burst(of.quotas);
  of.then = now;
}

QuotaWatch::Tenant& QuotaWatch::tenant(const std::string& name, Instant now) {
  const auto [it, fresh] = tenants_.try_emplace(name);
  if (fresh) fit(name, it->second, now);
  return it->second;
}

void QuotaWatch::fault(const std::string& name, const std::string& quota, double is, double bound) const {
  world_.violation(who_ + ": tenant " + name + " has " + std::to_string(is) + " of " + quota + ", its quota allows " +
                   std::to_string(bound));
}

void QuotaWatch::check_requests(const std::string& name, const Tenant& of, Instant now) const {
  constexpr double kRounding = 1e-3;
  const auto rate = static_cast<double>(of.quotas.requests_per_second);
  if (rate == 0) return;
  const auto all = static_cast<double>(of.requests);
  const double allowed = burst(of.quotas) + rate * seconds(now - since_);
  if (all > allowed + kRounding) return fault(name, "requests_per_second", all, allowed);
  if (config_.gateways == 1) return;
  const auto gateways = static_cast<double>(config_.gateways);
  const auto fresh = static_cast<double>(of.requests - of.requests_then);
  const double share = std::max(of.left, 0.0) / gateways + rate / gateways * seconds(now - of.then);
  if (fresh > share + kRounding) fault(name, "requests_per_second since the last word of others", fresh, share);
}

QuotaWatch::Taken QuotaWatch::take(const std::string& name, Instant now) {
  Tenant& of = tenant(name, now);
  ++of.requests;
  ++of.live;
  const Taken taken{name, epoch_, false, of.quotas.requests_per_second > 0};
  if (config_.dry_run) return taken;
  check_requests(name, of, now);
  if (of.live > of.quotas.concurrent_jobs)
    fault(name, "concurrent_jobs", static_cast<double>(of.live), static_cast<double>(of.quotas.concurrent_jobs));
  return taken;
}

// A refusal behind the quota gives everything back, whatever quotas came into force meanwhile.
void QuotaWatch::give_back(const Taken& taken) {
  Tenant& of = tenants_.at(taken.tenant);
  --of.live;
  if (taken.epoch == epoch_ || taken.metered) --of.requests;
}

void QuotaWatch::returned(JobId id) {
  const auto job = jobs_.find(id);
  if (job == jobs_.end() || job->second.admitted) return;
  give_back(job->second);
  jobs_.erase(job);
}

// By its head; its body makes a job of it, or nothing comes of it.
void QuotaWatch::let_in(const gateway::RequestHead& head, const gateway::Effects& effects, Instant now) {
  for (const gateway::Effect& effect : effects) {
    const auto* reply = std::get_if<gateway::HeadReply>(&effect);
    if (reply != nullptr && !reply->failure) requests_[head.request] = take(head.tenant, now);
  }
}

void QuotaWatch::submitted(const gateway::Submit& submit, const gateway::Orchestrator& core, Instant now) {
  const auto reserved = requests_.extract(submit.request);
  const gateway::Job* job = jobs_.contains(submit.spec.id) ? nullptr : core.find_job(submit.spec.id);
  if (job != nullptr && job->submitted_at == now) {
    jobs_[submit.spec.id] = reserved.empty() ? take(submit.spec.tenant, now) : reserved.mapped();
  } else if (!reserved.empty()) {
    give_back(reserved.mapped());
  }
}

void QuotaWatch::ended(const gateway::NotedEnded& ended, Instant now) {
  const auto job = jobs_.find(ended.job);
  if (job == jobs_.end()) return;
  const Taken was = job->second;
  jobs_.erase(job);
  Tenant& of = tenants_.at(was.tenant);
  --of.live;
  if (was.epoch != epoch_) return;
  of.tokens_out += ended.tokens_out;
  const auto rate = static_cast<double>(of.quotas.tokens_per_minute);
  const double allowed = rate + rate / 60 * seconds(now - since_);
  const auto written = static_cast<double>(of.tokens_out);
  if (rate > 0 && !config_.dry_run && written > allowed) fault(was.tenant, "tokens_per_minute", written, allowed);
}

// With its first word a start tells of all its past, of which nothing is counted here.
void QuotaWatch::heard(const StartReport& report, Instant now) {
  const bool first = starts_.insert(report.start).second;
  for (const UseRow& row : report.uses) {
    Tenant& of = tenant(row.tenant, now);
    std::int64_t& said = of.said[report.start];
    if (!first) of.others += std::max<std::int64_t>(row.requests - said, 0);
    said = std::max(said, row.requests);
  }
}

void QuotaWatch::heard_all(Instant now) {
  if (starts_.empty()) return;
  for (auto& [name, of] : tenants_) {
    const double most = burst(of.quotas);
    const auto rate = static_cast<double>(of.quotas.requests_per_second);
    const auto used = static_cast<double>(of.requests - of.requests_then + std::exchange(of.others, 0));
    of.left = std::max(std::min(most, of.left + rate * seconds(now - of.then)) - used, -most);
    of.requests_then = of.requests;
    of.then = now;
  }
}

void QuotaWatch::after(const gateway::Event& event, const gateway::Effects& effects, const gateway::Orchestrator& core,
                       bool attached, Instant now) {
  if (const auto* others = std::get_if<gateway::OthersReported>(&event); others != nullptr && attached) {
    for (const StartReport& start : others->others.starts) heard(start, now);
    heard_all(now);
  }
  if (const auto* head = std::get_if<gateway::RequestHead>(&event)) let_in(*head, effects, now);
  if (const auto* submit = std::get_if<gateway::Submit>(&event)) submitted(*submit, core, now);
  std::erase_if(requests_, [&](const auto& entry) {  // dropped, or given up
    const bool over = !core.open_requests().all().contains(entry.first);
    if (over) give_back(entry.second);
    return over;
  });
  for (const gateway::Effect& effect : effects) {
    if (const auto* admitted = std::get_if<gateway::NotedAdmitted>(&effect)) {
      if (const auto job = jobs_.find(admitted->job); job != jobs_.end()) job->second.admitted = true;
    } else if (const auto* refused = std::get_if<gateway::NotedRefused>(&effect)) {
      if (refused->job && core.find_job(*refused->job) == nullptr) returned(*refused->job);
    } else if (const auto* over = std::get_if<gateway::NotedEnded>(&effect)) {
      ended(*over, now);
    } else if (const auto* reply = std::get_if<gateway::TenantsReply>(&effect); reply != nullptr && !reply->failure) {
      put_in_force(core.tenants().config(), now);
    }
  }
}

}  // namespace orch::sim
