// Quotas: buckets against the clock, what is reserved, settled and given back, and the budget that gateways share.
#include "orchestratord/core/quota_book.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace orch::gateway {
namespace {

const Instant kStart{1'000'000'000};
Duration ms(std::int64_t value) { return Duration::milliseconds(value); }

Tenants tenants_with(TenantQuotas quotas, std::int64_t gateways = 1, bool dry_run = false) {
  TenantsConfig config;
  config.defaults.quotas = quotas;
  config.gateways = gateways;
  config.dry_run = dry_run;
  EXPECT_FALSE(check_tenants(config));
  return Tenants{config};
}

TEST(TokenBucket, OC_QUOTA_1002_the_told_time_is_the_first_at_which_there_is_enough) {
  for (const std::int64_t per_minute : {1, 7, 60, 599, 60'000, 100'000'000}) {
    TokenBucket bucket{per_minute, 10, 1, kStart};
    ASSERT_FALSE(bucket.take(10, kStart));
    for (const std::int64_t units : {1, 3, 10}) {
      TokenBucket copy = bucket;
      const std::optional<Duration> wait = copy.take(units, kStart);
      ASSERT_TRUE(wait);
      TokenBucket early = bucket;
      EXPECT_TRUE(early.take(units, kStart + *wait - Duration{1})) << per_minute << " " << units;
      TokenBucket right = bucket;
      EXPECT_FALSE(right.take(units, kStart + *wait)) << per_minute << " " << units;
    }
  }
}

TEST(TokenBucket, OC_QUOTA_1001_never_more_than_the_burst_and_the_rate) {
  EXPECT_TRUE(rc::check([] {
    const auto script =
        *rc::gen::container<std::vector<std::uint32_t>>(200, rc::gen::inRange<std::uint32_t>(0, 1u << 30));
    const std::int64_t per_minute = 1 + script[0] % 10'000;
    const std::int64_t burst = 1 + script[1] % 50;
    TokenBucket bucket{per_minute, burst, 1, kStart};
    Instant now = kStart;
    std::int64_t taken = 0;
    for (const std::uint32_t roll : script) {
      now = now + Duration{static_cast<std::int64_t>(roll % 8 == 0 ? roll : roll % 1'000'000)};
      if (!bucket.take(1 + roll % 3, now)) taken += 1 + roll % 3;
      const double allowed =
          static_cast<double>(burst) + static_cast<double>((now - kStart).ns) / 60e9 * static_cast<double>(per_minute);
      RC_ASSERT(static_cast<double>(taken) <= allowed + 1e-6);
      RC_ASSERT(bucket.level(now) <= static_cast<double>(burst));
    }
  }));
}

TEST(TokenBucket, OC_QUOTA_1001_time_that_comes_in_small_steps_is_not_lost) {
  TokenBucket bucket{60'000, 1000, 1, kStart};
  ASSERT_FALSE(bucket.take(1000, kStart));
  Instant now = kStart;
  for (int i = 0; i < 100'000; ++i) {
    now = now + Duration{7'777};
    bucket.charge(0, now);
  }
  EXPECT_NEAR(bucket.level(now), 777.7, 0.2);  // a thousand a second for 777.7 ms
}

// K gateways that merge every 100 ms against one that grants all it can; each takes as much as it may.
TEST(TokenBucket, OC_QUOTA_1005_gateways_together_stay_within_the_budget_and_use_it) {
  EXPECT_TRUE(rc::check([] {
    const auto script =
        *rc::gen::container<std::vector<std::uint32_t>>(300, rc::gen::inRange<std::uint32_t>(0, 1u << 30));
    const std::int64_t gateways = 2 + script[0] % 3;
    const std::int64_t burst = 40;
    const std::int64_t per_minute = 6000;
    std::vector<TokenBucket> buckets(static_cast<std::size_t>(gateways),
                                     TokenBucket{per_minute, burst, gateways, kStart});
    Instant now = kStart;
    for (const std::uint32_t roll : script) {
      now = now + ms(roll % 50);
      TokenBucket& one = buckets[roll / 64 % buckets.size()];
      one.take(1 + roll / 1024 % 4, now);
      if (roll % 5 == 0) {
        std::vector<std::int64_t> used;
        for (const TokenBucket& bucket : buckets) used.push_back(bucket.used());
        for (std::size_t i = 0; i < buckets.size(); ++i) {
          std::int64_t others = 0;
          for (std::size_t j = 0; j < used.size(); ++j) others += j == i ? 0 : used[j];
          buckets[i].merge(others, now);
        }
      }
      std::int64_t used = 0;
      for (const TokenBucket& bucket : buckets) used += bucket.used();
      const double allowed =
          static_cast<double>(burst) + static_cast<double>((now - kStart).ns) / 60e9 * static_cast<double>(per_minute);
      RC_ASSERT(static_cast<double>(used) <= allowed + 1e-6);
    }
  }));
}

TEST(TokenBucket, OC_QUOTA_1005_what_the_others_leave_is_not_lost) {
  TokenBucket busy{6000, 100, 2, kStart};
  Instant now = kStart;
  std::int64_t taken = 0;
  for (int i = 0; i < 600; ++i) {  // one minute; the other gateway is idle
    now = now + ms(100);
    while (!busy.take(1, now)) ++taken;
    busy.merge(0, now);
  }
  EXPECT_GE(taken, 5900);  // of 6,000: its own half alone would be 3,050
}

TEST(TokenBucket, OC_QUOTA_1002_what_never_fits_is_told_a_time_that_does_not_wrap) {
  for (const std::int64_t gateways : {1, 64}) {
    TokenBucket bucket{1, 1000, gateways, kStart};
    const std::optional<Duration> wait = bucket.take((std::int64_t{1} << 33), kStart);
    ASSERT_TRUE(wait);
    EXPECT_GT(*wait, Duration::seconds(1'000'000'000));
    EXPECT_FALSE(bucket.may_hold(std::int64_t{1} << 33));
  }
}

TEST(TokenBucket, OC_QUOTA_1005_an_absurd_word_of_others_costs_one_capacity) {
  TokenBucket bucket{6000, 100, 1, kStart};
  EXPECT_FALSE(bucket.take(1, kStart));
  bucket.merge(std::numeric_limits<std::int64_t>::max(), kStart);
  EXPECT_EQ(bucket.level(kStart), -100);
  bucket.merge(std::numeric_limits<std::int64_t>::max(), kStart + Duration::seconds(2));
  EXPECT_NEAR(bucket.level(kStart + Duration::seconds(2)), 100, 0.01);
}

// A word of another start, and the merge behind it.
void heard(QuotaBook& book, const Tenants& tenants, OthersUse news) {
  news.tenant = "a";
  book.others_use("a", tenants, news, kStart);
  book.merge(kStart);
}

TEST(QuotaBook, OC_QUOTA_1005_what_was_used_before_the_first_word_is_history) {
  const Tenants tenants = tenants_with({.requests_per_second = 10, .tokens_per_minute = 1000});
  QuotaBook book;
  heard(book, tenants, {.requests = 100'000, .tokens = 5'000'000, .first = true});  // the own past among them
  EXPECT_EQ(*book.tokens_left("a", kStart), 1000);
  EXPECT_EQ(*book.requests_left("a", kStart), 10);
  heard(book, tenants, {.requests = 4, .tokens = 300});
  EXPECT_EQ(*book.tokens_left("a", kStart), 700);
  EXPECT_EQ(*book.requests_left("a", kStart), 6);
}

TEST(QuotaBook, OC_QUOTA_1005_a_quota_that_is_set_later_counts_from_then_on) {
  Tenants tenants = tenants_with({});
  QuotaBook book;
  heard(book, tenants, {.requests = 100, .tokens = 50'000, .first = true});
  heard(book, tenants, {.requests = 100, .tokens = 40'000});
  TenantsConfig config;
  config.defaults.quotas = {.requests_per_second = 10, .tokens_per_minute = 1000};
  tenants.replace(config);
  book.replace(tenants, kStart);
  heard(book, tenants, {.requests = 1, .tokens = 100});
  EXPECT_EQ(*book.tokens_left("a", kStart), 900);
  EXPECT_EQ(*book.requests_left("a", kStart), 9);
}

// Of what they used before its first word each gateway assumes no more than their shares: a burst is shared from the
// start.
TEST(QuotaBook, OC_QUOTA_1005_the_first_words_of_others_count_up_to_their_share) {
  const Tenants tenants = tenants_with({.tokens_per_minute = 1000}, 2);
  QuotaBook together;
  heard(together, tenants, {.tokens = 400, .first = true});
  EXPECT_EQ(*together.tokens_left("a", kStart), 300);  // (1000 - 400) / 2
  heard(together, tenants, {.tokens = 400, .first = true});
  EXPECT_EQ(*together.tokens_left("a", kStart), 250);  // (1000 - 500) / 2
  QuotaBook restarted;
  heard(restarted, tenants, {.tokens = 5'000'000, .first = true});
  EXPECT_EQ(*restarted.tokens_left("a", kStart), 250);
}

TEST(QuotaBook, OC_QUOTA_1005_a_word_that_does_not_name_a_tenant_is_one_of_it_too) {
  const Tenants tenants = tenants_with({.requests_per_second = 10}, 2);
  QuotaBook book;
  QuotaHold hold;
  heard(book, tenants, {.requests = 1, .first = true});
  for (int i = 0; i < 4; ++i) {
    QuotaHold each;
    ASSERT_FALSE(book.begin("a", tenants, each, kStart)) << i;
  }
  ASSERT_TRUE(book.begin("a", tenants, hold, kStart)) << "a half of nine";
  book.merge(kStart);
  EXPECT_EQ(*book.requests_left("a", kStart), 2.5);  // (10 - 1 - 4) / 2
}

TEST(QuotaBook, OC_QUOTA_1005_what_is_told_of_the_own_use_never_shrinks_with_a_quota_that_comes_and_goes) {
  Tenants tenants = tenants_with({.requests_per_second = 10, .tokens_per_minute = 1000});
  QuotaBook book;
  QuotaHold hold;
  ASSERT_FALSE(book.begin("a", tenants, hold, kStart));
  ASSERT_FALSE(book.reserve("a", tenants, 300, hold, kStart));
  book.settle("a", hold, 300, kStart);
  const auto set = [&](TenantQuotas quotas) {
    TenantsConfig config;
    config.defaults.quotas = quotas;
    tenants.replace(config);
    book.replace(tenants, kStart);
  };
  set({});
  EXPECT_EQ(book.own_use().at("a").tokens, 300);
  set({.requests_per_second = 10, .tokens_per_minute = 1000});
  ASSERT_FALSE(book.begin("a", tenants, hold, kStart));
  ASSERT_FALSE(book.reserve("a", tenants, 200, hold, kStart));
  EXPECT_EQ(book.own_use().at("a").tokens, 500);
  EXPECT_EQ(book.own_use().at("a").requests, 2);
}

TEST(QuotaBook, OC_QUOTA_1003_reserve_settle_and_give_back) {
  const Tenants tenants = tenants_with({.concurrent_jobs = 5, .tokens_per_minute = 1000});
  QuotaBook book;
  QuotaHold hold;
  ASSERT_FALSE(book.begin("a", tenants, hold, kStart));
  ASSERT_FALSE(book.reserve("a", tenants, 600, hold, kStart));
  EXPECT_EQ(*book.tokens_left("a", kStart), 400);
  book.settle("a", hold, 150, kStart);
  EXPECT_EQ(*book.tokens_left("a", kStart), 850);
  EXPECT_EQ(book.live("a"), 0);
  ASSERT_FALSE(book.begin("a", tenants, hold, kStart));
  ASSERT_FALSE(book.reserve("a", tenants, 600, hold, kStart));
  book.give_back("a", hold, kStart);
  EXPECT_EQ(*book.tokens_left("a", kStart), 850);
  ASSERT_FALSE(book.begin("a", tenants, hold, kStart));
  ASSERT_FALSE(book.reserve("a", tenants, 800, hold, kStart));
  book.settle("a", hold, 1500, kStart);  // more than was reserved is owed
  EXPECT_LT(*book.tokens_left("a", kStart), 0);
}

TEST(QuotaBook, OC_QUOTA_1002_a_refusal_takes_nothing_and_names_the_quota) {
  const Tenants tenants = tenants_with({.concurrent_jobs = 2, .requests_per_second = 3, .tokens_per_minute = 100});
  QuotaBook book;
  QuotaHold first;
  QuotaHold second;
  QuotaHold third;
  ASSERT_FALSE(book.begin("a", tenants, first, kStart));
  ASSERT_FALSE(book.begin("a", tenants, second, kStart));
  const auto busy = book.begin("a", tenants, third, kStart);
  ASSERT_TRUE(busy);
  EXPECT_EQ(busy->quota, Quota::concurrent_jobs);
  EXPECT_EQ(*book.requests_left("a", kStart), 1);  // the refused one took none
  book.settle("a", second, 0, kStart);
  ASSERT_FALSE(book.begin("a", tenants, second, kStart));
  book.settle("a", second, 0, kStart);
  const auto rate = book.begin("a", tenants, second, kStart);
  ASSERT_TRUE(rate);
  EXPECT_EQ(rate->quota, Quota::requests_per_second);
  EXPECT_EQ(rate->retry_after->ms_ceil(), 334);
  EXPECT_EQ(book.live("a"), 1);
  const auto tokens = book.reserve("a", tenants, 101, first, kStart);
  ASSERT_TRUE(tokens);
  EXPECT_TRUE(tokens->never);
}

TEST(QuotaBook, OC_QUOTA_1004_a_dry_run_reports_and_takes_all_the_same) {
  const Tenants tenants = tenants_with({.concurrent_jobs = 1, .tokens_per_minute = 100}, 1, true);
  QuotaBook book;
  std::vector<QuotaHold> holds(3);
  EXPECT_FALSE(book.begin("a", tenants, holds[0], kStart));
  EXPECT_TRUE(book.begin("a", tenants, holds[1], kStart));
  EXPECT_EQ(book.live("a"), 2);
  EXPECT_FALSE(book.reserve("a", tenants, 90, holds[0], kStart));
  EXPECT_TRUE(book.reserve("a", tenants, 90, holds[1], kStart));
  EXPECT_EQ(holds[1].tokens, 90);
  for (QuotaHold& hold : holds) book.give_back("a", hold, kStart);
  EXPECT_EQ(book.live("a"), 0);
}

TEST(QuotaBook, OC_QUOTA_1005_concurrent_jobs_are_shared) {
  const Tenants tenants = tenants_with({.concurrent_jobs = 10}, 2);
  QuotaBook book;
  std::vector<QuotaHold> holds(20);
  std::size_t started = 0;
  while (!book.begin("a", tenants, holds[started], kStart)) ++started;
  EXPECT_EQ(started, 5u);  // (10 - 0) / 2
  heard(book, tenants, {.live = 1});
  while (!book.begin("a", tenants, holds[started], kStart)) ++started;
  EXPECT_EQ(started, 7u);  // (10 - 6) / 2 more
  const Tenants fewer = tenants_with({.concurrent_jobs = 3}, 2);
  for (std::size_t i = 0; i < 4; ++i) book.settle("a", holds[i], 0, kStart);
  EXPECT_TRUE(book.begin("a", fewer, holds[0], kStart)) << "three run, though fewer than at the last word";
}

TEST(Tenants, OC_TENANT_1003_what_is_impossible_is_refused_by_field_and_limit) {
  const auto fault = [](auto change) {
    TenantsConfig config;
    config.tenants.push_back({.name = "a"});
    config.tenants.push_back({.name = "b"});
    change(config);
    const auto found = check_tenants(config);
    return found ? found->field + ": " + found->message : std::string("none");
  };
  EXPECT_EQ(fault([](TenantsConfig&) {}), "none");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.tenants[1].weight = 0; }),
            "tenants[1].weight: tenants[1].weight is 0 and must be in 1..1000");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.tenants[1].weight = 1001; }),
            "tenants[1].weight: tenants[1].weight is 1001 and must be in 1..1000");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.tenants[0].quotas.tokens_per_minute = -1; }),
            "tenants[0].tokens_per_minute: tenants[0].tokens_per_minute is -1 and must be in 0..100000000");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.defaults.quotas.concurrent_jobs = 0; }),
            "defaults.concurrent_jobs: defaults.concurrent_jobs is 0 and must be in 1..1000000");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.tenants[1].name = "a"; }),
            "tenants[1].name: tenants[1].name \"a\" appears twice");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.tenants[0].name = "other"; }),
            "tenants[0].name: tenants[0].name must be 1..128 characters of A-Za-z0-9._- and not \"other\"");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.defaults.quotas.request_burst = 5; }),
            "defaults.request_burst: defaults.request_burst is 5 and must be in 0..0");
  EXPECT_EQ(fault([](TenantsConfig& c) {
              c.gateways = 4;
              c.tenants[0].quotas.requests_per_second = 3;
            }),
            "tenants[0].requests_per_second: tenants[0].requests_per_second is 3 and must be in 4..1000000");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.gateways = 65; }), "gateways: gateways is 65 and must be in 1..64");
  EXPECT_EQ(fault([](TenantsConfig& c) { c.tenants.resize(1001); }),
            "tenants: tenants has 1001 entries, at most 1000 are allowed");
}

