// What must hold after every step.
#include <algorithm>

#include "lease_check/cluster.h"

namespace orch::check {

void Cluster::violate(const std::string& text) {
  if (violation_.empty()) violation_ = text;
}

void Cluster::check() {
  book_.check_invariants();
  if (arbiter_.running() > kSlots) violate("more runs than is declared");
  check_ends();
  check_slots();
}

// L4: the holder's end is never later than the worker's; a lease that left the table admits nothing there.
void Cluster::check_ends() {
  for (const Party& party : parties_) {
    for (const auto& [lease_key, lease] : party.leases.all()) {
      if (!lease.live(now_) || lease.inc != inc_) continue;
      const std::optional<Instant> end = end_at_worker(lease_key.lease);
      if (end && lease.end > *end) violate("L4: a holder believes in its lease longer than the worker");
    }
  }
}

// The most that may run of it: what its holder knows of, is about to hear of, was sent last or has sent a job with.
std::uint32_t Cluster::claim(LeaseId id) const {
  const auto said = said_.find(id);
  std::uint32_t most = said == said_.end() ? 0 : said->second;
  for (const Party& party : parties_) {
    for (const Told& told : party.told) {
      if (told.lease == id && !told.revoked) most = std::max(most, told.slots);
    }
    const gateway::HeldLease* lease = party.leases.find(key(id));
    if (lease == nullptr) continue;
    if (party.dispatch && party.dispatch->fence.lease == id) most = std::max(most, party.dispatch->slots);
    if (lease->live(now_)) most = std::max(most, lease->slots);
  }
  return most;
}

// L6: what may run in sum fits: what does, and what holders may send and the worker would admit.
void Cluster::check_slots() {
  std::map<LeaseId, std::uint32_t> used;
  for (const LeaseUse& use : arbiter_.uses()) used[use.id] = use.running;
  for (const LeaseEntry& entry : arbiter_.table().leases) {
    if (entry.stop || now_ >= *end_at_worker(entry.id)) continue;
    used[entry.id] = std::max(used[entry.id], std::min(claim(entry.id), entry.slots));
  }
  std::uint32_t sum = ghosts_;
  for (const auto& [id, count] : used) sum += count;
  if (sum > kSlots) violate("L6: a slot has two owners");
}

// A holder that keeps to what it was sent last finds its slot free.
void Cluster::check_refusal(LeaseId id) {
  std::uint32_t running = 0;
  for (const LeaseUse& use : arbiter_.uses()) running += use.id == id ? use.running : 0;
  const LeaseTable table = arbiter_.table();
  const auto entry =
      std::find_if(table.leases.begin(), table.leases.end(), [&](const LeaseEntry& each) { return each.id == id; });
  const auto said = said_.find(id);
  if (entry == table.leases.end() || said == said_.end()) return;
  if (running < std::min(entry->slots, said->second)) violate("L6: a slot that its holder was told of is taken");
}

}  // namespace orch::check
