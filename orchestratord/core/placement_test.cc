// Placement: filters, the order among the feasible, wishes, session affinity, the explanation, determinism.
#include <gtest/gtest.h>

#include <set>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/placement.h"

namespace orch::gateway {
namespace {

using namespace testing;

// Replicas with one lease each, and the question.
struct Site {
  Fleet fleet{Limits{}};
  LeaseTable leases{Limits{}, Mutation::none};
  ReplicaSpeeds speeds;
  PlacementIndex index;
  Instant now{1'000'000'000};
  Lane lane{"m", {}, false, false};
  std::string session;
  std::uint64_t tokens_bound = 50;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t expected_tokens = 0;
  std::array<Duration, 4> service{};
  std::vector<WarmStart> warm;
  std::uint32_t candidates_max = 16;
  std::uint64_t count = 0;

  LeaseKey add(ReplicaView view, std::uint32_t slots, std::uint32_t in_use) {
    std::uint64_t previous = 0;
    const std::uint64_t n = ++count;
    ManagerUp up{LinkId{n}, ManagerId{{0xD0, n}}, 1, {view}};
    EXPECT_TRUE(fleet.attach(up, &previous));
    LeaseGranted grant{LinkId{n}, {1, n}, view.replica_id, view.inc, slots, {}, 1, ms(15000)};
    const LeaseKey key{up.manager, {1, n}};
    EXPECT_TRUE(leases.apply(key, grant, "unix:/" + view.replica_id, now, now));
    for (std::uint32_t i = 0; i < in_use; ++i) leases.take_slot(key);
    return key;
  }
  LeaseKey add(const std::string& id, std::uint32_t slots, std::uint32_t in_use) {
    return add(ready_replica(id), slots, in_use);
  }
  PlacementDecision decision() {
    return decide({.lane = lane,
                   .entries = index.of(lane.model, fleet, leases, speeds),
                   .tokens_bound = tokens_bound,
                   .session = session,
                   .prompt_tokens = prompt_tokens,
                   .expected_tokens = expected_tokens,
                   .service = service,
                   .warm = warm,
                   .now = now,
                   .candidates_max = candidates_max});
  }
  std::string chosen() {
    const PlacementDecision made = decision();
    return made.lease ? leases.find(*made.lease)->replica.replica_id : "none";
  }
  Verdict verdict_of(const std::string& id) {
    for (const PlacementCandidate& each : decision().candidates) {
      if (each.replica_id == id) return each.verdict;
    }
    ADD_FAILURE() << id << " is not named";
    return Verdict::chosen;
  }
};

TEST(Placement, OC_CORE_1012_least_loaded_wins_and_the_explanation_names_all) {
  Site site;
  site.add("a", 2, 2);
  site.add("b", 4, 2);
  site.add("c", 4, 1);
  const PlacementDecision decision = site.decision();
  ASSERT_TRUE(decision.lease);
  EXPECT_EQ(decision.considered, 3u);
  EXPECT_EQ(decision.feasible, 2u);
  EXPECT_EQ(decision.decided_by, DecidedBy::load);
  ASSERT_EQ(decision.candidates.size(), 3u);
  EXPECT_EQ(decision.candidates[0].verdict, Verdict::no_free_slot);
  EXPECT_EQ(decision.candidates[1].verdict, Verdict::feasible);
  EXPECT_EQ(decision.candidates[2].verdict, Verdict::chosen);
  EXPECT_EQ(decision.candidates[2].free_slots, 3u);
}

TEST(Placement, OC_CORE_1016_the_explanation_is_bounded_and_still_names_the_winner) {
  Site site;
  site.candidates_max = 2;
  for (int i = 0; i < 5; ++i) site.add("r" + std::to_string(i), 1, 1);
  site.add("winner", 1, 0);
  const PlacementDecision decision = site.decision();
  ASSERT_EQ(decision.candidates.size(), 2u);
  EXPECT_EQ(decision.candidates[1].replica_id, "winner");
  EXPECT_EQ(decision.considered, 6u);
}

TEST(Placement, OC_CORE_1014_every_filter_is_named) {
  Site site;
  ReplicaView view = ready_replica("draining");
  view.state = ReplicaState::draining;
  site.add(view, 1, 0);
  view = ready_replica("small");
  view.ctx_max = 49;
  site.add(view, 1, 0);
  site.add("full", 1, 1);
  site.leases.suspect(site.add("suspect", 1, 0), site.now);
  site.leases.close(site.add("closed", 1, 0));
  view = ready_replica("other-version");
  view.model_digest = "sha256:old";
  site.add(view, 1, 0);
  site.lane.digest = "sha256:abc";
  EXPECT_EQ(site.chosen(), "none");
  EXPECT_EQ(site.verdict_of("draining"), Verdict::not_ready);
  EXPECT_EQ(site.verdict_of("small"), Verdict::context_too_small);
  EXPECT_EQ(site.verdict_of("full"), Verdict::no_free_slot);
  EXPECT_EQ(site.verdict_of("suspect"), Verdict::paused);
  EXPECT_EQ(site.verdict_of("closed"), Verdict::no_live_lease);
  EXPECT_EQ(site.verdict_of("other-version"), Verdict::unsuitable);
  site.now = site.now + Duration::seconds(60);  // no renewal: no heartbeat of its manager
  EXPECT_EQ(site.verdict_of("full"), Verdict::no_live_lease);
}

TEST(Placement, L6_a_lease_of_an_earlier_life_is_none) {
  Site site;
  const LeaseKey key = site.add("r", 1, 0);
  EXPECT_EQ(site.chosen(), "r");
  ReplicaView next = ready_replica("r");
  next.inc = {1, 2};
  EXPECT_TRUE(site.fleet.update(key.manager, next));
  EXPECT_EQ(site.chosen(), "none");
  EXPECT_EQ(site.verdict_of("r"), Verdict::other_incarnation);
}

TEST(Placement, M6_a_replica_that_is_kept_for_a_job_is_its_alone) {
  Site site;
  const LeaseKey kept = site.add("kept", 2, 0);
  site.add("other", 4, 3);
  const std::set<ReplicaKey> reserved{site.leases.find(kept)->replica};
  const auto chosen = [&](const ReplicaKey* only) {
    const auto made = decide({.lane = site.lane,
                              .entries = site.index.of("m", site.fleet, site.leases, site.speeds),
                              .session = site.session,
                              .now = site.now,
                              .reserved = &reserved,
                              .only = only});
    return made.lease ? site.leases.find(*made.lease)->replica.replica_id : "none";
  };
  EXPECT_EQ(chosen(nullptr), "other");
  EXPECT_EQ(chosen(&*reserved.begin()), "kept");
  site.leases.take_slot(kept);
  site.leases.take_slot(kept);
  EXPECT_EQ(chosen(&*reserved.begin()), "none") << "nowhere else";
}

TEST(Placement, ORCH3091_the_earliest_predicted_end_comes_before_the_load) {
  Site site;
  site.service = {ms(1000), ms(1200), ms(1500), ms(2000)};
  site.add("slow", 4, 0);
  const LeaseKey fast = site.add("fast", 4, 1);
  for (int i = 0; i < 100; ++i) site.speeds.observe(site.leases.find(fast)->replica, 0.25);
  EXPECT_EQ(site.chosen(), "fast");
  EXPECT_EQ(site.decision().decided_by, DecidedBy::predicted_end);
  site.service = {};  // nothing measured
  EXPECT_EQ(site.chosen(), "slow");
}

TEST(Placement, ORCH3091_ends_within_a_tenth_are_equal) {
  Site site;
  site.service = {ms(1000), ms(1001), ms(1002), ms(1003)};
  site.add("empty", 4, 0);
  site.add("fuller", 4, 2);
  EXPECT_EQ(site.decision().decided_by, DecidedBy::load);
  EXPECT_EQ(site.chosen(), "empty");
}

TEST(Placement, OC_CORE_1012_the_order_is_total_and_ends_with_names) {
  Site site;
  site.add("b", 4, 0);
  site.add("a", 4, 0);
  EXPECT_EQ(site.chosen(), "a");
  EXPECT_EQ(site.decision().decided_by, DecidedBy::name);
  ReplicaView roomy = ready_replica("z");
  roomy.ctx_max = 2000;
  site.add(roomy, 4, 0);
  EXPECT_EQ(site.chosen(), "z");
  EXPECT_EQ(site.decision().decided_by, DecidedBy::context);
}

// --- KV memory (OC-CORE-1017) ---

ReplicaView with_memory(const std::string& id, std::uint64_t pages_total, std::uint64_t pages_used) {
  ReplicaView view = ready_replica(id);
  view.kv = {.page_tokens = 10, .pages_total = pages_total, .pages_used = pages_used};
  return view;
}

TEST(Placement, OC_CORE_1017_memory_that_can_never_hold_the_job_is_told_from_memory_that_is_full) {
  Site site;
  site.prompt_tokens = 30;
  site.expected_tokens = 50;
  site.tokens_bound = 60;
  site.add(with_memory("tiny", 5, 0), 4, 0);    // 50 tokens ever
  site.add(with_memory("full", 20, 17), 4, 0);  // three pages: the prompt, and nothing for its first token
  EXPECT_EQ(site.chosen(), "none");
  EXPECT_EQ(site.verdict_of("tiny"), Verdict::memory_too_small);
  EXPECT_EQ(site.verdict_of("full"), Verdict::no_free_memory);
  EXPECT_EQ(site.decision().candidates[1].free_kv_tokens, 30u);
  ASSERT_TRUE(site.decision().lacks_memory);
  EXPECT_EQ(site.leases.find(*site.decision().lacks_memory)->replica.replica_id, "full");
  site.add(with_memory("just", 20, 16), 4, 3);
  EXPECT_EQ(site.chosen(), "just");
  site.add("silent", 4, 0);  // an engine that tells nothing is judged by nothing
  EXPECT_EQ(site.chosen(), "silent");
}

TEST(Placement, OC_CORE_1017_who_has_room_for_the_whole_job_comes_first_however_loaded) {
  Site site;
  site.prompt_tokens = 30;
  site.expected_tokens = 50;
  site.service = {ms(1000), ms(1200), ms(1500), ms(2000)};
  site.add(with_memory("short", 20, 16), 4, 0);  // four pages of the five
  site.add(with_memory("roomy", 20, 15), 4, 3);
  EXPECT_EQ(site.chosen(), "roomy");
  EXPECT_EQ(site.decision().decided_by, DecidedBy::memory);
  site.lane.wish.prefer = {"short"};  // what the client asks for comes before
  EXPECT_EQ(site.chosen(), "short");
}

TEST(Placement, OC_CORE_1017_what_was_sent_since_the_last_word_counts_and_is_counted_once) {
  Site site;
  site.prompt_tokens = 30;
  site.expected_tokens = 50;
  const LeaseKey key = site.add(with_memory("a", 10, 0), 4, 0);
  site.leases.take_slot(key, 5);
  EXPECT_EQ(site.chosen(), "a");
  site.leases.take_slot(key, 5);
  EXPECT_EQ(site.verdict_of("a"), Verdict::no_free_memory);
  const ReplicaKey replica = site.leases.find(key)->replica;
  site.leases.admitted(key, 5, site.fleet.find(replica)->kv_version);
  EXPECT_EQ(site.verdict_of("a"), Verdict::no_free_memory) << "admitted, and no word since";
  ASSERT_TRUE(site.fleet.loaded(key.manager, {LinkId{1}, "a", {1, 1}, 4}));
  EXPECT_EQ(site.decision().candidates[0].free_kv_tokens, 10u) << "four used, five on their way";
  EXPECT_FALSE(site.fleet.loaded(key.manager, {LinkId{1}, "a", {1, 2}, 0})) << "of another life";
  site.leases.return_slot(key, 5);
  EXPECT_EQ(site.decision().candidates[0].free_kv_tokens, 60u);
  const std::uint64_t admitted_at = site.fleet.find(replica)->kv_version;
  site.leases.take_slot(key, 3);
  site.leases.admitted(key, 3, admitted_at);
  EXPECT_EQ(site.decision().candidates[0].free_kv_tokens, 30u);
  site.leases.return_slot(key, 3, admitted_at);
  EXPECT_EQ(site.decision().candidates[0].free_kv_tokens, 60u);
}

// --- beginnings of prompts (OC-CORE-1018); what the gateway knows of them: orchestrator_prefixes_test ---

TEST(Placement, OC_CORE_1018_what_is_computed_already_shortens_the_predicted_end) {
  Site site;
  site.service = {ms(1000), ms(1100), ms(1200), ms(1300)};
  const LeaseKey warm = site.add("warm", 4, 1);
  site.add("idle", 4, 0);
  site.add("idle-too", 4, 0);
  EXPECT_EQ(site.chosen(), "idle");
  site.warm = {{site.leases.find(warm)->replica, 500, {ms(600), ms(700), ms(800), ms(900)}}};
  EXPECT_EQ(site.chosen(), "warm") << "two of its four slots are no crowd, though the others are idle";
  EXPECT_EQ(site.decision().decided_by, DecidedBy::predicted_end);
  EXPECT_EQ(site.decision().cached_tokens, 500u);
  EXPECT_EQ(site.decision().candidates[0].predicted, ms(700));
  site.leases.take_slot(warm);
  EXPECT_EQ(site.chosen(), "idle") << "three are";
  EXPECT_EQ(site.decision().cached_tokens, 0u);
}

TEST(Placement, OC_CORE_1018_a_little_less_to_compute_only_breaks_ties) {
  Site site;
  site.service = {ms(1000), ms(1500), ms(2000), ms(2500)};
  const LeaseKey warm = site.add("warm", 4, 1);
  site.add("idle", 4, 0);
  site.warm = {{site.leases.find(warm)->replica, 10, {ms(990), ms(1490), ms(1990), ms(2490)}}};
  EXPECT_EQ(site.chosen(), "idle");
  site.service = {};  // nothing measured
  site.warm[0].service = {};
  EXPECT_EQ(site.chosen(), "warm");
  EXPECT_EQ(site.decision().decided_by, DecidedBy::warm);
}

// --- wishes (OC-CORE-1015, OC-CORE-1011) ---

TEST(Placement, OC_CORE_1015_a_pin_never_falls_back) {
  Site site;
  ReplicaView view = ready_replica("busy");
  view.pool_id = "gold";
  site.add(view, 1, 1);
  site.add("free", 4, 0);
  site.lane.wish.pin = "gold";
  EXPECT_EQ(site.chosen(), "none");
  EXPECT_EQ(site.verdict_of("free"), Verdict::unsuitable);
  site.lane.wish.pin = "free";  // a replica's id pins too
  EXPECT_EQ(site.chosen(), "free");
}

TEST(Placement, OC_CORE_1015_the_preferred_come_first_and_alone_without_fallback) {
  Site site;
  const LeaseKey wanted = site.add("wanted", 4, 3);
  site.add("idle", 4, 0);
  site.lane.wish.prefer = {"wanted"};
  EXPECT_EQ(site.chosen(), "wanted");
  EXPECT_EQ(site.decision().decided_by, DecidedBy::preference);
  EXPECT_FALSE(site.decision().fallback);
  site.leases.take_slot(wanted);
  EXPECT_EQ(site.chosen(), "idle");
  EXPECT_TRUE(site.decision().fallback);
  site.lane.wish.allow_fallback = false;
  EXPECT_EQ(site.chosen(), "none");
}

TEST(Placement, OC_CORE_1015_what_is_avoided_is_never_used) {
  Site site;
  site.add("bad", 4, 0);
  site.add("good", 4, 3);
  site.lane.wish.avoid = {"bad"};
  EXPECT_EQ(site.chosen(), "good");
  site.lane.wish.avoid = {"bad", "good"};
  EXPECT_EQ(site.chosen(), "none");
}

TEST(Placement, OC_CORE_1011_the_device_mask_is_honoured) {
  Site site;
  ReplicaView gpu = ready_replica("gpu");
  gpu.device_name = "H200";
  site.add("cpu", 4, 0);
  site.add(gpu, 4, 3);
  site.lane.wish.devices = {"A100", "H200"};
  EXPECT_EQ(site.chosen(), "gpu");
  site.lane.wish.devices = {"A100"};
  EXPECT_EQ(site.chosen(), "none");
}

// --- sessions (OC-CORE-1013) ---

TEST(Placement, ORCH3009_a_session_stays_where_it_is_and_few_move_when_a_replica_comes) {
  std::set<std::string> used;
  int moved = 0;
  constexpr int kSessions = 1000;
  for (int i = 0; i < kSessions; ++i) {
    Site site;
    for (const char* id : {"a", "b", "c", "d", "e", "f", "g", "h"}) site.add(id, 4, 0);
    site.session = "session-" + std::to_string(i);
    const std::string home = site.chosen();
    used.insert(home);
    EXPECT_EQ(site.decision().decided_by, DecidedBy::session);
    site.add("i", 4, 0);
    if (site.chosen() != home) {
      ++moved;
      EXPECT_EQ(site.chosen(), "i");
    }
  }
  EXPECT_EQ(used.size(), 8u);
  EXPECT_NEAR(moved, kSessions / 9, 35);
}

TEST(Placement, OC_CORE_1013_sessions_make_no_hot_spot) {
  Site site;
  std::map<std::string, LeaseKey> keys;
  for (const char* id : {"a", "b", "c", "d"}) keys[id] = site.add(id, 100, 0);
  for (int i = 0; i < 200; ++i) {
    site.session = "the same";
    site.leases.take_slot(keys.at(site.chosen()));
  }
  for (const auto& [id, key] : keys) EXPECT_LE(site.leases.find(key)->in_use, 64u) << id;  // 1.25 * 201 / 4, rounded up
}

// --- determinism and growth ---

TEST(Placement, OC_CORE_1007_the_same_input_gives_the_same_answer_whatever_came_before) {
  Site one;
  Site two;
  two.add("gone", 1, 0);
  two.fleet.detach(LinkId{1}, two.now);
  two.fleet.forget_old(two.now + Duration::seconds(601));
  for (const char* id : {"c", "a", "b"}) one.add(id, 4, 1);
  for (const char* id : {"a", "b", "c"}) two.add(id, 4, 1);
  for (int i = 0; i < 50; ++i) {
    one.session = two.session = "s" + std::to_string(i);
    EXPECT_EQ(one.chosen(), two.chosen());
  }
}

TEST(Placement, the_index_follows_leases_and_fleet) {
  Site site;
  const LeaseKey key = site.add("a", 1, 0);
  EXPECT_EQ(site.chosen(), "a");
  site.leases.remove(key);
  EXPECT_EQ(site.chosen(), "none");
  site.add("b", 1, 0);
  EXPECT_EQ(site.chosen(), "b");
  ReplicaView renamed = ready_replica("b", "other");
  EXPECT_TRUE(site.fleet.update(ManagerId{{0xD0, 2}}, renamed));
  EXPECT_EQ(site.chosen(), "none");
}

}  // namespace
}  // namespace orch::gateway
