// The pool managers' side of the orchestrator: replicas, leases, bids, renewals, heartbeats.
#include <algorithm>
#include <utility>

#include "orchestratord/core/admission.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

void Orchestrator::on(const ManagerUp& event) {
  std::uint64_t previous_boot = 0;
  std::map<std::string, Incarnation> before;
  const auto known = fleet_.managers().find(event.manager);
  if (known != fleet_.managers().end()) {
    for (const auto& [id, replica] : known->second.replicas) before.emplace(id, replica.inc);
    if (known->second.link) hear_start(others_.ended(*known->second.link));
  }
  // Replaced while no life of this gateway was there to hear of it.
  for (const auto& [job, wait] : fence_waits_) {
    if (wait.replica.manager == event.manager) before.emplace(wait.replica.replica_id, wait.inc);
  }
  if (!fleet_.attach(event, &previous_boot)) {
    ++ignored_.unknown_link;
    return;
  }
  Link& link = fleet_.links().at(event.link);
  link.last_update_at = now_;
  link.last_renew_at = now_;
  ++load_version_;
  fleet_changed_ = true;
  // L8: leases outlive a restart of their manager as long as it keeps the incarnation; the snapshot says which.
  for (const ReplicaView& replica : event.replicas) {
    before.erase(replica.replica_id);
    replica_is_now(event.manager, replica);
  }
  for (const auto& [id, inc] : before) replica_is_no_more(event.manager, id);  // not in the snapshot
}

void Orchestrator::on(const GatewaysTold& event) {
  const std::optional<ManagerId> manager = fleet_.manager_of(event.link);
  if (!manager) {
    ++ignored_.unknown_link;
    return;
  }
  other_gateways_.told(*manager, event.gateways);
}

// No life of it is left: it is as if a later one had begun.
void Orchestrator::replica_is_no_more(ManagerId manager, const std::string& replica_id) {
  ReplicaView gone;
  gone.replica_id = replica_id;
  gone.inc = {~0ull, ~0ull};
  replica_is_now(manager, gone);
}

void Orchestrator::on(const ReplicaGone& event) {
  const std::optional<ManagerId> manager = fleet_.manager_of(event.link);
  if (!manager || !fleet_.remove(*manager, event.replica_id)) {
    ++ignored_.unknown_link;
    return;
  }
  ++load_version_;
  fleet_changed_ = true;
  replica_is_no_more(*manager, event.replica_id);
}

// L7: a broken Attach is not a death. Leases run to their end and jobs run on.
void Orchestrator::on(const ManagerDown& event) {
  if (!fleet_.detach(event.link, now_)) {
    ++ignored_.unknown_link;
    return;
  }
  hear_start(others_.ended(event.link));
  fleet_changed_ = true;
}

void Orchestrator::on(const ReplicaChanged& event) {
  const std::optional<ManagerId> manager = fleet_.manager_of(event.link);
  if (!manager || !fleet_.update(*manager, event.replica)) {
    ++ignored_.unknown_link;
    return;
  }
  ++load_version_;
  fleet_changed_ = true;
  replica_is_now(*manager, event.replica);
}

// A newer incarnation means that the older one has been reaped (L6): its leases are over and its calls are lost.
void Orchestrator::replica_is_now(ManagerId manager, const ReplicaView& replica) {
  const ReplicaKey key{manager, replica.replica_id};
  leases_.close_of_replica(key, replica.inc);
  prefixes_.forget_before(key, replica.inc);
  std::vector<DispatchId> lost;
  for (const auto& [dispatch, call] : calls_) {
    if (call.open && call.replica == key && call.fence.inc < replica.inc) lost.push_back(dispatch);
  }
  for (const DispatchId dispatch : lost) {
    Job& job = jobs_.at(dispatch.job);
    ++job.losses;
    if (died_by_itself(replica, calls_.at(dispatch).fence.inc) && !note_death(job)) continue;
    attempt_lost(job, Outcome::WORKER_RESET, "the worker was restarted while it served the job");
  }
  fenced(manager, replica);
}

void Orchestrator::end_hopeless_jobs() {
  std::vector<std::pair<JobId, Failure>> ends;
  for (const std::string& model : queue_.models()) {
    for (const Priority priority : kPriorities) {
      for (const auto& [lane, tenants] : queue_.lanes(model, priority)) {
        const std::optional<Failure> failure = hopeless(lane, fleet_, config_.limits);
        if (!failure) continue;
        for (const JobId id : queue_.jobs_in(lane, priority)) {
          if (jobs_.at(id).hopeless_from <= now_) ends.emplace_back(id, *failure);
        }
      }
    }
  }
  for (auto& [id, failure] : ends) {
    Job& job = jobs_.at(id);
    if (job.token_events > 0) failure.outcome = Outcome::WORKER_RESET;  // it ran, and nobody can go on with it
    fail(job, {std::move(failure), {}});
  }
}

