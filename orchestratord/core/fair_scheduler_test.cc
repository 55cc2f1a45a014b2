// Weighted service between classes and tenants: charges, lifts, the bound, in examples and against random runs.
#include "orchestratord/core/fair_scheduler.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace orch::gateway {
namespace {

FlowId flow(const std::string& tenant, Priority priority = Priority::interactive) { return {"m", priority, tenant}; }
double tokens(std::int64_t units) { return static_cast<double>(units) / static_cast<double>(kUnit); }

// One job from its dispatch to its end.
void serve(FairScheduler& scheduler, const FlowId& of, std::uint64_t input, std::uint64_t output) {
  Meter meter;
  scheduler.dispatched(of, {input, output, output}, meter);
  scheduler.delivered_input(of, input, meter);
  scheduler.delivered_output(of, output, meter);
  scheduler.closed(of, meter);
}

std::string first(const FairScheduler& scheduler, Priority priority = Priority::interactive) {
  std::string out;
  scheduler.in_order("m", priority, [&](const std::string& tenant) {
    out = tenant;
    return true;
  });
  return out;
}

TEST(FairScheduler, F2_a_dispatch_reserves_and_delivery_moves_it_to_v) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 2);
  Meter meter;
  scheduler.dispatched(flow("a"), {100, 50, 80}, meter);
  EXPECT_EQ(tokens(scheduler.rho(flow("a"))), 100);  // (100 + 2 * 50) / 2
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 0);
  EXPECT_EQ(scheduler.delivered_input(flow("a"), 60, meter), 60u);  // 40 of it were cached
  EXPECT_EQ(tokens(scheduler.rho(flow("a"))), 50);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 30);
  EXPECT_EQ(scheduler.delivered_output(flow("a"), 40, meter), 80u);
  EXPECT_EQ(tokens(scheduler.rho(flow("a"))), 10);
  EXPECT_EQ(scheduler.delivered_output(flow("a"), 20, meter), 40u);  // ten beyond what was expected
  EXPECT_EQ(tokens(scheduler.rho(flow("a"))), 0);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 90);
  scheduler.closed(flow("a"), meter);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 90);
  EXPECT_EQ(tokens(scheduler.v({"m", Priority::interactive, {}})), 180.0 / 8);  // the class, at its own weight
  EXPECT_EQ(scheduler.check_invariants(), "");
}

TEST(FairScheduler, F2_what_was_reserved_and_not_used_is_dropped_at_the_end) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  Meter meter;
  scheduler.dispatched(flow("a"), {10, 500, 1000}, meter);
  scheduler.delivered_input(flow("a"), 10, meter);
  scheduler.delivered_output(flow("a"), 1, meter);
  scheduler.closed(flow("a"), meter);
  EXPECT_EQ(scheduler.rho(flow("a")), 0);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 12);
}

TEST(FairScheduler, F2_recomputed_work_is_not_charged) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  Meter meter;
  scheduler.dispatched(flow("a"), {100, 10, 20}, meter);
  scheduler.delivered_input(flow("a"), 100, meter);
  scheduler.delivered_output(flow("a"), 5, meter);
  scheduler.closed(flow("a"), meter);  // the worker was lost
  scheduler.dispatched(flow("a"), {100, 10, 20}, meter);
  EXPECT_EQ(tokens(scheduler.rho(flow("a"))), 10);  // five more tokens are expected, nothing else is new
  scheduler.delivered_input(flow("a"), 100, meter);
  for (const std::uint64_t again : {3u, 2u}) {
    scheduler.delivered_output(flow("a"), again, meter);
    EXPECT_EQ(tokens(scheduler.v(flow("a"))), 110);
  }
  scheduler.delivered_output(flow("a"), 5, meter);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 120);
  scheduler.closed(flow("a"), meter);
}

TEST(FairScheduler, F2_an_undone_dispatch_is_not_charged) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  Meter meter;
  scheduler.dispatched(flow("a"), {100, 10, 20}, meter);
  scheduler.closed(flow("a"), meter);
  EXPECT_EQ(scheduler.v(flow("a")), 0);
  EXPECT_EQ(scheduler.rho(flow("a")), 0);
}

