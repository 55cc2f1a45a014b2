// The life cycle of models as requests and pools feel it.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

const std::string kOld = "sha256:abc";  // of ready_replica()
const std::string kNew = "sha256:new";

std::optional<Failure> move_model(Bench& bench, const std::string& digest, ModelState state,
                                  std::uint32_t percent = 0) {
  const auto changed =
      all_of<ModelsChanged>(bench.step(SetModelState{RequestId{900}, {"m", digest}, {state, percent}}));
  EXPECT_EQ(changed.size(), 1u);
  return changed.at(0).failure;
}

JobSpec of_session(std::uint64_t n, const std::string& session) {
  JobSpec spec = spec_of(n);
  spec.session = session;
  return spec;
}

ReplicaView newer(const std::string& id = "r2") {
  ReplicaView view = ready_replica(id);
  view.pool_id = "p2";
  view.model_digest = kNew;
  return view;
}

TEST(Models, ORCH3070_a_deprecated_model_takes_no_new_session_and_keeps_those_it_has) {
  Bench bench;
  bench.ready(4);
  EXPECT_FALSE(refusal(bench.submit(of_session(1, "old"))));
  ASSERT_FALSE(move_model(bench, kOld, ModelState::deprecated));
  const Failure failure = refused(bench, of_session(2, "fresh"));
  EXPECT_EQ(failure.outcome, Outcome::MODEL_DEPRECATED);
  EXPECT_EQ(failure.field, "model_ref");
  EXPECT_EQ(refused(bench, spec_of(3)).outcome, Outcome::MODEL_DEPRECATED) << "no session is a new one";
  EXPECT_FALSE(refusal(bench.submit(of_session(4, "old"))));
  bench.advance(Duration::seconds(601));
  bench.grant(4);
  EXPECT_EQ(refused(bench, of_session(5, "old")).outcome, Outcome::MODEL_DEPRECATED) << "a session ends by disuse";
}

TEST(Models, OC_MODEL_1005_pools_of_a_retired_model_run_empty) {
  Bench bench;
  bench.manager_up({ready_replica(), newer()});
  bench.grant(1, {1, 1}, "r1");
  bench.submit(spec_of(1));
  ASSERT_EQ(bench.dispatches.size(), 1u);
  const auto pools_bid_for = [&] {
    const auto updates = all_of<SendUpdate>(bench.advance(Duration::seconds(6)));
    std::string out;
    if (!updates.empty()) {
      for (const PoolBid& bid : updates.back().bids) out += bid.pool_id + ":" + std::to_string(bid.running) + " ";
    }
    return out;
  };
  EXPECT_EQ(pools_bid_for(), "p1:1 p2:0 ");
  ASSERT_FALSE(move_model(bench, kOld, ModelState::retired));
  EXPECT_EQ(pools_bid_for(), "p1:1 p2:0 ") << "what runs is told until it ends";
  bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(pools_bid_for(), "p2:0 ");
  bench.grant(1, {1, 2}, "r2");
  bench.submit(spec_of(2));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].endpoint, "unix:/r2");
}

std::string asked(const Effects& effects) {
  std::string out;
  for (const OperateReplica& each : all_of<OperateReplica>(effects))
    out += (each.bring_back ? "undrain " : "drain ") + each.replica_id + " ";
  return out;
}

TEST(Models, OC_MODEL_1008_a_retired_model_is_unloaded_and_loaded_again_when_it_is_wanted) {
  Bench bench;
  bench.manager_up({ready_replica(), newer()});
  bench.grant(1, {1, 1}, "r1");
  bench.submit(spec_of(1));
  EXPECT_EQ(asked(bench.step(SetModelState{RequestId{1}, {"m", kOld}, {ModelState::deprecated, 0}})), "");
  const Effects retired = bench.step(SetModelState{RequestId{1}, {"m", kOld}, {ModelState::retired, 0}});
  EXPECT_EQ(asked(retired), "drain r1 ");
  EXPECT_EQ(all_of<OperateReplica>(retired)[0].deadline, bench.core.config().limits.wall_max)
      << "what runs there runs to its end";
  EXPECT_EQ(asked(bench.advance(ms(4999))), "");
  EXPECT_EQ(asked(bench.advance(ms(1))), "drain r1 ") << "a rollout was under way";
  ReplicaView view = ready_replica();
  view.state = ReplicaState::draining;
  EXPECT_EQ(asked(bench.step(ReplicaChanged{kLink, view})), "");
  bench.finished(bench.dispatches.at(0), 1);
  view.state = ReplicaState::stopped;
  EXPECT_EQ(asked(bench.step(ReplicaChanged{kLink, view})), "");
  EXPECT_EQ(asked(bench.advance(Duration::seconds(20))), "");
  EXPECT_EQ(asked(bench.step(SetModelState{RequestId{1}, {"m", kOld}, {ModelState::draft, 0}})), "undrain r1 ");
  EXPECT_EQ(asked(bench.advance(Duration::seconds(5))), "undrain r1 ");
  view.state = ReplicaState::starting;
  EXPECT_EQ(asked(bench.step(ReplicaChanged{kLink, view})), "");
  view.state = ReplicaState::draining;
  EXPECT_EQ(asked(bench.step(ReplicaChanged{kLink, view}) + bench.advance(Duration::seconds(20))), "")
      << "that is an operator's";
}

