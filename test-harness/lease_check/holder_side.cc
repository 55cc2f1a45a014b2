// The orchestrators of the explicit-state check: what orchestratord/core does around its LeaseTable.
#include <algorithm>
#include <utility>

#include "lease_check/cluster.h"

namespace orch::check {

Holder Cluster::holder(int who) const {
  return {OrchId{Uuid{0, static_cast<std::uint64_t>(who)}}, parties_[static_cast<std::size_t>(who)].boot};
}

gateway::Mutation Cluster::mutation() const {
  return fault_ == Fault::holder_counts_from_receipt ? gateway::Mutation::holder_end_from_receipt
                                                     : gateway::Mutation::none;
}

Cluster::Party Cluster::new_party() const { return Party(mutation()); }

std::optional<LeaseId> Cluster::usable_lease(int who) const {
  for (const auto& [lease_key, lease] : parties_[static_cast<std::size_t>(who)].leases.all()) {
    if (lease.usable(now_)) return lease_key.lease;
  }
  return std::nullopt;
}

// What was under way comes at once and in order: one word behind the other leaves what the last one says.
void Cluster::take_told(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  for (const Told& told : std::exchange(party.told, {})) {
    party.seen = std::max(party.seen, told.number);
    take_word(who, told);
  }
}

void Cluster::take_word(int who, const Told& told) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  if (told.revoked) return party.leases.close(key(told.lease));
  gateway::LeaseGranted grant;
  grant.lease = told.lease;
  grant.replica_id = "r";
  grant.inc = told.inc;
  grant.slots = told.slots;
  grant.secret = told.secret;
  grant.ttl = kTtl;
  const bool applied = party.leases.apply(key(told.lease), grant, "unix:/w", Instant{told.sent_at}, now_);
  if (!applied) party.leases.shrink(key(told.lease), told.slots);
}

// L6: the manager hears what came, and which leases have more calls than slots. One such word is under way at a time.
void Cluster::say_heard(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  if (party.heard || party.attached_boot != party.boot) return;
  Heard heard{party.seen, {}};
  for (const auto& [lease_key, lease] : party.leases.all()) {
    const bool on_its_way = party.dispatch && party.dispatch->fence.lease == lease_key.lease;
    const std::uint32_t calls = std::max(lease.in_use, on_its_way ? party.dispatch->slots : 0);
    if (calls > lease.slots) heard.beyond.push_back({.id = lease_key.lease, .running = calls});
  }
  if (heard == party.heard_last) return;
  party.heard_last = heard;
  party.heard = std::move(heard);
}

void Cluster::break_link(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  party.told.clear();
  party.heard.reset();
  party.heard_last = {};
  party.seen = party.sent = 0;
  ++party.link;
  party.relinked = true;
  party.started = now_;
}

void Cluster::send_job(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  const gateway::LeaseKey lease_key = key(*usable_lease(who));
  const gateway::HeldLease& lease = *party.leases.find(lease_key);
  party.dispatch = Job{.id = {JobId{Uuid{1, next_job_++}}, 1},
                       .fence = {manager_, lease.inc, lease_key.lease, lease.secret},
                       .holder = holder(who),
                       .slots = lease.slots};
  party.leases.take_slot(lease_key);
}

void Cluster::crash_holder(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  party.leases = gateway::LeaseTable(gateway::Limits{}, mutation());
  party.dispatch.reset();
  party.died = now_;
  ++party.boot;
  break_link(who);
}

}  // namespace orch::check
