// What a drain's deadline has cost, whoever looks first: the worker, which stops its jobs by its own clock, or the
// manager (OC-POOL-3059).
#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

constexpr Duration kDeadline = Duration::seconds(10);

// Two jobs run on the only replica, which is told to drain.
struct Drained : World {
  Drained() : World(one_replica()) {
    step(Tick{});
    attach(1, orch_at(1));
    holders[1] = orch_at(1);
    bid(1, {{.pool_id = "p", .running = 0, .waiting = 2}});
    EXPECT_TRUE(dispatch(1, 1).ok());
    EXPECT_TRUE(dispatch(1, 2).ok());
    report(inc());
    step(Tick{});
    drain = start(OperationKind::drain, kDeadline);
    worker().arbiter.begin_drain(now + kDeadline);
    now = now + kDeadline - Duration{1};
  }
  // The worker is asked at the deadline and a moment later; the manager hears nothing yet.
  void deadline_passes() {
    now = now + Duration::milliseconds(300);
    stops = worker().arbiter.jobs_to_stop(now);
  }
  void end(std::uint64_t job, worker::JobEnd how) { worker().arbiter.ended(attempt(job), how); }
  void worker_reports() {
    report(inc());
    step(Tick{});
  }
  Operation drained() {
    run(Duration::seconds(10));
    EXPECT_EQ(operation(drain).state, OperationState::succeeded);
    return operation(drain);
  }
  static DispatchId attempt(std::uint64_t job) { return {.job = JobId{Uuid{1, job}}, .attempt = 1}; }

  Operation drain;
  std::vector<worker::LeaseArbiter::Stop> stops;
};

TEST(DrainCuts, OC_POOL_3059_what_the_worker_has_cut_before_the_manager_looks_is_counted) {
  Drained world;
  world.deadline_passes();
  ASSERT_EQ(world.stops.size(), 2u);
  for (const std::uint64_t job : {1u, 2u}) world.end(job, worker::JobEnd::failed);
  world.worker_reports();
  EXPECT_EQ(world.drained().jobs_cut, 2u);
}

TEST(DrainCuts, OC_POOL_3059_a_job_that_was_done_in_time_is_not_cut_however_late_its_end_is_heard_of) {
  Drained world;
  world.end(1, worker::JobEnd::finished);
  world.deadline_passes();
  world.end(2, worker::JobEnd::finished);  // in the step that the deadline would have stopped
  world.step(Tick{});
  world.worker_reports();
  EXPECT_EQ(world.drained().jobs_cut, 0u);
}

TEST(DrainCuts, OC_POOL_3059_what_the_worker_does_not_let_go_of_is_cut_by_its_end) {
  Drained world;
  world.deadline_passes();
  world.end(1, worker::JobEnd::failed);
  world.worker_reports();
  EXPECT_EQ(world.operation(world.drain).jobs_cut, 1u);
  EXPECT_EQ(world.drained().jobs_cut, 2u);
  const Operation again = world.start(OperationKind::drain, kDeadline);
  EXPECT_EQ(world.operation(again).state, OperationState::succeeded);
  EXPECT_EQ(world.operation(again).jobs_cut, 0u) << "nothing ran";
}

TEST(DrainCuts, OC_POOL_3059_what_a_worker_takes_with_it_when_it_dies_is_not_cut) {
  Drained world;
  world.deadline_passes();
  world.end(1, worker::JobEnd::failed);
  world.worker_reports();
  world.die(world.inc(), 11);
  EXPECT_EQ(world.operation(world.drain).state, OperationState::succeeded);
  EXPECT_EQ(world.operation(world.drain).jobs_cut, 1u);
}

}  // namespace
}  // namespace orch::pool
