#include "pool-managerd/core/fair_ledger.h"

#include <algorithm>
#include <limits>

namespace orch::pool {
namespace {

// Counters come from other processes: a sum of absurd ones must not wrap.
std::int64_t plus(std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  return a > kMost - b ? kMost : a + b;
}
void keep_larger(std::int64_t& kept, std::int64_t told) { kept = std::max(kept, std::max<std::int64_t>(told, 0)); }

}  // namespace

void FairLedger::report(const Holder& holder, const FairReport& report) {
  if (starts_.size() >= starts_max_ && !starts_.contains(holder)) {
    const auto gone =
        std::find_if(starts_.begin(), starts_.end(), [](const auto& each) { return each.second.gone_at; });
    if (gone == starts_.end()) return;  // more orchestrators than a manager serves
    retire(gone);
  }
  Book& book = starts_[holder].book;
  for (const FairRow& row : report.rows) {
    FairRow& kept = book.rows[{row.domain, row.batch, row.tenant}];
    kept.domain = row.domain;
    kept.batch = row.batch;
    kept.tenant = row.tenant;
    keep_larger(kept.delivered, row.delivered);
    keep_larger(kept.reserved, row.reserved);
    keep_larger(kept.released, row.released);
    keep_larger(kept.lift, row.lift);
    kept.waiting = row.waiting;
  }
  for (const UseRow& row : report.uses) {
    UseRow& kept = book.uses[row.tenant];
    kept.tenant = row.tenant;
    keep_larger(kept.requests, row.requests);
    keep_larger(kept.tokens, row.tokens);
    kept.live = std::max<std::int64_t>(row.live, 0);
  }
  ++version_;
}

void FairLedger::attached(const Holder& holder) {
  const auto known = starts_.find(holder);
  if (known != starts_.end()) known->second.gone_at.reset();
  for (auto it = starts_.begin(); it != starts_.end();) {  // L7: an earlier start is over
    const auto next = std::next(it);
    if (it->first.orch == holder.orch && it->first.boot < holder.boot) retire(it);
    it = next;
  }
}

void FairLedger::detached(const Holder& holder, Instant now) {
  const auto known = starts_.find(holder);
  if (known != starts_.end()) known->second.gone_at = now;
}

void FairLedger::expire(Instant now) {
  for (auto it = starts_.begin(); it != starts_.end();) {
    const auto next = std::next(it);
    if (it->second.gone_at && *it->second.gone_at + ttl_ <= now) retire(it);
    it = next;
  }
}

Instant FairLedger::next_expiry() const {
  Instant next = Instant::never();
  for (const auto& [holder, start] : starts_) {
    if (start.gone_at) next = std::min(next, *start.gone_at + ttl_);
  }
  return next;
}

// v is kept, rho dropped.
void FairLedger::retire(std::map<Holder, Start>::iterator start) {
  for (auto& [flow, row] : start->second.book.rows) {
    row.reserved = row.released;
    row.waiting = false;
  }
  for (auto& [tenant, row] : start->second.book.uses) row.live = 0;
  add(past_, start->second.book);
  starts_.erase(start);
  ++version_;
}

void FairLedger::add(Book& sum, const Book& other) {
  for (const auto& [flow, row] : other.rows) {
    if (sum.rows.size() >= kFairRowsMax && !sum.rows.contains(flow)) continue;
    FairRow& into = sum.rows[flow];
    into.domain = row.domain;
    into.batch = row.batch;
    into.tenant = row.tenant;
    into.delivered = plus(into.delivered, row.delivered);
    into.reserved = plus(into.reserved, row.reserved);
    into.released = plus(into.released, row.released);
    into.lift = std::max(into.lift, row.lift);
    into.waiting = into.waiting || row.waiting;
  }
  for (const auto& [tenant, row] : other.uses) {
    if (sum.uses.size() >= kFairRowsMax && !sum.uses.contains(tenant)) continue;
    UseRow& into = sum.uses[tenant];
    into.tenant = tenant;
    into.requests = plus(into.requests, row.requests);
    into.tokens = plus(into.tokens, row.tokens);
    into.live = plus(into.live, row.live);
  }
}

FairReport FairLedger::others(const Holder& holder) const {
  Book sum = past_;
  for (const auto& [each, start] : starts_) {
    if (each != holder) add(sum, start.book);
  }
  FairReport out;
  out.rows.reserve(sum.rows.size());
  for (auto& [flow, row] : sum.rows) out.rows.push_back(std::move(row));
  out.uses.reserve(sum.uses.size());
  for (auto& [tenant, row] : sum.uses) out.uses.push_back(std::move(row));
  return out;
}

}  // namespace orch::pool
