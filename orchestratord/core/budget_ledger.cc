#include "orchestratord/core/budget_ledger.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::gateway {
namespace {

void add(BudgetUse& to, const BudgetUse& what) {
  to.turns += what.turns;
  to.tokens += what.tokens;
  to.time = to.time + what.time;
  to.cost += what.cost;
}

void take(BudgetUse& from, const BudgetUse& what) {
  from.turns -= what.turns;
  from.tokens -= what.tokens;
  from.time = from.time - what.time;
  from.cost -= what.cost;
}

std::optional<std::int64_t> rest(std::int64_t limit, std::int64_t gone) {
  if (limit == 0) return std::nullopt;
  return std::max<std::int64_t>(limit - gone, 0);
}

template <typename T>
std::optional<T> least(const std::optional<T>& a, const std::optional<T>& b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

}  // namespace

const char* budget_name(Budget budget) {
  switch (budget) {
    case Budget::sessions:
      return "sessions";
    case Budget::turns:
      return "turns";
    case Budget::tokens:
      return "tokens";
    case Budget::time:
      return "time_ms";
    case Budget::cost:
      return "cost";
  }
  return "?";
}

std::int64_t BudgetLedger::cost(std::uint64_t input_tokens, std::uint64_t output_tokens) const {
  return static_cast<std::int64_t>(input_tokens) * config_.input_price +
         static_cast<std::int64_t>(output_tokens) * config_.output_price;
}

// Time that nothing was measured for reserves none: then there must be some left, and the end settles it.
std::optional<BudgetRefusal> BudgetLedger::check(const BudgetUse& used, const BudgetUse& reserved,
                                                 const BudgetUse& wanted, const BudgetLimits& limits) {
  const auto over = [](Budget budget, std::int64_t limit, std::int64_t gone,
                       std::int64_t more) -> std::optional<BudgetRefusal> {
    if (limit == 0 || gone + std::max<std::int64_t>(more, 1) <= limit) return std::nullopt;
    return BudgetRefusal{budget, false, limit, {}, more > limit};
  };
  if (auto refusal = over(Budget::turns, limits.turns, used.turns + reserved.turns, wanted.turns)) return refusal;
  if (auto refusal = over(Budget::tokens, limits.tokens, used.tokens + reserved.tokens, wanted.tokens)) return refusal;
  auto refusal = over(Budget::time, limits.time.ns, used.time.ns + reserved.time.ns, wanted.time.ns);
  if (refusal) {
    refusal->limit = limits.time.ms();
    return refusal;
  }
  return over(Budget::cost, limits.cost, used.cost + reserved.cost, wanted.cost);
}

BudgetLeft BudgetLedger::left_of(const BudgetUse& used, const BudgetUse& reserved, const BudgetLimits& limits) {
  BudgetLeft out;
  out.turns = rest(limits.turns, used.turns + reserved.turns);
  out.tokens = rest(limits.tokens, used.tokens + reserved.tokens);
  if (const auto ns = rest(limits.time.ns, used.time.ns + reserved.time.ns)) out.time = Duration{*ns};
  out.cost = rest(limits.cost, used.cost + reserved.cost);
  return out;
}

// --- sessions ---

const BudgetLedger::Session* BudgetLedger::find(const Key& key, Instant now) const {
  const auto it = sessions_.find(key);
  return it == sessions_.end() || over(it->second, now) ? nullptr : &it->second;
}

void BudgetLedger::expire(Instant now) {
  while (!idle_.empty() && idle_.begin()->first + config_.ttl <= now) {
    sessions_.erase(idle_.begin()->second);
    idle_.erase(idle_.begin());
  }
}

// For one more session: the idle one that was used least recently goes. False: all of them have live tasks.
bool BudgetLedger::make_room() {
  if (sessions_.size() < config_.sessions_max) return true;
  if (idle_.empty()) return false;
  sessions_.erase(idle_.begin()->second);
  idle_.erase(idle_.begin());
  return true;
}

BudgetLedger::Session& BudgetLedger::open(const Key& key, Instant now) {
  const auto [it, fresh] = sessions_.try_emplace(key);
  if (!fresh && it->second.live == 0) idle_.erase({it->second.last_used, key});
  it->second.last_used = now;
  return it->second;
}

BudgetLedger::Tenant& BudgetLedger::tenant(const std::string& name, Instant now) {
  const auto [it, fresh] = tenants_.try_emplace(name);
  Tenant& of = it->second;
  if (fresh) of.window_from = now;
  if (of.window_from + config_.window <= now) {
    of.window_from = now;
    of.used = {};
  }
  return of;
}

// --- reserve, settle ---

std::optional<BudgetRefusal> BudgetLedger::reserve(const Account& account, BudgetUse wanted, BudgetHold& hold,
                                                   Instant now) {
  ORCH_CHECK(!hold.open);
  wanted.turns = 1;
  expire(now);
  Tenant& of = tenant(account.tenant, now);
  BudgetLimits limits = account.limits;
  limits.turns = 0;
  if (auto refusal = check(of.used, of.reserved, wanted, limits)) {
    refusal->of_tenant = true;
    refusal->retry_after = of.window_from + config_.window - now;
    return refusal;
  }
  if (!account.session.empty()) {
    const Key key{account.tenant, account.session};
    const Session* known = find(key, now);
    const Session session = known == nullptr ? Session{} : *known;
    if (auto refusal = check(session.used, session.reserved, wanted, config_.session)) {
      refusal->retry_after = known == nullptr || known->live > 0 ? config_.ttl : known->last_used + config_.ttl - now;
      return refusal;
    }
    if (known == nullptr && !make_room())
      return BudgetRefusal{Budget::sessions, false, config_.sessions_max, Duration::seconds(1), false};
  }
  hold_in(account, wanted, hold, now);
  return std::nullopt;
}

void BudgetLedger::hold_in(const Account& account, const BudgetUse& wanted, BudgetHold& hold, Instant now) {
  hold = {true, account.session, wanted, now, std::nullopt};
  add(tenant(account.tenant, now).reserved, wanted);
  if (account.session.empty()) return;
  const Key key{account.tenant, account.session};
  if (const auto known = sessions_.find(key); known != sessions_.end()) hold.used_before = known->second.last_used;
  Session& session = open(key, now);
  ++session.live;
  add(session.reserved, wanted);
}

void BudgetLedger::give_back(const std::string& tenant_name, BudgetHold& hold) {
  if (!hold.open) return;
  take(tenants_.at(tenant_name).reserved, hold.reserved);
  if (!hold.session.empty()) {
    const Key key{tenant_name, hold.session};
    Session& session = sessions_.at(key);
    take(session.reserved, hold.reserved);
    if (session.last_used == hold.since && hold.used_before) session.last_used = *hold.used_before;
    if (--session.live == 0 && !hold.used_before && session.used == BudgetUse{})
      sessions_.erase(key);  // it never was
    else if (session.live == 0)
      idle_.emplace(session.last_used, key);
  }
  hold = {};
}

void BudgetLedger::settle(const std::string& tenant_name, BudgetHold& hold, const BudgetUse& used, Instant now) {
  if (!hold.open) return;
  Tenant& of = tenant(tenant_name, now);
  take(of.reserved, hold.reserved);
  add(of.used, used);
  if (!hold.session.empty()) {
    const Key key{tenant_name, hold.session};
    Session& session = sessions_.at(key);
    take(session.reserved, hold.reserved);
    add(session.used, used);
    session.last_used = now;
    if (--session.live == 0) idle_.emplace(now, key);
  }
  hold = {};
}

// --- an earlier life ---

void BudgetLedger::assume(const Account& account, BudgetUse wanted, BudgetHold& hold, Instant now) {
  ORCH_CHECK(!hold.open);
  wanted.turns = 1;
  const bool room = account.session.empty() || sessions_.contains({account.tenant, account.session}) || make_room();
  static const std::string no_session;
  hold_in({account.tenant, room ? account.session : no_session, account.limits}, wanted, hold, now);
}

void BudgetLedger::restore(const Account& account, const BudgetUse& used, Instant at, Instant now) {
  expire(now);
  if (at + config_.window > now) {  // else of a window that is over, and says nothing of the one that stands
    Tenant& of = tenant(account.tenant, now);
    of.window_from = std::min(of.window_from, at);
    add(of.used, used);
  }
  if (account.session.empty() || at + config_.ttl <= now) return;
  const Key key{account.tenant, account.session};
  if (!sessions_.contains(key) && !make_room()) return;
  const auto known = sessions_.find(key);
  Session& session = open(key, known == sessions_.end() ? at : std::max(known->second.last_used, at));
  add(session.used, used);
  if (session.live == 0) idle_.emplace(session.last_used, key);
}

// --- inspection ---

BudgetLeft BudgetLedger::left(const Account& account, Instant now) const {
  BudgetLimits limits = account.limits;
  limits.turns = 0;
  const auto of = tenants_.find(account.tenant);
  const bool over = of != tenants_.end() && of->second.window_from + config_.window <= now;
  BudgetLeft out = of == tenants_.end() ? left_of({}, {}, limits)
                                        : left_of(over ? BudgetUse{} : of->second.used, of->second.reserved, limits);
  if (account.session.empty()) return out;
  const Session* session = find({account.tenant, account.session}, now);
  const BudgetLeft own = session == nullptr ? left_of({}, {}, config_.session)
                                            : left_of(session->used, session->reserved, config_.session);
  return {least(out.turns, own.turns), least(out.tokens, own.tokens), least(out.time, own.time),
          least(out.cost, own.cost)};
}

std::optional<SessionStanding> BudgetLedger::session(const std::string& tenant_name, const std::string& session_name,
                                                     Instant now) const {
  const Session* session = find({tenant_name, session_name}, now);
  if (session == nullptr) return std::nullopt;
  SessionStanding out;
  out.ttl_left = session->live > 0 ? config_.ttl : session->last_used + config_.ttl - now;
  out.turns = session->used.turns + session->reserved.turns;
  out.live = session->live;
  out.used = session->used;
  out.left = left_of(session->used, session->reserved, config_.session);
  return out;
}

bool BudgetLedger::end_session(const std::string& tenant_name, const std::string& session_name, Instant now) {
  const Key key{tenant_name, session_name};
  if (find(key, now) == nullptr) return false;
  Session& session = sessions_.at(key);
  if (session.live > 0) {
    session.used = {};
    return true;
  }
  idle_.erase({session.last_used, key});
  sessions_.erase(key);
  return true;
}

std::uint64_t BudgetLedger::live() const {
  std::uint64_t out = 0;
  for (const auto& [key, session] : sessions_) out += session.live;
  return out;
}

std::string BudgetLedger::check_invariants() const {
  if (sessions_.size() > config_.sessions_max) return "budgets: too many sessions";
  std::size_t idle = 0;
  for (const auto& [key, session] : sessions_) {
    if (session.live == 0 && session.reserved != BudgetUse{}) return "budgets: an idle session holds a reservation";
    if (session.live == 0 && !idle_.contains({session.last_used, key}))
      return "budgets: an idle session is not in order";
    idle += session.live == 0 ? 1 : 0;
  }
  if (idle != idle_.size()) return "budgets: a session in use counts as idle";
  return {};
}

}  // namespace orch::gateway
