// The pool manager of the explicit-state check: what pool-managerd/core/manager*.cc does around the LeaseBook.
#include <algorithm>
#include <utility>

#include "lease_check/cluster.h"

namespace orch::check {
namespace {

constexpr std::array<std::array<std::uint32_t, kHolders>, kDivisions> kShares{{{2, 0}, {1, 1}, {0, 2}}};

Secret secret_of(LeaseId id) {
  Secret out{};
  out[0] = static_cast<std::uint8_t>(id.counter);
  out[1] = static_cast<std::uint8_t>(id.boot);
  return out;
}

}  // namespace

LeaseId Cluster::open_lease(int who) const {
  const Party& party = parties_[static_cast<std::size_t>(who)];
  for (const auto& [id, lease] : book_.leases()) {
    if (!lease.closed && lease.holder.orch == holder(who).orch && lease.holder.boot == party.attached_boot) return id;
  }
  return {};
}

// The manager sends a table as soon as it may.
void Cluster::flush() {
  if (!book_.wants_table(now_)) return;
  next_table_ += 10;  // room for the fault that takes an older table for a newer one
  const TableVersion version{boot_, next_table_};
  tables_.clear();  // sent again: the stream has one table at a time
  tables_.push_back(book_.issue(version, now_));
  const bool at_once = fault_ == Fault::skip_the_ack || (fault_ == Fault::adopt_and_grant_at_once && boot_ > 1);
  if (at_once) tell(book_.on_report(version, arbiter_.uses(), now_));
}

void Cluster::tell(const std::vector<pool::LeaseBook::Announcement>& announcements) {
  for (const auto& each : announcements) {
    if (each.slots > applied_most_[each.lease])
      violate("L2: a holder is told of slots that its worker has not applied");
    const int who = static_cast<int>(each.holder.orch.value.lo);
    Party& party = parties_[static_cast<std::size_t>(who)];
    if (each.holder.boot != party.attached_boot || party.attached_boot != party.boot) continue;
    if (each.renewal.link.value != party.link) continue;
    said_[each.lease] = each.slots;
    const std::uint64_t number = ++party.sent;
    book_.told(each.lease, {.link = {party.link}, .number = number, .slots = each.slots});
    send(who, {.lease = each.lease,
               .slots = each.slots,
               .secret = each.secret,
               .sent_at = static_cast<std::int64_t>(each.renewal.update_seq),
               .number = number,
               .revoked = false,
               .inc = inc_});
    if (fault_ == Fault::told_is_heard) book_.heard(each.holder, {party.link}, number, {}, now_);
  }
}

void Cluster::send(int who, const Told& told) {
  std::vector<Told>& under_way = parties_[static_cast<std::size_t>(who)].told;
  for (Told& each : under_way) {
    if (each.lease != told.lease) continue;
    const std::uint64_t number = std::max(each.number, told.number);
    each = told;
    each.number = number;
    return;
  }
  under_way.push_back(told);
}

void Cluster::close(LeaseId id, bool stop) {
  const Holder owner = book_.find(id)->holder;
  book_.close(id, stop);
  said_.erase(id);
  const Party& party = parties_[static_cast<std::size_t>(owner.orch.value.lo)];
  if (owner.boot == party.boot && party.attached_boot == party.boot)
    send(static_cast<int>(owner.orch.value.lo), Told{.lease = id, .revoked = true});
}

// L4, L7: one arrives that was sent then.
void Cluster::take_renewal(int who, Instant sent) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  party.attached_boot = party.boot;
  party.updated = sent;
  party.relinked = false;
  std::vector<LeaseId> older;
  for (const auto& [id, lease] : book_.leases()) {
    if (lease.holder.orch == holder(who).orch && lease.holder.boot < party.boot && !lease.stop) older.push_back(id);
  }
  for (const LeaseId id : older) close(id, true);
  if (const LeaseId id = open_lease(who); !id.is_zero()) book_.renew(id, renewal_of(party));
}