TEST(Models, OC_MODEL_1008_a_manager_that_comes_later_or_begins_anew_is_asked_too) {
  Config config;
  config.models[{"m", kOld}] = {ModelState::retired, 0};
  Bench bench{config};
  EXPECT_EQ(asked(bench.manager_up({ready_replica(), newer()})), "drain r1 ");
  bench.step(ManagerDown{kLink});
  EXPECT_EQ(asked(bench.advance(Duration::seconds(20))), "");
  ReplicaView view = ready_replica();
  view.state = ReplicaState::backoff;
  EXPECT_EQ(asked(bench.manager_up({view, newer()}, 2)), "drain r1 ");
}

TEST(Models, OC_MODEL_1008_what_an_earlier_life_unloaded_is_brought_back_by_a_roll_back_too) {
  Config config;
  config.models[{"m", kOld}] = {ModelState::deprecated, 0};
  Bench bench{config};
  ReplicaView view = ready_replica();
  view.state = ReplicaState::stopped;
  EXPECT_EQ(asked(bench.manager_up({view, newer()})), "");
  EXPECT_EQ(asked(bench.step(SetModelState{RequestId{1}, {"m", kOld}, {ModelState::retired, 0}})), "");
  EXPECT_EQ(asked(bench.step(RollBackModel{RequestId{2}, "m"})), "undrain r1 ");
}

// It died behind the change and before its managers had brought the replicas back.
TEST(Models, OC_MODEL_1008_a_later_life_brings_back_what_was_unloaded) {
  ReplicaView down = ready_replica();
  down.state = ReplicaState::stopped;
  for (const bool rolled_back : {false, true}) {
    Bench first;
    first.manager_up({ready_replica(), newer()});
    ASSERT_FALSE(move_model(first, kOld, ModelState::retired));
    const Effects wanted = rolled_back ? first.step(RollBackModel{RequestId{2}, "m"})
                                       : first.step(SetModelState{RequestId{2}, {"m", kOld}, {ModelState::draft, 0}});
    Config config;
    config.models = all_of<ModelsChanged>(wanted).at(0).standings;
    Bench second{config};
    EXPECT_EQ(asked(second.manager_up({down, newer()})), "undrain r1 ") << rolled_back;
    EXPECT_EQ(asked(second.advance(Duration::seconds(5))), "undrain r1 ");
    Effects later = second.step(ReplicaChanged{kLink, ready_replica()});
    later = later + second.step(ReplicaChanged{kLink, down}) + second.advance(Duration::seconds(60));
    EXPECT_EQ(asked(later), "") << "that is an operator's";
    const auto settled = all_of<ModelsSettled>(later);
    ASSERT_EQ(settled.size(), 1u);
    const ModelStandings left =
        rolled_back ? ModelStandings{} : ModelStandings{{{"m", kOld}, {ModelState::draft, 0, false}}};
    EXPECT_EQ(settled[0].standings, left);
    Config after;
    after.models = left;
    Bench third{after};
    EXPECT_EQ(asked(third.manager_up({down, newer()})), "") << "and stays an operator's";
  }
}

TEST(Models, OC_MODEL_1008_a_manager_that_comes_back_later_brings_back_its_replicas_too) {
  Config config;
  config.managers = 2;
  config.models[{"m", kOld}] = {ModelState::draft, 0, true};
  Bench bench{config};
  EXPECT_EQ(asked(bench.manager_up({ready_replica(), newer()})), "");
  EXPECT_TRUE(all_of<ModelsSettled>(bench.advance(Duration::seconds(3600))).empty()) << "however late";
  ReplicaView down = ready_replica("o1");
  down.state = ReplicaState::stopped;
  const Effects late = bench.step(ManagerUp{LinkId{7}, ManagerId{{0xB0, 2}}, 1, {down}});
  EXPECT_EQ(asked(late), "undrain o1 ");
  EXPECT_TRUE(all_of<ModelsSettled>(bench.advance(Duration::seconds(5))).empty());
  down.state = ReplicaState::starting;
  EXPECT_EQ(all_of<ModelsSettled>(bench.step(ReplicaChanged{LinkId{7}, down})).size(), 1u);
}

