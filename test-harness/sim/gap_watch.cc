#include "sim/gap_watch.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace orch::sim {
namespace {

constexpr Duration kInterval = Duration::milliseconds(100);  // of the reports
// Two intervals of clocks up to a tenth slow, the ways of two messages and a step behind each.
constexpr Duration kOldest = Duration::milliseconds(250);
double tokens(std::int64_t units) { return static_cast<double>(units) / static_cast<double>(gateway::kUnit); }

}  // namespace

void GapTotals::add(const GapTotals& other) {
  looks += other.looks;
  contests += other.contests;
  widest = std::max(widest, other.widest);
  widest_later = std::max(widest_later, other.widest_later);
  contended = contended + other.contended;
  judged = judged + other.judged;
  judged_later = judged_later + other.judged_later;
  oldest = std::max(oldest, other.oldest);
}

// --- what the cores say ---

std::int64_t GapWatch::Tenant::v() const {
  std::int64_t sum = delivered;
  std::int64_t lift = 0;
  for (const Cell& cell : cells) {
    sum += cell.delivered;
    lift = std::max(lift, cell.lift);
  }
  return sum + lift;
}

bool GapWatch::Tenant::inside() const {
  bool waits = false;
  for (const Cell& cell : cells) {
    if (cell.waiting && cell.outside) return false;
    waits = waits || cell.waiting;
  }
  return waits;
}

std::uint32_t GapWatch::Tenant::weight() const {
  std::uint32_t least = 0;
  for (const Cell& cell : cells) {
    if (cell.waiting) least = least == 0 ? cell.weight : std::min(least, cell.weight);
  }
  return std::max(least, 1u);
}

GapWatch::Class& GapWatch::class_of(const gateway::FlowGlance& seen) {
  const auto known = std::find_if(classes_.begin(), classes_.end(), [&](const Class& each) {
    return each.flow.priority == seen.priority && each.flow.domain == seen.domain;
  });
  if (known != classes_.end()) return *known;
  Class& fresh = classes_.emplace_back();
  fresh.flow = {seen.domain, seen.priority, {}};
  fresh.in_flight.resize(lives_.size());
  return fresh;
}

GapWatch::Tenant& GapWatch::tenant_of(Class& of, const std::string& name) const {
  const auto known =
      std::find_if(of.tenants.begin(), of.tenants.end(), [&](const Tenant& each) { return each.name == name; });
  if (known != of.tenants.end()) return *known;
  Tenant& fresh = of.tenants.emplace_back();
  fresh.name = name;
  fresh.cells.resize(lives_.size());
  return fresh;
}

void GapWatch::began(std::size_t gateway, const Holder& holder, const gateway::Orchestrator& core) {
  lives_[gateway] = Life{};
  lives_[gateway].core = &core;
  lives_[gateway].holder = holder;
  lives_[gateway].version = core.fairness().version();
}

void GapWatch::over(std::size_t gateway) {
  if (lives_[gateway].core == nullptr) return;
  read(gateway);
  lives_[gateway].core = nullptr;
  for (Class& of : classes_) {
    of.in_flight[gateway] = 0;
    for (Tenant& tenant : of.tenants) tenant.delivered += std::exchange(tenant.cells[gateway], {}).delivered;
  }
}

std::uint64_t GapWatch::said(std::size_t gateway) {
  lives_[gateway].changed.push_back(Instant::never());
  return lives_[gateway].changed.size() - 1;
}

void GapWatch::heard(std::size_t gateway, const ReportsHeard& reports) {
  for (const auto& [holder, number] : reports) {
    std::uint64_t& known = lives_[gateway].heard[holder];
    known = std::max(known, number);
  }
}

void GapWatch::charge(Class& of, double tokens) {
  of.charged.emplace_back(world_.now(), tokens);
  of.charged_now += tokens;
  while (of.charged.front().first + kInterval < world_.now()) {
    of.charged_now -= of.charged.front().second;
    of.charged.pop_front();
  }
  of.charged_max = std::max(of.charged_max, of.charged_now);
}

void GapWatch::read(std::size_t gateway) {
  Life& life = lives_[gateway];
  const gateway::FairScheduler& fair = life.core->fairness();
  if (std::exchange(life.version, fair.version()) == fair.version()) return;
  for (auto it = life.changed.rbegin(); it != life.changed.rend() && it->is_never(); ++it) *it = world_.now();
  fair.glance([&](const gateway::FlowGlance& seen) {
    Class& of = class_of(seen);
    Cell& cell = tenant_of(of, seen.tenant).cells[gateway];
    const Cell fresh{seen.own.delivered, seen.own.lift, seen.own.waiting, seen.outside, seen.weight_least};
    of.touched = of.touched || fresh.delivered != cell.delivered || fresh.lift != cell.lift ||
                 fresh.waiting != cell.waiting || fresh.outside != cell.outside;
    if (fresh.delivered > cell.delivered) charge(of, tokens(fresh.delivered - cell.delivered) * seen.weight);
    cell = fresh;
    of.in_flight[gateway] = seen.in_flight;
    of.charge_max = std::max(of.charge_max, seen.charge_max);
  });
}

// --- the claim ---

// Of counters that have not changed since they were told, 0.
Duration GapWatch::age() const {
  Duration oldest;
  for (const Life& of : lives_) {
    if (of.core == nullptr) continue;
    for (const Life& at : lives_) {
      if (at.core == nullptr || &at == &of) continue;
      const auto told = at.heard.find(of.holder);
      const Instant since = of.changed[told == at.heard.end() ? 0 : told->second];
      if (!since.is_never()) oldest = std::max(oldest, world_.now() - since);
    }
  }
  return oldest;
}

