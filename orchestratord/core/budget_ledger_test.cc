// Sessions and budgets on their own: limits, windows, eviction, and that what was reserved comes back to the unit.
#include "orchestratord/core/budget_ledger.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>
#include <vector>

namespace orch::gateway {
namespace {

const std::string kTenant = "a";
const std::string kNone;
Instant at(std::int64_t seconds) { return Instant{} + Duration::seconds(1000 + seconds); }
Duration seconds(std::int64_t value) { return Duration::seconds(value); }

BudgetUse use(std::int64_t tokens, Duration time = {}, std::int64_t cost = 0) { return {1, tokens, time, cost}; }

struct Book {
  explicit Book(BudgetConfig config = {}) : ledger(config) {}
  std::optional<BudgetRefusal> reserve(const std::string& session, BudgetUse wanted, Instant now, BudgetHold& hold) {
    return ledger.reserve({kTenant, session, limits}, wanted, hold, now);
  }
  // A whole task that took what it wanted.
  std::optional<BudgetRefusal> run(const std::string& session, BudgetUse wanted, Instant now) {
    BudgetHold hold;
    auto refusal = reserve(session, wanted, now, hold);
    if (!refusal) ledger.settle(kTenant, hold, wanted, now);
    EXPECT_EQ(ledger.check_invariants(), "");
    return refusal;
  }
  BudgetLedger ledger;
  BudgetLimits limits;
};

TEST(BudgetLedger, ORCH_3021_a_session_ends_after_its_turns_and_begins_anew_after_its_time) {
  Book book;
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(book.run("s", use(1), at(i)));
  const auto refusal = book.run("s", use(1), at(100));
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->budget, Budget::turns);
  EXPECT_EQ(refusal->limit, 8);
  EXPECT_EQ(refusal->retry_after, seconds(507));  // the eighth was at 7; a refusal prolongs nothing
  EXPECT_TRUE(book.run("s", use(1), at(606)));
  EXPECT_FALSE(book.run("s", use(1), at(607)));
  EXPECT_EQ(book.ledger.session(kTenant, "s", at(607))->turns, 1);
}

TEST(BudgetLedger, OC_BUDGET_1001_a_session_with_a_task_under_way_outlives_its_time) {
  Book book;
  BudgetHold hold;
  EXPECT_FALSE(book.reserve("s", use(1), at(0), hold));
  EXPECT_TRUE(book.ledger.session(kTenant, "s", at(5000)));
  EXPECT_FALSE(book.run("other", use(1), at(5000)));
  book.ledger.settle(kTenant, hold, use(1), at(5000));
  EXPECT_EQ(book.ledger.session(kTenant, "s", at(5000))->ttl_left, seconds(600));
  EXPECT_FALSE(book.ledger.session(kTenant, "s", at(5600)));
}

TEST(BudgetLedger, ORCH_3099_tokens_time_and_cost_are_reserved_and_settled) {
  BudgetConfig config;
  config.session = {0, 100, seconds(10), 1000};
  config.input_price = 2;
  config.output_price = 6;
  Book book{config};
  EXPECT_EQ(book.ledger.cost(10, 20), 140);
  const struct {
    BudgetUse wanted;
    Budget budget;
    std::int64_t limit;
  } cases[] = {{use(61), Budget::tokens, 100},
               {use(1, seconds(7)), Budget::time, 10'000},
               {use(1, {}, 501), Budget::cost, 1000}};
  BudgetHold hold;
  EXPECT_FALSE(book.reserve("s", use(40, seconds(4), 500), at(0), hold));
  for (const auto& each : cases) {
    BudgetHold none;
    const auto refusal = book.reserve("s", each.wanted, at(1), none);
    ASSERT_TRUE(refusal) << budget_name(each.budget);
    EXPECT_EQ(refusal->budget, each.budget);
    EXPECT_EQ(refusal->limit, each.limit);
    EXPECT_FALSE(refusal->never);
    EXPECT_FALSE(none.open);
  }
  book.ledger.settle(kTenant, hold, use(10, seconds(1), 100), at(2));
  const BudgetLeft left = book.ledger.left({kTenant, "s", {}}, at(2));
  EXPECT_EQ(left.turns, std::nullopt);  // no limit
  EXPECT_EQ(left.tokens, 90);
  EXPECT_EQ(left.time, seconds(9));
  EXPECT_EQ(left.cost, 900);
  for (const auto& each : cases) EXPECT_FALSE(book.run("s", each.wanted, at(3))) << budget_name(each.budget);
}

TEST(BudgetLedger, OC_BUDGET_1003_what_can_never_fit_is_said_so_and_unmeasured_time_refuses_nobody) {
  BudgetConfig config;
  config.session = {0, 100, seconds(10), 0};
  Book book{config};
  EXPECT_TRUE(book.run("s", use(101), at(0))->never);
  EXPECT_FALSE(book.run("s", use(1, {}), at(0)));
  BudgetHold hold;
  EXPECT_FALSE(book.reserve("s", use(1, {}), at(0), hold));
  book.ledger.settle(kTenant, hold, use(1, seconds(11)), at(0));  // it took longer than all that was left
  const auto refusal = book.run("s", use(1, {}), at(0));
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->budget, Budget::time);
  EXPECT_EQ(book.ledger.left({kTenant, "s", {}}, at(0)).time, Duration{});
}

TEST(BudgetLedger, ORCH_3099_a_tenant_s_budget_spans_its_sessions_and_begins_anew_every_window) {
  BudgetConfig config;
  config.window = seconds(3600);
  Book book{config};
  book.limits.tokens = 100;
  EXPECT_FALSE(book.run("s", use(40), at(0)));
  EXPECT_FALSE(book.run("t", use(40), at(10)));
  const auto refusal = book.run(kNone, use(40), at(20));
  ASSERT_TRUE(refusal);
  EXPECT_TRUE(refusal->of_tenant);
  EXPECT_EQ(refusal->retry_after, seconds(3580));
  EXPECT_EQ(book.ledger.left({kTenant, "s", book.limits}, at(20)).tokens, 20);
  EXPECT_EQ(book.ledger.left({kTenant, "s", book.limits}, at(3600)).tokens, 100);
  EXPECT_FALSE(book.run(kNone, use(40), at(3600)));
}

TEST(BudgetLedger, OC_BUDGET_1004_a_full_table_forgets_the_idle_one_used_least_recently) {
  BudgetConfig config;
  config.sessions_max = 3;
  Book book{config};
  BudgetHold busy;
  EXPECT_FALSE(book.reserve("busy", use(1), at(0), busy));
  book.run("old", use(1), at(1));
  book.run("young", use(1), at(2));
  book.run("old", use(1), at(3));
  EXPECT_FALSE(book.run("new", use(1), at(4)));
  EXPECT_EQ(book.ledger.sessions(), 3u);
  EXPECT_FALSE(book.ledger.session(kTenant, "young", at(4)));
  EXPECT_TRUE(book.ledger.session(kTenant, "old", at(4)));
  EXPECT_TRUE(book.ledger.session(kTenant, "busy", at(4)));
  BudgetHold more[2];
  EXPECT_FALSE(book.reserve("old", use(1), at(5), more[0]));
  EXPECT_FALSE(book.reserve("new", use(1), at(5), more[1]));
  const auto refusal = book.run("one too many", use(1), at(6));
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->budget, Budget::sessions);
  EXPECT_EQ(refusal->limit, 3);
  EXPECT_FALSE(book.run("old", use(1), at(6)));  // a known one goes on
}

