// A worker process of the simulator: the real lease arbiter before a scripted engine. It plays what worker/shell does
// with streams and timers, and checks every admission against its own reading of L3.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "orchestratord/core/effects.h"
#include "pool-managerd/core/events.h"
#include "sim/attempt_watch.h"
#include "sim/lease_history.h"
#include "sim/mutant.h"
#include "sim/world.h"
#include "worker/lease/lease_arbiter.h"

namespace orch::sim {

struct WorkerSetup {
  ManagerId manager;
  std::string replica_id;
  Incarnation inc;
  std::uint32_t slots = 1;
  std::string model;
  std::string digest;
  std::string accelerator = "cpu";
  std::uint32_t ctx_max = 512;
  std::string model_path;
  KvMemory kv;
  bool fails_to_load = false;
  bool fails_self_check = false;
  Duration load_time;
  Duration orphan_grace = Duration::seconds(15);
  Duration step;  // one token
  Mutant mutant = Mutant::none;
  LeaseHistory* history = nullptr;   // of the run, outlives the worker
  AttemptWatch* attempts = nullptr;  // likewise
  std::function<void()> die;         // the process dies here and now
  std::function<void()> exit_lost;   // likewise, with the exit code of a lost device
};

// What a worker says to the gateway about one call.
using CallAnswer = std::function<void(const gateway::Event&)>;

class SimWorker {
 public:
  SimWorker(World& world, WorkerSetup setup);

  Node& node() { return node_; }
  const WorkerSetup& setup() const { return setup_; }
  const std::string& endpoint() const { return node_.name; }
  WorkerKey key() const { return {setup_.manager, setup_.inc}; }

  // The manager's side.
  // `wants_table`: by a manager that adopts it (L8).
  void control_opened(const StreamPtr& stream, bool wants_table, std::function<void(const pool::WorkerReport&)> report);
  void control_broken(const StreamPtr& stream);
  void lifeline_lost();  // its manager is gone
  void apply(const LeaseTable& table);
  void self_check(std::uint64_t id);
  void drain(Duration deadline);
  pool::WorkerFacts facts() const;
  // The engine stands still while the process goes on answering, until it is killed.
  void stall();
  // The device is gone: every job is handed back, and the process ends a moment later (OC-DEVICE-1004).
  void lose_device();

  // The holders' side.
  void hold_opened(const Holder& holder, const StreamPtr& stream);
  void hold_broken(const Holder& holder, const StreamPtr& stream);
  void beat(const Holder& holder);
  // Whether it was admitted.
  bool generate(const StreamPtr& stream, const gateway::Dispatch& dispatch, const Holder& holder, CallAnswer answer);
  void call_broken(const DispatchId& dispatch, const StreamPtr& stream);

  // --- for the checks ---
  std::size_t running() const { return calls_.size(); }
  // The worker's own end of a lease, in real time; nullopt: not in its table.
  std::optional<Instant> lease_end(LeaseId lease) const;
  // Calls whose stream is known here to have ended, or whose holder was last heard of a TTL ago, and a step more (L5).
  std::size_t overdue_calls() const;
  std::size_t running_of(const Holder& holder) const;
  bool stalled() const { return stalled_; }

 private:
  struct ActiveCall {
    StreamPtr stream;
    Fence fence;
    Holder holder;
    CallAnswer answer;
    std::uint32_t next = 0;
    std::uint32_t length = 0;
    std::uint32_t held_back = 0;  // ids sent without text
    bool stopping = false;
    Instant admitted;  // this worker's clock
  };
  struct SeenLease {  // the checker's own copy of the applied table
    LeaseEntry entry;
    Instant end;  // this worker's clock
  };

  Instant local() const { return node_.clock.local(world_.now()); }
  void report(std::optional<pool::SelfCheckOutcome> check = std::nullopt);
  pool::WorkerReport report_now() const;
  std::uint64_t pages_used() const;
  void watch_orphanhood();
  void schedule_report();
  bool dies_at(WorkerPoint point);
  void pump_stops();
  void step(const DispatchId& dispatch);
  void end_call(DispatchId dispatch, const std::optional<Outcome>& failure);
  void stop_call(const DispatchId& dispatch, const std::optional<Outcome>& failure);
  void answer(const ActiveCall& call, const gateway::Event& event, World::Copies copies);
  void check_admission(const gateway::Dispatch& dispatch, const Holder& holder, bool admitted);

  World& world_;
  Node& node_;
  WorkerSetup setup_;
  worker::LeaseArbiter arbiter_;
  Instant ready_at_;
  StreamPtr control_;
  std::function<void(const pool::WorkerReport&)> report_;
  std::map<Holder, StreamPtr> holds_;
  std::map<DispatchId, ActiveCall> calls_;
  std::map<LeaseId, SeenLease> seen_;
  std::set<DispatchId> attempts_;
  std::map<Holder, Instant> heard_;  // this worker's clock
  Duration ttl_ = Duration::seconds(15);
  bool draining_ = false;
  bool lifeline_lost_ = false;
  Instant orphan_since_ = Instant::never();
  bool stalled_ = false;
  bool lost_ = false;  // the device
  Instant stop_timer_ = Instant::never();
  std::uint64_t steps_ = 0;
  std::uint64_t tokens_out_ = 0;
};

}  // namespace orch::sim
