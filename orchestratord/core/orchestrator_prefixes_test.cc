// Jobs go where the beginning of their prompt was computed before: rules, and what it is worth on a fleet.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <list>
#include <map>

#include "common/base/prng.h"
#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

constexpr std::uint32_t kBytesPerToken = 4;
constexpr std::uint32_t kPageTokens = 32;

ReplicaView sharing(const std::string& id, std::uint32_t slots, std::uint64_t pages) {
  ReplicaView view = ready_replica(id);
  view.slots = slots;
  view.ctx_max = 4096;
  view.token_bytes_expansion = 0.3F;
  view.prefix_cache = true;
  view.kv = {.page_tokens = kPageTokens, .pages_total = pages, .pages_used = 0};
  return view;
}

JobSpec prompted(std::uint64_t n, std::string text, const std::string& tenant = "default") {
  JobSpec spec = spec_of(n);
  spec.tenant = tenant;
  spec.max_tokens = 32;
  spec.prompt_messages = 0;
  spec.prompt_bytes = text.size();
  auto payload = std::make_shared<JobPayload>();
  payload->prompt.text = std::move(text);
  spec.payload = std::move(payload);
  return spec;
}

std::string text_of(std::uint64_t seed, std::size_t bytes) {
  Prng prng(seed);
  std::string out;
  while (out.size() < bytes) out.push_back(static_cast<char>('a' + prng.below(26)));
  return out;
}

DispatchFinished finished_with(const Dispatch& dispatch, std::uint32_t prompt_tokens) {
  DispatchFinished finished;
  finished.dispatch = dispatch.dispatch;
  finished.fence = dispatch.fence;
  finished.prompt_tokens = prompt_tokens;
  finished.completion_tokens = 32;
  return finished;
}

// Two replicas with four slots each.
struct Pair : Bench {
  Pair() {
    manager_up({sharing("r1", 4, 1000), sharing("r2", 4, 1000)});
    grant(4, {1, 1}, "r1");
    grant(4, {1, 2}, "r2");
  }
  // Submits, starts with `cached` tokens found, and ends it; where it went.
  std::string serve(std::uint64_t n, const std::string& text, std::uint32_t cached, const std::string& tenant = "a") {
    submit(prompted(n, text, tenant));
    const Dispatch dispatch = dispatches.back();
    EXPECT_EQ(dispatch.dispatch.job, job_id(n));
    const auto tokens = static_cast<std::uint32_t>(text.size() / kBytesPerToken);
    warm = all_of<NotedWarmStart>(step(DispatchStarted{dispatch.dispatch, dispatch.fence, tokens, cached}));
    step(finished_with(dispatch, tokens));
    return core.decisions().find(job_id(n))->placements.back().replica_id;
  }
  std::vector<NotedWarmStart> warm;
};

TEST(WarmPlacement, OC_CORE_1018_a_prompt_goes_where_its_beginning_was_computed) {
  Pair pair;
  const std::string system = text_of(1, 4096);
  EXPECT_EQ(pair.serve(1, system + "one", 0), "r1");
  pair.submit(prompted(2, text_of(2, 4096)));  // stays, on the first by name
  EXPECT_EQ(pair.dispatches.back().endpoint, "unix:/r1");
  EXPECT_EQ(pair.serve(3, text_of(3, 4096), 0), "r2") << "the emptier one";
  EXPECT_EQ(pair.serve(4, system + "two", 1024), "r1") << "half of its slots are no crowd";
  ASSERT_EQ(pair.warm.size(), 1u);
  EXPECT_TRUE(pair.warm[0].found);
  const DecisionRecord* record = pair.core.decisions().find(job_id(4));
  EXPECT_EQ(record->placements[0].decision.decided_by, DecidedBy::warm);
  EXPECT_EQ(record->placements[0].decision.candidates[0].cached_tokens, 1024u);
}

// Serves one turn of session `s`: where it went, and what the reader and the explanation say of its warmth.
std::string turn(Bench& bench, std::uint64_t n, const std::string& text, const std::string& session = "s") {
  JobSpec spec = prompted(n, text, "a");
  spec.session = session;
  spec.attachment = Attachment::attached;
  std::optional<bool> told;
  for (const Deliver& deliver : all_of<Deliver>(bench.submit(spec, ReaderId{n}))) {
    if (const auto* metrics = std::get_if<MetricsEvent>(&deliver.event->body)) told = metrics->kv_warmth;
  }
  const Dispatch dispatch = bench.dispatches.back();
  EXPECT_EQ(dispatch.dispatch.job, job_id(n));
  const PlacementRecord placement = bench.core.decisions().find(job_id(n))->placements.back();
  EXPECT_EQ(placement.kv_warmth, told);
  const auto tokens = static_cast<std::uint32_t>(text.size() / kBytesPerToken);
  bench.step(DispatchStarted{dispatch.dispatch, dispatch.fence, tokens, told.value_or(false) ? tokens / 2 : 0});
  bench.step(finished_with(dispatch, tokens));
  return placement.replica_id + (!told ? " unknown" : *told ? " warm" : " cold");
}

