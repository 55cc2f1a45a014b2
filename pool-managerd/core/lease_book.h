// Purpose: the manager's side of one incarnation's lease table (DESIGN-RULES L2, L4, L6): what was asked for, what was
// sent, what the worker acked and what it says is running. A slot counts as held while any of the four may still use
// it. Pure; one per incarnation, gone with it: a reaped process holds nothing. One table is in flight at a time, so the
// worker's table is always the last acked or the one in flight.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/time.h"

namespace orch::pool {

// The holder's message that a lease's life counts from (L4: an extension relays a holder's renewal).
struct Renewal {
  LinkId link;
  std::uint64_t update_seq = 0;
  constexpr auto operator<=>(const Renewal&) const = default;
};

struct Lease {
  Holder holder;
  Secret secret{};
  std::uint32_t slots = 0;          // wanted in the next table
  std::uint32_t issued_slots = 0;   // in the table sent last
  std::uint32_t acked_slots = 0;    // in the table acked last
  std::uint32_t unacked_slots = 0;  // the most in any table sent since
  std::uint32_t running = 0;        // by the worker's last report
  Renewal renewal;                  // latest of the holder
  std::uint64_t renewals = 0;       // counts them; the renewal_seq of the table (update_seq starts anew with each link)
  Renewal issued_renewal;
  std::uint64_t issued_renewals = 0;
  std::uint64_t acked_renewals = 0;
  std::uint32_t announced_slots = 0;
  std::uint64_t announced_renewals = 0;
  Instant expires = Instant::never();  // not before the worker's own end
  bool closed = false;                 // admits nothing from the next table on; kept until no slot of it can be in use
  bool stop = false;                   // closed, and its running jobs are to stop

  std::uint32_t held() const;
};

class LeaseBook {
 public:
  LeaseBook(Incarnation inc, Duration ttl, std::uint32_t declared) : inc_(inc), ttl_(ttl), declared_(declared) {}

  // `slots` and growth are limited to free(): checked.
  void open(LeaseId id, Holder holder, Secret secret, std::uint32_t slots, Renewal renewal);
  void resize(LeaseId id, std::uint32_t slots);
  void renew(LeaseId id, Renewal renewal);
  void close(LeaseId id, bool stop);
  // Fewer than before: idle slots go first (L9).
  void set_declared(std::uint32_t slots);

  bool wants_table(Instant now) const;
  // The whole table as it is wanted now, in flight from here on.
  LeaseTable issue(TableVersion version, Instant now);
  // Whether the table in flight arrived is unknown: it counts, and another opens the next stream.
  void connection_lost();

  // What a holder may be told after an ack: size and renewal of an open lease.
  struct Announcement {
    LeaseId lease;
    Holder holder;
    Secret secret{};
    std::uint32_t slots = 0;
    Renewal renewal;
  };
  std::vector<Announcement> on_report(TableVersion version, const std::vector<LeaseUse>& uses, Instant now);

  const std::map<LeaseId, Lease>& leases() const { return leases_; }
  const Lease* find(LeaseId id) const;
  Incarnation inc() const { return inc_; }
  std::uint32_t declared() const { return declared_; }
  std::uint32_t held() const;
  std::uint32_t free() const;
  std::uint32_t running() const { return running_; }
  // No slot is held: a lease leaves the book only after the worker acked a table without it and reported it idle.
  bool is_idle() const { return leases_.empty() && running_ == 0; }
  std::vector<LeaseId> expired(Instant now) const;
  Instant next_wakeup() const;

  // Aborts when an invariant of DESIGN-RULES "Leases" is broken.
  void check_invariants() const;

 private:
  Lease& at(LeaseId id);
  std::uint32_t wanted() const;
  void drop_unused();

  Incarnation inc_;
  Duration ttl_;
  std::uint32_t declared_;
  std::map<LeaseId, Lease> leases_;
  std::uint32_t running_ = 0;
  TableVersion issued_;
  TableVersion acked_;
  Instant issued_at_;
  bool in_flight_ = false;
  bool dirty_ = true;  // the first table is empty: it tells the worker its version and TTL
};

}  // namespace orch::pool
