// Purpose: the manager's side of one incarnation's lease table (DESIGN-RULES L2, L4, L6): what was asked for, what was
// sent, what the worker acked, what it says is running and what the holder was told.
//
// A table may give one lease a slot while another lease's job still runs on it: the sum of a table fits into what is
// declared, and running jobs are never preempted (S4). The holder is told of the slot only when the worker has acked
// that table and reports room for it (L6), so a slot moves with one table and often with none (S3).
//
// A lease that shrank grows again in a table only as far as there is room for it, until its holder says that it heard
// of the smaller size (ToldSlots): before that, the worker would admit on the older word what others were told of
// since.
//
// Pure; one per incarnation, gone with it: a reaped process holds nothing. One table is in flight at a time, so the
// worker's table is always the last acked or the one in flight.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/time.h"
#include "pool-managerd/core/mutation.h"
#include "pool-managerd/core/told_slots.h"

namespace orch {
struct LeaseStateProbe;
}

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
  Renewal acked_renewal;
  std::uint64_t acked_renewals = 0;
  std::uint32_t announced_slots = 0;  // what its holder is to be told
  ToldSlots told;                     // and what it may believe meanwhile
  std::uint64_t announced_renewals = 0;
  std::uint64_t turn = 0;              // whoever was to grow earlier is told earlier
  Instant expires = Instant::never();  // not before the worker's own end
  bool closed = false;                 // admits nothing from the next table on; kept until no slot of it can be in use
  bool stop = false;                   // closed, and its running jobs are to stop
  std::uint32_t granted = 0;           // S4: told of and never used; a job's end adds nothing
  Instant gained_at;                   // S4: the last time that more was told, or that more ran
  bool taken_back = false;             // S4: what is unused goes to others
  std::uint32_t passes = 0;            // S4: grants in a row that were taken back unused
  Instant passed_until;                // S4: others come first until then

  // Slots that may be in use, now or by what its holder believes to have.
  std::uint32_t held() const;
  std::uint32_t known() const { return std::max(announced_slots, told.most()); }
  // The most up to `slots` that a table may give it while everything else leaves `room`.
  std::uint32_t fitting(std::uint32_t room) const;
  std::uint32_t unused() const {
    return !closed && announced_slots > running ? std::min(granted, announced_slots - running) : 0;
  }
};

class LeaseBook {
 public:
  LeaseBook(Incarnation inc, Duration ttl, std::uint32_t declared, Mutation mutation = Mutation::none)
      : inc_(inc), ttl_(ttl), declared_(declared), mutation_(mutation) {}

  // L8: the manager has restarted and the worker's own table is the truth. Nobody is told anything before the worker
  // has acked a table of this boot. Only on a book that is new.
  void adopt(const LeaseTable& table, const std::vector<LeaseUse>& uses, Instant now);

  // What the open leases want in sum is limited to declared(): checked when the table is issued.
  void open(LeaseId id, Holder holder, Secret secret, std::uint32_t slots, Renewal renewal);
  void resize(LeaseId id, std::uint32_t slots);
  void renew(LeaseId id, Renewal renewal);
  void close(LeaseId id, bool stop);
  // S4: a grant that was not used is taken back; others come first until `until`.
  void pass_over(LeaseId id, Instant until);
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
    bool grew = false;
  };
  std::vector<Announcement> on_report(TableVersion version, const std::vector<LeaseUse>& uses, Instant now);
  // The announcement went out as that grant.
  void told(LeaseId id, const ToldSlots::Word& word);
  // The holder has heard every grant of that link up to `number`; `beyond`: where it has more jobs open than slots.
  std::vector<Announcement> heard(const Holder& holder, LinkId link, std::uint64_t number,
                                  std::span<const LeaseUse> beyond, Instant now);

  const std::map<LeaseId, Lease>& leases() const { return leases_; }
  const Lease* find(LeaseId id) const;
  Incarnation inc() const { return inc_; }
  Mutation mutation() const { return mutation_; }
  std::uint32_t declared() const { return declared_; }
  std::uint32_t held() const;
  std::uint32_t free() const;
  std::uint32_t running() const { return running_; }
  // Jobs that run under no open lease of this book.
  std::uint32_t running_outside() const;
  // No slot is held: a lease leaves the book only after the worker acked a table without it and reported it idle.
  bool is_idle() const { return leases_.empty() && running_ == 0; }
  // L7: nothing of an earlier boot of that holder runs under this worker, or can begin there.
  bool is_over_before(const Holder& holder) const;
  std::vector<LeaseId> expired(Instant now) const;
  Instant next_wakeup() const;

  // Aborts when an invariant of DESIGN-RULES "Leases" is broken.
  void check_invariants() const;

 private:
  friend struct orch::LeaseStateProbe;  // the explicit-state check tells states apart by it
  Lease& at(LeaseId id);
  std::uint32_t wanted() const;
  void take_uses(const std::vector<LeaseUse>& uses, Instant now);
  void take_ack(Instant now);
  std::vector<Announcement> announce(bool is_ack, Instant now);
  std::vector<LeaseId> open_by_turn() const;
  std::uint32_t room_beside(const Lease& lease, std::uint32_t claimed) const;
  bool could_issue_more() const;
  std::uint32_t permitted(const Lease& lease) const;
  void drop_unused();

  Incarnation inc_;
  Duration ttl_;
  std::uint32_t declared_;
  Mutation mutation_;
  std::map<LeaseId, Lease> leases_;
  std::uint32_t running_ = 0;
  std::uint32_t running_unknown_ = 0;  // of them under leases that are not in the book
  // Holders of leases that have left the book: the last table that may name one. Until a later one is acked the worker
  // may still admit what its holder had sent.
  std::map<Holder, TableVersion> left_;
  std::uint64_t last_turn_ = 0;
  TableVersion issued_;
  TableVersion acked_;
  Instant issued_at_;
  bool in_flight_ = false;
  bool adopted_ = false;  // and no table of this boot has been acked yet
  bool dirty_ = true;     // the first table is empty: it tells the worker its version and TTL
  bool capped_ = false;   // the last table gives some lease less than it is to have, for want of room
};

}  // namespace orch::pool