TEST(WarmPlacement, ORCH_3009_a_session_is_told_whether_its_replica_knows_the_prompt) {
  Pair pair;
  std::string text = text_of(1, 2048);
  const std::string first = turn(pair, 1, text);
  const std::string home = first.substr(0, 2);
  const std::string other = home == "r1" ? "r2" : "r1";
  EXPECT_EQ(first, home + " cold");
  EXPECT_EQ(turn(pair, 2, text += text_of(2, 1024)), home + " warm");
  ReplicaView lost = sharing(home, 4, 1000);
  lost.state = ReplicaState::backoff;
  pair.step(ReplicaChanged{kLink, lost});
  EXPECT_EQ(turn(pair, 3, text += text_of(3, 1024)), other + " cold") << "the failover";
  EXPECT_EQ(turn(pair, 4, text += text_of(4, 1024)), other + " warm");
  EXPECT_EQ(turn(pair, 5, text, ""), other + " unknown") << "no session";
}

TEST(WarmPlacement, ORCH_3009_a_session_of_a_model_with_one_replica_is_told_too) {
  for (const bool shares : {true, false}) {
    Bench bench;
    ReplicaView view = sharing("r1", 4, 1000);
    view.prefix_cache = shares;
    bench.manager_up({view});
    bench.grant(4);
    const std::string text = text_of(1, 2048);
    EXPECT_EQ(turn(bench, 1, text), shares ? "r1 cold" : "r1 unknown");
    EXPECT_EQ(turn(bench, 2, text + text_of(2, 100)), shares ? "r1 warm" : "r1 unknown");
  }
}

TEST(WarmPlacement, OC_CORE_1018_another_tenant_learns_nothing_from_it) {
  Pair pair;
  const std::string system = text_of(1, 4096);
  EXPECT_EQ(pair.serve(1, system, 0, "a"), "r1");
  pair.submit(prompted(2, text_of(2, 4096)));
  EXPECT_EQ(pair.serve(3, system, 0, "b"), "r2");
  EXPECT_TRUE(pair.warm.empty());
}

TEST(WarmPlacement, OC_CORE_1018_a_crowded_replica_gets_nothing_off) {
  Pair pair;
  const std::string system = text_of(1, 4096);
  EXPECT_EQ(pair.serve(1, system, 0), "r1");
  const auto stays = [&](std::uint64_t n) {
    pair.submit(prompted(n, system, "a"));
    return pair.dispatches.back().endpoint;
  };
  EXPECT_EQ(stays(2), "unix:/r1");
  EXPECT_EQ(stays(3), "unix:/r1");
  EXPECT_EQ(stays(4), "unix:/r2") << "three of four would be more than half, and more than the mean and a quarter";
}

TEST(WarmPlacement, OC_CORE_1018_a_miss_is_told_and_believed) {
  Pair pair;
  const std::string system = text_of(1, 4096);
  const std::string other = text_of(2, 4096);
  pair.serve(1, other, 0);
  pair.serve(2, system, 0);
  EXPECT_EQ(pair.core.prefixes().size(), 16u);
  pair.serve(3, system, 100);  // much less than it had
  ASSERT_EQ(pair.warm.size(), 1u);
  EXPECT_FALSE(pair.warm[0].found);
  EXPECT_EQ(pair.core.prefixes().size(), 8u)
      << "what is older than the missing chunk is gone too, what was computed now is there";
}

TEST(WarmPlacement, OC_CORE_1018_a_new_life_is_cold_and_engines_that_share_nothing_are_left_out) {
  Pair pair;
  const std::string system = text_of(1, 4096);
  pair.serve(1, system, 0);
  ReplicaView next = sharing("r1", 4, 1000);
  next.inc = {1, 2};
  pair.step(ReplicaChanged{kLink, next});
  EXPECT_EQ(pair.core.prefixes().size(), 0u);
  next.prefix_cache = false;
  next.inc = {1, 3};
  pair.step(ReplicaChanged{kLink, next});
  pair.grant(4, {1, 3}, "r1", {1, 3});
  EXPECT_EQ(pair.serve(2, system, 0), "r1");
  EXPECT_EQ(pair.core.prefixes().size(), 0u);
}