TEST(Tenants, OC_TENANT_1002_names_are_bounded) {
  TenantsConfig config;
  config.tenants.push_back({.name = "known"});
  Tenants tenants{config};
  for (std::size_t i = 1; i < kTenantsMax; ++i)
    EXPECT_EQ(tenants.admit("t" + std::to_string(i)), "t" + std::to_string(i));
  EXPECT_EQ(tenants.admit("late"), "other");
  EXPECT_EQ(tenants.admit("known"), "known");
  EXPECT_EQ(tenants.admit("t7"), "t7");
}

TEST(Tenants, OC_TENANT_1002_names_that_were_configured_in_turn_are_bounded_too) {
  Tenants tenants{{}};
  const auto config = [](const std::string& prefix, std::size_t count) {
    TenantsConfig out;
    for (std::size_t i = 0; i < count; ++i) out.tenants.push_back({.name = prefix + std::to_string(i)});
    return out;
  };
  for (const std::string prefix : {"a", "b"}) {
    EXPECT_FALSE(tenants.check_room(config(prefix, kTenantsMax)));
    tenants.replace(config(prefix, kTenantsMax));
  }
  EXPECT_FALSE(tenants.check_room(config("a", 7)));  // known ones
  TenantsConfig more = config("b", kTenantsMax - 1);
  more.tenants.push_back({.name = "c"});
  const auto fault = tenants.check_room(more);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->field, "tenants");
  EXPECT_EQ(fault->message,
            "tenants brings the names ever seen or configured since the start to 2001, at most 2000 are kept");
}

}  // namespace
}  // namespace orch::gateway