TEST(FairScheduler, F2_a_new_weight_acts_on_later_increments_only) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  Meter meter;
  scheduler.dispatched(flow("a"), {0, 100, 100}, meter);
  scheduler.delivered_output(flow("a"), 50, meter);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 100);
  scheduler.set_weight("a", 4);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 100);
  EXPECT_EQ(tokens(scheduler.rho(flow("a"))), 100);
  scheduler.delivered_output(flow("a"), 50, meter);
  EXPECT_EQ(tokens(scheduler.v(flow("a"))), 125);
  EXPECT_EQ(scheduler.rho(flow("a")), 0);  // at the weight it was reserved with
  scheduler.closed(flow("a"), meter);
  EXPECT_EQ(scheduler.check_invariants(), "");
}

TEST(FairScheduler, F2_the_least_v_and_rho_goes_first_and_arrival_breaks_ties) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("z"), 1);
  scheduler.waits(flow("a"), 1);
  EXPECT_EQ(first(scheduler), "z");
  Meter meter;
  scheduler.dispatched(flow("z"), {1, 1, 1}, meter);
  EXPECT_EQ(first(scheduler), "a");
}

TEST(FairScheduler, F3_an_idle_tenant_brings_no_credit_along) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("busy"), 1);
  for (int i = 0; i < 100; ++i) serve(scheduler, flow("busy"), 10, 10);
  scheduler.waits(flow("late"), 1);
  EXPECT_EQ(scheduler.v(flow("late")), scheduler.v(flow("busy")));
  scheduler.leaves(flow("late"));
  scheduler.leaves(flow("busy"));
  scheduler.waits(flow("third"), 1);  // nobody waits or runs: level with the one served most
  EXPECT_EQ(tokens(scheduler.v(flow("third"))), 100 * 30);
}

// A tenant that was skipped is served long after the others: were the floor where the last one was served, whoever
// comes next would start that far behind them.
TEST(FairScheduler, F3_the_floor_ignores_who_is_served_outside_the_bound) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("pinned"), 1);
  scheduler.waits(flow("free"), 1);
  for (int i = 0; i < 50; ++i) {
    serve(scheduler, flow("free"), 10, 10);
    scheduler.skipped(flow("pinned"));
  }
  Meter running;
  scheduler.dispatched(flow("free"), {10, 10, 10}, running);  // the class does not come to rest
  scheduler.leaves(flow("free"));
  serve(scheduler, flow("pinned"), 10, 10);
  scheduler.leaves(flow("pinned"));
  scheduler.waits(flow("new"), 1);
  scheduler.waits(flow("free"), 1);
  EXPECT_EQ(tokens(scheduler.v(flow("new"))), 50 * 30);
  EXPECT_EQ(scheduler.check_invariants(), "");  // F5
}

// Of another gateway, in tokens.
FlowCounters served_elsewhere(std::int64_t tokens, bool waiting, bool inside) {
  FlowCounters out;
  out.delivered = tokens * kUnit;
  out.waiting = waiting;
  out.inside = inside;
  return out;
}

TEST(FairScheduler, OC_FAIR_F3_who_waits_at_another_gateway_is_a_floor_here) {
  FairScheduler scheduler{8, 1};
  serve(scheduler, flow("late"), 100, 0);
  scheduler.others_say(flow("busy"), served_elsewhere(900, true, true), 1);
  scheduler.others_say(flow("busier"), served_elsewhere(1000, true, true), 1);
  scheduler.others_say(flow("pinned"), served_elsewhere(5, true, false), 1);  // it lags for reasons of its own
  scheduler.waits(flow("late"), 1);
  EXPECT_EQ(tokens(scheduler.v(flow("late"))), 900);
  scheduler.others_say(flow("busy"), served_elsewhere(950, false, false), 1);
  scheduler.waits(flow("third"), 1);
  EXPECT_EQ(tokens(scheduler.v(flow("third"))), 900) << "the least of those that wait, wherever they do";
  EXPECT_EQ(scheduler.check_invariants(), "");
}

TEST(FairScheduler, OC_FAIR_F3_after_a_rest_what_others_served_counts) {
  FairScheduler scheduler{8, 1};
  scheduler.others_say(flow("busy"), served_elsewhere(1000, false, false), 1);
  scheduler.waits(flow("late"), 1);
  EXPECT_EQ(tokens(scheduler.v(flow("late"))), 1000);
  EXPECT_EQ(scheduler.check_invariants(), "");
}

