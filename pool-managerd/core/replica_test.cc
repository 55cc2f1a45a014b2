#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

using ::testing::HasSubstr;

TEST(Replica, OC_POOL_3001_is_ready_only_after_identity_load_and_self_check) {
  World world(one_replica());
  world.start();
  world.expect_state(ReplicaState::ready);
  std::vector<std::string> edges;
  for (const NotedState& each : world.sent<NotedState>()) edges.emplace_back(to_string(each.to));
  EXPECT_EQ(edges, (std::vector<std::string>{"starting", "preloading", "ready"}));
  EXPECT_EQ(world.sent<SendSelfCheck>().size(), 1u);
  EXPECT_TRUE(world.view().was_ready);
  EXPECT_TRUE(world.view().routable);
  EXPECT_EQ(world.view().inc, (Incarnation{.boot = 3, .counter = 1}));
}

TEST(Replica, OC_POOL_3001_no_self_check_before_the_model_is_loaded) {
  World world(one_replica());
  world.script.loads = false;
  world.start();
  world.run(Duration::seconds(20));
  world.expect_state(ReplicaState::preloading);
  EXPECT_TRUE(world.sent<SendSelfCheck>().empty());
  EXPECT_FALSE(world.view().routable);
  world.script.loads = true;
  world.run(Duration::seconds(1));
  world.expect_state(ReplicaState::ready);
}

struct Fault {
  const char* name;
  void (*inject)(Script&);
  FailureClass failure;
  const char* text;
  bool permanent;
};

class ReadinessFault : public ::testing::TestWithParam<Fault> {};

