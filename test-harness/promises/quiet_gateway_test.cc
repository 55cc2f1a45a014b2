// Two gateways' cores over a manager's: what one of them does not use of a quota is the other's to use, however quiet
// the one is (OC-QUOTA-1005).
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "orchestratord/core/core_testing.h"
#include "pool-managerd/core/manager.h"

namespace orch::gateway {
namespace {

using namespace testing;

constexpr Duration kTick = Duration::milliseconds(10);

struct NoEntropy final : pool::EntropySource {
  std::uint64_t next_u64() override { return 4; }
};

// Keeps what it says to its manager.
struct Speaker : Bench {
  using Bench::Bench;
  Effects step(const Event& event) override {
    Effects out = Bench::step(event);
    for (const SendFair& each : all_of<SendFair>(out)) said.push_back(each.report);
    return out;
  }
  std::vector<FairReport> said;
};

// Every message arrives within a tick.
class TwoGateways {
 public:
  explicit TwoGateways(const TenantQuotas& quotas) : gateways{Speaker{config_of(quotas)}, Speaker{config_of(quotas)}} {
    for (std::uint64_t n = 0; n < gateways.size(); ++n) {
      to_manager(pool::AttachOpened{.link = {n}, .holder = {{{0xC0, n}}, 1}, .public_url = {}});
      gateways[n].ready(1);
    }
    run(Duration::seconds(1));
  }
  void run(Duration duration) {
    for (const Instant end = now_ + duration; now_ < end;) tick();
  }
  void tick() {
    now_ = now_ + kTick;
    for (std::uint64_t n = 0; n < gateways.size(); ++n) {
      gateways[n].advance(kTick);
      for (const FairReport& report : std::exchange(gateways[n].said, {}))
        to_manager(pool::FairReported{.link = {n}, .report = report});
    }
    to_manager(pool::Tick{});
    for (const pool::SendOthers& each : std::exchange(told_, {})) {
      ++words[each.link.value];
      gateways[each.link.value].step(OthersReported{kLink, each.others});
    }
  }
  // Of jobs that stay where they are: how many more are let in now.
  std::int64_t let_in(std::size_t gateway) {
    std::int64_t count = 0;
    while (!refusal(gateways[gateway].submit(spec_of(++jobs_)))) ++count;
    return count;
  }
  void serve_one(std::size_t gateway) {
    Speaker& bench = gateways[gateway];
    EXPECT_FALSE(refusal(bench.submit(spec_of(++jobs_))));
    bench.started(bench.dispatches.back());
    bench.finished(bench.dispatches.back(), 1);
  }
  std::array<Speaker, 2> gateways;
  std::array<std::size_t, 2> words{};  // of the manager, heard by each

 private:
  static Config config_of(const TenantQuotas& quotas) {
    Config config;
    config.tenants.gateways = 2;
    config.tenants.defaults.quotas = quotas;
    return config;
  }
  void to_manager(const pool::Event& event) {
    pool::Effects out;
    manager_.step(event, now_, out);
    for (const pool::Effect& effect : out) {
      if (const auto* others = std::get_if<pool::SendOthers>(&effect)) told_.push_back(*others);
    }
  }
  NoEntropy entropy_;
  pool::Manager manager_{pool::Settings{}, entropy_};
  std::vector<pool::SendOthers> told_;
  Instant now_{1'000'000'000};
  std::uint64_t jobs_ = 0;
};

TEST(QuietGateway, OC_QUOTA_1005_concurrent_jobs_that_it_does_not_have_are_the_other_s) {
  TwoGateways pair{{.concurrent_jobs = 16}};
  pair.serve_one(1);
  pair.run(Duration::seconds(1));
  std::int64_t live = 0;
  for (int round = 0; round < 10; ++round, pair.run(ms(200))) live += pair.let_in(0);
  EXPECT_GE(live, 15) << "a half of the last one is none";
  EXPECT_LE(live, 16);
}

TEST(QuietGateway, OC_QUOTA_1005_a_rate_that_it_does_not_use_is_the_other_s) {
  TwoGateways pair{{.requests_per_second = 20}};
  pair.serve_one(1);
  pair.run(Duration::seconds(1));
  std::int64_t taken = 0;
  for (int round = 0; round < 1000; ++round, pair.tick()) taken += pair.let_in(0);
  EXPECT_GE(taken, 200);  // in ten seconds; its own half alone is 110
  EXPECT_LE(taken, 220);
}

TEST(QuietGateway, OC_QUOTA_1005_a_tenant_that_it_never_had_is_no_exception) {
  TwoGateways pair{{.concurrent_jobs = 16, .requests_per_second = 20}};
  std::int64_t live = 0;
  for (int round = 0; round < 10; ++round, pair.run(ms(200))) live += pair.let_in(0);
  EXPECT_GE(live, 15);
  EXPECT_LE(live, 16);
}

// OC-FAIR-F6: the age of the others' counters is that of the last word, also when there was nothing to say.
TEST(QuietGateway, OC_FAIR_F4_each_report_is_answered_at_most_once) {
  TwoGateways pair{{.concurrent_jobs = 1000}};
  const std::size_t before = pair.words[0];
  for (int round = 0; round < 100; ++round, pair.tick()) pair.let_in(0);
  ASSERT_TRUE(pair.gateways[0].core.others_heard_at());
  const std::size_t words = pair.words[0] - before;
  EXPECT_GE(words, 9u);
  EXPECT_LE(words, 10u) << "in a second, of its own reports";
}

}  // namespace
}  // namespace orch::gateway
