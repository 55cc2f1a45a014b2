// Dividing the slots of one replica among the orchestrators that bid on its pool (S2 to S5). Pure; knows bids and
// numbers, no leases: share_out moves a LeaseBook to what was decided.
//
// Slack: everyone has what it runs and what it waits for, the rest is idle credit. Contended: a holder has what it runs
// and what it was granted; each idle slot goes to the lowest bid, and the owner of the next slot that will be free is
// decided ahead. Ahead means: it already has that slot in the worker's table, and whoever runs something has none to
// replace it with; the LeaseBook tells the owner when the worker reports the slot idle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "pool-managerd/core/events.h"
#include "pool-managerd/core/lease_book.h"

namespace orch::pool {

// One waiting job as far as a bid tells: lower counters first, then longer waits (S3).
struct Want {
  double class_v = 0;
  double tenant_v = 0;
  Duration age;
};

// The jobs behind a bid in their order, without the first `skip`, at most `max`. Only the age of a tenant's oldest job
// is known; the others are taken as spread evenly.
std::vector<Want> wants_of(const Bid& bid, std::size_t skip, std::size_t max);

struct Demand {
  std::uint32_t running = 0;                // on this replica
  std::uint32_t waiting = 0;                // its part for this replica, with what was granted and not used
  std::uint32_t granted = 0;                // told of and not used, within its patience (S4)
  std::vector<Want> wants;                  // beyond running and granted, in order
  bool takes_credit = true;                 // false for a bid gone stale (S6)
  bool passed_over = false;                 // left a grant unused: others first (S4)
  Instant hungry_since = Instant::never();  // S5: gets the next slot
};

struct Division {
  std::vector<std::uint32_t> slots;  // in the order of the demands
  std::optional<std::size_t> next;   // contended: who gets the next slot
  bool contended = false;
};

// The sum never exceeds `slots`. Demands in the order of orchestrator ids; `offset` moves the remainder of the credit.
Division divide_slots(std::uint32_t slots, std::span<const Demand> demands, std::size_t offset);

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
struct SharedOut {
  std::vector<NewLease> opened;  // to be opened by the caller, who has ids and secrets
  bool contended = false;
};

// Resizes the open leases of the book as divided among `bidders` (ordered, one per holder). Slots of leases whose
// holder is not among them stay theirs.
SharedOut share_out(LeaseBook& book, std::span<const Bidder> bidders, std::size_t offset);

}  // namespace orch::pool
