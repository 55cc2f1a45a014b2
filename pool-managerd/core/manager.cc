#include "pool-managerd/core/manager.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/check.h"
#include "pool-managerd/core/division.h"

namespace orch::pool {
namespace {

// What an orchestrator decides by; running and retry_in change with every report and are told with the next real
// change.
bool same_for_links(const ReplicaView& a, const ReplicaView& b) {
  return a.state == b.state && a.inc == b.inc && a.endpoint == b.endpoint && a.last_error == b.last_error &&
         a.slots == b.slots && a.routable == b.routable && a.was_ready == b.was_ready && a.pid == b.pid &&
         a.facts.ready == b.facts.ready && a.facts.engine_version == b.facts.engine_version &&
         a.facts.model_digest == b.facts.model_digest && a.facts.ctx_max == b.facts.ctx_max;
}

}  // namespace

Manager::Manager(Settings settings, EntropySource& entropy)
    : settings_(std::move(settings)), entropy_(entropy), attachments_(settings_.limits.links_max) {
  for (const ReplicaSpec& spec : settings_.replicas) {
    const bool is_new =
        replicas_.emplace(spec.replica_id, std::make_unique<Replica>(spec, settings_, serials_, entropy_)).second;
    ORCH_CHECK(is_new);
  }
}

void Manager::step(const Event& event, Instant now, Effects& out) {
  // A manager that stood still (suspend, SIGSTOP, a stalled disk) has not listened: silence then is its own.
  if (!promised_wakeup_.is_never() && now >= promised_wakeup_ + settings_.ttl / 3) {
    for (auto& [id, replica] : replicas_) replica->forgive_silence(now);
  }
  std::visit([&](const auto& each) { on(each, now, out); }, event);
  settle(now, out);
  report_changes(now, out);
  promised_wakeup_ = next_wakeup();
}

Instant Manager::next_wakeup() const {
  Instant next = Instant::never();
  for (const auto& [id, replica] : replicas_) next = std::min(next, replica->next_wakeup());
  return next;
}

Replica* Manager::replica_with(Incarnation inc) {
  for (auto& [id, replica] : replicas_) {
    if (replica->has_process() && replica->inc() == inc) return replica.get();
  }
  return nullptr;  // late news of a process that is gone
}

// --- workers ---

void Manager::on(const ProcessStarted& event, Instant now, Effects& out) {
  if (Replica* replica = replica_with(event.inc)) replica->on(event, now, out);
}
void Manager::on(const SpawnFailed& event, Instant now, Effects& out) {
  if (Replica* replica = replica_with(event.inc)) replica->on(event, now, out);
}
void Manager::on(const ProcessExited& event, Instant now, Effects& out) {
  if (Replica* replica = replica_with(event.inc)) replica->on(event, now, out);
}
void Manager::on(const InfoArrived& event, Instant now, Effects& out) {
  if (Replica* replica = replica_with(event.inc)) replica->on(event, now, out);
}
void Manager::on(const InfoFailed& event, Instant now, Effects& out) {
  if (Replica* replica = replica_with(event.inc)) replica->on(event, now, out);
}
void Manager::on(const ControlBroken& event, Instant now, Effects& out) {
  if (Replica* replica = replica_with(event.inc)) replica->on(event, now, out);
}
void Manager::on(const WorkerReport& event, Instant now, Effects& out) {
  Replica* replica = replica_with(event.inc);
  if (replica == nullptr) return;
  announce(*replica, replica->on(event, now, out), out);
}

// L2: only after the worker's ack does a grant go to its holder. A grant counts from a message of the link it goes to,
// since update_seq has a meaning on that link alone.
void Manager::announce(const Replica& replica, const std::vector<LeaseBook::Announcement>& announcements,
                       Effects& out) {
  if (!replica.grants()) return;
  for (const LeaseBook::Announcement& each : announcements) {
    const LinkId* link = attachments_.link_of(each.holder);
    if (link == nullptr || *link != each.renewal.link) continue;
    out.push_back(SendGrant{.link = *link,
                            .lease = each.lease,
                            .replica_id = replica.spec().replica_id,
                            .inc = replica.inc(),
                            .slots = each.slots,
                            .secret = each.secret,
                            .update_seq = each.renewal.update_seq,
                            .ttl = settings_.ttl});
  }
}

// --- orchestrators ---

void Manager::on(const AttachOpened& event, Instant now, Effects& out) {
  const Attachments::Opened opened = attachments_.open(event.link, event.holder);
  for (const LinkId link : opened.replaced) {
    out.push_back(AttachRefused{.link = link,
                                .outcome = Outcome::CONFLICT,
                                .message = "the same orchestrator has attached again",
                                .field = "hello.holder"});
  }
  if (!opened.accepted) {
    out.push_back(AttachRefused{
        .link = event.link, .outcome = Outcome::CONFLICT, .message = opened.refusal, .field = "hello.holder"});
    return;
  }
  out.push_back(AttachWelcome{.link = event.link, .replicas = replicas(now)});
}

// L7: a broken Attach is not a death. Leases stay until they expire.
void Manager::on(const AttachClosed& event, Instant, Effects&) { attachments_.close(event.link); }

bool Manager::within_limits(const HolderUpdate& update, Effects& out) {
  const std::size_t limit = settings_.limits.update_entries_max;
  const char* field = update.bids.size() > limit      ? "update.bids"
                      : update.renew.size() > limit   ? "update.renew"
                      : update.release.size() > limit ? "update.release"
                                                      : nullptr;
  if (field == nullptr) return true;
  attachments_.close(update.link);
  out.push_back(AttachRefused{.link = update.link,
                              .outcome = Outcome::INVALID_PARAMS,
                              .message = std::string(field) + " has more than " + std::to_string(limit) + " entries",
                              .field = field});
  return false;
}

void Manager::on(const HolderUpdate& event, Instant now, Effects& out) {
  const Attachment* attachment = attachments_.find(event.link);
  if (attachment == nullptr || !within_limits(event, out)) return;
  const bool first = !attachment->has_updated;
  if (!attachments_.update(event, now)) return;
  attachments_.find(event.link)->has_updated = true;
  take_releases(event);
  take_renewals(event, first, out);
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
  for (const LeaseId id : unknown) {
    out.push_back(
        SendRevoke{.link = update.link, .lease = id, .stop = false, .reason = "no such lease of this holder"});
  }
}

// --- operator and process ---

void Manager::on(const DrainReplica& event, Instant now, Effects& out) {
  const auto found = replicas_.find(event.replica_id);
  if (found == replicas_.end()) {
    out.push_back(DrainReply{.request = event.request,
                             .accepted = false,
                             .outcome = Outcome::NOT_FOUND,
                             .message = "replica_id: no replica '" + event.replica_id + "' on this host"});
    return;
  }
  found->second->drain(event.deadline, now, out);
  out.push_back(DrainReply{.request = event.request, .accepted = true, .message = {}});
}

void Manager::on(const Shutdown& event, Instant now, Effects& out) {
  shutting_down_ = true;
  for (auto& [id, replica] : replicas_) replica->drain(event.deadline, now, out);
}

void Manager::on(const Tick&, Instant, Effects&) {}

// --- after every event ---

void Manager::settle(Instant now, Effects& out) {
  std::size_t index = 0;
  for (auto& [id, replica] : replicas_) {
    replica->tick(now, out);
    settle_leases(*replica, now, out);
    grant_shares(*replica, index++, now);
    replica->tick(now, out);  // a drain that has become idle ends at once
    replica->flush_table(now, out);
  }
  attachments_.forget_unless([&](const OrchId& orch) {
    return std::any_of(known_.begin(), known_.end(), [&](const auto& replica) {
      return std::any_of(replica.second.begin(), replica.second.end(),
                         [&](const auto& lease) { return lease.second.orch == orch; });
    });
  });
  const bool all_gone =
      std::all_of(replicas_.begin(), replicas_.end(), [](const auto& entry) { return !entry.second->has_process(); });
  if (shutting_down_ && all_gone && !shut_down_) {
    shut_down_ = true;
    out.push_back(ShutdownComplete{});
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
  if (!replica.grants()) return lose_leases(replica, out);
  LeaseBook& book = *replica.book();
  for (const LeaseId id : book.expired(now)) close_lease(book, id, false, "expired", out);
  std::vector<std::pair<LeaseId, bool>> closing;  // second: stop
  for (const auto& [id, lease] : book.leases()) {
    if (lease.closed) {
      // L7 also reaches jobs of a lease that was closed gently before: the start that owned them is gone.
      if (!lease.stop && attachments_.is_superseded(lease.holder)) closing.emplace_back(id, true);
      continue;
    }
    if (attachments_.is_superseded(lease.holder)) {
      closing.emplace_back(id, true);
    } else if (const LinkId* link = attachments_.link_of(lease.holder)) {
      const Attachment& attachment = attachments_.links().at(*link);
      if (attachment.has_updated && !attachment.bids.contains(replica.spec().pool_id)) closing.emplace_back(id, false);
    }
  }
  for (const auto& [id, stop] : closing)
    close_lease(book, id, stop, stop ? "a newer start has attached" : "no bid", out);
}

std::uint32_t Manager::ready_replicas(const std::string& pool_id) const {
  return static_cast<std::uint32_t>(std::count_if(replicas_.begin(), replicas_.end(), [&](const auto& entry) {
    return entry.second->grants() && entry.second->spec().pool_id == pool_id;
  }));
}

// One lease per holder and replica.
void Manager::grant_shares(Replica& replica, std::size_t index, Instant now) {
  if (!replica.grants()) return;
  LeaseBook& book = *replica.book();
  const std::vector<Bidder> bidders = bidders_for(replica, now);
  for (const NewLease& lease : share_out(book, bidders, index)) {
    const LeaseId id{.boot = settings_.boot, .counter = ++serials_.lease};
    book.open(id, lease.holder, new_secret(), lease.slots, lease.bid);
    known_[replica.spec().replica_id].emplace(id, lease.holder);
  }
}

std::vector<Bidder> Manager::bidders_for(const Replica& replica, Instant now) const {
  const std::string& pool = replica.spec().pool_id;
  // S6: a bid not repeated in time counts as empty, unless nobody else bids. It is repeated every TTL/3; half a TTL
  // leaves room for the message's own delay.
  const auto is_fresh = [&](const Attachment& attachment) { return now < attachment.updated + settings_.ttl / 2; };
  const std::uint64_t parts = std::max<std::uint64_t>(ready_replicas(pool), 1);
  std::vector<Bidder> bidders;
  bool any_fresh = false;
  for (const auto& [link, attachment] : attachments_.links()) {
    const auto bid = attachment.bids.find(pool);
    if (!attachment.has_updated || bid == attachment.bids.end()) continue;
    const bool fresh = is_fresh(attachment);
    any_fresh = any_fresh || fresh;
    const std::uint64_t wanted = (std::uint64_t{bid->second.running} + bid->second.waiting + parts - 1) / parts;
    const std::uint64_t bounded = std::min<std::uint64_t>(wanted, replica.spec().slots);
    bidders.push_back({.holder = attachment.holder,
                       .bid = {.link = link, .update_seq = attachment.seq},
                       .demand = {.wanted = fresh ? static_cast<std::uint32_t>(bounded) : 0, .takes_credit = fresh}});
  }
  if (!any_fresh) {
    for (Bidder& bidder : bidders) bidder.demand.takes_credit = true;
  }
  std::sort(bidders.begin(), bidders.end(), [](const Bidder& a, const Bidder& b) { return a.holder < b.holder; });
  return bidders;
}

Secret Manager::new_secret() {
  Secret secret{};
  for (std::size_t half = 0; half < 2; ++half) {
    std::uint64_t bits = entropy_.next_u64();
    for (std::size_t byte = 0; byte < 8; ++byte, bits >>= 8)
      secret[half * 8 + byte] = static_cast<std::uint8_t>(bits & 0xFF);
  }
  return secret;
}

void Manager::report_changes(Instant now, Effects& out) {
  for (const auto& [id, replica] : replicas_) {
    ReplicaView view = replica->view(now);
    const auto told = reported_.find(id);
    if (told != reported_.end() && same_for_links(told->second, view)) continue;
    reported_[id] = view;
    out.push_back(ReplicaChanged{.replica = std::move(view)});
  }
}

// --- inspection ---

std::vector<ReplicaView> Manager::replicas(Instant now) const {
  std::vector<ReplicaView> views;
  views.reserve(replicas_.size());
  for (const auto& [id, replica] : replicas_) views.push_back(replica->view(now));
  return views;
}

std::vector<std::pair<std::string, const WorkerReport*>> Manager::last_reports() const {
  std::vector<std::pair<std::string, const WorkerReport*>> reports;
  for (const auto& [id, replica] : replicas_) {
    if (replica->last_report()) reports.emplace_back(id, &*replica->last_report());
  }
  return reports;
}

const LeaseBook* Manager::book_of(const std::string& replica_id) const {
  const auto found = replicas_.find(replica_id);
  return found == replicas_.end() ? nullptr : std::as_const(*found->second).book();
}

std::size_t Manager::open_leases(const std::string& replica_id) const {
  const auto found = known_.find(replica_id);
  return found == known_.end() ? 0 : found->second.size();
}

void Manager::check_invariants() const {
  std::set<LeaseId> seen;
  for (const auto& [id, replica] : replicas_) {
    const LeaseBook* book = std::as_const(*replica).book();
    ORCH_CHECK(replica->state() != ReplicaState::ready || book != nullptr);
    const auto known = known_.find(id);
    std::size_t open = 0;
    if (book != nullptr) {
      book->check_invariants();
      ORCH_CHECK(book->inc() == replica->inc());
      std::set<Holder> holders;
      for (const auto& [lease_id, lease] : book->leases()) {
        ORCH_CHECK(seen.insert(lease_id).second);  // a lease id is of one replica for ever
        if (lease.closed) continue;
        ++open;
        ORCH_CHECK(holders.insert(lease.holder).second);
        ORCH_CHECK(known != known_.end() && known->second.contains(lease_id));
        ORCH_CHECK(!attachments_.is_superseded(lease.holder));
      }
    }
    ORCH_CHECK(known == known_.end() || known->second.size() == open);
    ORCH_CHECK(replica->grants() || open == 0);
  }
}

}  // namespace orch::pool