// L4: the holder's end counts from the instant the named update was sent; a grant for an update that was never sent, or
// that is too long ago to be remembered, says nothing.
void Orchestrator::on(const LeaseGranted& event) {
  Link* link = fleet_.link(event.link);
  if (link == nullptr || event.number <= link->grants_seen) {  // a second copy, or older than what is known
    ++ignored_.grants;
    return;
  }
  link->grants_seen = event.number;
  link->last_grant_at = now_;
  const ManagerId manager = link->manager;
  const LeaseKey key{manager, event.lease};
  // L6: the smaller size holds whatever else the grant is worth: the manager will take it for heard.
  if (const HeldLease* known = leases_.find(key); known != nullptr && event.slots < known->slots) {
    leases_.shrink(key, event.slots);
    link->shrank = true;
    ++load_version_;
  }
  if (event.update_seq >= link->next_seq) {  // for an update never sent
    ++ignored_.grants;
    return;
  }
  const ReplicaView* replica = fleet_.find({manager, event.replica_id});
  if (replica == nullptr || replica->inc != event.inc || drained_) {
    ++ignored_.grants;
    return;
  }
  const std::optional<Instant> sent_at = link->sent_at(event.update_seq);  // nullopt: longer ago than a TTL
  if (sent_at && leases_.apply(key, event, replica->endpoint, *sent_at, now_)) {
    if (config_.journal.enabled) leasing_.grants(manager, event.ttl);  // known before the first job comes (M1)
    return;
  }
  ++ignored_.grants;
  // Opened for a bid that lies longer back than it lasts (the manager stood still), or revoked by a manager whose
  // successor found it still in the worker's table (L8): we shall never renew what we do not hold, and until it expires
  // there its slots would serve nobody. Given back, it makes room for one that counts.
  const HeldLease* held = leases_.find(key);
  const bool told = std::find(link->release.begin(), link->release.end(), event.lease) != link->release.end();
  if ((held == nullptr || held->closed) && !told) {
    link->release.push_back(event.lease);
    ++load_version_;
  }
}

void Orchestrator::on(const LeaseRevoked& event) {
  const std::optional<ManagerId> manager = fleet_.manager_of(event.link);
  if (!manager) {
    ++ignored_.unknown_link;
    return;
  }
  // With `stop` the worker ends the running jobs itself and reports each of them.
  leases_.close({*manager, event.lease});
}

// --- bids and renewals (S1, L4) ---

// S1: what of the model's waiting work may run on these replicas, tenant by tenant in the order in which they are
// served, kBidTenantsMax at most. Work that may not would win slots with its tenant's low counter, and others of this
// gateway would use them.
void Orchestrator::add_waiting(const std::string& model, const std::vector<const ReplicaView*>& replicas,
                               PoolBid& bid) const {
  const auto tokens = [](std::int64_t units) { return static_cast<double>(units) / static_cast<double>(kUnit); };
  for (const Priority priority : scheduler_.order(model)) {
    std::set<Lane> served;
    for (const auto& [lane, tenants] : queue_.lanes(model, priority)) {
      if (std::any_of(replicas.begin(), replicas.end(), [&](const ReplicaView* each) { return serves(*each, lane); }))
        served.insert(lane);
    }
    if (served.empty()) continue;
    std::size_t waiting = 0;
    if (served.size() == queue_.lanes(model, priority).size()) {
      waiting = queue_.depth(model, priority);
    } else {
      for (const Lane& lane : served) waiting += queue_.jobs_in(lane, priority).size();
    }
    bid.waiting += static_cast<std::uint32_t>(waiting);
    const FlowId of{model, priority, {}};
    const double class_v = tokens(scheduler_.v(of) + scheduler_.rho(of));
    scheduler_.in_order(model, priority, [&](const std::string& tenant) {
      if (bid.tenants.size() >= kBidTenantsMax) return true;
      const FlowId flow{model, priority, tenant};
      TenantBid entry;
      entry.priority = priority;
      entry.class_v = class_v;
      entry.tenant_v = tokens(scheduler_.v(flow) + scheduler_.rho(flow));
      for (const Lane& lane : queue_.lanes_of(model, priority, tenant)) {
        if (!served.contains(lane)) continue;
        const JobId first = queue_.heads(lane, priority, tenant, 1).at(0);
        if (entry.waiting == 0) entry.age = now_ - jobs_.at(first).admitted_at;
        entry.waiting += static_cast<std::uint32_t>(queue_.size_of(lane, priority, tenant));
      }
      if (entry.waiting > 0) bid.tenants.push_back(entry);
      return false;
    });
  }
}