bool GapWatch::stands() const {
  const bool all_up = std::all_of(lives_.begin(), lives_.end(),
                                  [](const Life& life) { return life.core != nullptr && life.core->held_back() == 0; });
  return all_up && world_.undisturbed_since() <= world_.now() - kSettled && all_attached_();
}

void GapWatch::note_standing() {
  const bool before = stood_;
  stood_ = stands();
  note_time();
  if (before && !stood_) ++epoch_;
}

// The time since the last look, as it was then.
void GapWatch::note_time() {
  const Duration passed = world_.now() - std::exchange(noted_, world_.now());
  if (std::none_of(classes_.begin(), classes_.end(), [](const Class& of) { return of.contended; })) return;
  totals_.contended = totals_.contended + passed;
  if (!stood_) return;
  Duration& judged = epoch_ == 0 ? totals_.judged : totals_.judged_later;
  judged = judged + passed;
}

bool GapWatch::has_heard(std::size_t gateway, const Holder& of, std::uint64_t report) const {
  const auto told = lives_[gateway].heard.find(of);
  return told != lives_[gateway].heard.end() && told->second >= report;
}

void GapWatch::after(std::size_t gateway) {
  if (lives_.size() < 2) return;
  read(gateway);
  for (Class& of : classes_) {
    if (std::exchange(of.touched, false)) look(of);
  }
}

void GapWatch::look(Class& of) {
  std::uint64_t in_flight = 0;
  for (const std::uint64_t each : of.in_flight) in_flight += each;
  of.in_flight_max = std::max(of.in_flight_max, in_flight);
  if (of.tenants.size() < 2) return;
  note_standing();
  of.contended =
      std::count_if(of.tenants.begin(), of.tenants.end(), [](const Tenant& tenant) { return tenant.inside(); }) > 1;
  if (!stood_) return;
  const Duration old = age();
  totals_.oldest = std::max(totals_.oldest, old);
  if (old > kOldest)
    return world_.violation("F6: counters of a gateway are " + std::to_string(old.ms()) + " ms old at another");
  for (std::size_t a = 0; a < of.tenants.size(); ++a) {
    for (std::size_t b = a + 1; b < of.tenants.size(); ++b) compare(of, a, b);
  }
}

// What any gateway takes `ahead` to be before what any takes `behind` to be.
double GapWatch::believed_lead(const Class& of, const Tenant& ahead, const Tenant& behind) const {
  std::int64_t most = 0;
  for (const Life& one : lives_) {
    const std::int64_t high = one.core->fairness().v({of.flow.domain, of.flow.priority, ahead.name});
    for (const Life& other : lives_) {
      const std::int64_t low = other.core->fairness().v({of.flow.domain, of.flow.priority, behind.name});
      most = std::max(most, high - low);
    }
  }
  return tokens(most);
}

GapWatch::Contest GapWatch::begin(const Class& of, const Tenant& a, const Tenant& b) const {
  Contest out;
  out.on = true;
  out.epoch = epoch_;
  out.weight = std::min(a.weight(), b.weight());
  if (epoch_ == 0) return out;
  out.more = out.less = std::numeric_limits<double>::infinity();
  allow_no_more(of, a, b, out);
  return out;
}

// What was apart when the claim stood again, and what any gateway took for apart, is allowed until it has closed.
void GapWatch::allow_no_more(const Class& of, const Tenant& a, const Tenant& b, Contest& contest) const {
  const double gap = tokens(a.v() - b.v());
  if (contest.more > 0) contest.more = std::clamp(gap + believed_lead(of, b, a), 0.0, contest.more);
  if (contest.less > 0) contest.less = std::clamp(-gap + believed_lead(of, a, b), 0.0, contest.less);
}

void GapWatch::compare(Class& of, std::size_t a, std::size_t b) {
  const Tenant& first = of.tenants[a];
  const Tenant& second = of.tenants[b];
  Contest& contest = of.contests[{a, b}];
  if (!first.inside() || !second.inside()) {
    contest.on = false;
    return;
  }
  if (!contest.on || contest.epoch != epoch_) {
    contest = begin(of, first, second);
    ++totals_.contests;
  }
  contest.weight = std::min({contest.weight, first.weight(), second.weight()});
  const auto charge = static_cast<double>(of.charge_max);
  const double b1 = static_cast<double>(of.in_flight_max + 1) * charge;
  const double old = static_cast<double>(totals_.oldest.ns) / static_cast<double>(kInterval.ns);  // D in intervals
  const double apart = static_cast<double>(lives_.size() - 1) * charge + 2 * of.charged_max * old;
  const double bound = (b1 + apart) / contest.weight;
  const double gap = tokens(first.v() - second.v());
  const double over = std::max(gap - contest.more, -gap - contest.less);
  allow_no_more(of, first, second, contest);
  ++totals_.looks;
  double& widest = epoch_ == 0 ? totals_.widest : totals_.widest_later;
  widest = std::max(widest, over / bound);
  if (over <= bound) return;
  world_.violation("F6: tenants " + first.name + " and " + second.name + " of " + of.flow.domain + " are " +
                   std::to_string(gap) + " apart over all gateways; the bound is " + std::to_string(bound) + " (S " +
                   std::to_string(of.in_flight_max) + ", C " + std::to_string(of.charge_max) + ", R x D " +
                   std::to_string(of.charged_max * old) + ", weight " + std::to_string(contest.weight) + "), allowed " +
                   "beyond it " + std::to_string(gap > 0 ? contest.more : contest.less));
}

}  // namespace orch::sim
