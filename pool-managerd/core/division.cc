#include "pool-managerd/core/division.h"

#include <algorithm>

namespace orch::pool {

std::vector<std::uint32_t> divide_slots(std::uint32_t slots, std::span<const Demand> demands, std::size_t offset) {
  std::vector<std::uint32_t> shares(demands.size(), 0);
  const auto deal = [&](auto&& wants_more) {
    for (bool dealt = true; dealt && slots > 0;) {
      dealt = false;
      for (std::size_t turn = 0; turn < demands.size() && slots > 0; ++turn) {
        const std::size_t i = (turn + offset) % demands.size();
        if (!wants_more(i)) continue;
        ++shares[i];
        --slots;
        dealt = true;
      }
    }
  };
  deal([&](std::size_t i) { return shares[i] < demands[i].wanted; });
  deal([&](std::size_t i) { return demands[i].takes_credit; });
  return shares;
}

std::vector<NewLease> share_out(LeaseBook& book, std::span<const Bidder> bidders, std::size_t offset) {
  std::vector<LeaseId> leases(bidders.size());  // zero: none yet
  std::uint32_t reserved = 0;
  for (const auto& [id, lease] : book.leases()) {
    if (lease.closed) continue;
    const auto bidder =
        std::find_if(bidders.begin(), bidders.end(), [&](const Bidder& b) { return b.holder == lease.holder; });
    if (bidder == bidders.end()) {
      reserved += lease.slots;
    } else {
      leases[static_cast<std::size_t>(bidder - bidders.begin())] = id;
    }
  }
  std::vector<Demand> demands;
  demands.reserve(bidders.size());
  for (const Bidder& bidder : bidders) demands.push_back(bidder.demand);
  const std::uint32_t available = book.declared() - std::min(book.declared(), reserved);
  const std::vector<std::uint32_t> shares = divide_slots(available, demands, offset);

  for (std::size_t i = 0; i < bidders.size(); ++i) {
    if (!leases[i].is_zero() && shares[i] < book.find(leases[i])->slots) book.resize(leases[i], shares[i]);
  }
  std::vector<NewLease> opened;
  std::uint32_t promised = 0;
  for (std::size_t i = 0; i < bidders.size(); ++i) {
    const std::uint32_t free = book.free() - promised;
    if (leases[i].is_zero()) {
      const std::uint32_t slots = std::min(shares[i], free);
      if (slots == 0) continue;
      promised += slots;
      opened.push_back({.holder = bidders[i].holder, .bid = bidders[i].bid, .slots = slots});
    } else {
      const Lease& lease = *book.find(leases[i]);
      const std::uint32_t reachable = std::min(shares[i], lease.held() + free);
      if (reachable > lease.slots) book.resize(leases[i], reachable);
    }
  }
  return opened;
}

}  // namespace orch::pool
