// The text that tells states apart. What cannot change the future is left out: instants that lie behind, the order in
// which names were given, how often something was renewed.
#include <algorithm>
#include <set>

#include "lease_check/cluster.h"

namespace orch {

struct LeaseStateProbe {
  const pool::LeaseBook& book;
  const worker::LeaseArbiter& arbiter;

  TableVersion issued() const { return book.issued_; }
  TableVersion acked() const { return book.acked_; }
  bool in_flight() const { return book.in_flight_; }
  bool dirty() const { return book.dirty_; }
  bool adopted() const { return book.adopted_; }
  Instant issued_at() const { return book.issued_at_; }
  std::uint32_t running_unknown() const { return book.running_unknown_; }
  const auto& at_worker() const { return arbiter.leases_; }
};

}  // namespace orch

namespace orch::check {
namespace {

class Text {
 public:
  explicit Text(Instant now) : now_(now) {}
  void number(std::uint64_t value) {
    out_.push_back(static_cast<char>(static_cast<unsigned char>(std::min<std::uint64_t>(value, 250))));
  }
  // Distance from now in both directions, as far as it matters.
  void ahead(Instant at) { number(at.is_never() ? 250 : at <= now_ ? 0 : static_cast<std::uint64_t>((at - now_).ns)); }
  void behind(std::int64_t ns) {
    number(static_cast<std::uint64_t>(std::clamp<std::int64_t>(now_.ns - ns, 0, kTtl.ns)));
  }
  std::string take() { return std::move(out_); }

