// Dividing the slots of one replica among the orchestrators that bid on its pool (first version of S2, S3, S6). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/ids.h"
#include "pool-managerd/core/lease_book.h"

namespace orch::pool {

struct Demand {
  std::uint32_t wanted = 0;  // running + waiting of this holder, its part for this replica
  bool takes_credit = true;  // gets a part of what nobody wants now; false for a bid gone stale (S6)
};

// Shares in the order of `demands`. Their sum never exceeds `slots`, and equals it when somebody takes credit. Wanted
// slots are dealt one by one, so that the smallest share that is below its demand is as large as possible; the rest is
// dealt the same way as idle credit, so that a dispatch waits for no round trip (S2). Dealing starts at `offset`: it
// moves the remainder.
std::vector<std::uint32_t> divide_slots(std::uint32_t slots, std::span<const Demand> demands, std::size_t offset);

struct Bidder {
  Holder holder;
  Renewal bid;  // the message that carries the bid: a lease opened for it counts from there
  Demand demand;
};
struct NewLease {
  Holder holder;
  Renewal bid;
  std::uint32_t slots = 0;
};

// Moves the open leases of the book towards the shares of `bidders` (ordered, one per holder) and says which leases to
// open; their slots together fit into what is free. Slots of holders that do not bid stay theirs. Shrinking is asked
// for at once, growth only into slots that nothing can be using (L6).
std::vector<NewLease> share_out(LeaseBook& book, std::span<const Bidder> bidders, std::size_t offset);

}  // namespace orch::pool