pool::Renewal Cluster::renewal_of(const Party& party) const {
  return {.link = {party.link}, .update_seq = static_cast<std::uint64_t>(party.updated.ns)};
}

void Cluster::take_heard(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  if (!party.heard) return;
  const Heard heard = *std::exchange(party.heard, std::nullopt);
  tell(book_.heard(holder(who), {party.link}, heard.number, heard.beyond, now_));
}

// Any division whose sum fits, whoever wants what.
void Cluster::divide(int what) {
  const auto& shares = kShares[static_cast<std::size_t>(what)];
  std::uint32_t sum = 0;
  for (int who = 0; who < kHolders; ++who) {
    const bool attached = parties_[static_cast<std::size_t>(who)].attached_boot != 0;
    sum += attached ? shares[static_cast<std::size_t>(who)] : 0;
  }
  for (const auto& [id, lease] : book_.leases()) {
    sum += lease.closed || id == open_lease(0) || id == open_lease(1) ? 0 : lease.slots;  // of nobody attached
  }
  if (sum > kSlots) return;
  for (int pass = 0; pass < 2; ++pass) {  // shrink before growth
    for (int who = 0; who < kHolders; ++who) {
      const LeaseId id = open_lease(who);
      const std::uint32_t share = shares[static_cast<std::size_t>(who)];
      if (id.is_zero()) continue;
      if ((share < book_.find(id)->slots) == (pass == 0)) book_.resize(id, share);
    }
  }
  for (int who = 0; who < kHolders; ++who) {
    const std::uint32_t share = shares[static_cast<std::size_t>(who)];
    const Party& party = parties_[static_cast<std::size_t>(who)];
    if (share == 0 || !open_lease(who).is_zero() || party.attached_boot != party.boot || party.relinked) continue;
    if (book_.leases().size() >= 3) continue;  // one closed beside the open ones: bounds the check, not the protocol
    if (fault_ == Fault::one_id_two_holders && book_.find({boot_, 1}) == nullptr) next_lease_ = 1;
    const LeaseId fresh{boot_, next_lease_++};
    const auto [owner, is_new] = owner_.emplace(fresh, static_cast<std::uint64_t>(who));
    if (!is_new && owner->second != static_cast<std::uint64_t>(who)) violate("a lease id changes its holder");
    book_.open(fresh, holder(who), secret_of(fresh), share, renewal_of(party));
  }
}

void Cluster::take_report(const Report& report) {
  std::vector<LeaseUse> uses = report.uses;
  std::erase_if(uses, [&](const LeaseUse& use) {
    const pool::Lease* lease = book_.find(use.id);
    if (fault_ == Fault::grant_while_it_runs) return true;
    if (fault_ == Fault::free_on_a_timer) return lease == nullptr || lease->closed;
    return fault_ == Fault::restart_forgets_what_runs && lease == nullptr;
  });
  tell(book_.on_report(report.version, uses, now_));
}

void Cluster::break_control() {
  if (!tables_.empty()) late_ = tables_.front();
  tables_.clear();
  report_.reset();
  report_due_ = false;
  book_.connection_lost();
}

// L8: the next boot asks the worker for its table.
void Cluster::crash_manager() {
  ++boot_;
  next_lease_ = 1;
  // It asks over a new stream, and the worker reads no older one after that.
  tables_.clear();
  late_.reset();
  report_.reset();
  report_due_ = false;
  for (int who = 0; who < kHolders; ++who) {
    break_link(who);
    parties_[static_cast<std::size_t>(who)].attached_boot = 0;  // until its first update
  }
  const bool forgets = fault_ == Fault::restart_forgets_what_runs;
  const bool bare = arbiter_.version().is_zero();  // nothing was ever applied
  book_ = pool::LeaseBook(inc_, kTtl, kSlots);
  if (!forgets && !bare) book_.adopt(arbiter_.table(), arbiter_.uses(), now_);
}

}  // namespace orch::check