TEST(WarmPlacement, OC_CORE_1018_of_one_replica_nothing_is_asked) {
  Bench bench;
  bench.manager_up({sharing("r1", 4, 1000)});
  bench.grant(4);
  bench.submit(prompted(1, text_of(1, 4096)));
  const Dispatch dispatch = bench.dispatches.back();
  bench.step(DispatchStarted{dispatch.dispatch, dispatch.fence, 1024, 0});
  EXPECT_EQ(bench.core.prefixes().size(), 0u);
}

// --- a fleet ---

// A worker's cache: pages by the hash of everything up to their end, least recently used out.
class PageCache {
 public:
  explicit PageCache(std::size_t pages) : pages_max_(pages) {}
  std::uint32_t found(const std::string& text) const {
    std::uint32_t pages = 0;
    for (const std::uint64_t name : names(text)) {
      if ((pages + 1) * kPageBytes >= text.size() || !places_.contains(name)) break;
      ++pages;
    }
    return pages * kPageTokens;
  }
  void use(const std::string& text) {
    std::vector<std::uint64_t> all = names(text);
    std::reverse(all.begin(), all.end());
    for (const std::uint64_t name : all) {
      const auto place = places_.find(name);
      if (place != places_.end()) order_.erase(place->second);
      order_.push_back(name);
      places_[name] = std::prev(order_.end());
    }
    for (; order_.size() > pages_max_; order_.pop_front()) places_.erase(order_.front());
  }

 private:
  static constexpr std::size_t kPageBytes = std::size_t{kPageTokens} * kBytesPerToken;
  static std::vector<std::uint64_t> names(const std::string& text) {
    std::vector<std::uint64_t> out;
    std::uint64_t hash = 0xCBF29CE484222325ull;
    for (std::size_t i = 0; i < text.size(); ++i) {
      hash = (hash ^ static_cast<unsigned char>(text[i])) * 0x100000001B3ull;
      if ((i + 1) % kPageBytes == 0) out.push_back(hash);
    }
    return out;
  }
  std::size_t pages_max_;
  std::list<std::uint64_t> order_;
  std::map<std::uint64_t, std::list<std::uint64_t>::iterator> places_;
};

struct Traffic {
  std::uint64_t seed = 1;
  bool warm = true;
  double jobs_per_second = 10;
  double favourite = 0;  // share of the jobs that have the first system prompt
};

struct FleetResult {
  double hit_rate = 0;  // cached of all prompt tokens
  double first_token_ms = 0;
  double fullest = 0;  // jobs of the busiest replica over the mean
};

// Four replicas of four slots, each with memory for 8,192 tokens. A replica computes prompts one after another, a
// quarter of a millisecond a token, and 32 tokens of each answer at 10 ms. Twenty system prompts of 1,000 tokens, short
// questions.
class SharedPrompts {
 public:
  explicit SharedPrompts(const Traffic& traffic) : traffic_(traffic), prng_(traffic.seed), bench_(config(traffic)) {
    std::vector<ReplicaView> views;
    views.reserve(kReplicas);
    for (int r = 0; r < kReplicas; ++r) views.push_back(sharing("r" + std::to_string(r), 4, kPages));
    bench_.manager_up(views);
    grant();
    systems_.reserve(20);
    for (std::uint64_t i = 0; i < 20; ++i) systems_.push_back(text_of(1000 + i, 4000));
  }

  FleetResult run(int jobs) {
    for (int n = 1; n <= jobs; ++n) {
      at_ = at_ + Duration{static_cast<std::int64_t>(-std::log(1 - prng_.unit()) / traffic_.jobs_per_second * 1e9)};
      agenda_.emplace(at_, [this, n] { arrive(static_cast<std::uint64_t>(n)); });
    }
    for (Instant t = bench_.now; t < at_; t = t + Duration::seconds(3)) agenda_.emplace(t, [this] { grant(); });
    while (!agenda_.empty()) {
      const auto next = agenda_.begin();
      if (bench_.core.next_wakeup() < next->first) {
        bench_.now = std::max(bench_.now, bench_.core.next_wakeup());
        bench_.step(Tick{});
        take_dispatches();
        continue;
      }
      bench_.now = std::max(bench_.now, next->first);
      const auto act = next->second;
      agenda_.erase(next);
      act();
      take_dispatches();
    }
    const auto busiest = std::max_element(served_.begin(), served_.end());
    return {static_cast<double>(cached_) / static_cast<double>(prompt_), waited_ms_ / jobs,
            static_cast<double>(*busiest) * kReplicas / jobs};
  }

