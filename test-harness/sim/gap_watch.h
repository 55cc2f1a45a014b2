// How far apart the tenants of all orchestratord are, which no single one of them knows, against OC-FAIR-F6: while two
// tenants of a domain and class stay backlogged, each at whatever gateway, their counters differ by at most
//   ((S + 1) C + (K - 1) C + 2 R D) / the lesser weight,
// S = most calls of the domain in flight at once, C = the largest charge of one request, K = gateways, R = most that
// was charged in a report's interval, D = age of the oldest counters that one gateway has of another.
//
// The claim stands while all gateways are up and attached to every manager, none holds a job back for a fence (M1) or
// as a suspect (M6), which may run nowhere or keep a replica for themselves, and nothing has disturbed the fleet for
// kSettled: F6 itself is void while counters do not travel. When it stands again, two tenants may be as far apart as
// they were then, and as any gateway takes one of them to be behind, until that has closed. Until the first disturbance
// nothing is added, and the bound is the bound.
//
// v is counted here from what each core says of its own deliveries, those of lives that are over included; D from the
// numbers of the reports that the simulator's managers have heard. Units: tokens over weight.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/orchestrator.h"
#include "sim/world.h"

namespace orch::sim {

// Of each start of an orchestratord: the number of the last report that a manager has of it.
using ReportsHeard = std::map<Holder, std::uint64_t>;

struct GapTotals {
  std::uint64_t looks = 0;     // at two tenants that the claim held for
  std::uint64_t contests = 0;  // times that two of them began to be compared
  double widest = 0;           // gap over bound, until the first disturbance
  double widest_later = 0;     // and when the claim stood again
  Duration contended;          // tenants waited that can be compared
  Duration judged;             // and the claim stood, until the first disturbance
  Duration judged_later;       // and behind it
  Duration oldest;             // D
  void add(const GapTotals& other);
};

class GapWatch {
 public:
  explicit GapWatch(World& world) : world_(world) {}
  // Before they begin. `all_attached`: does every gateway reach every manager, and nobody leave?
  void set_gateways(std::size_t count, std::function<bool()> all_attached) {
    lives_.resize(count);
    all_attached_ = std::move(all_attached);
  }

  // A life of the gateway; `core` outlives it here.
  void began(std::size_t gateway, const Holder& holder, const gateway::Orchestrator& core);
  void over(std::size_t gateway);
  // A report of it is on its way; the answer is the report's number.
  std::uint64_t said(std::size_t gateway);
  // A manager that had heard that much has told it of the others.
  void heard(std::size_t gateway, const ReportsHeard& reports);
  // Behind each of its steps.
  void after(std::size_t gateway);

  const GapTotals& totals() const { return totals_; }
  // Whose life it is, how many reports of it have left, and whether it knows what one of another start says.
  const Holder& holder(std::size_t gateway) const { return lives_[gateway].holder; }
  std::uint64_t reports_of(std::size_t gateway) const { return lives_[gateway].changed.size() - 1; }
  bool has_heard(std::size_t gateway, const Holder& of, std::uint64_t report) const;
  bool stands() const;  // the claim, now

 private:
  static constexpr Duration kSettled = Duration::seconds(1);
  struct Life {
    const gateway::Orchestrator* core = nullptr;  // nullptr: down
    Holder holder;
    std::uint64_t version = 0;                       // of its counters, when they were read last
    std::vector<Instant> changed{Instant::never()};  // by report, from 0 for none: its counters changed after it
    ReportsHeard heard;
  };
  struct Cell {  // a tenant at one gateway
    std::int64_t delivered = 0;
    std::int64_t lift = 0;
    bool waiting = false;
    bool outside = false;
    std::uint32_t weight = 1;
  };
  struct Tenant {
    std::string name;
    std::vector<Cell> cells;     // by gateway
    std::int64_t delivered = 0;  // by lives that are over
    std::int64_t v() const;
    bool inside() const;  // it waits, and nowhere outside the bound
    std::uint32_t weight() const;
  };
  struct Contest {  // of two tenants
    bool on = false;
    std::uint64_t epoch = 0;
    std::uint32_t weight = 1;  // the least of both since it began
    double more = 0;           // v of the first over the second, allowed beyond the bound
    double less = 0;
  };
  struct Class {
    gateway::FlowId flow;  // without a tenant
    std::vector<Tenant> tenants;
    std::vector<std::uint64_t> in_flight;            // of the domain, by gateway
    std::uint64_t in_flight_max = 0;                 // S
    std::uint64_t charge_max = 0;                    // C
    std::deque<std::pair<Instant, double>> charged;  // in the last interval
    double charged_now = 0;
    double charged_max = 0;  // R, per interval
    std::map<std::pair<std::size_t, std::size_t>, Contest> contests;
    bool touched = false;
    bool contended = false;
  };
  Class& class_of(const gateway::FlowGlance& seen);
  Tenant& tenant_of(Class& of, const std::string& name) const;
  void read(std::size_t gateway);
  void charge(Class& of, double tokens);
  void note_standing();
  void note_time();
  Duration age() const;
  void look(Class& of);
  void compare(Class& of, std::size_t a, std::size_t b);
  Contest begin(const Class& of, const Tenant& a, const Tenant& b) const;
  void allow_no_more(const Class& of, const Tenant& a, const Tenant& b, Contest& contest) const;
  double believed_lead(const Class& of, const Tenant& ahead, const Tenant& behind) const;

  World& world_;
  std::function<bool()> all_attached_;
  std::vector<Life> lives_;
  std::vector<Class> classes_;
  std::uint64_t epoch_ = 0;  // 0: nothing has disturbed the fleet yet
  bool stood_ = true;
  Instant noted_;  // when the times were
  GapTotals totals_;
};

}  // namespace orch::sim
