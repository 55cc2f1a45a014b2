// Who is served next: class, then tenant, by weighted service received (DESIGN-RULES F1 to F5). Per (domain, class) and
// (domain, class, tenant) two counters are kept apart: v, delivered, and rho, reserved for what is in flight. The
// backlogged one with the least v + rho goes first, ties by arrival. Where a head fits no free replica the next one is
// tried, and the skipped one stands outside the bound until its waiting set has been empty.
// Once a class has neither waiting nor running jobs, whoever comes next starts level with the one served most.
//
// Bound (F5): while two tenants of a domain and class stay backlogged inside the bound, |v - v'| <= B1 =
// (S + 1) * C / min(weights); S = most dispatches of the domain in flight at once, C = the largest charge of one
// request.
//
// Threads: owned by the core's loop. Units: a charge is input + 2 * output tokens; counters are charges over weight in
// 1/kUnit, integers, so that every sum is exact and every run the same. Ownership: a Meter belongs to its job and must
// be closed before the job is forgotten. Bounds: domains_max domains; tenants are bounded by whoever names them
// (Tenants). Complexity: O(log tenants) for every change and for the first in order.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

inline constexpr std::int64_t kUnit = 1 << 20;
inline constexpr std::array<Priority, 2> kPriorities{Priority::interactive, Priority::batch};

// Whose service it is.
struct FlowId {
  std::string domain;
  Priority priority = Priority::interactive;
  std::string tenant;
  auto operator<=>(const FlowId&) const = default;
};

// What one job has reserved and been charged, over all its attempts (F2: recomputed work is not charged).
struct Meter {
  bool open = false;            // a dispatch is in flight
  std::uint32_t weight = 1;     // of the tenant, when the reservation was made
  std::int64_t tenant_rho = 0;  // left of the reservation, in units
  std::int64_t class_rho = 0;
  std::uint64_t input_reserved = 0;  // tokens of it that are not delivered yet
  std::uint64_t output_reserved = 0;
  std::uint64_t input_charged = 0;  // tokens, all attempts
  std::uint64_t output_charged = 0;
  std::uint64_t output_max = 0;   // max_tokens
  std::uint64_t output_seen = 0;  // this attempt
  bool input_seen = false;        // this attempt
};

// What is reserved for a dispatch, in tokens.
struct ExpectedWork {
  std::uint64_t input = 0;       // not found in a cache
  std::uint64_t output = 0;      // o-hat
  std::uint64_t output_max = 0;  // max_tokens
  std::uint64_t resumed = 0;     // of the output, done by an earlier attempt and given along (M2)
};

// One tenant (or, with an empty name, the class) in one domain, for people and tests. In tokens over weight.
struct FlowStanding {
  FlowId flow;
  std::uint32_t weight = 1;
  double v = 0;
  double rho = 0;
  std::uint64_t waiting = 0;
  std::uint64_t in_flight = 0;
  bool outside = false;  // of the bound
};
// How far apart the backlogged tenants of a domain and class are, and how far they may be. In tokens over weight.
struct FairnessGap {
  double gap = 0;
  double bound = 0;
  std::uint32_t tenants = 0;  // that the gap is taken over
};

// F4: what this gateway says of one flow, all of it growing only, and what the others said of it.
struct FlowCounters {
  std::int64_t delivered = 0;
  std::int64_t reserved = 0;  // ever
  std::int64_t released = 0;  // ever
  std::int64_t lift = 0;
  bool waiting = false;
  bool inside = false;  // it waits, and inside the bound
  auto operator<=>(const FlowCounters&) const = default;
};

// One tenant as it stands, for watchers that look after every step: views, good for the call that hands them out.
struct FlowGlance {
  const std::string& domain;
  Priority priority;
  const std::string& tenant;
  const FlowCounters own;
  std::uint32_t weight;
  std::uint32_t weight_least;  // in this busy period of its class
  bool outside;                // of the bound
  std::uint64_t in_flight;     // of its domain
  std::uint64_t charge_max;    // C of its class, in tokens
};

class FairScheduler {
 public:
  FairScheduler(std::uint32_t interactive_weight, std::uint32_t batch_weight, std::size_t domains_max = 256,
                Mutation mutation = Mutation::none)
      : class_weights_{interactive_weight, batch_weight}, domains_max_(domains_max), mutation_(mutation) {}

  // A job came into the waiting set; an idle tenant or class brings no credit along (F3). `weight` >= 1 is the tenant's
  // now.
  void waits(const FlowId& flow, std::uint32_t weight);
  // A job left the waiting set.
  void leaves(const FlowId& flow);
  // Later increments of the tenant only (F2).
  void set_weight(const std::string& tenant, std::uint32_t weight);

  // Classes in the order in which they should be tried.
  std::array<Priority, 2> order(const std::string& domain) const;
  // Calls `visit(tenant)` in order until it returns true.
  template <typename Visit>
  bool in_order(const std::string& domain, Priority priority, Visit&& visit) const;
  // Another was served although this one comes first: its bound is void until its waiting set has been empty.
  void skipped(const FlowId& flow);
  void class_skipped(const std::string& domain, Priority priority);

  void dispatched(const FlowId& flow, const ExpectedWork& work, Meter& meter);
  // Charged tokens of these calls, for the count of service: the caller knows the time.
  std::uint64_t delivered_input(const FlowId& flow, std::uint64_t uncached, Meter& meter);
  std::uint64_t delivered_output(const FlowId& flow, std::uint64_t tokens, Meter& meter);
  // The dispatch is over: what is left of its reservation is dropped.
  void closed(const FlowId& flow, Meter& meter);