TEST_P(ReadinessFault, ORCH_3049_is_named_in_last_error_and_never_ready) {
  World world(one_replica());
  GetParam().inject(world.script);
  world.start();
  world.run(Duration::milliseconds(100));
  const ReplicaView view = world.view();
  EXPECT_EQ(to_string(view.last_failure), to_string(GetParam().failure));
  EXPECT_THAT(view.last_error, HasSubstr(GetParam().text));
  EXPECT_FALSE(view.was_ready);
  EXPECT_EQ(to_string(view.state), to_string(GetParam().permanent ? ReplicaState::failed : ReplicaState::backoff));
  world.run(Duration::seconds(100));
  EXPECT_FALSE(world.view().was_ready);
  if (GetParam().permanent) {
    EXPECT_EQ(world.sent<SpawnWorker>().size(), 1u) << "a permanent failure is not restarted";
  } else {
    EXPECT_GT(world.sent<SpawnWorker>().size(), 2u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Gates, ReadinessFault,
    ::testing::Values(
        Fault{"digest", [](Script& s) { s.digest = "sha256:11"; }, FailureClass::digest_mismatch,
              "digest: the model is sha256:11", true},
        Fault{"no_digest", [](Script& s) { s.digest.clear(); }, FailureClass::digest_mismatch, "unknown digest", true},
        Fault{"model", [](Script& s) { s.model_name = "other"; }, FailureClass::identity_mismatch, "'other'", true},
        Fault{"engine", [](Script& s) { s.engine = "mock"; }, FailureClass::identity_mismatch, "'mock'", true},
        Fault{"load", [](Script& s) { s.load_fails = true; }, FailureClass::load_failed, "load: bad tensor", false},
        Fault{"decode", [](Script& s) { s.decodes = false; }, FailureClass::decode_failed, "self-check decode", false},
        Fault{"cancel", [](Script& s) { s.cancel_frees = false; }, FailureClass::cancel_kept_slot, "self-check cancel",
              false},
        Fault{"counters", [](Script& s) { s.counters_move = false; }, FailureClass::counters_stuck,
              "self-check counters", false},
        Fault{"numbers", [](Script& s) { s.tokens_grow = false; }, FailureClass::counters_stuck, "self-check counters",
              false}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Replica, OC_POOL_3002_a_self_check_without_answer_ends_the_worker) {
  World world(one_replica());
  world.script.self_check_answers = false;
  world.start();
  world.run(Duration::seconds(90));
  EXPECT_EQ(world.view().last_failure, FailureClass::self_check_timeout);
}

TEST(Replica, OC_POOL_3002_a_worker_that_never_answers_is_killed) {
  World world(one_replica());
  world.script.answers = false;
  world.script.reports = false;
  world.start();
  world.run(Duration::seconds(30));
  EXPECT_EQ(world.view().last_failure, FailureClass::start_timeout);
  EXPECT_EQ(world.last<SignalWorker>().signal, StopSignal::kill);
}

TEST(Replica, OC_POOL_3011_restarts_back_off_and_each_has_a_higher_incarnation) {
  World world(one_replica());
  world.start();
  Incarnation last = world.inc();
  for (int failure = 1; failure <= 4; ++failure) {
    world.die(world.inc(), 9);
    world.expect_state(ReplicaState::backoff);
    EXPECT_EQ(world.view().last_failure, FailureClass::killed_by_signal);
    const double delay = world.view().retry_in.ms_double();
    const double nominal = 1000.0 * (1 << (failure - 1));
    EXPECT_GE(delay, nominal * 0.9) << failure;
    EXPECT_LE(delay, nominal * 1.1) << failure;
    world.run(world.view().retry_in - Duration{1});
    world.expect_state(ReplicaState::backoff);
    world.run(Duration{1});
    world.expect_state(ReplicaState::ready);
    EXPECT_GT(world.inc(), last);
    last = world.inc();
  }
  EXPECT_EQ(world.view().restarts, 4u);
}

TEST(Replica, OC_POOL_3011_five_failures_open_the_breaker_which_lets_one_trial_through) {
  World world(one_replica());
  world.script.decodes = false;
  world.start();
  world.run(Duration::seconds(40));
  world.expect_state(ReplicaState::failed);
  EXPECT_EQ(world.sent<SpawnWorker>().size(), 5u);
  EXPECT_TRUE(world.last<NotedFailure>().breaker_open);
  world.run(Duration::seconds(200));
  EXPECT_EQ(world.sent<SpawnWorker>().size(), 5u);
  world.run(Duration::seconds(100));
  EXPECT_EQ(world.sent<SpawnWorker>().size(), 6u) << "the trial";
  world.expect_state(ReplicaState::failed);
  world.script.decodes = true;
  world.run(Duration::seconds(300));
  world.expect_state(ReplicaState::ready);
  world.run(Duration::seconds(300));
  world.die(world.inc(), 9);
  world.expect_state(ReplicaState::backoff);
  EXPECT_EQ(world.last<NotedFailure>().in_a_row, 1u) << "300 s ready cleared the failures in a row";
}

TEST(Replica, OC_POOL_3011_replicas_that_fail_together_are_restarted_one_after_another) {
  Settings settings = one_replica();
  for (int i = 1; i < 6; ++i) {
    settings.replicas.push_back(settings.replicas[0]);
    settings.replicas.back().replica_id = "p-" + std::to_string(i);
  }
  World world(settings);
  world.start();
  EXPECT_EQ(world.sent<SpawnWorker>().size(), 6u) << "first starts wait for nobody";
  std::vector<Incarnation> all;
  for (const auto& [inc, worker] : world.workers) all.push_back(inc);
  for (const Incarnation inc : all) world.die(inc, 9);
  std::vector<Instant> starts;
  std::size_t spawned = 6;
  for (int ms = 0; ms < 5000 && spawned < 12; ms += 10) {
    world.run(Duration::milliseconds(10));
    for (; spawned < world.sent<SpawnWorker>().size(); ++spawned) starts.push_back(world.now);
  }
  ASSERT_EQ(starts.size(), 6u);
  for (std::size_t i = 1; i < starts.size(); ++i)
    EXPECT_GE(starts[i] - starts[i - 1], settings.restart.host_interval - Duration::milliseconds(10)) << i;
}

TEST(Replica, OC_POOL_3010_crash_classes_are_told_apart) {
  const std::map<int, FailureClass> codes{{69, FailureClass::device_lost},
                                          {71, FailureClass::out_of_memory},
                                          {70, FailureClass::exited},
                                          {0, FailureClass::exited}};
  for (const auto& [code, failure] : codes) {
    World world(one_replica());
    world.start();
    world.die(world.inc(), 0, code);
    EXPECT_EQ(to_string(world.view().last_failure), to_string(failure)) << code;
    world.expect_state(ReplicaState::backoff);
  }
}

TEST(Replica, OC_POOL_3002_permanent_exit_codes_are_not_restarted) {
  for (int code = 0; code < 130; ++code) {
    World world(one_replica());
    world.start();
    world.die(world.inc(), 0, code);
    const bool permanent = code == 64 || code == 65 || code == 66;
    EXPECT_EQ(world.view().state, permanent ? ReplicaState::failed : ReplicaState::backoff) << code;
    EXPECT_THAT(world.view().last_error, HasSubstr("code " + std::to_string(code)));
    world.run(Duration::seconds(2));
    EXPECT_EQ(world.sent<SpawnWorker>().size(), permanent ? 1u : 2u) << code;
  }
}

TEST(Replica, L6_a_silent_worker_is_killed_and_restarted_only_after_its_reap) {
  World world(one_replica());
  world.start();
  world.script.reports = false;
  world.run(Duration::seconds(15) - Duration{1});
  world.expect_state(ReplicaState::ready);
  world.run(Duration{1});
  EXPECT_EQ(world.view().last_failure, FailureClass::silent);
  EXPECT_EQ(world.last<SignalWorker>().signal, StopSignal::kill);
  world.script.reports = true;
  world.run(Duration::seconds(3));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.inc().counter, 2u);
}

TEST(Replica, L6_no_restart_while_the_old_process_has_not_been_reaped) {
  World world(one_replica());
  world.start();
  world.script.obeys_term = false;
  world.step(ProcessExited{.inc = {.boot = 3, .counter = 99}, .exit_code = 1, .signal = 0, .detail = {}});
  world.expect_state(ReplicaState::ready);
  Effects out;
  // The kill takes no effect: the process hangs in the kernel.
  world.now = world.now + Duration::seconds(21);
  world.manager.step(Tick{}, world.now, out);
  ASSERT_EQ(world.view().last_failure, FailureClass::none) << "the manager itself stood still: forgiven once";
  for (int s = 0; s < 400; ++s) {
    world.now = world.now + Duration::seconds(1);
    world.manager.step(Tick{}, world.now, out);
  }
  EXPECT_EQ(world.view().last_failure, FailureClass::silent);
  for (const Effect& effect : out) EXPECT_FALSE(std::holds_alternative<SpawnWorker>(effect));
}

// One job runs.
struct Working : World {
  explicit Working(Settings settings = one_replica()) : World(std::move(settings)) {
    start();
    attach(1, orch_at(1));
    holders[1] = orch_at(1);
    bid(1, {{.pool_id = "p", .running = 0, .waiting = 1}});
    EXPECT_TRUE(dispatch(1, 1).ok());
    report(inc());
  }
};

TEST(Replica, health_is_progress_running_without_steps_is_stalled) {
  World world(one_replica());
  world.start();
  world.attach(1, orch_at(1));
  world.holders[1] = orch_at(1);
  world.bid(1, {{.pool_id = "p", .running = 0, .waiting = 1}});
  world.run(Duration::seconds(200));
  world.expect_state(ReplicaState::ready);
  ASSERT_TRUE(world.dispatch(1, 1).ok());
  world.worker().step_longest = Duration::seconds(2);
  for (int i = 0; i < 10; ++i) {
    world.worker().steps += 1;
    world.run(Duration::seconds(35));
    world.expect_state(ReplicaState::ready);
    ASSERT_EQ(world.view().running, 1u) << i;
  }
  world.run(Duration::seconds(20));
  ASSERT_FALSE(world.sent<NotedFailure>().empty()) << "20 x the longest step is over";
  EXPECT_EQ(world.last<NotedFailure>().failure, FailureClass::stalled);
  ASSERT_FALSE(world.sent<SignalWorker>().empty());
  EXPECT_EQ(world.last<SignalWorker>().signal, StopSignal::kill);
}

// A prompt that an engine behind an adapter takes minutes to read costs the adapter nothing.
TEST(Replica, OC_POOL_3044_waiting_for_an_engine_elsewhere_is_progress) {
  Working world;
  world.worker().waits_for_an_engine = true;
  world.run(Duration::seconds(280));
  world.expect_state(ReplicaState::ready);
  ASSERT_EQ(world.view().running, 1u);
  EXPECT_TRUE(world.sent<NotedFailure>().empty());
  world.worker().waits_for_an_engine = false;  // the thread that watches the engine hangs
  world.run(Duration::seconds(36));
  ASSERT_FALSE(world.sent<NotedFailure>().empty());
  EXPECT_EQ(world.last<NotedFailure>().failure, FailureClass::stalled);
}

TEST(Replica, OC_POOL_3044_the_bound_is_configured_and_a_predicted_first_step_raises_it) {
  for (const auto& [predicted, patience] : {std::pair(0, 5), std::pair(2, 40)}) {
    Settings settings = one_replica();
    settings.health.stall_floor = Duration::seconds(5);
    Working world{settings};
    world.worker().step_longest = Duration::seconds(predicted);
    world.report(world.inc());
    world.run(Duration::seconds(patience) - Duration::milliseconds(100));
    EXPECT_TRUE(world.sent<NotedFailure>().empty()) << predicted;
    world.run(Duration::seconds(4));  // a report apart
    ASSERT_FALSE(world.sent<NotedFailure>().empty()) << predicted;
    EXPECT_EQ(world.last<NotedFailure>().failure, FailureClass::stalled);
  }
}

TEST(Replica, L9_drain_lets_jobs_finish_and_then_stops_the_worker) {
  Working world;
  ASSERT_EQ(world.start(OperationKind::drain, Duration::seconds(60)).state, OperationState::running);
  world.expect_state(ReplicaState::draining);
  EXPECT_EQ(world.granted(1), 0u) << "revoked";
  EXPECT_FALSE(world.revokes.back().stop);
  world.run(Duration::seconds(20));
  world.expect_state(ReplicaState::draining);
  EXPECT_EQ(world.granted(1), 0u) << "a renewal is not a grant";
  world.worker().steps += 1;
  world.finish(1);
  world.run(Duration::seconds(6));
  world.expect_state(ReplicaState::stopped);
  world.run(Duration::seconds(600));
  world.expect_state(ReplicaState::stopped);
}

TEST(Replica, L9_drain_is_over_at_its_deadline) {
  Working world;
  world.script.obeys_term = false;
  world.start(OperationKind::drain, Duration::seconds(10));
  world.run(Duration::seconds(11) - Duration{1});
  EXPECT_TRUE(world.sent<SignalWorker>().empty());
  world.run(Duration{1});
  EXPECT_EQ(world.last<SignalWorker>().signal, StopSignal::terminate);
  world.run(Duration::seconds(5));
  EXPECT_EQ(world.last<SignalWorker>().signal, StopSignal::kill);
  world.expect_state(ReplicaState::stopped);
}

TEST(Replica, OC_MIGR_M6_a_worker_that_dies_while_it_drains_is_said_to_have_died) {
  for (const auto& [signal, code, told] : {std::tuple(11, 0, "killed_by_signal"), {0, 1, "exited"}, {0, 0, ""}}) {
    Working world;
    world.run(Duration::seconds(5));
    world.start(OperationKind::drain, Duration::seconds(60));
    world.expect_state(ReplicaState::draining);
    world.die(world.inc(), signal, code);
    world.expect_state(ReplicaState::stopped);
    EXPECT_EQ(to_string(world.view().last_failure), told);
    EXPECT_EQ(to_string(world.last<ReplicaChanged>().replica.last_failure), told);
  }
}

TEST(Replica, OC_POOL_3003_says_what_a_loading_worker_waits_for) {
  World world(one_replica());
  world.script.loads = false;
  world.script.waits_for = "no answer from the engine at http://e:1";
  world.start();
  world.run(Duration::seconds(1));
  world.expect_state(ReplicaState::preloading);
  EXPECT_EQ(world.view().last_error, "load: no answer from the engine at http://e:1");
  EXPECT_EQ(world.view().last_failure, FailureClass::none);
  world.script.loads = true;
  world.run(Duration::seconds(1));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.view().last_error, "");
}

TEST(Replica, OC_POOL_3045_keeps_what_its_worker_said_while_it_restarts) {
  World world(one_replica());
  world.start();
  ASSERT_EQ(world.view().facts.ctx_max, 4096u);
  world.script.loads = false;
  world.die(world.inc(), 9);
  world.run(Duration::seconds(2));
  world.expect_state(ReplicaState::preloading);
  EXPECT_EQ(world.view().facts.ctx_max, 4096u);
  EXPECT_EQ(world.view().facts.engine_version, "1");
  EXPECT_FALSE(world.view().facts.ready);
  EXPECT_EQ(world.view().slots, 4u) << "as its own report says";
  world.script.loads = true;
  world.script.engine_version = "2";
  world.run(Duration::seconds(1));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.view().facts.engine_version, "2");
}