 private:
  Instant now_;
  std::string out_;
};

template <typename T>
std::uint64_t rank(const std::set<T>& all, const T& value) {
  return static_cast<std::uint64_t>(std::distance(all.begin(), all.lower_bound(value)));
}

}  // namespace

std::string Cluster::canonical() const {
  const LeaseStateProbe probe{book_, arbiter_};
  std::set<LeaseId> ids;
  std::set<TableVersion> versions{probe.issued(), probe.acked(), arbiter_.version()};
  std::set<std::uint64_t> turns;
  std::map<LeaseId, std::set<std::uint64_t>> renewals;
  const auto note_table = [&](const LeaseTable& table) {
    versions.insert(table.version);
    for (const LeaseEntry& entry : table.leases) {
      ids.insert(entry.id);
      renewals[entry.id].insert(entry.renewal_seq);
    }
  };
  for (const auto& [id, lease] : book_.leases()) {
    ids.insert(id);
    turns.insert(lease.turn);
    renewals[id].insert({lease.renewals, lease.issued_renewals, lease.acked_renewals, lease.announced_renewals});
  }
  for (const auto& [id, lease] : probe.at_worker()) {
    ids.insert(id);
    renewals[id].insert(lease.entry.renewal_seq);
  }
  for (const LeaseTable& table : tables_) note_table(table);
  if (late_) note_table(*late_);
  if (report_) {
    versions.insert(report_->version);
    for (const LeaseUse& use : report_->uses) ids.insert(use.id);
  }
  for (const Job& job : jobs_) ids.insert(job.fence.lease);
  for (const Party& party : parties_) {
    for (const auto& [lease_key, lease] : party.leases.all()) ids.insert(lease_key.lease);
    for (const Told& told : party.told) ids.insert(told.lease);
    for (const LeaseUse& use : party.heard_last.beyond) ids.insert(use.id);
    if (party.heard) {
      for (const LeaseUse& use : party.heard->beyond) ids.insert(use.id);
    }
    if (party.dispatch) ids.insert(party.dispatch->fence.lease);
  }

  Text text(now_);
  const auto id_of = [&](LeaseId id) { text.number(rank(ids, id)); };
  const auto write_table = [&](const LeaseTable& table) {
    text.number(rank(versions, table.version));
    text.number(table.leases.size());
    for (const LeaseEntry& entry : table.leases) {
      id_of(entry.id);
      text.number(entry.slots);
      text.number(entry.stop ? 1 : 0);
      text.number(rank(renewals[entry.id], entry.renewal_seq));
    }
  };
  text.number(rank(versions, probe.issued()));
  text.number(rank(versions, probe.acked()));
  text.number((probe.in_flight() ? 1u : 0u) | (probe.dirty() ? 2u : 0u) | (probe.adopted() ? 4u : 0u));
  text.number(probe.in_flight() && probe.issued_at() < now_ ? 1 : 0);
  text.number(probe.running_unknown());
  text.number(ghosts_);
  for (const int left : {left_.faults, left_.crashes, left_.jobs, left_.moves, left_.ticks})
    text.number(static_cast<std::uint64_t>(left));
  text.number(boot_);
  text.number(inc_.counter);
  text.number(book_.leases().size());
  for (const auto& [id, lease] : book_.leases()) {
    id_of(id);
    text.number(lease.holder.orch.value.lo);
    text.number(lease.holder.boot);
    for (const std::uint32_t value : {lease.slots, lease.issued_slots, lease.acked_slots, lease.unacked_slots,
                                      lease.running, lease.announced_slots, lease.told.heard(), lease.told.beyond()})
      text.number(value);
    const Party& party = parties_[static_cast<std::size_t>(lease.holder.orch.value.lo)];
    text.number(lease.told.unheard().size());
    for (const pool::ToldSlots::Word& word : lease.told.unheard()) {
      text.number(word.slots);
      const bool now = word.link.value == party.link;
      const bool said = party.heard && word.number <= party.heard->number;
      text.number((now ? 1u : 0u) | (now && word.number <= party.seen ? 2u : 0u) | (now && said ? 4u : 0u));
    }
    for (const pool::Renewal* renewal : {&lease.renewal, &lease.issued_renewal, &lease.acked_renewal}) {
      text.behind(static_cast<std::int64_t>(renewal->update_seq));
      text.number(renewal->link.value == party.link ? 1 : 0);
    }
    for (const std::uint64_t value :
         {lease.renewals, lease.issued_renewals, lease.acked_renewals, lease.announced_renewals})
      text.number(rank(renewals[id], value));
    text.number(rank(turns, lease.turn));
    text.ahead(lease.expires);
    text.number((lease.closed ? 1u : 0u) | (lease.stop ? 2u : 0u));
  }
  for (const LeaseId id : ids) {
    const auto said = said_.find(id);
    const auto most = applied_most_.find(id);
    text.number(said == said_.end() ? 0 : said->second + 1);
    text.number(most == applied_most_.end() ? 0 : most->second);
  }
  text.number(rank(versions, arbiter_.version()));
  text.number(probe.at_worker().size());
  for (const auto& [id, lease] : probe.at_worker()) {
    id_of(id);
    text.number(lease.entry.slots);
    text.number(lease.entry.stop ? 1 : 0);
    text.number(rank(renewals[id], lease.entry.renewal_seq));
    text.ahead(lease.end);
  }
  text.number(tables_.size());
  for (const LeaseTable& table : tables_) write_table(table);
  text.number(late_ ? 1 : 0);
  if (late_) write_table(*late_);
  text.number((report_ ? 1u : 0u) | (report_due_ ? 2u : 0u));
  if (report_) {
    text.number(rank(versions, report_->version));
    text.number(report_->uses.size());
    for (const LeaseUse& use : report_->uses) {
      id_of(use.id);
      text.number(use.running);
    }
  }
  std::vector<std::array<std::uint64_t, 3>> jobs;
  for (const Job& job : jobs_) {
    const std::uint64_t who = job.holder.orch.value.lo;
    jobs.push_back({rank(ids, job.fence.lease), job.holder.boot * 2 + who, job.stopping ? 1u : 0u});
  }
  std::sort(jobs.begin(), jobs.end());
  text.number(jobs.size());
  for (const auto& job : jobs) {
    for (const std::uint64_t value : job) text.number(value);
  }
  for (const Party& party : parties_) {
    text.number(party.boot);
    text.number(party.attached_boot);
    text.number((party.started == now_ ? 1u : 0u) | (party.relinked ? 2u : 0u));
    text.number((party.heard ? 1u : 0u) | (party.heard_last.number < party.seen ? 2u : 0u));
    for (const std::vector<LeaseUse>* beyond :
         {&party.heard_last.beyond, party.heard ? &party.heard->beyond : nullptr}) {
      if (beyond == nullptr) continue;
      text.number(beyond->size());
      for (const LeaseUse& use : *beyond) {
        id_of(use.id);
        text.number(use.running);
      }
    }
    text.behind(party.updated.ns);
    if (party.boot > 1) text.number(static_cast<std::uint64_t>(std::min((now_ - party.died).ns, 2 * kTtl.ns)));
    text.number(party.leases.all().size());
    for (const auto& [lease_key, lease] : party.leases.all()) {
      id_of(lease_key.lease);
      text.number(lease.slots);
      text.number(lease.in_use);
      text.number((lease.closed ? 1u : 0u) | (lease.stale ? 2u : 0u));
      text.ahead(lease.end);
      text.behind(lease.counted_from.ns);
      text.number(lease.inc.counter);
    }
    text.number(party.told.size());
    for (const Told& told : party.told) {
      id_of(told.lease);
      text.number(told.revoked ? 250 : told.slots);
      text.behind(told.sent_at);
      text.number(told.inc.counter);
    }
    text.number(party.dispatch ? 1 : 0);
    if (party.dispatch) {
      id_of(party.dispatch->fence.lease);
      text.number(party.dispatch->holder.boot);
      text.number(party.dispatch->fence.inc.counter);
      text.number(party.dispatch->slots);
    }
  }
  return text.take();
}

std::optional<Instant> Cluster::end_at_worker(LeaseId id) const {
  const LeaseStateProbe probe{book_, arbiter_};
  const auto found = probe.at_worker().find(id);
  if (found == probe.at_worker().end()) return std::nullopt;
  return found->second.end;
}

}  // namespace orch::check