TEST(BudgetLedger, OC_BUDGET_1002_what_is_given_back_leaves_no_trace) {
  BudgetConfig config;
  config.session = {8, 100, seconds(10), 1000};
  Book book{config};
  book.limits = {0, 200, seconds(20), 2000};
  BudgetHold hold;
  EXPECT_FALSE(book.reserve("s", use(40, seconds(4), 500), at(0), hold));
  book.ledger.give_back(kTenant, hold);
  EXPECT_EQ(book.ledger.sessions(), 0u);  // it never was
  EXPECT_EQ(book.ledger.left({kTenant, "s", book.limits}, at(0)).tokens, 100);
  EXPECT_EQ(book.ledger.left({kTenant, kNone, book.limits}, at(0)).tokens, 200);
  book.run("s", use(10), at(0));
  EXPECT_FALSE(book.reserve("s", use(40), at(300), hold));
  book.ledger.give_back(kTenant, hold);
  EXPECT_EQ(book.ledger.session(kTenant, "s", at(300))->ttl_left, seconds(300));  // nor is it kept longer
  book.ledger.give_back(kTenant, hold);                                           // twice is once
  EXPECT_EQ(book.ledger.session(kTenant, "s", at(300))->turns, 1);
}

TEST(BudgetLedger, OC_BUDGET_1006_a_session_is_its_tenant_s_and_can_be_forgotten) {
  Book book;
  for (int i = 0; i < 8; ++i) book.run("s", use(1), at(0));
  EXPECT_FALSE(book.ledger.session("b", "s", at(0)));
  EXPECT_FALSE(book.ledger.end_session("b", "s", at(0)));
  EXPECT_TRUE(book.run("s", use(1), at(0)));
  EXPECT_TRUE(book.ledger.end_session(kTenant, "s", at(0)));
  EXPECT_FALSE(book.ledger.end_session(kTenant, "s", at(0)));
  BudgetHold hold;
  EXPECT_FALSE(book.reserve("s", use(1), at(0), hold));
  EXPECT_TRUE(book.ledger.end_session(kTenant, "s", at(0)));  // under way: it begins anew, its task goes on
  book.ledger.settle(kTenant, hold, use(1), at(0));
  EXPECT_EQ(book.ledger.session(kTenant, "s", at(0))->turns, 1);
}