// The manager was away for so long that the gateway has forgotten it.
TEST(Models, OC_MODEL_1008_a_forgotten_manager_brings_back_its_replicas_too) {
  Config config;
  config.managers = 2;
  Bench bench{config};
  const LinkId other{7};
  ReplicaView far = ready_replica("o1");
  bench.manager_up();
  bench.step(ManagerUp{other, ManagerId{{0xB0, 2}}, 1, {far}});
  ASSERT_FALSE(move_model(bench, kOld, ModelState::retired));
  ReplicaView near = ready_replica();
  near.state = far.state = ReplicaState::stopped;
  bench.step(ReplicaChanged{kLink, near});
  bench.step(ReplicaChanged{other, far});
  bench.step(ManagerDown{other});
  ASSERT_FALSE(move_model(bench, kOld, ModelState::draft));
  bench.step(ReplicaChanged{kLink, ready_replica()});
  bench.advance(config.limits.manager_forget + Duration::seconds(1));
  ASSERT_EQ(bench.core.fleet().managers().size(), 1u);
  EXPECT_EQ(asked(bench.step(ManagerUp{LinkId{8}, ManagerId{{0xB0, 2}}, 1, {far}})), "undrain o1 ");
}

TEST(Models, OC_MODEL_1003_a_full_canary_serves_and_one_that_cannot_fails_nobody) {
  Bench bench;
  bench.manager_up({ready_replica(), newer()});
  bench.grant(4, {1, 1}, "r1");
  bench.grant(4, {1, 2}, "r2");
  ASSERT_FALSE(move_model(bench, kNew, ModelState::canary, 100));
  bench.submit(spec_of(1));
  EXPECT_EQ(bench.dispatches.back().endpoint, "unix:/r2");
  ReplicaView broken = newer();
  broken.state = ReplicaState::failed;
  bench.step(ReplicaChanged{kLink, broken});
  EXPECT_FALSE(refusal(bench.submit(spec_of(2))));
  EXPECT_EQ(bench.dispatches.back().endpoint, "unix:/r1");
}

TEST(Models, ORCH3033_a_roll_back_brings_requests_back_in_one_action) {
  Bench bench;
  bench.manager_up({ready_replica(), newer()});
  bench.grant(4, {1, 1}, "r1");
  bench.grant(4, {1, 2}, "r2");
  ASSERT_FALSE(move_model(bench, kOld, ModelState::deprecated));
  bench.submit(spec_of(1));
  EXPECT_EQ(bench.dispatches.back().endpoint, "unix:/r2");
  const auto changed = all_of<ModelsChanged>(bench.step(RollBackModel{RequestId{901}, "m"}));
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_FALSE(changed[0].failure);
  EXPECT_TRUE(changed[0].standings.empty());
  JobSpec named = spec_of(2);
  named.model_ref = kOld;
  EXPECT_FALSE(refusal(bench.submit(named)));
  EXPECT_EQ(bench.dispatches.back().endpoint, "unix:/r1");
}

TEST(Models, OC_MODEL_1007_states_of_an_earlier_life_hold_from_the_first_request) {
  Config config;
  config.models[{"m", kOld}] = {ModelState::retired, 0};
  Bench bench{config};
  bench.ready();
  EXPECT_EQ(refused(bench, spec_of(1)).outcome, Outcome::MODEL_DEPRECATED);
}

TEST(Models, OC_MODEL_1002_an_impossible_change_changes_nothing) {
  Bench bench;
  bench.ready();
  const auto failure = move_model(bench, kOld, ModelState::draft);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->outcome, Outcome::CONFLICT);
  EXPECT_FALSE(refusal(bench.submit(spec_of(1))));
}

TEST(SessionBook, is_bounded_and_forgets_by_disuse) {
  SessionBook sessions(Duration::seconds(600));
  const Instant start{1};
  sessions.used({"t", "s", "m"}, start);
  EXPECT_TRUE(sessions.known({"t", "s", "m"}, start + Duration::seconds(599)));
  EXPECT_FALSE(sessions.known({"t", "s", "m"}, start + Duration::seconds(600)));
  EXPECT_FALSE(sessions.known({"another", "s", "m"}, start));
  for (std::size_t i = 0; i < SessionBook::kSessionsMax + 100; ++i) sessions.used({"t", std::to_string(i), "m"}, start);
  EXPECT_EQ(sessions.size(), SessionBook::kSessionsMax);
  sessions.used({"t", "late", "m"}, start + Duration::seconds(601));
  EXPECT_EQ(sessions.size(), 1u);
}

}  // namespace
}  // namespace orch::gateway
