// What the tenants of one life of an orchestratord were let in, counted from outside, against their quotas (I6,
// OC-QUOTA-1001, 1003, 1005): from the step on that put a quota in force, and for requests let in since then,
//   requests <= burst + rate x time;
//   with K gateways, between two words of the others: requests <= (what the last word left) / K + rate / K x time,
//   where a word leaves: burst and rate since, less the own requests and what the others' counters grew by, start by
//   start, whichever manager told it;
//   whenever one is let in the tenant's live jobs and requests <= concurrent_jobs;
//   tokens written by jobs that ended <= tokens a minute, once, + that rate x time.
// Over all gateways nothing smaller holds: what nobody has heard of yet each may use again. A dry run holds nobody back
// and is not judged.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "orchestratord/core/orchestrator.h"
#include "sim/world.h"

namespace orch::sim {

class QuotaWatch {
 public:
  // `config`: what the life begins with.
  QuotaWatch(World& world, std::string who, const gateway::TenantsConfig& config, Instant now);

  // Behind each step. `now` is local; `attached`: the event's link leads to a manager.
  void after(const gateway::Event& event, const gateway::Effects& effects, const gateway::Orchestrator& core,
             bool attached, Instant now);

 private:
  struct Taken {  // by a request, then by its job
    std::string tenant;
    std::uint64_t epoch = 0;  // the quotas it was let in under
    bool admitted = false;
    bool metered = false;  // a rate of requests was in force then
  };
  struct Tenant {
    gateway::TenantQuotas quotas;
    std::int64_t requests = 0;  // since the quotas came into force
    std::int64_t tokens_out = 0;
    std::int64_t live = 0;
    std::map<Holder, std::int64_t> said;  // requests, by start
    std::int64_t others = 0;              // requests of theirs since the last word
    // At the last word, or when the quotas came into force.
    double left = 0;
    std::int64_t requests_then = 0;
    Instant then;
  };
  void put_in_force(const gateway::TenantsConfig& config, Instant now);
  Tenant& tenant(const std::string& name, Instant now);
  void fit(const std::string& name, Tenant& of, Instant now) const;
  Taken take(const std::string& name, Instant now);
  void give_back(const Taken& taken);
  void returned(JobId id);
  void let_in(const gateway::RequestHead& head, const gateway::Effects& effects, Instant now);
  void submitted(const gateway::Submit& submit, const gateway::Orchestrator& core, Instant now);
  void ended(const gateway::NotedEnded& ended, Instant now);
  void heard(const StartReport& report, Instant now);
  void heard_all(Instant now);
  void check_requests(const std::string& name, const Tenant& of, Instant now) const;
  void fault(const std::string& name, const std::string& quota, double is, double bound) const;

  World& world_;
  std::string who_;
  gateway::TenantsConfig config_;
  Instant since_;
  std::uint64_t epoch_ = 0;
  std::map<std::string, Tenant> tenants_;
  std::map<RequestId, Taken> requests_;  // whose bodies are not here
  std::map<JobId, Taken> jobs_;          // live ones
  std::set<Holder> starts_;              // heard of
};

}  // namespace orch::sim