std::vector<PoolBid> Orchestrator::bids_for(ManagerId manager) const {
  std::map<std::string, PoolBid> pools;
  const ManagerRecord& record = fleet_.managers().at(manager);
  for (const auto& [id, replica] : record.replicas) {
    if (!lifecycle_.all().empty() && !lifecycle_.wanted({replica.model_name, replica.model_digest})) continue;
    pools[replica.pool_id].pool_id = replica.pool_id;
  }
  for (const auto& [dispatch, call] : calls_) {
    if (call.replica.manager != manager) continue;
    const auto replica = record.replicas.find(call.replica.replica_id);
    if (replica == record.replicas.end()) continue;
    PoolBid& bid = pools[replica->second.pool_id];
    bid.pool_id = replica->second.pool_id;
    ++bid.running;
  }
  for (const std::string& model : queue_.models()) {
    std::map<std::string, std::vector<const ReplicaView*>> of_model;  // by pool
    for (const auto& [id, replica] : record.replicas) {
      const bool wanted =
          lifecycle_.all().empty() || lifecycle_.wanted({model, replica.model_digest});  // OC-MODEL-1005
      if (replica.model_name == model && wanted) of_model[replica.pool_id].push_back(&replica);
    }
    for (const auto& [pool, replicas] : of_model) add_waiting(model, replicas, pools[pool]);
  }
  std::vector<PoolBid> out;
  out.reserve(pools.size());
  if (drained_) return out;  // nothing is wanted any more
  for (auto& [id, bid] : pools) out.push_back(std::move(bid));
  return out;
}

// L6: leases that shrank while calls were open under them. What runs may be more than the slots (S4), and a call that
// its worker has not answered may still be admitted as if the lease had the size that it was sent with.
std::vector<LeaseUse> Orchestrator::beyond_of(ManagerId manager) const {
  std::map<LeaseId, std::uint32_t> most;
  for (const auto& [dispatch, call] : calls_) {
    if (call.lease.manager != manager || call.answered) continue;
    std::uint32_t& slots = most[call.lease.lease];
    slots = std::max(slots, call.lease_slots);
  }
  std::vector<LeaseUse> out;
  const auto& leases = leases_.all();
  for (auto it = leases.lower_bound({manager, {}}); it != leases.end() && it->first.manager == manager; ++it) {
    const auto sent = most.find(it->first.lease);
    const std::uint32_t calls = std::max(it->second.in_use, sent == most.end() ? 0 : sent->second);
    if (calls > it->second.slots) out.push_back({.id = it->first.lease, .running = calls});
  }
  return out;
}

void Orchestrator::send_updates() {
  if (drained_) return;
  const Duration renew_every = leases_.bid_every();
  for (auto& [id, link] : fleet_.links()) {
    const bool renew = !link.greeted || link.last_renew_at + renew_every <= now_;
    const bool may_bid =
        link.bids_checked != load_version_ && link.last_update_at + config_.limits.update_interval_min <= now_;
    if (!renew && !may_bid) continue;
    if (!renew) {
      link.bids_checked = load_version_;
      const std::vector<PoolBid> bids = bids_for(link.manager);
      const auto same = [](const PoolBid& a, const PoolBid& b) {
        return a.pool_id == b.pool_id && a.running == b.running && a.waiting == b.waiting &&
               std::equal(a.tenants.begin(), a.tenants.end(), b.tenants.begin(), b.tenants.end(),
                          [](const TenantBid& x, const TenantBid& y) { return x.same_but_for_age(y); });
      };
      const bool nothing_new = std::equal(bids.begin(), bids.end(), link.last_bids.begin(), link.last_bids.end(), same);
      // L6: slots are free for others when the manager knows that we do not count on them any more.
      const bool heard = link.shrank || link.last_beyond != beyond_of(link.manager);
      if (nothing_new && link.release.empty() && !heard) continue;
    }
    send_update(id, link, renew);
  }
}

void Orchestrator::send_update(LinkId id, Link& link, bool renew) {
  SendUpdate update;
  update.link = id;
  update.seq = link.next_seq++;
  update.bids = bids_for(link.manager);
  if (renew) update.renew = leases_.renewable(link.manager);
  update.release = std::exchange(link.release, {});
  update.grants_seen = link.grants_seen;
  update.beyond = beyond_of(link.manager);
  if (link.grants_seen > 0) update.grant_age = now_ - link.last_grant_at;
  link.bids_checked = load_version_;
  link.last_bids = update.bids;
  link.last_beyond = update.beyond;
  link.shrank = false;
  link.last_update_at = now_;
  if (renew) link.last_renew_at = now_;
  link.greeted = true;
  // A grant that names an update older than a TTL is over before it arrives.
  while (!link.sent.empty() && link.sent.front().at + leases_.ttl() < now_) link.sent.pop_front();
  link.remember(update.seq, now_, config_.limits.updates_remembered_max);
  emit(std::move(update));
}

// L5: one heartbeat per worker held, every third of the TTL, from the core itself: a core that stalls stops its jobs.
void Orchestrator::beat_workers() {
  std::set<std::string> held;
  for (const auto& [key, lease] : leases_.all()) {
    if (lease.live(now_) || lease.in_use > 0) held.insert(lease.endpoint);
  }
  for (auto it = beats_.begin(); it != beats_.end();) {
    if (held.contains(it->first)) {
      ++it;
      continue;
    }
    emit(ForgetWorker{it->first});
    it = beats_.erase(it);
  }
  for (const std::string& endpoint : held) {
    const auto [it, fresh] = beats_.emplace(endpoint, now_);
    if (it->second > now_) continue;
    emit(BeatWorker{endpoint});
    it->second = now_ + leases_.ttl() / 3;
  }
}

}  // namespace orch::gateway
