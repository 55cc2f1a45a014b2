#include "pool-managerd/core/manager.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/check.h"
#include "pool-managerd/core/division.h"

namespace orch::pool {
namespace {

// What an orchestrator decides by; running and retry_in change with every report and are told with the next real
// change, the used part of the memory by ReplicaLoaded.
bool same_for_links(const ReplicaView& a, const ReplicaView& b) {
  return a.state == b.state && a.inc == b.inc && a.endpoint == b.endpoint && a.last_error == b.last_error &&
         a.last_end == b.last_end && a.slots == b.slots && a.routable == b.routable && a.was_ready == b.was_ready &&
         a.pid == b.pid && a.facts.ready == b.facts.ready && a.facts.engine_version == b.facts.engine_version &&
         a.facts.model_digest == b.facts.model_digest && a.facts.ctx_max == b.facts.ctx_max &&
         a.kv.page_tokens == b.kv.page_tokens && a.kv.pages_total == b.kv.pages_total;
}

}  // namespace

Manager::Manager(Settings settings, EntropySource& entropy)
    : settings_(std::move(settings)),
      entropy_(entropy),
      attachments_(settings_.limits.links_max),
      ledger_(settings_.ttl) {
  for (ReplicaSpec& spec : settings_.replicas) {
    if (spec.place.empty()) spec.place = spec.replica_id;
    auto replica = std::make_unique<Replica>(spec, settings_, serials_, sets_, entropy_);
    const bool is_new = replicas_.emplace(spec.replica_id, std::move(replica)).second;
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
  tell_others(now, out);
  report_changes(now, out);
  tell_over(out);
  report_loads(now, out);
  promised_wakeup_ = next_wakeup();
}

Instant Manager::next_wakeup() const {
  Instant next = std::min({division_wakeup_, fair_wakeup_, load_wakeup_});
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
void Manager::on(const WorkersFound& event, Instant now, Effects& out) {
  for (const WorkerFound& worker : event.workers) {
    const auto found = replicas_.find(worker.replica_id);
    ORCH_CHECK(found != replicas_.end());
    found->second->adopt(worker, now, out);
  }
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
  announce(*replica, replica->on(event, now, out), now, out);
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
  ledger_.attached(event.holder);
  out.push_back(AttachWelcome{.link = event.link, .replicas = replicas(now)});
  const bool news = gateways_.told(event.holder.orch, event.public_url);
  for (const auto& [link, attachment] : attachments_.links()) {
    if (news || link == event.link) out.push_back(SendGateways{.link = link, .gateways = gateways_.all()});
  }
}

// L7: a broken Attach is not a death. Leases stay until they expire.
void Manager::on(const AttachClosed& event, Instant now, Effects&) {
  if (const Attachment* attachment = attachments_.find(event.link)) {
    ledger_.detached(attachment->holder, now);
    gateways_.left(attachment->holder.orch);
  }
  attachments_.close(event.link);
}

void Manager::on(const FairReported& event, Instant now, Effects& out) {
  const Attachment* attachment = attachments_.find(event.link);
  if (attachment == nullptr) return;
  const char* list = event.report.rows.size() > kFairRowsMax   ? "fair.rows"
                     : event.report.uses.size() > kFairRowsMax ? "fair.uses"
                                                               : nullptr;
  if (list == nullptr) {
    refused_.report(attachment->holder.orch, event.report.refused, now);
    return ledger_.report(attachment->holder, event.report);
  }
  attachments_.close(event.link);
  out.push_back(
      AttachRefused{.link = event.link,
                    .outcome = Outcome::INVALID_PARAMS,
                    .message = std::string(list) + " has more than " + std::to_string(kFairRowsMax) + " entries",
                    .field = list});
}

// F4. A link hears at most every fair_interval, and only what is new. Where that is the holder's own report alone it
// hears that nothing else is: what it did not use since is its to share again (OC-QUOTA-1005).
void Manager::tell_others(Instant now, Effects& out) {
  ledger_.expire(now);
  fair_wakeup_ = ledger_.next_expiry();
  const auto& links = attachments_.links();
  if (links.size() == 1 && !ledger_.knows_others(links.begin()->second.holder)) return;
  for (const auto& [link, known] : links) {
    if (known.others_told == ledger_.version() && known.refused_told == refused_.version()) continue;
    const Instant due = known.others_told == 0 ? now : known.others_told_at + settings_.limits.fair_interval;
    if (due > now) {
      fair_wakeup_ = std::min(fair_wakeup_, due);
      continue;
    }
    Attachment& attachment = *attachments_.find(link);
    send_others(link, ledger_.others(attachment.holder, attachment.others_told), now, out);
    attachment.others_told = ledger_.version();
    attachment.refused_told = refused_.version();
    attachment.others_told_at = now;
  }
}

// L7. No lease is opened for a boot that a newer one has followed: what is over stays over.
void Manager::tell_over(Effects& out) {
  for (const auto& [link, known] : attachments_.links()) {
    for (const auto& [id, replica] : replicas_) {
      const auto told = known.over_told.find(id);
      if (told != known.over_told.end() && told->second == replica->inc()) continue;
      if (!replica->is_over_before(known.holder)) continue;
      attachments_.find(link)->over_told[id] = replica->inc();
      out.push_back(SendEarlierOver{.link = link, .replica_id = id, .inc = replica->inc()});
    }
  }
}

// A message has room for what one start may report, or for several that report less.
void Manager::send_others(LinkId link, std::vector<StartReport> starts, Instant now, Effects& out) {
  SendOthers message{.link = link, .others = {{}, refused_.all(now)}};
  std::size_t entries = 0;
  for (StartReport& start : starts) {
    const std::size_t more = start.rows.size() + start.uses.size();
    if (entries > 0 && entries + more > kFairRowsMax) {
      out.push_back(std::exchange(message, {.link = link, .others = {{}, message.others.refused}}));
      entries = 0;
    }
    entries += more;
    message.others.starts.push_back(std::move(start));
  }
  const bool says = !message.others.starts.empty() || !message.others.refused.empty();
  if (says || ledger_.knows_others(attachments_.find(link)->holder)) out.push_back(std::move(message));
}

void Manager::on(const HolderUpdate& event, Instant now, Effects& out) {
  const Attachment* attachment = attachments_.find(event.link);
  if (attachment == nullptr || !within_limits(event, out)) return;
  const bool first = !attachment->has_updated;
  if (!attachments_.update(event, now)) return;
  attachments_.find(event.link)->has_updated = true;
  take_heard(event, now, out);
  take_releases(event);
  take_renewals(event, first, out);
}

// --- operator and process ---

void Manager::on(const Shutdown& event, Instant now, Effects& out) {
  shutting_down_ = true;
  end_operations("the manager stops", now, out);
  for (auto& [id, replica] : replicas_) replica->drain(event.deadline, DrainReason::shutdown, now, out);
}

void Manager::on(const Tick&, Instant, Effects&) {}

// --- after every event ---

void Manager::settle(Instant now, Effects& out) {
  do {
    settle_replicas(now, out);
  } while (advance_operations(now, out));
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

void Manager::settle_replicas(Instant now, Effects& out) {
  std::size_t index = 0;
  division_wakeup_ = Instant::never();
  for (auto& [id, replica] : replicas_) {
    replica->tick(now, out);
    settle_leases(*replica, now, out);
    grant_shares(*replica, index++, now);
    replica->tick(now, out);  // a drain that has become idle ends at once
    replica->flush_table(now, out);
  }
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

// OC-POOL-3055. Every report is told of, also one that changes nothing: a gateway learns from it that what it has sent
// is in the count.
void Manager::report_loads(Instant now, Effects& out) {
  load_wakeup_ = Instant::never();
  if (attachments_.links().empty()) return;  // the snapshot of a welcome tells it
  for (const auto& [id, replica] : replicas_) {
    if (!replica->grants()) continue;
    LoadTold& told = loads_told_[id];
    if (told.reports == replica->reports() || replica->kv().pages_total == 0) continue;
    const Instant due = told.reports == 0 ? now : told.at + settings_.limits.load_interval;
    if (now < due) {
      load_wakeup_ = std::min(load_wakeup_, due);
      continue;
    }
    told = {.reports = replica->reports(), .at = now};
    out.push_back(ReplicaLoaded{.replica_id = id, .inc = replica->inc(), .kv_pages_used = replica->kv().pages_used});
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

const LeaseBook* Manager::book_of(Incarnation inc) const {
  for (const auto& [id, replica] : replicas_) {
    if (replica->has_process() && replica->inc() == inc) return std::as_const(*replica).book();
  }
  return nullptr;
}

std::vector<const LeaseBook*> Manager::books() const {
  std::vector<const LeaseBook*> out;
  for (const auto& [id, replica] : replicas_) {
    if (const LeaseBook* book = std::as_const(*replica).book()) out.push_back(book);
  }
  return out;
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
    if (replica->is_adopting()) continue;  // its leases are known once it is ready again (L8)
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
