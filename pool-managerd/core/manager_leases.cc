// Leases and the division of slots: the part of Manager that orchestrators see.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "pool-managerd/core/manager.h"

namespace orch::pool {
namespace {

// The first thing in the update that is beyond a limit.
struct Excess {
  std::string field;
  std::string message;
};

std::optional<Excess> excess_of(const HolderUpdate& update, const Limits& limits) {
  const std::size_t limit = limits.update_entries_max;
  const char* list = update.bids.size() > limit      ? "update.bids"
                     : update.renew.size() > limit   ? "update.renew"
                     : update.release.size() > limit ? "update.release"
                     : update.beyond.size() > limit  ? "update.beyond"
                                                     : nullptr;
  if (list != nullptr) return Excess{list, std::string(list) + " has more than " + std::to_string(limit) + " entries"};
  for (std::size_t i = 0; i < update.bids.size(); ++i) {
    const std::string tenants = "update.bids[" + std::to_string(i) + "].tenants";
    const auto& entries = update.bids[i].tenants;
    if (entries.size() > limits.bid_tenants_max)
      return Excess{tenants, tenants + " has more than " + std::to_string(limits.bid_tenants_max) + " entries"};
    for (const TenantBid& tenant : entries) {
      const auto sound = [](double v) { return std::isfinite(v) && v >= 0; };
      if (!sound(tenant.class_v)) return Excess{tenants + ".class_v", tenants + ".class_v is not a number from 0 on"};
      if (!sound(tenant.tenant_v))
        return Excess{tenants + ".tenant_v", tenants + ".tenant_v is not a number from 0 on"};
    }
  }
  return std::nullopt;
}

// S3: a class is served as much whoever says it, only that each gateway knows of the others' part later than of its
// own. Were each taken at its word, the gateways would share the slots evenly and the tenants' own v would decide
// nothing. The highest word counts for all.
using ClassLevels = std::array<double, 2>;

ClassLevels class_levels(const Attachments& attachments, const std::string& pool_id) {
  ClassLevels levels{};
  for (const auto& [link, attachment] : attachments.links()) {
    const auto bid = attachment.bids.find(pool_id);
    if (bid == attachment.bids.end()) continue;
    for (const TenantBid& tenant : bid->second.tenants) {
      double& level = levels[static_cast<std::size_t>(tenant.job_class)];
      level = std::max(level, tenant.class_v);
    }
  }
  return levels;
}

Bid leveled(Bid bid, const ClassLevels& levels) {
  for (TenantBid& tenant : bid.tenants) tenant.class_v = levels[static_cast<std::size_t>(tenant.job_class)];
  return bid;
}

}  // namespace

bool Manager::within_limits(const HolderUpdate& update, Effects& out) {
  const std::optional<Excess> excess = excess_of(update, settings_.limits);
  if (!excess) return true;
  attachments_.close(update.link);
  out.push_back(AttachRefused{
      .link = update.link, .outcome = Outcome::INVALID_PARAMS, .message = excess->message, .field = excess->field});
  return false;
}

// L2: only after the worker's ack does a grant go to its holder. A grant counts from a message of the link it goes to,
// since update_seq has a meaning on that link alone.
void Manager::announce(Replica& replica, const std::vector<LeaseBook::Announcement>& announcements, Instant now,
                       Effects& out) {
  if (!replica.grants()) return;
  for (const LeaseBook::Announcement& each : announcements) {
    const LinkId* link = attachments_.link_of(each.holder);
    if (link == nullptr || *link != each.renewal.link) continue;
    const std::uint64_t number = attachments_.find(*link)->grant_sent(now);
    replica.book()->told(each.lease, {.link = *link, .number = number, .slots = each.slots});
    out.push_back(SendGrant{.link = *link,
                            .lease = each.lease,
                            .replica_id = replica.spec().replica_id,
                            .inc = replica.inc(),
                            .slots = each.slots,
                            .secret = each.secret,
                            .update_seq = each.renewal.update_seq,
                            .ttl = settings_.ttl,
                            .number = number});
  }
}

// L6: what a holder has heard of frees what it was told of before.
void Manager::take_heard(const HolderUpdate& update, Instant now, Effects& out) {
  const Holder holder = attachments_.find(update.link)->holder;
  for (auto& [id, replica] : replicas_) {
    if (LeaseBook* book = replica->book())
      announce(*replica, book->heard(holder, update.link, update.grants_seen, update.beyond, now), now, out);
  }
}

void Manager::take_releases(const HolderUpdate& update) {
  const Holder holder = attachments_.find(update.link)->holder;
  for (auto& [replica_id, leases] : known_) {
    LeaseBook* book = replicas_.at(replica_id)->book();
    for (const LeaseId id : update.release) {
      const auto lease = leases.find(id);
      if (lease == leases.end() || lease->second != holder) continue;
      if (book != nullptr && book->find(id) != nullptr) book->close(id, false);
      leases.erase(lease);
    }
  }
}

// L4: an extension relays a holder's renewal. On a new link the first message counts for every lease of the holder in a
// pool it bids on, so that its grants are told again with a number of that link.
void Manager::take_renewals(const HolderUpdate& update, bool first, Effects& out) {
  const Attachment& attachment = *attachments_.find(update.link);
  std::set<LeaseId> unknown(update.renew.begin(), update.renew.end());
  const std::set<LeaseId> named = unknown;
  for (auto& [replica_id, leases] : known_) {
    Replica& replica = *replicas_.at(replica_id);
    for (const auto& [id, holder] : leases) {
      if (holder != attachment.holder || !replica.grants()) continue;
      const bool stands = named.contains(id) || (first && attachment.bids.contains(replica.spec().pool_id));
      if (!stands) continue;
      unknown.erase(id);
      replica.book()->renew(id, {.link = update.link, .update_seq = update.seq});
    }
  }
  // What a worker that is being adopted holds is not known yet.
  const bool adopting =
      std::any_of(replicas_.begin(), replicas_.end(), [](const auto& entry) { return entry.second->is_adopting(); });
  if (adopting) return;
  for (const LeaseId id : unknown) {
    out.push_back(
        SendRevoke{.link = update.link, .lease = id, .stop = false, .reason = "no such lease of this holder"});
  }
}

void Manager::close_lease(LeaseBook& book, LeaseId id, bool stop, std::string reason, Effects& out) {
  const Holder holder = book.find(id)->holder;
  for (auto& [replica_id, leases] : known_) leases.erase(id);
  book.close(id, stop);
  if (const LinkId* link = attachments_.link_of(holder)) {
    out.push_back(SendRevoke{.link = *link, .lease = id, .stop = stop, .reason = std::move(reason)});
  }
}

// The replica grants no more. With its process alive the worker is told too; after a reap the leases are simply over.
void Manager::lose_leases(Replica& replica, Effects& out) {
  const bool drains = replica.state() == ReplicaState::draining;
  const std::string reason = drains ? "replica drains" : "worker is gone: " + replica.view(Instant{}).last_error;
  const auto leases = std::exchange(known_[replica.spec().replica_id], {});
  for (const auto& [id, holder] : leases) {
    LeaseBook* book = replica.book();
    if (book != nullptr && book->find(id) != nullptr) {
      close_lease(*book, id, !drains, reason, out);
    } else if (const LinkId* link = attachments_.link_of(holder)) {
      out.push_back(SendRevoke{.link = *link, .lease = id, .stop = true, .reason = reason});
    }
  }
}

void Manager::settle_leases(Replica& replica, Instant now, Effects& out) {
  if (!replica.grants()) {
    if (LeaseBook* book = replica.book()) {  // adopted ones run out while their replica is not ready again (L8)
      for (const LeaseId id : book->expired(now)) close_lease(*book, id, false, "expired", out);
    }
    lose_leases(replica, out);
    if (LeaseBook* book = replica.book()) stop_superseded(*book, out);
    return;
  }
  LeaseBook& book = *replica.book();
  // Adopted ones (L8): their holders may have attached while they were not known yet. The update that counts for every
  // lease is then behind us, and the last one stands for it.
  std::vector<std::pair<LeaseId, Renewal>> adopted;
  for (const auto& [id, lease] : book.leases()) {
    if (lease.closed || !known_[replica.spec().replica_id].emplace(id, lease.holder).second) continue;
    const LinkId* link = attachments_.link_of(lease.holder);
    const Attachment* attachment = link == nullptr ? nullptr : attachments_.find(*link);
    if (attachment != nullptr && attachment->has_updated && attachment->bids.contains(replica.spec().pool_id))
      adopted.emplace_back(id, Renewal{.link = *link, .update_seq = attachment->seq});
  }
  for (const auto& [id, renewal] : adopted) book.renew(id, renewal);
  for (const LeaseId id : book.expired(now)) close_lease(book, id, false, "expired", out);
  stop_superseded(book, out);
  std::vector<LeaseId> unwanted;
  for (const auto& [id, lease] : book.leases()) {
    const LinkId* link = lease.closed ? nullptr : attachments_.link_of(lease.holder);
    if (link == nullptr) continue;
    const Attachment& attachment = attachments_.links().at(*link);
    if (attachment.has_updated && !attachment.bids.contains(replica.spec().pool_id)) unwanted.push_back(id);
  }
  for (const LeaseId id : unwanted) {
    if (book.find(id) == nullptr) continue;  // it went with one that was closed before it
    close_lease(book, id, false, "no bid", out);
  }
}

// L7, which also reaches jobs of a lease that was closed gently before: the start that owned them is gone.
void Manager::stop_superseded(LeaseBook& book, Effects& out) {
  std::vector<LeaseId> superseded;
  for (const auto& [id, lease] : book.leases()) {
    if (!(lease.closed && lease.stop) && attachments_.is_superseded(lease.holder)) superseded.push_back(id);
  }
  for (const LeaseId id : superseded) {
    if (book.find(id) != nullptr) close_lease(book, id, true, "a newer start has attached", out);
  }
}

// --- division (S1 to S6) ---

std::uint32_t Manager::ready_replicas(const std::string& pool_id) const {
  return static_cast<std::uint32_t>(std::count_if(replicas_.begin(), replicas_.end(), [&](const auto& entry) {
    return entry.second->grants() && entry.second->spec().pool_id == pool_id;
  }));
}

// S6: a bid not repeated within TTL/3 counts as empty.
bool Manager::is_fresh(const Attachment& attachment, Instant now) const {
  return attachment.has_updated && now < attachment.updated + settings_.ttl / 3;
}

Duration Manager::patience_of(const Attachment& attachment) const {
  return std::max(settings_.division.patience_floor, attachment.round_trip * settings_.division.patience_round_trips);
}

// When what is unused of a contended lease goes to others (S4); never() while it is not contended.
Instant Manager::unused_until(const Replica& replica, const Lease& lease) const {
  const auto contended = contended_since_.find(replica.spec().replica_id);
  const LinkId* link = attachments_.link_of(lease.holder);
  if (contended == contended_since_.end() || link == nullptr) return Instant::never();
  return std::max(lease.gained_at, contended->second) + patience_of(attachments_.links().at(*link));
}

// One lease per holder and replica.
void Manager::grant_shares(Replica& replica, std::size_t index, Instant now) {
  const std::string& id = replica.spec().replica_id;
  if (!replica.grants()) {
    contended_since_.erase(id);
    return;
  }
  LeaseBook& book = *replica.book();
  std::vector<Bidder> bidders = bidders_for(replica, now);
  if (take_back_unused(replica, bidders, now)) bidders = bidders_for(replica, now);
  // Managers begin at different holders, so that the remainders of many hosts do not all go to one.
  const std::size_t offset = index + static_cast<std::size_t>(settings_.manager.value.lo & 0xFFFF);
  const SharedOut shared = share_out(book, bidders, offset);
  for (const NewLease& lease : shared.opened) {
    const LeaseId lease_id{.boot = settings_.boot, .counter = ++serials_.lease};
    book.open(lease_id, lease.holder, new_secret(), lease.slots, lease.bid);
    known_[id].emplace(lease_id, lease.holder);
  }
  if (!shared.contended) {
    contended_since_.erase(id);
  } else {
    contended_since_.try_emplace(id, now);
  }
  note_division_wakeup(replica, now);
}

// S4: a contended grant that was not used in time moves on, and its holder waits behind the others for a while.
bool Manager::take_back_unused(Replica& replica, const std::vector<Bidder>& bidders, Instant now) {
  bool any = false;
  LeaseBook& book = *replica.book();
  std::vector<LeaseId> late;
  for (const auto& [id, lease] : book.leases()) {
    if (lease.unused() == 0 || lease.taken_back || now < unused_until(replica, lease)) continue;
    const bool others_want = std::any_of(bidders.begin(), bidders.end(), [&holder = lease.holder](const Bidder& other) {
      return other.holder != holder && !other.demand.wants.empty();
    });
    // The holder says that it has used it: the worker's word is on its way.
    const Attachment& attachment = attachments_.links().at(*attachments_.link_of(lease.holder));
    const auto bid = attachment.bids.find(replica.spec().pool_id);
    const PoolUse use = use_of(lease.holder, replica.spec().pool_id);
    const bool used = is_fresh(attachment, now) && bid != attachment.bids.end() && bid->second.running > use.running;
    if (others_want && !used) late.push_back(id);
  }
  for (const LeaseId id : late) {
    const Lease& lease = *book.find(id);
    Duration pause = patience_of(attachments_.links().at(*attachments_.link_of(lease.holder)));
    for (std::uint32_t i = 0; i < lease.passes && pause < settings_.division.pass_over_max; ++i) pause = pause * 2;
    book.pass_over(id, now + std::min(pause, settings_.division.pass_over_max));
    any = true;
  }
  return any;
}

// What one holder does with this pool on this host.
Manager::PoolUse Manager::use_of(const Holder& holder, const std::string& pool_id) const {
  PoolUse use;
  for (const auto& [id, replica] : replicas_) {
    const LeaseBook* book = std::as_const(*replica).book();
    if (book == nullptr || replica->spec().pool_id != pool_id) continue;
    for (const auto& [lease_id, lease] : book->leases()) {
      if (lease.holder != holder) continue;
      use.running += lease.running;
      use.unused += lease.unused();
      use.gained_at = std::max(use.gained_at, lease.gained_at);
    }
  }
  return use;
}

Demand Manager::demand_of(const Replica& replica, const Attachment& attachment, const Bid& bid, Instant now) const {
  const LeaseBook& book = *replica.book();
  Demand demand;
  demand.takes_credit = is_fresh(attachment, now);
  const auto found = std::find_if(book.leases().begin(), book.leases().end(), [&](const auto& entry) {
    return !entry.second.closed && entry.second.holder == attachment.holder;
  });
  const Lease* lease = found == book.leases().end() ? nullptr : &found->second;
  if (lease != nullptr) demand.running = lease->running;
  if (!demand.takes_credit) return demand;
  if (lease != nullptr) {
    if (!lease->taken_back) demand.granted = lease->unused();
    demand.passed_over = now < lease->passed_until;
  }
  // What it says to run beyond what the workers report is on its way to them.
  const PoolUse use = use_of(attachment.holder, bid.pool_id);
  const std::uint32_t on_the_way = bid.running > use.running ? bid.running - use.running : 0;
  const std::uint64_t parts = std::max<std::uint64_t>(ready_replicas(bid.pool_id), 1);
  const std::uint64_t waiting = (std::uint64_t{bid.waiting} + on_the_way + parts - 1) / parts;
  const std::uint32_t room = book.declared() + 1;
  demand.waiting = static_cast<std::uint32_t>(std::min<std::uint64_t>(waiting, room));
  demand.wants = wants_of(bid, use.unused > on_the_way ? use.unused - on_the_way : 0, room);
  const Instant since = hungry_since(attachment, bid.pool_id);
  if (!since.is_never() && now >= since + hunger_limit(replica)) demand.hungry_since = since;
  return demand;
}

// S5: since when the bid stands without a slot gained in the pool; never() when nothing waits.
Instant Manager::hungry_since(const Attachment& attachment, const std::string& pool_id) const {
  const auto bid = attachment.hungry_since.find(pool_id);
  if (bid == attachment.hungry_since.end()) return Instant::never();
  return std::max(bid->second, use_of(attachment.holder, pool_id).gained_at);
}

Duration Manager::hunger_limit(const Replica& replica) const {
  return std::max(settings_.division.hunger_floor, replica.mean_job_time() * settings_.division.hunger_job_times);
}

std::vector<Bidder> Manager::bidders_for(const Replica& replica, Instant now) const {
  std::vector<Bidder> bidders;
  bool any_fresh = false;
  const ClassLevels levels = class_levels(attachments_, replica.spec().pool_id);
  for (const auto& [link, attachment] : attachments_.links()) {
    const auto bid = attachment.bids.find(replica.spec().pool_id);
    if (!attachment.has_updated || bid == attachment.bids.end()) continue;
    any_fresh = any_fresh || is_fresh(attachment, now);
    bidders.push_back({.holder = attachment.holder,
                       .bid = {.link = link, .update_seq = attachment.seq},
                       .demand = demand_of(replica, attachment, leveled(bid->second, levels), now)});
  }
  // A holder whose Attach broke keeps its slots as long as its bid would have counted (L7, S6).
  for (const auto& [id, lease] : replica.book()->leases()) {
    if (lease.closed || attachments_.link_of(lease.holder) != nullptr) continue;
    if (lease.expires.is_never() || now < lease.expires - settings_.ttl / 3 * 2) continue;
    bidders.push_back({.holder = lease.holder,
                       .bid = lease.renewal,
                       .demand = {.running = lease.running, .wants = {}, .takes_credit = false}});
  }
  if (!any_fresh) {  // nobody else wants them
    for (Bidder& bidder : bidders) bidder.demand.takes_credit = true;
  }
  std::sort(bidders.begin(), bidders.end(), [](const Bidder& a, const Bidder& b) { return a.holder < b.holder; });
  return bidders;
}

// The next instant at which time alone changes the division.
void Manager::note_division_wakeup(const Replica& replica, Instant now) {
  const auto note = [&](Instant at) {
    if (at > now) division_wakeup_ = std::min(division_wakeup_, at);
  };
  for (const auto& [id, lease] : replica.book()->leases()) {
    if (lease.unused() > 0 && !lease.taken_back) note(unused_until(replica, lease));
    const bool detached = !lease.closed && attachments_.link_of(lease.holder) == nullptr;
    if (detached && !lease.expires.is_never()) note(lease.expires - settings_.ttl / 3 * 2);
  }
  for (const auto& [link, attachment] : attachments_.links()) {
    if (!attachment.has_updated || !attachment.bids.contains(replica.spec().pool_id)) continue;
    note(attachment.updated + settings_.ttl / 3);
    const Instant hungry = hungry_since(attachment, replica.spec().pool_id);
    if (!hungry.is_never()) note(hungry + hunger_limit(replica));
  }
}

}  // namespace orch::pool
