// The leases this gateway holds, seen from the holder's side (DESIGN-RULES L3, L4, L6, L7). A lease admits dispatches
// until the holder's end, which is the instant the update was sent plus nine tenths of the TTL. Nothing here frees a
// slot because time went by: an expired lease only stops admitting, and its calls keep their slots until they end.
//
//   granted --> live --(end reached)--> lapsed --(renewed)--> live
//                 |                        |
//                 +--(revoked, inc over, manager restarted)--> closed      closed never opens again
//   lapsed and closed ones are removed once no call of theirs is in flight (closed: and their end has passed).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/events.h"
#include "orchestratord/core/fleet.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

struct LeaseKey {
  ManagerId manager;
  LeaseId lease;
  auto operator<=>(const LeaseKey&) const = default;
};

// KV pages of calls that the replica's last word on its memory need not contain (OC-CORE-1017). A call is believed to
// be in the first word that comes after its worker has admitted it.
class PagesSent {
 public:
  void sent(std::uint64_t pages) { unanswered_ += pages; }
  // `kv_version` is ReplicaView's, now.
  void admitted(std::uint64_t pages, std::uint64_t kv_version) {
    unanswered_ -= pages;
    if (version_ != kv_version) admitted_ = 0;
    version_ = kv_version;
    admitted_ += pages;
  }
  // `admitted_at`: kv_version when it was admitted; 0: it never was.
  void ended(std::uint64_t pages, std::uint64_t admitted_at) {
    if (admitted_at == 0) unanswered_ -= pages;
    if (admitted_at != 0 && admitted_at == version_) admitted_ -= pages;
  }
  std::uint64_t pages(std::uint64_t kv_version) const { return unanswered_ + (version_ == kv_version ? admitted_ : 0); }

 private:
  std::uint64_t unanswered_ = 0;
  std::uint64_t admitted_ = 0;  // since the word `version_`
  std::uint64_t version_ = 0;
};

struct HeldLease {
  ReplicaKey replica;
  Incarnation inc;
  std::string endpoint;
  std::uint32_t slots = 0;
  std::uint32_t in_use = 0;
  Secret secret{};
  Instant end;  // the holder's: no dispatch at or after it
  Duration ttl;
  Instant counted_from;  // when the update was sent that `end` is counted from
  bool closed = false;
  // The worker answered STALE_LEASE: no dispatch until a grant that counts from a later instant.
  bool stale = false;
  Instant not_before;  // SLOT_BUSY, NO_PAGES: no dispatch until then
  std::uint32_t busy_streak = 0;
  PagesSent pages;

  bool live(Instant now) const { return !closed && now < end; }
  bool usable(Instant now) const { return live(now) && !stale && not_before <= now && in_use < slots; }
  std::uint32_t free_slots(Instant now) const { return usable(now) ? slots - in_use : 0; }
};

class LeaseTable {
 public:
  explicit LeaseTable(const Limits& limits, Mutation mutation) : limits_(limits), mutation_(mutation) {}

  // False: the grant is ignored (already over, another incarnation under the same id, or no room).
  bool apply(const LeaseKey& key, const LeaseGranted& grant, const std::string& endpoint, Instant sent_at, Instant now);
  // L6: the size of a word that counts from too long ago to be applied: the smaller one holds all the same.
  void shrink(const LeaseKey& key, std::uint32_t slots);
  void close(const LeaseKey& key);
  void close_of_replica(const ReplicaKey& replica, Incarnation older_than);
  // `pages`: of KV, that the call will need.
  void take_slot(const LeaseKey& key, std::uint64_t pages = 0);
  void return_slot(const LeaseKey& key, std::uint64_t pages = 0, std::uint64_t admitted_at = 0);
  void admitted(const LeaseKey& key, std::uint64_t pages, std::uint64_t kv_version);
  void started(const LeaseKey& key);  // the worker admitted a call: it is not busy
  void pause(const LeaseKey& key, Instant now);
  // SLOT_BUSY: a pause; after a few in a row the lease has shrunk unheard, and only the next grant says what it is.
  void busy(const LeaseKey& key, Instant now);
  // A stream to its worker broke: no dispatch for a while, unless the manager replaces the lease first.
  void suspect(const LeaseKey& key, Instant now);
  void mark_stale(const LeaseKey& key);
  void remove_dead(Instant now);
  void remove(const LeaseKey& key);

  const HeldLease* find(const LeaseKey& key) const;
  const std::map<LeaseKey, HeldLease>& all() const { return leases_; }
  // Grows whenever a lease comes or goes; what is in one may change without it.
  std::uint64_t version() const { return version_; }
  Duration ttl() const { return ttl_; }  // the last one granted
  // S1, S6: bids and renewals are due every TTL/3, when the manager takes them for empty; a quarter leaves a twelfth
  // for the way.
  Duration bid_every() const { return ttl_ / 4; }
  std::vector<LeaseId> renewable(ManagerId manager) const;
  // The next instant at which something may be removed or, with jobs waiting, used again.
  Instant next_change(Instant now, bool jobs_wait) const;

 private:
  HeldLease* get(const LeaseKey& key);

  Limits limits_;
  Mutation mutation_;
  Duration ttl_ = limits_.lease_ttl_assumed;
  std::map<LeaseKey, HeldLease> leases_;
  std::uint64_t version_ = 0;
};

}  // namespace orch::gateway
