// Quotas and service that gateways share, through the whole core: what is told, what is heard, and what a change at run
// time may bring.
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

// What the last report in `effects` says of the tenant's live jobs; nullopt: none was sent.
std::optional<std::int64_t> told_live(const Effects& effects) {
  std::optional<std::int64_t> live;
  for (const SendFair& fair : all_of<SendFair>(effects)) {
    for (const UseRow& row : fair.report.uses) live = row.live;
  }
  return live;
}

TEST(SharedQuota, OC_QUOTA_1005_the_others_are_told_of_an_end_that_waited_for_its_record) {
  Config config = journaled();
  config.tenants.gateways = 2;
  JournalBench bench{config};
  bench.ready();
  const Dispatch dispatch = bench.running(1);
  bench.started(dispatch);
  bench.advance(ms(500));
  bench.finished(dispatch, 1);
  bench.advance(ms(500));
  Effects later = bench.commit();
  later = later + bench.advance(ms(500));
  EXPECT_EQ(bench.core.quotas().live("default"), 0);
  EXPECT_EQ(told_live(later), 0);
  EXPECT_EQ(all_of<SendFair>(bench.advance(Duration::seconds(30))).size(), 0u) << "nothing is new";
}

TEST(SharedQuota, OC_QUOTA_1005_after_a_restart_the_past_of_the_own_start_takes_nothing) {
  Config config;
  config.tenants.defaults.quotas.requests_per_second = 10;
  config.tenants.defaults.quotas.tokens_per_minute = 1000;
  Bench bench{config};
  bench.ready();
  OthersReported past{kLink, {}};
  StartReport& own = past.others.starts.emplace_back();
  own.over = true;
  own.uses.push_back({"default", 100'000, 5'000'000, 0});
  bench.step(past);
  EXPECT_FALSE(refusal(bench.submit(spec_of(1))));
  bench.advance(ms(200));
  bench.step(past);
  EXPECT_FALSE(refusal(bench.submit(spec_of(2))));
}

// One manager may have lost its link to a gateway that lives, and another may be gone together with one that does not.
TEST(SharedQuota, OC_QUOTA_1005_who_is_gone_is_for_the_managers_to_say_that_are_there) {
  Config config;
  config.tenants.gateways = 2;
  config.tenants.defaults.quotas.concurrent_jobs = 10;
  Bench bench{config};
  bench.ready();
  const LinkId second{2};
  bench.step(ManagerUp{second, ManagerId{{0xB0, 2}}, 1, {}});
  std::uint64_t job = 0;
  const auto let_in = [&] {
    std::uint64_t count = 0;
    while (!refusal(bench.submit(spec_of(++job)))) ++count;
    return count;
  };
  const auto hears = [&](LinkId link, bool over, std::vector<UseRow> uses) {
    OthersReported word{link, {}};
    word.others.starts.push_back({Holder{{{9, 9}}, 1}, 7, over, {}, std::move(uses)});
    bench.step(word);
  };
  hears(kLink, false, {{"default", 1, 1, 6}});
  hears(second, false, {{"default", 1, 1, 6}});
  EXPECT_EQ(let_in(), 2u);  // (10 - 6) / 2
  hears(kLink, true, {});
  EXPECT_EQ(let_in(), 1u);  // (10 - 6 - 2) / 2
  bench.step(ManagerDown{second});
  EXPECT_EQ(let_in(), 3u);  // (10 - 2) / 2, and one of them is in
  bench.step(ManagerUp{second, ManagerId{{0xB0, 2}}, 1, {}});
  bench.step(ManagerUp{LinkId{3}, ManagerId{{0xB0, 2}}, 1, {}});
  hears(LinkId{3}, false, {{"default", 1, 1, 6}});
  EXPECT_EQ(let_in(), 0u);
  bench.step(ManagerUp{LinkId{4}, ManagerId{{0xB0, 2}}, 1, {}});  // the loss of the link before is not noticed
  EXPECT_EQ(let_in(), 2u);                                        // (10 - 6) / 2
}

TEST(SharedQuota, OC_QUOTA_1005_a_word_of_a_manager_that_knows_nobody_leaves_nothing) {
  Config config;
  config.tenants.gateways = 2;
  config.tenants.defaults.quotas.concurrent_jobs = 10;
  Bench bench{config};
  bench.ready();
  std::uint64_t job = 0;
  const auto let_in = [&] {
    std::uint64_t count = 0;
    while (!refusal(bench.submit(spec_of(++job)))) ++count;
    return count;
  };
  EXPECT_EQ(let_in(), 5u);
  bench.step(OthersReported{kLink, {}});
  EXPECT_EQ(let_in(), 0u);
  OthersReported quiet{kLink, {}};
  quiet.others.starts.push_back({Holder{{{9, 9}}, 1}, 1, false, {}, {}});
  bench.step(quiet);
  EXPECT_EQ(let_in(), 2u) << "it has never had the tenant: (10 - 5) / 2";
}

TEST(TenantsChange, OC_TENANT_1002_names_beyond_the_bound_are_refused_whole) {
  Bench bench;
  bench.ready();
  for (const std::string prefix : {"a", "b", "c"}) {
    TenantsConfig config;
    for (std::size_t i = 0; i < kTenantsMax; ++i) config.tenants.push_back({.name = prefix + std::to_string(i)});
    config.tenants[0].weight = 3;
    const auto replies = all_of<TenantsReply>(bench.step(TenantsChanged{RequestId{1}, config}));
    ASSERT_EQ(replies.size(), 1u);
    EXPECT_EQ(replies[0].failure.has_value(), prefix == "c");
    EXPECT_EQ(bench.core.tenants().weight(prefix + "0"), prefix == "c" ? 1u : 3u);
    if (prefix == "c") EXPECT_EQ(replies[0].failure->field, "tenants");
  }
  EXPECT_EQ(bench.core.tenants().names().size(), 2 * kTenantsMax);
}

}  // namespace
}  // namespace orch::gateway