TEST(FairScheduler, OC_FAIR_F3_with_nobody_waiting_others_were_served_at_what_they_had) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  Meter running;
  scheduler.dispatched(flow("a"), {10, 10, 10}, running);
  scheduler.leaves(flow("a"));
  scheduler.others_say(flow("busy"), served_elsewhere(700, true, true), 1);
  scheduler.others_say(flow("busy"), served_elsewhere(1000, false, false), 1);
  scheduler.waits(flow("late"), 1);
  EXPECT_EQ(tokens(scheduler.v(flow("late"))), 700);
  scheduler.closed(flow("a"), running);
  EXPECT_EQ(scheduler.check_invariants(), "");
}

TEST(FairScheduler, F3_the_floor_never_goes_back) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  scheduler.waits(flow("b"), 1);
  Meter lost;
  scheduler.dispatched(flow("a"), {100, 0, 0}, lost);
  serve(scheduler, flow("b"), 90, 0);
  Meter at_90;
  scheduler.dispatched(flow("b"), {1, 0, 0}, at_90);
  scheduler.closed(flow("a"), lost);  // it delivered nothing
  Meter at_0;
  scheduler.dispatched(flow("a"), {1, 0, 0}, at_0);  // served last, at 0
  scheduler.leaves(flow("a"));
  scheduler.leaves(flow("b"));
  scheduler.waits(flow("new"), 1);
  EXPECT_EQ(tokens(scheduler.v(flow("new"))), 90);
  scheduler.closed(flow("a"), at_0);
  scheduler.closed(flow("b"), at_90);
}

TEST(FairScheduler, F3_dropping_a_reservation_rebuilds_no_credit) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  scheduler.waits(flow("b"), 1);
  std::vector<Meter> meters(8);
  for (Meter& meter : meters) scheduler.dispatched(flow("a"), {0, 100, 100}, meter);
  scheduler.leaves(flow("a"));  // its waiting set is empty, its jobs run
  serve(scheduler, flow("b"), 500, 0);
  scheduler.waits(flow("a"), 1);
  for (Meter& meter : meters) scheduler.closed(flow("a"), meter);
  EXPECT_EQ(scheduler.v(flow("a")), scheduler.v(flow("b")));
}

TEST(FairScheduler, F3_an_idle_class_brings_no_credit_along) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  for (int i = 0; i < 100; ++i) serve(scheduler, flow("a"), 80, 0);
  scheduler.waits(flow("a", Priority::batch), 1);
  EXPECT_EQ(scheduler.v({"m", Priority::batch, {}}), scheduler.v({"m", Priority::interactive, {}}));
}

TEST(FairScheduler, F1_ruling2_classes_are_served_eight_to_one) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  scheduler.waits(flow("a", Priority::batch), 1);
  int served[2] = {0, 0};
  for (int i = 0; i < 900; ++i) {
    const Priority next = scheduler.order("m")[0];
    ++served[static_cast<int>(next)];
    serve(scheduler, flow("a", next), 10, 10);
    ASSERT_EQ(scheduler.check_invariants(), "");
  }
  EXPECT_EQ(served[0], 800);
  EXPECT_EQ(served[1], 100);
}

TEST(FairScheduler, F5_a_skipped_tenant_stands_outside_until_its_waiting_set_was_empty) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("pinned"), 1);
  scheduler.waits(flow("free"), 1);
  for (int i = 0; i < 50; ++i) {
    serve(scheduler, flow("free"), 10, 10);
    scheduler.skipped(flow("pinned"));
  }
  EXPECT_EQ(scheduler.check_invariants(), "");
  EXPECT_EQ(scheduler.gap("m", Priority::interactive).tenants, 1u);
  scheduler.leaves(flow("pinned"));
  scheduler.waits(flow("pinned"), 1);
  EXPECT_EQ(scheduler.gap("m", Priority::interactive).tenants, 2u);
  EXPECT_EQ(scheduler.v(flow("pinned")), scheduler.v(flow("free")));
}

TEST(FairScheduler, F5_a_broken_order_is_seen) {
  FairScheduler scheduler{8, 1};
  scheduler.waits(flow("a"), 1);
  scheduler.waits(flow("b"), 1);
  for (int i = 0; i < 3; ++i) serve(scheduler, flow("a"), 10, 10);
  EXPECT_NE(scheduler.check_invariants(), "");  // S = 1, C = 30: 90 apart, 60 allowed
}