TEST(Replica, OC_POOL_3047_the_breaker_is_never_stuck_half_open) {
  World world(one_replica());
  world.script.decodes = false;
  world.step(Tick{});
  world.run(Duration::seconds(40));
  ASSERT_EQ(world.view().breaker, BreakerState::open);
  world.script.answers = world.script.reports = false;  // the trial hangs
  world.run(world.view().retry_in + Duration::milliseconds(500));
  EXPECT_EQ(world.view().breaker, BreakerState::half_open);
  EXPECT_EQ(world.workers.size(), 1u) << "one trial";
  world.run(Duration::seconds(31));
  EXPECT_EQ(world.view().breaker, BreakerState::open) << "a trial that hangs has failed";
  world.script.answers = world.script.reports = world.script.decodes = true;
  world.run(Duration::seconds(301));
  EXPECT_EQ(world.view().breaker, BreakerState::half_open);
  world.expect_state(ReplicaState::ready);
  world.run(Duration::seconds(300));
  EXPECT_EQ(world.view().breaker, BreakerState::closed);
}

TEST(Manager, shutdown_completes_only_when_every_worker_has_been_reaped) {
  Settings settings = one_replica();
  settings.replicas.push_back(settings.replicas[0]);
  settings.replicas[1].replica_id = "p-1";
  World world(settings);
  world.start();
  world.script.obeys_term = false;
  world.step(Shutdown{.deadline = Duration::seconds(1)});
  EXPECT_TRUE(world.sent<ShutdownComplete>().empty());
  world.run(Duration::seconds(4));
  EXPECT_TRUE(world.sent<ShutdownComplete>().empty());
  world.run(Duration::seconds(3));
  EXPECT_EQ(world.sent<ShutdownComplete>().size(), 1u);
  EXPECT_TRUE(world.workers.empty());
  EXPECT_TRUE(world.manager.is_shut_down());
  EXPECT_TRUE(world.manager.next_wakeup().is_never());
}

TEST(Manager, shutdown_in_backoff_starts_nothing_more) {
  World world(one_replica());
  world.start();
  world.die(world.inc(), 9);
  world.step(Shutdown{.deadline = {}});
  EXPECT_EQ(world.sent<ShutdownComplete>().size(), 1u);
  world.run(Duration::seconds(600));
  EXPECT_EQ(world.sent<SpawnWorker>().size(), 1u);
}

}  // namespace
}  // namespace orch::pool
