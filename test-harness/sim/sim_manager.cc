#include "sim/sim_manager.h"

#include <algorithm>
#include <utility>

namespace orch::sim {

SimManager::SimManager(World& world, ManagerSetup setup)
    : world_(world),
      node_(world.new_node("manager-" + std::to_string(setup.id.value.lo))),
      setup_(std::move(setup)),
      entropy_(world.rng()) {
  node_.alive = false;
}

void SimManager::start() {
  node_.alive = true;
  ++boot_;
  links_.clear();
  pool::Settings settings;
  settings.manager = setup_.id;
  settings.boot = boot_;
  settings.ttl = setup_.ttl;
  settings.term_grace = Duration::seconds(2);
  // Restarts are quick, so that a run of one virtual minute sees many lives.
  settings.restart.initial = Duration::milliseconds(200);
  settings.restart.max = Duration::seconds(2);
  settings.restart.breaker_failures = 1000;
  settings.replicas = setup_.replicas;
  core_.emplace(std::move(settings), entropy_);
  armed_for_ = Instant::never();
  if (world_.tracing()) world_.trace(node_.name, "starts, boot " + std::to_string(boot_));
  world_.on_node(node_, world_.now(), [this] { step(pool::Tick{}); });
}

void SimManager::crash() {
  if (!node_.alive) return;
  world_.count(Fault::crash_manager);
  world_.crash(node_);
  for (auto& [inc, process] : processes_) {
    world_.crash(process.worker->node());
    process.reaped = true;
  }
  core_.reset();
}

void SimManager::step(const pool::Event& event) {
  if (!core_) return;
  pool::Effects effects;
  core_->step(event, node_.clock.local(world_.now()), effects);
  core_->check_invariants();
  for (const pool::Effect& effect : effects) execute(effect);
  arm();
}

void SimManager::arm() {
  const Instant next = core_->next_wakeup();
  if (next.is_never() || next == armed_for_) return;
  armed_for_ = next;
  world_.on_node(node_, node_.clock.real(next), [this, next] {
    if (armed_for_ == next) armed_for_ = Instant::never();
    step(pool::Tick{});
  });
}

void SimManager::to_link(LinkId id, const std::function<void(const LinkSink&)>& deliver, World::Copies copies) {
  const auto it = links_.find(id);
  if (it == links_.end()) return;
  world_.send(it->second.stream, 0, copies, [sink = it->second.sink, deliver] { deliver(sink); });
}

void SimManager::execute(const pool::Effect& effect) {
  if (const auto* spawning = std::get_if<pool::SpawnWorker>(&effect)) return spawn(*spawning);
  if (const auto* signaling = std::get_if<pool::SignalWorker>(&effect)) return signal(*signaling);
  if (const auto* connecting = std::get_if<pool::ConnectWorker>(&effect)) return connect(connecting->inc);
  if (const auto* asking = std::get_if<pool::QueryInfo>(&effect)) return query(asking->inc);
  if (const auto* table = std::get_if<pool::SendTable>(&effect)) return send_table(*table);
  if (const auto* check = std::get_if<pool::SendSelfCheck>(&effect)) {
    if (Process* process = living(check->inc)) {
      world_.send(process->control, 1, World::Copies::one,
                  [worker = process->worker.get(), id = check->id] { worker->self_check(id); });
    }
  } else if (const auto* drain = std::get_if<pool::SendDrain>(&effect)) {
    if (Process* process = living(drain->inc)) {
      world_.send(process->control, 1, World::Copies::one,
                  [worker = process->worker.get(), deadline = drain->deadline] { worker->drain(deadline); });
    }
  } else if (const auto* welcome = std::get_if<pool::AttachWelcome>(&effect)) {
    const auto it = links_.find(welcome->link);
    if (it != links_.end()) it->second.welcomed = true;
    to_link(
        welcome->link,
        [message = *welcome, id = setup_.id, boot = boot_](const LinkSink& sink) { sink.welcome(message, id, boot); },
        World::Copies::one);
  } else if (const auto* refused = std::get_if<pool::AttachRefused>(&effect)) {
    const auto it = links_.find(refused->link);
    if (it == links_.end()) return;
    world_.break_stream(it->second.stream, 1);
    links_.erase(it);
  } else if (const auto* changed = std::get_if<pool::ReplicaChanged>(&effect)) {
    std::vector<LinkId> ids;
    for (const auto& [id, link] : links_) {
      if (link.welcomed) ids.push_back(id);
    }
    for (const LinkId id : ids) {
      to_link(id, [view = changed->replica](const LinkSink& sink) { sink.replica(view); }, World::Copies::one);
    }
  } else if (const auto* grant = std::get_if<pool::SendGrant>(&effect)) {
    if (world_.tracing()) {
      world_.trace(node_.name, "grants lease " + std::to_string(grant->lease.counter) + " of " + grant->replica_id +
                                   ", " + std::to_string(grant->slots) + " slots, from update " +
                                   std::to_string(grant->update_seq));
    }
    to_link(grant->link, [message = *grant](const LinkSink& sink) { sink.grant(message); }, World::Copies::repeatable);
  } else if (const auto* revoke = std::get_if<pool::SendRevoke>(&effect)) {
    if (world_.tracing())
      world_.trace(node_.name, "revokes lease " + std::to_string(revoke->lease.counter) + ": " + revoke->reason);
    to_link(
        revoke->link, [message = *revoke](const LinkSink& sink) { sink.revoke(message); }, World::Copies::repeatable);
  } else if (const auto* state = std::get_if<pool::NotedState>(&effect)) {
    if (world_.tracing())
      world_.trace(node_.name, state->replica_id + " is " + std::string(pool::to_string(state->to)));
  } else if (const auto* failure = std::get_if<pool::NotedFailure>(&effect)) {
    if (world_.tracing()) world_.trace(node_.name, failure->replica_id + " failed: " + failure->message);
  }
}

// --- processes ---

void SimManager::spawn(const pool::SpawnWorker& effect) {
  const Incarnation inc = effect.inc;
  if (!world_.healed() && world_.chance(world_.rates.refuse)) {
    world_.count(Fault::refuse);
    world_.on_node(node_, world_.now() + Duration::milliseconds(5),
                   [this, inc] { step(pool::SpawnFailed{inc, "no memory for a process", false}); });
    return;
  }
  const auto spec = std::find_if(setup_.replicas.begin(), setup_.replicas.end(),
                                 [&](const auto& each) { return each.replica_id == effect.replica_id; });
  for (SimWorker* other : living_workers()) {  // L6: the next life begins when the last one has been reaped
    if (other->setup().replica_id == effect.replica_id)
      world_.violation(other->endpoint() + " lives while its successor is started");
  }
  WorkerSetup worker;
  worker.manager = setup_.id;
  worker.inc = inc;
  worker.replica_id = effect.replica_id;
  worker.slots = spec->slots;
  worker.model = spec->model_name;
  worker.digest = "sha256:" + spec->model_name;
  worker.accelerator = setup_.accelerators.at(spec->replica_id);
  worker.fails_to_load = !world_.healed() && world_.chance(world_.rates.refuse * 4);
  worker.load_time = world_.between(setup_.load_min, setup_.load_max);
  worker.step = world_.between(Duration::milliseconds(10), Duration::milliseconds(120));
  worker.mutant = setup_.mutant;
  Process process;
  process.worker = std::make_unique<SimWorker>(world_, worker);
  const std::string endpoint = process.worker->endpoint();
  processes_.emplace(inc, std::move(process));
  world_.on_node(node_, world_.now() + Duration::milliseconds(3), [this, inc, endpoint] {
    step(pool::ProcessStarted{inc, static_cast<std::int64_t>(inc.counter), endpoint});
  });
}

SimManager::Process* SimManager::living(Incarnation inc) {
  const auto it = processes_.find(inc);
  return it == processes_.end() || !it->second.worker->node().alive ? nullptr : &it->second;
}

void SimManager::process_died(Incarnation inc, int signal_number) {
  Process& process = processes_.at(inc);
  if (setup_.mutant != Mutant::exit_without_death) world_.crash(process.worker->node());
  if (process.reaped) return;
  process.reaped = true;
  world_.on_node(node_, world_.now() + world_.between(Duration::microseconds(200), Duration::milliseconds(50)),
                 [this, inc, signal_number] { step(pool::ProcessExited{inc, 0, signal_number, {}}); });
}

void SimManager::signal(const pool::SignalWorker& effect) {
  Process* process = living(effect.inc);
  if (process == nullptr) return;
  if (effect.signal == pool::StopSignal::kill) return process_died(effect.inc, 9);
  world_.on_node(process->worker->node(), world_.now() + world_.between({}, Duration::milliseconds(300)),
                 [this, inc = effect.inc] { process_died(inc, 0); });
}

void SimManager::connect(Incarnation inc) {
  Process* process = living(inc);
  if (process == nullptr) return;
  if (process->control) world_.break_stream(process->control, 0);
  process->control = world_.connect(node_, process->worker->node());
  const StreamPtr control = process->control;
  if (!control) {
    world_.on_node(node_, world_.now() + Duration::milliseconds(2), [this, inc] { step(pool::ControlBroken{inc}); });
    return;
  }
  SimWorker* worker = process->worker.get();
  control->on_broken[0] = [this, inc, control] {
    const auto it = processes_.find(inc);
    if (it != processes_.end() && it->second.control == control) step(pool::ControlBroken{inc});
  };
  control->on_broken[1] = [worker, control] { worker->control_broken(control); };
  world_.send(control, 1, World::Copies::one, [this, worker, control, inc] {
    worker->control_opened(control, [this, inc, control](const pool::WorkerReport& report) {
      const auto it = processes_.find(inc);
      if (it != processes_.end() && it->second.control == control) step(report);
    });
  });
}

void SimManager::query(Incarnation inc) {
  Process* process = living(inc);
  const StreamPtr stream = process == nullptr ? nullptr : world_.connect(node_, process->worker->node());
  if (!stream) {
    world_.on_node(node_, world_.now() + Duration::milliseconds(5), [this, inc] { step(pool::InfoFailed{inc}); });
    return;
  }
  SimWorker* worker = process->worker.get();
  stream->on_broken[0] = [this, inc] { step(pool::InfoFailed{inc}); };
  world_.send(stream, 1, World::Copies::one, [this, worker, stream, inc] {
    world_.send(stream, 0, World::Copies::one, [this, inc, stream, facts = worker->facts()] {
      world_.close(stream);
      step(pool::InfoArrived{inc, facts});
    });
  });
}

// L1, L2: what the manager promises, checked before anything can be lost on the way.
void SimManager::check_table(const pool::SendTable& effect) {
  const Process& process = processes_.at(effect.inc);
  std::uint64_t promised = 0;
  for (const LeaseEntry& entry : effect.table.leases) {
    promised += entry.slots;
    const auto [known, fresh] = lease_of_.emplace(entry.id, std::pair(entry.holder, effect.inc));
    if (!fresh && known->second != std::pair(entry.holder, effect.inc))
      world_.violation("a lease id changed its holder or incarnation");
  }
  if (promised > process.worker->setup().slots) {
    world_.violation("a lease table promises " + std::to_string(promised) + " slots of " +
                     std::to_string(process.worker->setup().slots));
  }
}

void SimManager::send_table(const pool::SendTable& effect) {
  pool::SendTable out = effect;
  if (setup_.mutant == Mutant::table_over_declared && !out.table.leases.empty()) ++out.table.leases.front().slots;
  if (setup_.mutant == Mutant::lease_changes_holder && !out.table.leases.empty() && out.table.version.counter % 5 == 0)
    ++out.table.leases.front().holder.boot;
  check_table(out);
  if (setup_.mutant == Mutant::grant_before_ack) {
    for (const LeaseEntry& entry : out.table.leases) {  // the newest update of each holder is taken for renewed
      for (const auto& [id, link] : links_) {
        pool::SendGrant grant{id, entry.id, {}, out.inc, entry.slots, entry.secret, 0, out.table.ttl};
        const pool::ReplicaView* view = nullptr;
        const auto views = core_->replicas(node_.clock.local(world_.now()));
        for (const auto& each : views) {
          if (each.inc == out.inc) view = &each;
        }
        if (view == nullptr) continue;
        grant.replica_id = view->replica_id;
        grant.update_seq = ~0ull;  // "the last one", see SimGateway
        to_link(id, [grant](const LinkSink& sink) { sink.grant(grant); }, World::Copies::one);
      }
    }
  }
  Process* process = living(out.inc);
  if (process == nullptr) return;
  world_.send(process->control, 1, World::Copies::repeatable,
              [worker = process->worker.get(), table = out.table] { worker->apply(table); });
}

// --- faults ---

std::vector<SimWorker*> SimManager::living_workers() {
  std::vector<SimWorker*> out;
  for (auto& [inc, process] : processes_) {
    if (process.worker->node().alive) out.push_back(process.worker.get());
  }
  return out;
}

SimWorker* SimManager::worker_at(const std::string& endpoint) {
  for (auto& [inc, process] : processes_) {
    if (process.worker->endpoint() == endpoint) return process.worker.get();
  }
  return nullptr;
}

SimWorker* SimManager::worker_of(Incarnation inc) {
  const auto it = processes_.find(inc);
  return it == processes_.end() ? nullptr : it->second.worker.get();
}

void SimManager::crash_worker(std::uint64_t pick) {
  const auto workers = living_workers();
  if (workers.empty() || !node_.alive) return;
  world_.count(Fault::crash_worker);
  process_died(workers[pick % workers.size()]->setup().inc, 9);
}

void SimManager::pause_worker(std::uint64_t pick, Duration length) {
  const auto workers = living_workers();
  if (!workers.empty()) world_.pause(workers[pick % workers.size()]->node(), length);
}

void SimManager::drain_replica(std::size_t index, Duration deadline) {
  if (!core_ || !node_.alive) return;
  step(pool::DrainReplica{RequestId{1}, setup_.replicas[index].replica_id, deadline});
}

// --- links ---

LinkId SimManager::attach(const StreamPtr& stream, const Holder& holder, LinkSink sink) {
  const LinkId id{next_link_++};
  stream->on_broken[1] = [this, id] { link_broken(id); };
  world_.send(stream, 1, World::Copies::one, [this, id, stream, holder, sink = std::move(sink)] {
    links_[id] = Link{stream, sink, false};
    step(pool::AttachOpened{id, holder});
  });
  return id;
}

void SimManager::update(LinkId link, pool::HolderUpdate update) {
  update.link = link;
  if (links_.contains(link)) step(update);
}

void SimManager::link_broken(LinkId link) {
  if (links_.erase(link) > 0) step(pool::AttachClosed{link});
}

}  // namespace orch::sim