TEST(FairScheduler, domains_are_bounded_and_busy_ones_are_kept) {
  FairScheduler scheduler{8, 1, 2};
  scheduler.waits({"busy", Priority::batch, "a"}, 1);
  for (int i = 0; i < 5; ++i) {
    const FlowId of{"d" + std::to_string(i), Priority::batch, "a"};
    scheduler.waits(of, 1);
    scheduler.leaves(of);
  }
  EXPECT_EQ(scheduler.domains(), 2u);
  EXPECT_EQ(scheduler.weight_share({"busy", Priority::batch, "a"}, 1), 1);
  EXPECT_EQ(scheduler.check_invariants(), "");
}

// --- random runs: S slots, tenants that come and go, jobs that end early, late and are lost; F5 after every step ---

struct Running {
  FlowId of;
  Meter meter;
  std::uint64_t input = 0;
  std::uint64_t output = 0;  // that it will write
};

void random_run(const std::vector<std::uint32_t>& script, bool change_weights) {
  FairScheduler scheduler{8, 1};
  const std::uint32_t slots = 1 + script[0] % 6;
  const std::uint32_t tenants = 2 + script[1] % 5;
  std::vector<std::vector<std::uint32_t>> waiting(tenants);  // seeds of jobs
  std::vector<Running> running;
  const auto name = [](std::uint32_t t) { return std::string(1, static_cast<char>('a' + t)); };
  const auto weight = [&](std::uint32_t t) { return 1 + (script[2] >> (3 * t)) % 8; };
  for (const std::uint32_t roll : script) {
    const std::uint32_t t = roll / 16 % tenants;
    switch (roll % 4) {
      case 0:  // some jobs come
        for (std::uint32_t i = 0; i <= roll / 256 % 4; ++i) {
          scheduler.waits(flow(name(t)), weight(t));
          waiting[t].push_back(roll / 1024 + i * 7919);
        }
        break;
      case 1:  // a waiting job is canceled
        if (waiting[t].empty()) break;
        waiting[t].pop_back();
        scheduler.leaves(flow(name(t)));
        break;
      case 2: {  // a dispatch delivers some, ends or is lost
        if (running.empty()) break;
        const std::size_t which = roll / 16 % running.size();
        Running& job = running[which];
        scheduler.delivered_input(job.of, job.input, job.meter);
        const std::uint64_t part = std::min<std::uint64_t>(job.output, 1 + roll / 64 % 64);
        scheduler.delivered_output(job.of, part, job.meter);
        job.output -= part;
        if (job.output > 0 && roll / 4096 % 8 != 0) break;
        scheduler.closed(job.of, job.meter);
        running.erase(running.begin() + static_cast<std::ptrdiff_t>(which));
        break;
      }
      default:
        if (change_weights && roll / 16 % 32 == 0) scheduler.set_weight(name(t), 1 + roll / 512 % 8);
        break;
    }
    while (running.size() < slots) {
      const std::string next = first(scheduler);
      if (next.empty()) break;
      const auto of = static_cast<std::uint32_t>(next[0] - 'a');
      const std::uint32_t seed = waiting[of].back();
      waiting[of].pop_back();
      scheduler.leaves(flow(next));
      Running job{flow(next), {}, seed % 200, 1 + seed / 200 % 100};
      scheduler.dispatched(job.of, {seed % 200, 1 + seed / 20000 % 100, 100}, job.meter);
      running.push_back(job);
    }
    RC_ASSERT(scheduler.check_invariants() == std::string());
  }
}

TEST(FairScheduler, F5_the_bound_holds_in_random_runs) {
  EXPECT_TRUE(rc::check([] {
    random_run(*rc::gen::container<std::vector<std::uint32_t>>(400, rc::gen::inRange<std::uint32_t>(0, 1u << 30)),
               false);
  }));
}

TEST(FairScheduler, F5_the_bound_holds_while_weights_change) {
  EXPECT_TRUE(rc::check([] {
    random_run(*rc::gen::container<std::vector<std::uint32_t>>(400, rc::gen::inRange<std::uint32_t>(0, 1u << 30)),
               true);
  }));
}

}  // namespace
}  // namespace orch::gateway
