#include "orchestratord/core/other_starts.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace orch::gateway {
namespace {

constexpr std::size_t kMovedMax = 1024;

// Counters come from other processes: a sum of absurd ones must not wrap, nor one of it and what was served here.
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 4;
std::int64_t plus(std::int64_t a, std::int64_t b) { return std::min(std::min(a, kMost) + std::min(b, kMost), kMost); }
std::int64_t larger(std::int64_t kept, std::int64_t told) { return std::max({kept, told, std::int64_t{0}}); }

// Of one that is over v stays and rho is dropped.
void add(FairRow& sum, const FairRow& row, bool over) {
  sum.delivered = plus(sum.delivered, row.delivered);
  sum.reserved = plus(sum.reserved, row.reserved);
  sum.released = plus(sum.released, over ? row.reserved : row.released);
  sum.lift = std::min(std::max(sum.lift, row.lift), kMost);
  sum.waiting = sum.waiting || (row.waiting && !over);
  sum.inside = sum.inside || (row.inside && !over);
}

}  // namespace

void OtherStarts::Changed::add(const Start& start) {
  for (const auto& [flow, known] : start.rows) flows.insert(flow);
  for (const auto& [tenant, known] : start.uses) tenants.insert(tenant);
}

// False: more gateways at a time than are served.
bool OtherStarts::make_room() {
  if (starts_.size() < starts_max_) return true;
  auto oldest = starts_.end();
  for (auto it = starts_.begin(); it != starts_.end(); ++it) {
    if (!it->second.over()) continue;
    const auto age = [](const Start& start) { return std::pair(!start.replaced, start.serial); };
    if (oldest == starts_.end() || age(it->second) < age(oldest->second)) oldest = it;
  }
  if (oldest == starts_.end()) return false;
  for (const auto& [flow, known] : oldest->second.rows) {
    if (past_.size() < kFairRowsMax || past_.contains(flow)) add(past_[flow], known.row, true);
  }
  if (moves_.size() >= kMovedMax) {
    moved_.erase(moves_.front());
    moves_.pop_front();
  }
  moved_.insert(oldest->first);
  moves_.push_back(oldest->first);
  starts_.erase(oldest);
  return true;
}

OtherStarts::Start* OtherStarts::find_or_add(const Holder& holder) {
  const auto known = starts_.find(holder);
  if (known != starts_.end()) return &known->second;
  if (moved_.contains(holder) || !make_room()) return nullptr;
  Start& fresh = starts_[holder];
  fresh.replaced = std::any_of(starts_.begin(), starts_.end(), [&](const auto& each) {
    return each.first.orch == holder.orch && each.first.boot > holder.boot;
  });
  return &fresh;
}

// L7: an earlier start is over, whatever a manager says that has not seen the later one.
void OtherStarts::replace_older(const Holder& holder, Changed& changed) {
  for (auto& [each, start] : starts_) {
    if (each.orch != holder.orch || each.boot >= holder.boot || start.replaced) continue;
    start.replaced = true;
    changed.add(start);
  }
}

// --- what managers said last ---

void OtherStarts::set(FairRow& row, const Gauges& gauges) {
  row.waiting = gauges.waiting;
  row.inside = gauges.inside;
}

template <typename Row>
void OtherStarts::Known<Row>::take(LinkId link, const Gauges& gauges) {
  const auto known = std::find_if(said.begin(), said.end(), [&](const auto& each) { return each.first == link; });
  if (known == said.end()) {
    said.emplace_back(link, gauges);
  } else {
    known->second = gauges;
  }
}

template <typename Row>
void OtherStarts::Known<Row>::forget(LinkId link) {
  std::erase_if(said, [&](const auto& each) { return each.first == link; });
}

// Who has never named the row knows of nothing in it.
template <typename Row>
bool OtherStarts::Known<Row>::follow(LinkId link) {
  const auto known = std::find_if(said.begin(), said.end(), [&](const auto& each) { return each.first == link; });
  const Gauges gauges = known == said.end() ? Gauges{} : known->second;
  if (gauges == gauges_of(row)) return false;
  set(row, gauges);
  return true;
}

// True: another than before. Of equal ones the first stays, so that rows are not gone through for nothing; one whose
// link has ended gives way to its equal, since it hears no more.
bool OtherStarts::choose_best(Start& start) {
  std::optional<LinkId> best = start.best;
  for (const auto& [link, word] : start.words) {
    const Word& than = best ? start.words.at(*best) : word;
    if (!best || word.number > than.number || (word.number == than.number && than.ended && !word.ended)) best = link;
  }
  const std::optional<LinkId> before = std::exchange(start.best, best);
  if (before == best) return false;
  if (before && start.words.at(*before).ended) drop(start, *before);
  return true;
}

void OtherStarts::drop(Start& start, LinkId link) {
  start.words.erase(link);
  for (auto& [flow, known] : start.rows) known.forget(link);
  for (auto& [tenant, known] : start.uses) known.forget(link);
}