TEST(BudgetLedger, OC_BUDGET_1007_a_new_life_counts_what_the_last_one_used) {
  BudgetConfig config;
  config.session = {8, 100, {}, 0};
  Book book{config};
  const BudgetLedger::Account account{kTenant, "s", {}};
  book.ledger.restore(account, use(30), at(-700), at(0));  // older than a session lives
  EXPECT_FALSE(book.ledger.session(kTenant, "s", at(0)));
  book.ledger.restore(account, use(30), at(-100), at(0));
  book.ledger.restore(account, use(20), at(-50), at(0));
  BudgetHold hold;
  book.ledger.assume(account, use(60), hold, at(0));  // reserved, though it is too much
  EXPECT_EQ(book.ledger.check_invariants(), "");
  EXPECT_EQ(book.ledger.left(account, at(0)).tokens, 0);
  EXPECT_EQ(book.ledger.session(kTenant, "s", at(0))->turns, 3);
  book.ledger.settle(kTenant, hold, use(5), at(10));
  EXPECT_EQ(book.ledger.left(account, at(10)).tokens, 45);
}

TEST(BudgetLedger, OC_BUDGET_1007_use_that_is_older_than_a_window_ends_none_that_stands) {
  BudgetConfig config;
  config.window = seconds(300);
  Book book{config};
  book.limits.tokens = 1000;
  const BudgetLedger::Account account{kTenant, kNone, book.limits};
  book.ledger.restore(account, use(900), at(-60), at(0));
  book.ledger.restore(account, use(1), at(-400), at(0));  // of a window that is over
  book.ledger.restore(account, use(1), at(-300), at(0));  // and the last instant of one
  EXPECT_EQ(book.ledger.left(account, at(0)).tokens, 100);
  EXPECT_TRUE(book.run(kNone, use(101), at(0)));
  book.ledger.restore(account, use(10), at(-299), at(0));
  EXPECT_EQ(book.ledger.left(account, at(0)).tokens, 90);
  EXPECT_EQ(book.ledger.left(account, at(1)).tokens, 1000);  // the window began with the oldest use in it
}

// Whatever comes and goes: nothing stays reserved, and what is used is the sum of what was settled.
TEST(BudgetLedger, OC_BUDGET_1002_the_accounts_add_up_in_random_runs) {
  EXPECT_TRUE(rc::check([](const std::vector<std::uint16_t>& script) {
    BudgetConfig config;
    config.session = {0, 500, {}, 0};
    config.sessions_max = 4;
    Book book{config};
    book.limits.tokens = 1'000'000;
    std::vector<BudgetHold> holds;
    std::int64_t now = 0;
    std::int64_t settled = 0;
    for (const std::uint16_t roll : script) {
      now += roll % 8 == 7 ? 400 : 1;
      if (roll % 3 == 0 || holds.empty()) {
        BudgetHold hold;
        if (!book.reserve("s" + std::to_string(roll / 8 % 6), use(1 + roll / 64), at(now), hold)) holds.push_back(hold);
      } else {
        BudgetHold hold = holds.back();
        holds.pop_back();
        if (roll % 3 == 1) {
          book.ledger.give_back(kTenant, hold);
        } else {
          book.ledger.settle(kTenant, hold, use(1), at(now));
          ++settled;
        }
      }
      RC_ASSERT(book.ledger.check_invariants() == std::string());
    }
    for (BudgetHold& hold : holds) book.ledger.give_back(kTenant, hold);
    RC_ASSERT(*book.ledger.left({kTenant, kNone, book.limits}, at(now)).tokens == 1'000'000 - settled);
  }));
}

}  // namespace
}  // namespace orch::gateway
