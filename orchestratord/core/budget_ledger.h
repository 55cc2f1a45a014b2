// Sessions and what they and their tenants may use (ORCH-3021, ORCH-3099, OC-BUDGET-1001 to 1006): turns, tokens, time
// at workers and cost. Reserved at admission by what a task may need at most, settled at its end by what it took, given
// back whole by a later refusal.
//
// A session belongs to its tenant, begins with its first task and is forgotten `ttl` after its last use, unless a task
// of it is live. A tenant's budget begins anew every window. What has no limit is counted all the same.
//
// Threads: owned by the core's loop. Units: tokens of prompt and completion; time of the last attempt from dispatch to
// end; cost in billionths of the currency. Instants of the core's clock, which never goes back. Bounds: sessions_max
// sessions, of which the least recently used idle one makes room; one account per tenant name. Complexity: O(log
// sessions).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/base/time.h"
#include "orchestratord/core/budget.h"

namespace orch::gateway {

// What one job holds. Empty session: of its tenant alone.
struct BudgetHold {
  bool open = false;
  std::string session;
  BudgetUse reserved;
  Instant since;
  std::optional<Instant> used_before;  // when the session had been used last; nullopt: it is new
};

enum class Budget : std::uint8_t { sessions, turns, tokens, time, cost };
const char* budget_name(Budget budget);

struct BudgetRefusal {
  Budget budget = Budget::sessions;
  bool of_tenant = false;  // else of the session
  std::int64_t limit = 0;  // in the unit of the configuration: ms, billionths
  Duration retry_after;    // until the session is forgotten or the tenant's window ends
  bool never = false;      // the request alone is more than the budget
};

struct SessionStanding {
  Duration ttl_left;
  std::int64_t turns = 0;
  std::uint32_t live = 0;
  BudgetUse used;
  BudgetLeft left;  // of the session alone
};

class BudgetLedger {
 public:
  explicit BudgetLedger(const BudgetConfig& config) : config_(config) {}

  const BudgetConfig& config() const { return config_; }
  // What a task of this size costs.
  std::int64_t cost(std::uint64_t input_tokens, std::uint64_t output_tokens) const;

  // nullopt: it is reserved, and `hold` says what. A refusal has changed nothing. An empty session: the tenant's budget
  // alone. `wanted.turns` is ignored: one.
  struct Account {
    const std::string& tenant;
    const std::string& session;
    BudgetLimits limits;  // of the tenant
  };
  std::optional<BudgetRefusal> reserve(const Account& account, BudgetUse wanted, BudgetHold& hold, Instant now);
  // As if it had never been reserved; a session that made room for it stays forgotten.
  void give_back(const std::string& tenant, BudgetHold& hold);
  void settle(const std::string& tenant, BudgetHold& hold, const BudgetUse& used, Instant now);
  // Of an earlier life of this process: a live job, reserved whatever the limits, or what one has used.
  void assume(const Account& account, BudgetUse wanted, BudgetHold& hold, Instant now);
  void restore(const Account& account, const BudgetUse& used, Instant at, Instant now);

  BudgetLeft left(const Account& account, Instant now) const;
  std::optional<SessionStanding> session(const std::string& tenant, const std::string& session, Instant now) const;
  // Forgets an idle session, or makes one with live tasks begin anew; false: there is none.
  bool end_session(const std::string& tenant, const std::string& session, Instant now);

  std::size_t sessions() const { return sessions_.size(); }
  std::uint64_t live() const;  // holds of all sessions
  std::string check_invariants() const;

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, session
  struct Session {
    BudgetUse used;
    BudgetUse reserved;
    std::uint32_t live = 0;
    Instant last_used;
  };
  struct Tenant {
    BudgetUse used;
    BudgetUse reserved;
    Instant window_from;
  };

  static std::optional<BudgetRefusal> check(const BudgetUse& used, const BudgetUse& reserved, const BudgetUse& wanted,
                                            const BudgetLimits& limits);
  static BudgetLeft left_of(const BudgetUse& used, const BudgetUse& reserved, const BudgetLimits& limits);
  bool over(const Session& session, Instant now) const {
    return session.live == 0 && session.last_used + config_.ttl <= now;
  }
  const Session* find(const Key& key, Instant now) const;
  void expire(Instant now);
  bool make_room();
  Session& open(const Key& key, Instant now);
  void hold_in(const Account& account, const BudgetUse& wanted, BudgetHold& hold, Instant now);
  Tenant& tenant(const std::string& name, Instant now);

  BudgetConfig config_;
  std::map<Key, Session> sessions_;
  std::set<std::pair<Instant, Key>> idle_;  // without a live task, by last use
  std::map<std::string, Tenant> tenants_;
};

}  // namespace orch::gateway