// A manager that has an older report of it may not have noticed yet that it came no further.
void OtherStarts::judge(Start& start, Changed& changed) {
  std::uint64_t newest = 0;
  bool heard = false;
  for (const auto& [link, word] : start.words) {
    if (word.ended) continue;
    newest = std::max(newest, word.number);
    heard = true;
  }
  if (!heard) return;
  const bool lapsed = std::all_of(start.words.begin(), start.words.end(), [&](const auto& each) {
    return each.second.ended || each.second.number < newest || each.second.over;
  });
  if (std::exchange(start.lapsed, lapsed) != lapsed && !start.replaced) changed.add(start);
}

// --- reports ---

void OtherStarts::take_rows(Start& start, LinkId link, const StartReport& report, Changed& changed) {
  for (const FairRow& row : report.rows) {
    const Flow flow{row.domain, row.batch, row.tenant};
    if (start.rows.size() >= kFairRowsMax && !start.rows.contains(flow)) continue;
    Known<FairRow>& known = start.rows[flow];
    FairRow& kept = known.row;
    kept.delivered = larger(kept.delivered, row.delivered);
    kept.reserved = larger(kept.reserved, row.reserved);
    kept.released = larger(kept.released, row.released);
    kept.lift = larger(kept.lift, row.lift);
    if (report.number >= start.words.at(link).number) known.take(link, gauges_of(row));
    known.follow(*start.best);
    changed.flows.insert(flow);
  }
}

void OtherStarts::take_uses(Start& start, LinkId link, const StartReport& report, OthersNews& news) {
  const bool first = start.serial == 0;
  for (const UseRow& row : report.uses) {
    if (start.uses.size() >= kFairRowsMax && !start.uses.contains(row.tenant)) continue;
    Known<UseRow>& known = start.uses[row.tenant];
    UseRow& kept = known.row;
    const UseRow before = kept;
    kept.requests = larger(kept.requests, row.requests);
    kept.tokens = larger(kept.tokens, row.tokens);
    if (report.number >= start.words.at(link).number) known.take(link, gauges_of(row));
    known.follow(*start.best);
    news.uses.push_back({row.tenant, kept.requests - before.requests, kept.tokens - before.tokens, 0, first});
  }
}

void OtherStarts::follow_best(Start& start, Changed& changed) {
  for (auto& [flow, known] : start.rows) {
    if (known.follow(*start.best)) changed.flows.insert(flow);
  }
  for (auto& [tenant, known] : start.uses) {
    if (known.follow(*start.best)) changed.tenants.insert(tenant);
  }
}

OthersNews OtherStarts::hear(LinkId link, const StartReport& report) {
  OthersNews news;
  const Holder holder = mutation_ == Mutation::confuse_starts ? Holder{} : report.start;
  Start* start = find_or_add(holder);
  if (start == nullptr) return news;
  Changed changed;
  replace_older(holder, changed);
  if (Word& word = start->words[link]; report.number >= word.number) word = {report.number, report.over, false};
  const bool moved = choose_best(*start);
  take_rows(*start, link, report, changed);
  take_uses(*start, link, report, news);
  if (moved) follow_best(*start, changed);
  judge(*start, changed);
  start->serial = ++serial_;
  add_sums(changed, news);
  return news;
}

OthersNews OtherStarts::ended(LinkId link) {
  OthersNews news;
  Changed changed;
  for (auto& [holder, start] : starts_) {
    const auto word = start.words.find(link);
    if (word == start.words.end()) continue;
    word->second.ended = true;
    if (start.best != link) drop(start, link);
    judge(start, changed);
  }
  add_sums(changed, news);
  return news;
}

void OtherStarts::add_sums(const Changed& changed, OthersNews& news) const {
  std::set<std::string> unnamed = changed.tenants;
  for (const OthersUse& use : news.uses) unnamed.erase(use.tenant);
  for (const std::string& tenant : unnamed) news.uses.push_back({tenant, 0, 0, 0, false});
  for (OthersUse& use : news.uses) use.live = live_of(use.tenant);
  news.rows.reserve(changed.flows.size());
  for (const Flow& flow : changed.flows) news.rows.push_back(sum_of(flow));
}

FairRow OtherStarts::sum_of(const Flow& flow) const {
  FairRow sum;
  if (const auto past = past_.find(flow); past != past_.end()) sum = past->second;
  std::tie(sum.domain, sum.batch, sum.tenant) = flow;
  for (const auto& [holder, start] : starts_) {
    const auto known = start.rows.find(flow);
    if (known != start.rows.end()) add(sum, known->second.row, start.over());
  }
  return sum;
}

std::int64_t OtherStarts::live_of(const std::string& tenant) const {
  std::int64_t live = 0;
  for (const auto& [holder, start] : starts_) {
    const auto known = start.uses.find(tenant);
    if (known != start.uses.end() && !start.over()) live = plus(live, known->second.row.live);
  }
  return live;
}

}  // namespace orch::gateway
