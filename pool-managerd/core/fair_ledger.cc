#include "pool-managerd/core/fair_ledger.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace orch::pool {
namespace {

// Counters come from other processes: a sum of absurd ones must not wrap.
std::int64_t plus(std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  return a > kMost - b ? kMost : a + b;
}
void keep_larger(std::int64_t& kept, std::int64_t told) { kept = std::max(kept, std::max<std::int64_t>(told, 0)); }

}  // namespace

// False: more orchestrators than a manager serves.
bool FairLedger::make_room() {
  if (starts_.size() < starts_max_) return true;
  auto gone = starts_.end();
  for (auto it = starts_.begin(); it != starts_.end(); ++it) {
    if (it->second.gone_at && (gone == starts_.end() || *it->second.gone_at < *gone->second.gone_at)) gone = it;
  }
  if (gone == starts_.end()) return false;
  if (moved_.size() >= kMovedMax) moved_.erase(moved_.begin());
  moved_.insert(gone->first);
  retire(gone);
  return true;
}

// A start that was added to the past is back: what it says now stands in it already, but for what came meanwhile.
void FairLedger::take_out_of_past(const FairReport& report) {
  const auto less = [](std::int64_t& from, std::int64_t what) { from -= std::clamp<std::int64_t>(what, 0, from); };
  for (const FairRow& row : report.rows) {
    const auto past = past_.rows.find({row.domain, row.batch, row.tenant});
    if (past == past_.rows.end()) continue;
    less(past->second.delivered, row.delivered);
    less(past->second.reserved, row.released);  // there all that was reserved counts as released
    less(past->second.released, row.released);
  }
  for (const UseRow& row : report.uses) {
    const auto past = past_.uses.find(row.tenant);
    if (past == past_.uses.end()) continue;
    less(past->second.requests, row.requests);
    less(past->second.tokens, row.tokens);
  }
}

void FairLedger::report(const Holder& holder, const FairReport& report) {
  if (!starts_.contains(holder)) {
    if (!make_room()) return;
    if (moved_.erase(holder) > 0) take_out_of_past(report);
  }
  Book& book = starts_[holder].book;
  for (const FairRow& row : report.rows) {
    const Flow flow{row.domain, row.batch, row.tenant};
    if (book.rows.size() >= kFairRowsMax && !book.rows.contains(flow)) continue;
    FairRow& kept = book.rows[flow];
    kept.domain = row.domain;
    kept.batch = row.batch;
    kept.tenant = row.tenant;
    keep_larger(kept.delivered, row.delivered);
    keep_larger(kept.reserved, row.reserved);
    keep_larger(kept.released, row.released);
    keep_larger(kept.lift, row.lift);
    kept.waiting = row.waiting;
    kept.inside = row.inside;
  }
  for (const UseRow& row : report.uses) {
    if (book.uses.size() >= kFairRowsMax && !book.uses.contains(row.tenant)) continue;
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
  if (known != starts_.end()) {
    known->second.gone_at.reset();
    if (std::exchange(known->second.lapsed, false)) ++version_;
  }
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
  for (auto& [holder, start] : starts_) {
    if (start.lapsed || !start.gone_at || *start.gone_at + ttl_ > now) continue;
    start.lapsed = true;
    ++version_;
  }
}

Instant FairLedger::next_expiry() const {
  Instant next = Instant::never();
  for (const auto& [holder, start] : starts_) {
    if (start.gone_at && !start.lapsed) next = std::min(next, *start.gone_at + ttl_);
  }
  return next;
}

void FairLedger::retire(std::map<Holder, Start>::iterator start) {
  add(past_, start->second.book, true);
  starts_.erase(start);
  ++version_;
}

// Of one that has lapsed v is kept and rho dropped, by a counter that grows: whoever hears keeps the largest of each.
void FairLedger::add(Book& sum, const Book& other, bool lapsed) {
  for (const auto& [flow, row] : other.rows) {
    if (sum.rows.size() >= kFairRowsMax && !sum.rows.contains(flow)) continue;
    FairRow& into = sum.rows[flow];
    into.domain = row.domain;
    into.batch = row.batch;
    into.tenant = row.tenant;
    into.delivered = plus(into.delivered, row.delivered);
    into.reserved = plus(into.reserved, row.reserved);
    into.released = plus(into.released, lapsed ? row.reserved : row.released);
    into.lift = std::max(into.lift, row.lift);
    into.waiting = into.waiting || (row.waiting && !lapsed);
    into.inside = into.inside || (row.inside && !lapsed);
  }
  for (const auto& [tenant, row] : other.uses) {
    if (sum.uses.size() >= kFairRowsMax && !sum.uses.contains(tenant)) continue;
    UseRow& into = sum.uses[tenant];
    into.tenant = tenant;
    into.requests = plus(into.requests, row.requests);
    into.tokens = plus(into.tokens, row.tokens);
    into.live = plus(into.live, lapsed ? 0 : row.live);
  }
}

std::size_t FairLedger::rows() const {
  std::size_t out = past_.rows.size() + past_.uses.size();
  for (const auto& [holder, start] : starts_) out += start.book.rows.size() + start.book.uses.size();
  return out;
}

FairReport FairLedger::others(const Holder& holder) const {
  Book sum = past_;
  for (const auto& [each, start] : starts_) {
    if (each != holder) add(sum, start.book, start.lapsed);
  }
  FairReport out;
  out.rows.reserve(sum.rows.size());
  for (auto& [flow, row] : sum.rows) out.rows.push_back(std::move(row));
  out.uses.reserve(sum.uses.size());
  for (auto& [tenant, row] : sum.uses) out.uses.push_back(std::move(row));
  return out;
}

}  // namespace orch::pool
