// What befalls a simulated pool-managerd and its workers: ends of the process, deaths, and starts that fail.
#include <algorithm>

#include "sim/sim_manager.h"

namespace orch::sim {

void SimManager::end_worker(Process& process) {
  if (process.worker->node().alive) setup_.history->died(process.worker->key());
  world_.crash(process.worker->node());
  process.reaped = true;
}

void SimManager::stop(Extent extent) {
  world_.crash(node_);
  for (auto& [key, process] : processes_) {
    if (!process.worker->node().alive) continue;
    if (extent == Extent::host || !process.known) {
      end_worker(process);
    } else {
      world_.on_node(process.worker->node(), world_.now(),
                     [worker = process.worker.get()] { worker->lifeline_lost(); });
    }
  }
  core_.reset();
}

void SimManager::lose_state() {
  for (auto& [key, process] : processes_) end_worker(process);
  stored_ = setup_.replicas;
  world_.count(Fault::lost_state);
  setup_.id.value.hi += 1;
  boot_ = 0;
}

void SimManager::shutdown(Duration deadline) {
  world_.on_node(node_, world_.now(), [this, deadline] { step(pool::Shutdown{deadline}); });
}

// A ready replica's process is asked for nothing: how it ended is its own doing.
void SimManager::note_end(const pool::ProcessExited& exited) {
  for (const pool::ReplicaView& view : core_->replicas(node_.clock.local(world_.now()))) {
    if (view.inc != exited.inc) continue;
    ends_.erase(view.replica_id);
    if (view.state != pool::ReplicaState::ready) continue;
    const bool killed = exited.signal != 0;
    const auto failure = killed ? pool::FailureClass::killed_by_signal : pool::class_of_exit(exited.exit_code);
    ends_.emplace(view.replica_id, pool::ProcessEnd{exited.inc, failure});
  }
}

// OC-POOL-3058: it is said from then on, until another process of the replica has ended.
void SimManager::check_end(const pool::ReplicaView& view) {
  const auto end = ends_.find(view.replica_id);
  if (end != ends_.end() && view.last_end != end->second)
    world_.violation(node_.name + ": it is not said any more what a worker of " + view.replica_id + " died of");
}

// The first replica serves the probe at the end: what goes wrong with it heals.
SimManager::SpawnFate SimManager::draw_fate(const pool::ReplicaSpec& spec) {
  if (world_.healed() || !world_.chance(world_.rates.refuse * 2)) return SpawnFate::runs;
  const bool may_fail_for_good = spec.place != setup_.replicas.front().place;
  switch (world_.rng().below(may_fail_for_good ? 9 : 6)) {
    case 0:
    case 1:
      return SpawnFate::no_process;
    case 2:
    case 3:
      return SpawnFate::fails_to_load;
    case 4:
    case 5:
      return SpawnFate::fails_check;
    case 6:
      return SpawnFate::never_starts;
    case 7:
      return SpawnFate::fails_to_load_for_good;
    default:
      return SpawnFate::exits_for_good;
  }
}

void SimManager::crash_worker(std::uint64_t pick) {
  const auto workers = living_workers();
  if (workers.empty() || !node_.alive) return;
  world_.count(Fault::crash_worker);
  process_died(workers[pick % workers.size()]->key(), 0, 9);
}

void SimManager::pause_worker(std::uint64_t pick, Duration length) {
  const auto workers = living_workers();
  if (!workers.empty()) world_.pause(workers[pick % workers.size()]->node(), length);
}

void SimManager::stall_worker(std::uint64_t pick) {
  const auto workers = living_workers();
  if (!workers.empty()) workers[pick % workers.size()]->stall();
}

void SimManager::lose_device(std::uint64_t pick) {
  const auto workers = living_workers();
  if (!workers.empty()) workers[pick % workers.size()]->lose_device();
}

void SimManager::kill_stalled() {
  for (SimWorker* worker : living_workers()) {
    if (worker->stalled()) process_died(worker->key(), 0, 9);
  }
}

std::vector<Node*> SimManager::host() {
  std::vector<Node*> nodes{&node_};
  for (SimWorker* worker : living_workers()) nodes.push_back(&worker->node());
  return nodes;
}

}  // namespace orch::sim
