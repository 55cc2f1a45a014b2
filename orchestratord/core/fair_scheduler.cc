#include "orchestratord/core/fair_scheduler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/base/check.h"

namespace orch::gateway {

FairScheduler::Domain& FairScheduler::domain(const std::string& name) {
  const auto known = domains_.find(name);
  if (known == domains_.end() && domains_.size() >= domains_max_) {
    auto oldest = domains_.end();
    for (auto it = domains_.begin(); it != domains_.end(); ++it) {
      const bool idle = it->second.in_flight == 0 && it->second.classes[0].self.waiting == 0 &&
                        it->second.classes[1].self.waiting == 0;
      if (idle && (oldest == domains_.end() || it->second.used < oldest->second.used)) oldest = it;
    }
    if (oldest != domains_.end()) domains_.erase(oldest);  // else: as many domains as the fleet has models at work
  }
  Domain& out = known == domains_.end() ? domains_[name] : known->second;
  for (const Priority priority : kPriorities)
    out.classes[index(priority)].self.weight = class_weights_[index(priority)];
  out.used = ++serial_;
  return out;
}

const FairScheduler::Class* FairScheduler::find_class(const std::string& domain, Priority priority) const {
  const auto it = domains_.find(domain);
  return it == domains_.end() ? nullptr : &it->second.classes[index(priority)];
}

const FairScheduler::Share* FairScheduler::find(const FlowId& flow) const {
  const Class* of = find_class(flow.domain, flow.priority);
  if (of == nullptr) return nullptr;
  if (flow.tenant.empty()) return &of->self;
  const auto it = of->tenants.find(flow.tenant);
  return it == of->tenants.end() ? nullptr : &it->second;
}

template <typename Change>
void FairScheduler::alter(Class& of, Tenants::iterator tenant, Change&& change) {
  ++version_;
  Share& share = tenant->second;
  if (share.others.inside) of.v_elsewhere.erase(of.v_elsewhere.find(share.v()));
  if (share.waiting > 0) {
    of.by_level.erase({share.level(), share.since, nullptr});
    of.weight_sum -= share.weight;
    if (!share.outside) {
      of.by_v.erase({share.v(), share.since, nullptr});
      of.weights.erase(of.weights.find(share.weight_least));
    }
  }
  change(share);
  if (share.others.inside) of.v_elsewhere.insert(share.v());
  if (share.waiting > 0) {
    of.by_level.insert({share.level(), share.since, &tenant->first});
    of.weight_sum += share.weight;
    if (!share.outside) {
      of.by_v.insert({share.v(), share.since, &tenant->first});
      of.weights.insert(share.weight_least);
    }
  }
}

// F3. The floor is the least v of those that wait inside the bound, here or at another gateway; a tenant that was
// skipped lags for reasons of its own and is no measure. With nobody waiting it is the highest v at which somebody
// inside the bound was served: the last one may have lagged, and a floor that goes back hands out credit.
std::int64_t FairScheduler::floor_of(const Class& of) {
  if (of.by_v.empty() && of.v_elsewhere.empty()) return of.served_v;
  if (of.by_v.empty()) return *of.v_elsewhere.begin();
  if (of.v_elsewhere.empty()) return of.by_v.begin()->level;
  return std::min(of.by_v.begin()->level, *of.v_elsewhere.begin());
}

void FairScheduler::waits(const FlowId& flow, std::uint32_t weight) {
  ORCH_CHECK(weight > 0 && !flow.tenant.empty());
  Domain& at = domain(flow.domain);
  Class& of = at.classes[index(flow.priority)];
  const auto tenant = of.tenants.try_emplace(flow.tenant).first;
  if (of.self.waiting++ == 0 && !of.self.others.waiting) {
    const Share& other = at.classes[1 - index(flow.priority)].self;
    const bool backlogged = (other.waiting > 0 && !other.outside) || other.others.inside;
    of.self.raise_to(backlogged ? other.v() : at.served_v);
    of.self.outside = false;
  }
  const bool fresh = tenant->second.waiting == 0;
  const std::int64_t floor = floor_of(of);
  alter(of, tenant, [&](Share& share) {
    ++share.waiting;
    if (!fresh) return;
    share.weight = weight;
    share.weight_least = share.period == of.period ? std::min(share.weight_least, weight) : weight;
    share.period = of.period;
    share.since = ++serial_;
    share.outside = false;
    if (!share.others.waiting && mutation_ != Mutation::skip_lift) share.raise_to(floor);
  });
}

void FairScheduler::leaves(const FlowId& flow) {
  Class& of = domain(flow.domain).classes[index(flow.priority)];
  const auto tenant = of.tenants.find(flow.tenant);
  ORCH_CHECK(tenant != of.tenants.end() && tenant->second.waiting > 0);
  alter(of, tenant, [](Share& share) { --share.waiting; });
  --of.self.waiting;
  rest(domain(flow.domain));
}

// A class at rest has nobody to be fair between: the distances it ended with are not carried into the next busy period,
// nor are the largest charge and the smallest weight that bounded them.
void FairScheduler::rest(Domain& at) {
  for (Class& of : at.classes) {
    if (of.self.waiting > 0 || of.self.in_flight > 0) continue;
    of.served_v = std::max(of.served_v, of.v_max);
    of.charge_max = 0;
    ++of.period;
  }
  if (at.in_flight > 0 || at.classes[0].self.waiting > 0 || at.classes[1].self.waiting > 0) return;
  at.served_v = std::max(at.served_v, at.v_max);
  at.in_flight_max = 0;
  at.charge_max = 0;
}

void FairScheduler::set_weight(const std::string& tenant, std::uint32_t weight) {
  ORCH_CHECK(weight > 0);
  for (auto& [name, at] : domains_) {
    for (Class& of : at.classes) {
      const auto it = of.tenants.find(tenant);
      if (it == of.tenants.end()) continue;
      alter(of, it, [&](Share& share) {
        share.weight = weight;
        share.weight_least = std::min(share.weight_least, weight);
      });
    }
  }
}

std::array<Priority, 2> FairScheduler::order(const std::string& domain) const {
  const auto it = domains_.find(domain);
  if (it != domains_.end() && it->second.classes[1].self.level() < it->second.classes[0].self.level())
    return {Priority::batch, Priority::interactive};
  return {Priority::interactive, Priority::batch};
}

void FairScheduler::skipped(const FlowId& flow) {
  Class& of = domain(flow.domain).classes[index(flow.priority)];
  const auto tenant = of.tenants.find(flow.tenant);
  if (tenant == of.tenants.end() || tenant->second.outside) return;
  alter(of, tenant, [](Share& share) { share.outside = true; });
}

void FairScheduler::class_skipped(const std::string& name, Priority priority) {
  domain(name).classes[index(priority)].self.outside = true;
}

// --- charges (F2) ---

void FairScheduler::note_charge(Domain& at, Class& of, std::uint64_t tokens) {
  of.charge_max = std::max(of.charge_max, tokens);
  at.charge_max = std::max(at.charge_max, tokens);
}

void FairScheduler::dispatched(const FlowId& flow, const ExpectedWork& work, Meter& meter) {
  ORCH_CHECK(!meter.open);
  Domain& at = domain(flow.domain);
  Class& of = at.classes[index(flow.priority)];
  const auto tenant = of.tenants.try_emplace(flow.tenant).first;
  const auto beyond = [](std::uint64_t whole, std::uint64_t part) { return whole > part ? whole - part : 0; };
  meter.open = true;
  meter.input_seen = false;
  meter.output_seen = work.resumed;
  meter.output_charged = std::max(meter.output_charged, work.resumed);
  meter.output_max = std::max(work.output, work.output_max);
  meter.weight = tenant->second.weight;
  meter.input_reserved = beyond(work.input, meter.input_charged);
  meter.output_reserved = beyond(work.output, meter.output_charged);
  const std::uint64_t tokens = meter.input_reserved + 2 * meter.output_reserved;
  meter.tenant_rho = units(tokens, meter.weight);
  meter.class_rho = units(tokens, of.self.weight);

  note_charge(at, of, work.input + 2 * meter.output_max);
  at.in_flight_max = std::max(at.in_flight_max, ++at.in_flight);
  if (!of.self.outside) at.served_v = std::max(at.served_v, of.self.v());
  if (!tenant->second.outside) of.served_v = std::max(of.served_v, tenant->second.v());
  alter(of, tenant, [&](Share& share) {
    share.reserved += meter.tenant_rho;
    ++share.in_flight;
  });
  of.self.reserved += meter.class_rho;
  ++of.self.in_flight;
}

void FairScheduler::charge(const FlowId& flow, std::uint64_t tokens) {
  Domain& at = domain(flow.domain);
  Class& of = at.classes[index(flow.priority)];
  alter(of, of.tenants.find(flow.tenant), [&](Share& share) {
    share.delivered += units(tokens, share.weight);
    of.v_max = std::max(of.v_max, share.v());
  });
  of.self.delivered += units(tokens, of.self.weight);
  at.v_max = std::max(at.v_max, of.self.v());
}

// Out of the reservation, at the weight it was made with; what integers leave over goes at the close.
void FairScheduler::drop(const FlowId& flow, std::uint64_t tokens, Meter& meter) {
  Class& of = domain(flow.domain).classes[index(flow.priority)];
  const std::int64_t of_tenant = std::min(meter.tenant_rho, units(tokens, meter.weight));
  const std::int64_t of_class = std::min(meter.class_rho, units(tokens, of.self.weight));
  meter.tenant_rho -= of_tenant;
  meter.class_rho -= of_class;
  alter(of, of.tenants.find(flow.tenant), [&](Share& share) { share.released += of_tenant; });
  of.self.released += of_class;
}

std::uint64_t FairScheduler::delivered_input(const FlowId& flow, std::uint64_t uncached, Meter& meter) {
  if (!meter.open || meter.input_seen) return 0;
  meter.input_seen = true;
  Domain& at = domain(flow.domain);
  note_charge(at, at.classes[index(flow.priority)], uncached + 2 * meter.output_max);
  drop(flow, std::exchange(meter.input_reserved, 0), meter);
  const std::uint64_t fresh = uncached > meter.input_charged ? uncached - meter.input_charged : 0;
  meter.input_charged += fresh;
  if (fresh > 0) charge(flow, fresh);
  return fresh;
}

std::uint64_t FairScheduler::delivered_output(const FlowId& flow, std::uint64_t tokens, Meter& meter) {
  if (!meter.open || tokens == 0) return 0;
  meter.output_seen += tokens;
  if (meter.output_seen <= meter.output_charged) return 0;  // recomputed
  const std::uint64_t fresh = meter.output_seen - meter.output_charged;
  meter.output_charged = meter.output_seen;
  const std::uint64_t reserved = std::min(fresh, meter.output_reserved);
  meter.output_reserved -= reserved;
  drop(flow, 2 * reserved, meter);
  charge(flow, 2 * fresh);
  return 2 * fresh;
}

void FairScheduler::closed(const FlowId& flow, Meter& meter) {
  if (!meter.open) return;
  meter.open = false;
  Domain& at = domain(flow.domain);
  Class& of = at.classes[index(flow.priority)];
  const std::uint64_t charged = meter.input_charged + 2 * meter.output_charged;
  note_charge(at, of, charged);
  alter(of, of.tenants.find(flow.tenant), [&](Share& share) {
    share.released += std::exchange(meter.tenant_rho, 0);
    --share.in_flight;
  });
  of.self.released += std::exchange(meter.class_rho, 0);
  --of.self.in_flight;
  --at.in_flight;
  rest(at);
}

// --- several gateways (F4) ---

template <typename Visit>
void FairScheduler::each_share(Visit&& visit) const {
  for (const auto& [name, at] : domains_) {
    for (const Priority priority : kPriorities) {
      const Class& of = at.classes[index(priority)];
      if (of.tenants.empty()) continue;
      visit(FlowId{name, priority, {}}, of.self);
      for (const auto& [tenant, share] : of.tenants) visit(FlowId{name, priority, tenant}, share);
    }
  }
}

std::vector<std::pair<FlowId, FlowCounters>> FairScheduler::own_counters() const {
  std::vector<std::pair<FlowId, FlowCounters>> out;
  each_share([&](FlowId flow, const Share& share) { out.emplace_back(std::move(flow), share.own()); });
  return out;
}

// F3: whoever was served elsewhere was served at what it had before, or above.
void FairScheduler::note_others(std::int64_t before, const Share& now, std::int64_t& served_v, std::int64_t& v_max) {
  if (now.v() > before) served_v = std::max(served_v, before);
  v_max = std::max(v_max, now.v());
}

void FairScheduler::others_say(const FlowId& flow, const FlowCounters& others, std::uint32_t weight) {
  others_ = true;
  Domain& at = domain(flow.domain);
  Class& of = at.classes[index(flow.priority)];
  const auto merge = [&](Share& share) {
    FlowCounters& known = share.others;
    known.delivered = std::max(known.delivered, others.delivered);
    known.reserved = others.reserved;
    known.released = std::min(others.released, others.reserved);
    known.waiting = others.waiting;
    known.inside = others.inside;
    share.lift = std::max(share.lift, others.lift);
  };
  const std::uint64_t before = version_;
  if (flow.tenant.empty()) {
    const std::int64_t v = of.self.v();
    merge(of.self);
    note_others(v, of.self, at.served_v, at.v_max);
    return rest(at);
  }
  const auto [tenant, fresh] = of.tenants.try_emplace(flow.tenant);
  if (fresh) tenant->second.weight = tenant->second.weight_least = std::max(weight, 1U);
  const std::int64_t v = tenant->second.v();
  alter(of, tenant, merge);
  note_others(v, tenant->second, of.served_v, of.v_max);
  rest(at);
  version_ = before;  // not ours to tell; a lift was the others' already
}

// --- inspection ---

FairnessGap FairScheduler::gap(const std::string& domain, Priority priority) const {
  FairnessGap out;
  const auto it = domains_.find(domain);
  if (it == domains_.end()) return out;
  const Class& of = it->second.classes[index(priority)];
  out.tenants = static_cast<std::uint32_t>(of.by_v.size());
  if (of.by_v.empty()) return out;
  out.gap = static_cast<double>(of.by_v.rbegin()->level - of.by_v.begin()->level) / static_cast<double>(kUnit);
  out.bound =
      static_cast<double>(it->second.in_flight_max + 1) * static_cast<double>(of.charge_max) / *of.weights.begin();
  return out;
}

std::vector<FlowStanding> FairScheduler::standings() const {
  std::vector<FlowStanding> out;
  each_share([&](FlowId flow, const Share& share) {
    out.push_back({std::move(flow), share.weight, static_cast<double>(share.v()) / static_cast<double>(kUnit),
                   static_cast<double>(share.rho()) / static_cast<double>(kUnit), share.waiting, share.in_flight,
                   share.outside});
  });
  return out;
}

std::int64_t FairScheduler::v(const FlowId& flow) const {
  const Share* share = find(flow);
  return share == nullptr ? 0 : share->v();
}

std::int64_t FairScheduler::rho(const FlowId& flow) const {
  const Share* share = find(flow);
  return share == nullptr ? 0 : share->rho();
}

double FairScheduler::weight_share(const FlowId& flow, std::uint32_t weight) const {
  const Class* of = find_class(flow.domain, flow.priority);
  const Share* share = find(flow);
  std::uint64_t others = of == nullptr ? 0 : of->weight_sum;
  if (share != nullptr && share->waiting > 0) others -= share->weight;
  return static_cast<double>(weight) / static_cast<double>(weight + others);
}

std::string FairScheduler::check_class(const Domain& domain, const Class& of) {
  std::uint64_t waiting = 0;
  std::uint64_t in_flight = 0;
  std::uint64_t weights = 0;
  std::size_t backlogged = 0;
  std::size_t inside = 0;
  std::size_t elsewhere = 0;
  for (const auto& [name, share] : of.tenants) {
    const std::string who = " (tenant " + name + ")";
    waiting += share.waiting;
    in_flight += share.in_flight;
    if (share.reserved < share.released) return "fairness: rho is negative" + who;
    if (share.others.inside && !of.v_elsewhere.contains(share.v())) return "fairness: v elsewhere not in order" + who;
    elsewhere += share.others.inside ? 1 : 0;
    if (share.in_flight == 0 && share.reserved != share.released) return "fairness: rho without a dispatch" + who;
    if (share.waiting == 0) continue;
    ++backlogged;
    weights += share.weight;
    inside += share.outside ? 0 : 1;
    if (!of.by_level.contains({share.level(), share.since, nullptr})) return "fairness: not in order" + who;
    if (!share.outside && !of.by_v.contains({share.v(), share.since, nullptr})) return "fairness: v not in order" + who;
  }
  if (waiting != of.self.waiting || in_flight != of.self.in_flight || weights != of.weight_sum ||
      backlogged != of.by_level.size() || inside != of.by_v.size() || inside != of.weights.size() ||
      elsewhere != of.v_elsewhere.size()) {
    return "fairness: sums are wrong";
  }
  if (of.self.reserved < of.self.released) return "fairness: rho of a class is negative";
  if (domain.in_flight_max < domain.in_flight) return "fairness: more in flight than ever";
  return {};
}

// F5 for every pair; with many tenants for the pair that is furthest apart, at the smallest weight.
std::string FairScheduler::check_bound(const Domain& domain, const Class& of) {
  constexpr std::size_t kPairsMax = 32;
  const std::int64_t most = static_cast<std::int64_t>((domain.in_flight_max + 1) * of.charge_max) * kUnit;
  const auto fault = [&](const std::string& a, const std::string& b, std::int64_t gap, std::int64_t bound) {
    return "F5: tenants " + a + " and " + b + " are " + std::to_string(gap / kUnit) + " apart, B1 is " +
           std::to_string(bound / kUnit);
  };
  if (of.by_v.size() > kPairsMax) {
    const std::int64_t gap = of.by_v.rbegin()->level - of.by_v.begin()->level;
    const std::int64_t bound = most / *of.weights.begin();
    return gap <= bound ? std::string() : fault(*of.by_v.begin()->tenant, *of.by_v.rbegin()->tenant, gap, bound);
  }
  for (auto low = of.by_v.begin(); low != of.by_v.end(); ++low) {
    for (auto high = std::next(low); high != of.by_v.end(); ++high) {
      const std::uint32_t weight =
          std::min(of.tenants.at(*low->tenant).weight_least, of.tenants.at(*high->tenant).weight_least);
      if (high->level - low->level > most / weight)
        return fault(*low->tenant, *high->tenant, high->level - low->level, most / weight);
    }
  }
  return {};
}

std::string FairScheduler::check_invariants() const {
  for (const auto& [name, at] : domains_) {
    for (const Class& of : at.classes) {
      if (std::string fault = check_class(at, of); !fault.empty()) return fault.append(" in ").append(name);
      if (others_) continue;
      if (std::string fault = check_bound(at, of); !fault.empty()) return fault.append(" in ").append(name);
    }
    if (at.in_flight != at.classes[0].self.in_flight + at.classes[1].self.in_flight)
      return "fairness: calls in flight do not add up in " + name;
    const Share& interactive = at.classes[0].self;
    const Share& batch = at.classes[1].self;
    if (others_ || interactive.waiting == 0 || batch.waiting == 0 || interactive.outside || batch.outside) continue;
    const std::int64_t gap = std::max(interactive.v() - batch.v(), batch.v() - interactive.v());
    const std::int64_t bound = static_cast<std::int64_t>((at.in_flight_max + 1) * at.charge_max) * kUnit /
                               std::min(interactive.weight, batch.weight);
    if (gap > bound) return "F5: the classes are " + std::to_string(gap / kUnit) + " apart in " + name;
  }
  return {};
}

}  // namespace orch::gateway
