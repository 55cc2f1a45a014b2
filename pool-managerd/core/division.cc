#include "pool-managerd/core/division.h"

#include <algorithm>
#include <tuple>

namespace orch::pool {
namespace {

// Who is offered the next slot. A smaller rank comes first; the orchestrators' order breaks the last tie.
struct Rank {
  bool fed = false;  // S5: a hungry one comes before it
  Instant hungry_since;
  bool passed_over = false;
  double class_v = 0;
  double tenant_v = 0;
  std::int64_t younger = 0;  // negated age

  friend bool operator<(const Rank& a, const Rank& b) {
    const auto key = [](const Rank& rank) {
      return std::tie(rank.fed, rank.hungry_since, rank.passed_over, rank.class_v, rank.tenant_v, rank.younger);
    };
    return key(a) < key(b);
  }
};

class Contest {
 public:
  explicit Contest(std::span<const Demand> demands) : demands_(demands), taken_(demands.size(), 0) {}

  // The lowest bid, which is taken out; nothing when every bid is served.
  std::optional<std::size_t> take() {
    std::optional<std::size_t> best;
    Rank best_rank;
    for (std::size_t i = 0; i < demands_.size(); ++i) {
      if (taken_[i] >= demands_[i].wants.size()) continue;
      const Rank rank = rank_of(i);
      if (best && !(rank < best_rank)) continue;
      best = i;
      best_rank = rank;
    }
    if (best) ++taken_[*best];
    return best;
  }

 private:
  Rank rank_of(std::size_t i) const {
    const Demand& demand = demands_[i];
    const Want& want = demand.wants[taken_[i]];
    const bool hungry = !demand.hungry_since.is_never() && taken_[i] == 0;  // S5 speaks of one slot
    return {.fed = !hungry,
            .hungry_since = hungry ? demand.hungry_since : Instant{},
            .passed_over = demand.passed_over,
            .class_v = want.class_v,
            .tenant_v = want.tenant_v,
            .younger = -want.age.ns};
  }

  std::span<const Demand> demands_;
  std::vector<std::size_t> taken_;
};

// S2: idle credit, one by one, so that nobody has two more than another.
void deal_credit(std::uint32_t rest, std::span<const Demand> demands, std::size_t offset,
                 std::vector<std::uint32_t>& slots) {
  for (bool dealt = true; dealt && rest > 0;) {
    dealt = false;
    for (std::size_t turn = 0; turn < demands.size() && rest > 0; ++turn) {
      const std::size_t i = (turn + offset) % demands.size();
      if (!demands[i].takes_credit) continue;
      ++slots[i];
      --rest;
      dealt = true;
    }
  }
}

// S3: whoever runs something gets no slot to replace it with, and the next owner has one more.
void decide_ahead(std::size_t next, std::span<const Demand> demands, Division& out) {
  bool freed = false;
  for (std::size_t i = 0; i < demands.size(); ++i) {
    const Demand& demand = demands[i];
    const bool replaces = i != next && out.slots[i] > 0 && out.slots[i] <= demand.running;
    if (!replaces) continue;
    --out.slots[i];
    freed = true;
  }
  if (freed) ++out.slots[next];
  out.next = next;
}

}  // namespace

std::vector<Want> wants_of(const Bid& bid, std::size_t skip, std::size_t max) {
  std::vector<Want> all;
  std::uint64_t listed = 0;
  const std::size_t enough = skip + max;
  double last_class = 0;
  double last_tenant = 0;
  for (const TenantBid& tenant : bid.tenants) {
    listed += tenant.waiting;
    last_class = std::max(last_class, tenant.class_v);
    last_tenant = std::max(last_tenant, tenant.tenant_v);
    const std::uint32_t jobs = tenant.waiting;
    for (std::uint32_t job = 0; job < jobs && job < enough; ++job) {
      const Duration age = Duration{tenant.age.ns / jobs * (jobs - job)};
      all.push_back({.class_v = tenant.class_v, .tenant_v = tenant.tenant_v, .age = age});
    }
  }
  // Tenants behind the lowest that the message has room for, and bids that name none.
  const std::uint64_t unlisted = bid.waiting > listed ? bid.waiting - listed : 0;
  for (std::uint64_t job = 0; job < unlisted && job < enough; ++job) {
    all.push_back({.class_v = last_class, .tenant_v = last_tenant, .age = {}});
  }
  std::sort(all.begin(), all.end(), [](const Want& a, const Want& b) {
    return std::tie(a.class_v, a.tenant_v, b.age) < std::tie(b.class_v, b.tenant_v, a.age);
  });
  const std::size_t from = std::min(skip, all.size());
  const std::size_t to = std::min(all.size(), from + max);
  return {all.begin() + static_cast<std::ptrdiff_t>(from), all.begin() + static_cast<std::ptrdiff_t>(to)};
}

Division divide_slots(std::uint32_t slots, std::span<const Demand> demands, std::size_t offset) {
  Division out{.slots = std::vector<std::uint32_t>(demands.size(), 0), .next = std::nullopt};
  std::uint64_t wanted = 0;
  for (const Demand& demand : demands) wanted += std::uint64_t{demand.running} + demand.waiting;
  std::uint32_t left = slots;
  if (wanted <= slots) {
    for (std::size_t i = 0; i < demands.size(); ++i) {
      out.slots[i] = demands[i].running + demands[i].waiting;
      left -= out.slots[i];
    }
    deal_credit(left, demands, offset, out.slots);
    return out;
  }
  out.contended = true;
  const auto give = [&](std::size_t i, std::uint32_t count) {
    const std::uint32_t given = std::min(count, left);
    out.slots[i] += given;
    left -= given;
  };
  for (std::size_t i = 0; i < demands.size(); ++i) give(i, demands[i].running);  // S4: resizing never preempts
  for (std::size_t i = 0; i < demands.size(); ++i) give(i, demands[i].granted);
  Contest contest(demands);
  std::optional<std::size_t> lowest = contest.take();
  for (; lowest && left > 0; lowest = contest.take()) give(*lowest, 1);
  if (lowest) decide_ahead(*lowest, demands, out);
  return out;
}

SharedOut share_out(LeaseBook& book, std::span<const Bidder> bidders, std::size_t offset) {
  std::vector<LeaseId> leases(bidders.size());  // zero: none yet
  std::uint32_t reserved = book.running_outside();
  for (const auto& [id, lease] : book.leases()) {
    if (lease.closed) continue;
    const auto bidder =
        std::find_if(bidders.begin(), bidders.end(), [&](const Bidder& b) { return b.holder == lease.holder; });
    if (bidder == bidders.end()) {
      if (book.mutation() != Mutation::forget_absent_holders) reserved += std::max(lease.slots, lease.running);
    } else {
      leases[static_cast<std::size_t>(bidder - bidders.begin())] = id;
    }
  }
  std::vector<Demand> demands;
  demands.reserve(bidders.size());
  for (const Bidder& bidder : bidders) demands.push_back(bidder.demand);
  const std::uint32_t available = book.declared() - std::min(book.declared(), reserved);
  const Division division = divide_slots(available, demands, offset);

  SharedOut out{.opened = {}, .contended = division.contended};
  for (std::size_t i = 0; i < bidders.size(); ++i) {
    if (!leases[i].is_zero()) {
      book.resize(leases[i], division.slots[i]);
    } else if (division.slots[i] > 0) {
      out.opened.push_back({.holder = bidders[i].holder, .bid = bidders[i].bid, .slots = division.slots[i]});
    }
  }
  return out;
}

}  // namespace orch::pool