 private:
  static constexpr int kReplicas = 4;
  static constexpr std::uint64_t kPages = 256;
  static Config config(const Traffic& traffic) {
    Config out;
    out.limits.warm_placement = traffic.warm;
    return out;
  }
  void grant() {
    for (int r = 0; r < kReplicas; ++r)
      bench_.grant(4, {1, static_cast<std::uint64_t>(r) + 1}, "r" + std::to_string(r));
  }
  void arrive(std::uint64_t n) {
    const std::size_t system = prng_.unit() < traffic_.favourite ? 0 : prng_.below(systems_.size());
    texts_[job_id(n)] = systems_[system] + text_of(5'000'000 + n, 200);
    arrived_[job_id(n)] = bench_.now;
    bench_.submit(prompted(n, texts_[job_id(n)]));
  }
  void take_dispatches() {
    for (; taken_ < bench_.dispatches.size(); ++taken_) {
      const Dispatch dispatch = bench_.dispatches[taken_];
      const auto r = static_cast<std::size_t>(dispatch.fence.lease.counter - 1);
      agenda_.emplace(bench_.now + ms(1), [this, dispatch, r] { begin(dispatch, r); });
    }
  }
  void begin(const Dispatch& dispatch, std::size_t r) {
    const std::string& text = texts_.at(dispatch.dispatch.job);
    const auto tokens = static_cast<std::uint32_t>(text.size() / kBytesPerToken);
    const std::uint32_t found = caches_[r].found(text);
    cached_ += found;
    prompt_ += tokens;
    ++served_[r];
    computes_until_[r] = std::max(computes_until_[r], bench_.now) + Duration::microseconds(250) * (tokens - found);
    agenda_.emplace(computes_until_[r], [this, dispatch, r, &text] {
      caches_[r].use(text);
      waited_ms_ += static_cast<double>((bench_.now - arrived_.at(dispatch.dispatch.job)).ns) / 1e6;
      bench_.token(dispatch, 0, "a");
    });
    agenda_.emplace(computes_until_[r] + ms(310),
                    [this, dispatch, tokens] { bench_.step(finished_with(dispatch, tokens)); });
    bench_.step(DispatchStarted{dispatch.dispatch, dispatch.fence, tokens, found});
  }

  Traffic traffic_;
  Prng prng_;
  LongBench bench_;
  Instant at_{1'000'000'000};
  std::multimap<Instant, std::function<void()>> agenda_;
  std::vector<std::string> systems_;
  std::map<JobId, std::string> texts_;
  std::map<JobId, Instant> arrived_;
  std::vector<PageCache> caches_ = std::vector<PageCache>(kReplicas, PageCache(kPages));
  std::array<Instant, kReplicas> computes_until_{};
  std::array<int, kReplicas> served_{};
  std::size_t taken_ = 0;
  std::uint64_t cached_ = 0;
  std::uint64_t prompt_ = 0;
  double waited_ms_ = 0;
};

// Into the test's report.
void record(const std::string& what, const FleetResult& out) {
  ::testing::Test::RecordProperty(what + "_found_percent", static_cast<int>(std::lround(100 * out.hit_rate)));
  ::testing::Test::RecordProperty(what + "_first_token_ms", static_cast<int>(std::lround(out.first_token_ms)));
  ::testing::Test::RecordProperty(what + "_busiest_percent_of_mean", static_cast<int>(std::lround(100 * out.fullest)));
}

TEST(WarmPlacement, OC_CORE_1018_twenty_shared_prompts_on_four_replicas) {
  const FleetResult blind = SharedPrompts({.warm = false}).run(1000);
  const FleetResult warm = SharedPrompts({.warm = true}).run(1000);
  record("blind", blind);
  record("warm", warm);
  EXPECT_GT(warm.hit_rate, 0.65);
  EXPECT_GT(warm.hit_rate, 1.5 * blind.hit_rate);
  EXPECT_LT(warm.first_token_ms, 0.5 * blind.first_token_ms);
  EXPECT_LT(warm.fullest, 1.5);
}

TEST(WarmPlacement, OC_CORE_1018_one_prompt_that_all_have_makes_no_hot_spot) {
  const FleetResult out = SharedPrompts({.favourite = 0.8}).run(1000);
  record("favourite", out);
  EXPECT_LT(out.fullest, 1.6);
  EXPECT_GT(out.hit_rate, 0.8);
}

}  // namespace
}  // namespace orch::gateway
