#include "pool-managerd/core/fair_ledger.h"

#include <algorithm>
#include <utility>

namespace orch::pool {
namespace {

// Counters come from other processes, and none of them is below zero.
std::int64_t larger(std::int64_t kept, std::int64_t told) { return std::max({kept, told, std::int64_t{0}}); }

}  // namespace

// False: more orchestrators than a manager serves. What goes is told whole when it comes back.
bool FairLedger::make_room() {
  if (starts_.size() < starts_max_) return true;
  const auto age = [](const Start& start) {
    return std::pair(start.replaced ? Instant{} : *start.gone_at, start.changed);
  };
  auto oldest = starts_.end();
  for (auto it = starts_.begin(); it != starts_.end(); ++it) {
    if (!it->second.replaced && !it->second.gone_at) continue;
    if (oldest == starts_.end() || age(it->second) < age(oldest->second)) oldest = it;
  }
  if (oldest == starts_.end()) return false;
  starts_.erase(oldest);
  return true;
}

template <typename Row>
void FairLedger::keep(Kept<Row>& kept, Row next, std::uint64_t version) {
  kept.heard = version;
  if (kept.changed != 0 && kept.row == next) return;
  kept.row = std::move(next);
  kept.changed = version;
}

// Reports are whole: a flow that the newest does not name has nobody waiting.
void FairLedger::take_rows(Start& start, const std::vector<FairRow>& rows, bool newest) const {
  for (const FairRow& row : rows) {
    const Flow flow{row.domain, row.batch, row.tenant};
    if (start.rows.size() >= kFairRowsMax && !start.rows.contains(flow)) continue;
    Kept<FairRow>& kept = start.rows[flow];
    FairRow next = row;
    next.delivered = larger(kept.row.delivered, row.delivered);
    next.reserved = larger(kept.row.reserved, row.reserved);
    next.released = larger(kept.row.released, row.released);
    next.lift = larger(kept.row.lift, row.lift);
    next.waiting = newest ? row.waiting : kept.row.waiting;
    next.inside = newest ? row.inside : kept.row.inside;
    keep(kept, std::move(next), version_);
  }
  for (auto& [flow, kept] : start.rows) {
    if (!newest || kept.heard == version_) continue;
    FairRow next = kept.row;
    next.waiting = next.inside = false;
    keep(kept, std::move(next), version_);
  }
}

void FairLedger::take_uses(Start& start, const std::vector<UseRow>& uses, bool newest) const {
  for (const UseRow& row : uses) {
    if (start.uses.size() >= kFairRowsMax && !start.uses.contains(row.tenant)) continue;
    Kept<UseRow>& kept = start.uses[row.tenant];
    const std::int64_t live = newest ? std::max<std::int64_t>(row.live, 0) : kept.row.live;
    keep(kept, {row.tenant, larger(kept.row.requests, row.requests), larger(kept.row.tokens, row.tokens), live},
         version_);
  }
  for (auto& [tenant, kept] : start.uses) {
    if (!newest || kept.heard == version_) continue;
    UseRow next = kept.row;
    next.live = 0;
    keep(kept, std::move(next), version_);
  }
}

void FairLedger::report(const Holder& holder, const FairReport& report) {
  if (!starts_.contains(holder) && !make_room()) return;
  Start& start = starts_[holder];
  const bool newest = report.number >= start.number;
  start.number = std::max(start.number, report.number);
  start.changed = ++version_;
  take_rows(start, report.rows, newest);
  take_uses(start, report.uses, newest);
}

void FairLedger::attached(const Holder& holder) {
  for (auto& [each, start] : starts_) {
    if (each == holder) {
      start.gone_at.reset();
      if (std::exchange(start.lapsed, false)) start.changed = ++version_;
    }
    if (each.orch == holder.orch && each.boot < holder.boot && !std::exchange(start.replaced, true))  // L7
      start.changed = ++version_;
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
    start.changed = ++version_;
  }
}

Instant FairLedger::next_expiry() const {
  Instant next = Instant::never();
  for (const auto& [holder, start] : starts_) {
    if (start.gone_at && !start.lapsed) next = std::min(next, *start.gone_at + ttl_);
  }
  return next;
}

std::size_t FairLedger::rows() const {
  std::size_t out = 0;
  for (const auto& [holder, start] : starts_) out += start.rows.size() + start.uses.size();
  return out;
}

std::vector<StartReport> FairLedger::others(const Holder& holder, std::uint64_t version) const {
  std::vector<StartReport> out;
  for (const auto& [each, start] : starts_) {
    if (each == holder || start.changed <= version) continue;
    StartReport& told = out.emplace_back();
    told.start = each;
    told.number = start.number;
    told.over = start.over();
    for (const auto& [flow, kept] : start.rows) {
      if (kept.changed > version) told.rows.push_back(kept.row);
    }
    for (const auto& [tenant, kept] : start.uses) {
      if (kept.changed > version) told.uses.push_back(kept.row);
    }
  }
  return out;
}

}  // namespace orch::pool