  // F4. Counters of every flow of this gateway; with an empty tenant: the class.
  std::vector<std::pair<FlowId, FlowCounters>> own_counters() const;
  // The sum over all other gateways; nothing ever shrinks by it but their reservations.
  void others_say(const FlowId& flow, const FlowCounters& others, std::uint32_t weight);

  // Grows with every change of what own_counters() says.
  std::uint64_t version() const { return version_; }

  template <typename Visit>
  void glance(Visit&& visit) const;
  FairnessGap gap(const std::string& domain, Priority priority) const;
  std::vector<FlowStanding> standings() const;
  std::int64_t v(const FlowId& flow) const;
  std::int64_t rho(const FlowId& flow) const;
  // Of the backlogged of its class, itself at this weight included.
  double weight_share(const FlowId& flow, std::uint32_t weight) const;
  std::size_t domains() const { return domains_.size(); }
  // Sets, sums and F5's bound, in words; empty: well.
  std::string check_invariants() const;

 private:
  struct Share {
    std::uint32_t weight = 1;
    std::uint32_t weight_least = 1;  // in this busy period of its class
    std::uint64_t period = 0;        // the last one it waited in
    std::int64_t delivered = 0;
    std::int64_t reserved = 0;
    std::int64_t released = 0;
    std::int64_t lift = 0;
    FlowCounters others;
    std::uint64_t waiting = 0;
    std::uint64_t in_flight = 0;
    std::uint64_t since = 0;  // order in which it became backlogged; unique
    bool outside = false;

    FlowCounters own() const { return {delivered, reserved, released, lift, waiting > 0, waiting > 0 && !outside}; }
    std::int64_t v() const { return delivered + others.delivered + lift; }
    std::int64_t rho() const { return reserved - released + (others.reserved - others.released); }
    std::int64_t level() const { return v() + rho(); }
    void raise_to(std::int64_t floor) { lift += floor > v() ? floor - v() : 0; }
  };
  using Tenants = std::map<std::string, Share>;
  struct Rank {
    std::int64_t level = 0;
    std::uint64_t since = 0;
    const std::string* tenant = nullptr;
    bool operator<(const Rank& other) const { return level != other.level ? level < other.level : since < other.since; }
  };
  struct Class {
    Share self;
    Tenants tenants;
    std::set<Rank> by_level;                  // backlogged, by v + rho
    std::set<Rank> by_v;                      // backlogged inside the bound, by v
    std::multiset<std::int64_t> v_elsewhere;  // of those that wait at other gateways, inside the bound
    std::multiset<std::uint32_t> weights;     // of those in by_v: weight_least
    std::uint64_t weight_sum = 0;             // of the backlogged
    std::int64_t served_v = 0;                // highest v at which a tenant inside the bound was served
    std::int64_t v_max = 0;                   // of all tenants
    std::uint64_t period = 1;                 // grows whenever nobody waits and nothing runs
    std::uint64_t charge_max = 0;             // C, in tokens
  };
  struct Domain {
    std::array<Class, 2> classes;
    std::int64_t served_v = 0;  // between the classes
    std::int64_t v_max = 0;     // of the two
    std::uint64_t in_flight = 0;
    std::uint64_t in_flight_max = 0;  // S
    std::uint64_t charge_max = 0;     // C of both classes, in tokens
    std::uint64_t used = 0;
  };

  static std::size_t index(Priority priority) { return static_cast<std::size_t>(priority); }
  static std::int64_t units(std::uint64_t tokens, std::uint32_t weight) {
    return static_cast<std::int64_t>(tokens) * kUnit / weight;
  }
  Domain& domain(const std::string& name);
  const Class* find_class(const std::string& domain, Priority priority) const;
  const Share* find(const FlowId& flow) const;
  // Of each class with tenants and then of its tenants.
  template <typename Visit>
  void each_share(Visit&& visit) const;
  static void note_others(std::int64_t before, const Share& now, std::int64_t& served_v, std::int64_t& v_max);
  static std::int64_t floor_of(const Class& of);
  // Takes the share out of the sets, lets `change` work on it, and puts it back.
  template <typename Change>
  void alter(Class& of, Tenants::iterator tenant, Change&& change);
  void charge(const FlowId& flow, std::uint64_t tokens);
  static void rest(Domain& domain);
  static void note_charge(Domain& at, Class& of, std::uint64_t tokens);
  void drop(const FlowId& flow, std::uint64_t tokens, Meter& meter);
  static std::string check_class(const Domain& domain, const Class& of);
  static std::string check_bound(const Domain& domain, const Class& of);

  std::array<std::uint32_t, 2> class_weights_;
  std::size_t domains_max_;
  Mutation mutation_;
  std::map<std::string, Domain> domains_;
  std::uint64_t serial_ = 0;
  std::uint64_t version_ = 1;
  bool others_ = false;  // other gateways have spoken: B1 alone no longer holds here
};

template <typename Visit>
void FairScheduler::glance(Visit&& visit) const {
  for (const auto& [name, at] : domains_) {
    for (const Priority priority : kPriorities) {
      const Class& of = at.classes[index(priority)];
      for (const auto& [tenant, share] : of.tenants) {
        const FlowCounters own = share.own();
        visit(FlowGlance{name, priority, tenant, own, share.weight, share.weight_least, share.outside, at.in_flight,
                         of.charge_max});
      }
    }
  }
}

template <typename Visit>
bool FairScheduler::in_order(const std::string& domain, Priority priority, Visit&& visit) const {
  const Class* of = find_class(domain, priority);
  if (of == nullptr) return false;
  for (const Rank& rank : of->by_level) {
    if (visit(*rank.tenant)) return true;
  }
  return false;
}

}  // namespace orch::gateway
