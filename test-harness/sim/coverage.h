// What a run went through: faults by kind, edges of the state tables, and the effects before which a process died. The
// runner sums it over all seeds, prints it and demands its minimum: a fault that never happens tests nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "orchestratord/core/effects.h"
#include "orchestratord/core/job.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/replica_state.h"

namespace orch::sim {

enum class Fault : std::uint8_t {
  drop,
  half_open,
  delay,
  duplicate,
  reorder,
  partition,
  one_way,
  pause,
  suspend,
  clock_jump,
  crash_worker,
  crash_manager,
  crash_orchestrator,
  crash_at_effect,
  refuse,
  drain,
  lost_report,
  slow_reader,
  lost_state,
  engine_fault,
  slow_disk,
  disk_fails,
  adopted,  // a worker outlived its manager, which found it
  undrain,
  rollout,      // a reload or a rolling restart
  session_end,  // of a session that may have tasks under way
  tenants_change,
  model_change,
  device_lost,
  lost_body,  // of a request that was let in by its head
};
inline constexpr std::size_t kFaults = 30;
const char* fault_name(Fault fault);

// A job as the simulator follows it from outside: the states of the core, before and after them.
enum class JobPhase : std::uint8_t {
  none,
  admitting,
  committing,
  waiting,
  dispatching,
  running,
  concluding,
  ended,
  gone
};
inline constexpr std::size_t kJobPhases = 9;
// A lease as its holder sees it (orchestratord/core/lease_table.h) and its manager (pool-managerd/core/lease_book.h).
enum class LeasePhase : std::uint8_t { none, live, stale, lapsed, closed, gone };
inline constexpr std::size_t kLeasePhases = 6;
enum class BookPhase : std::uint8_t { none, opened, issued, acked, closed, gone };
inline constexpr std::size_t kBookPhases = 6;

// The simulator's own reading of the state tables; an edge that is not in it is a violation.
bool may_change(JobPhase from, JobPhase to);
bool may_change(LeasePhase from, LeasePhase to);
bool may_change(BookPhase from, BookPhase to);
const char* phase_name(JobPhase phase);
const char* phase_name(LeasePhase phase);
const char* phase_name(BookPhase phase);

// Places in a worker's shell at which it may die.
enum class WorkerPoint : std::uint8_t {
  before_apply,
  before_ack,
  before_admit,
  before_refusal,
  before_start,
  before_token,
  before_terminal,
  before_slot_returned
};
inline constexpr std::size_t kWorkerPoints = 8;
const char* point_name(WorkerPoint point);

class Coverage {
 public:
  void count(Fault fault) { ++faults_[static_cast<std::size_t>(fault)]; }
  void edge(JobPhase from, JobPhase to) { ++jobs_[index(from)][index(to)]; }
  void edge(LeasePhase from, LeasePhase to) { ++leases_[index(from)][index(to)]; }
  void edge(BookPhase from, BookPhase to) { ++books_[index(from)][index(to)]; }
  void edge(pool::ReplicaState from, pool::ReplicaState to) { ++replicas_[index(from)][index(to)]; }
  // An operation of that kind has ended so.
  void edge(pool::OperationKind kind, pool::OperationState to) { ++operations_[index(kind)][index(to)]; }
  void executed(const gateway::Effect& effect) { ++gateway_effects_[effect.index()]; }
  void executed(const pool::Effect& effect) { ++manager_effects_[effect.index()]; }
  void died_before(const gateway::Effect& effect) { ++gateway_boundaries_[effect.index()]; }
  void died_before(const pool::Effect& effect) { ++manager_boundaries_[effect.index()]; }
  void died_at(WorkerPoint point) { ++worker_points_[index(point)]; }
  void add(const Coverage& other);

  struct Count {
    std::string name;
    std::uint64_t count = 0;
  };
  std::vector<Count> faults() const;
  // Every edge that the tables allow, taken or not.
  std::vector<Count> edges() const;
  // Every effect of both cores.
  std::vector<Count> effects() const;
  // The same and every point of the worker: deaths before it.
  std::vector<Count> boundaries() const;

 private:
  template <typename T>
  static std::size_t index(T value) {
    return static_cast<std::size_t>(value);
  }
  template <std::size_t kSize>
  using Matrix = std::array<std::array<std::uint64_t, kSize>, kSize>;

  std::array<std::uint64_t, kFaults> faults_{};
  Matrix<kJobPhases> jobs_{};
  Matrix<kLeasePhases> leases_{};
  Matrix<kBookPhases> books_{};
  Matrix<pool::kReplicaStates> replicas_{};
  Matrix<4> operations_{};  // kind, state
  std::array<std::uint64_t, std::variant_size_v<gateway::EffectKinds>> gateway_effects_{};
  std::array<std::uint64_t, std::variant_size_v<pool::EffectKinds>> manager_effects_{};
  std::array<std::uint64_t, std::variant_size_v<gateway::EffectKinds>> gateway_boundaries_{};
  std::array<std::uint64_t, std::variant_size_v<pool::EffectKinds>> manager_boundaries_{};
  std::array<std::uint64_t, kWorkerPoints> worker_points_{};
};

}  // namespace orch::sim
