#include "sim/sim_manager.h"

#include <algorithm>
#include <utility>

#include "sim/script.h"

namespace orch::sim {

SimManager::SimManager(World& world, ManagerSetup setup)
    : world_(world),
      node_(world.new_node("manager-" + std::to_string(setup.id.value.lo))),
      setup_(std::move(setup)),
      entropy_(world.rng()),
      stored_(setup_.replicas) {
  node_.alive = false;
  node_.rearm = [this] { step(pool::Tick{}); };
}

void SimManager::start() {
  node_.alive = true;
  ++boot_;
  links_.clear();
  reports_.clear();
  books_.clear();
  ends_.clear();
  // What is left of a drain that an earlier life began is its worker's word, by its clock: not judged here.
  for (auto& [inc, until] : drain_until_) until = {};
  asked_.clear();
  operations_.clear();
  pool::Settings settings;
  settings.manager = setup_.id;
  settings.boot = boot_;
  settings.ttl = setup_.ttl;
  settings.term_grace = Duration::seconds(2);
  settings.restart = setup_.restart;
  settings.replicas = stored_;
  settings.mutation = setup_.mutation;
  core_.emplace(std::move(settings), entropy_);
  armed_for_ = Instant::never();
  if (world_.tracing()) world_.trace(node_.name, "starts, boot " + std::to_string(boot_));
  world_.on_node(node_, world_.now(), [this] {
    if (setup_.mutant != Mutant::workers_not_found) step(find_workers());
    step(pool::Tick{});
  });
}

// L8: what an earlier boot wrote down and still lives. A worker that was started otherwise is not adopted but ended.
pool::WorkersFound SimManager::find_workers() {
  pool::WorkersFound found;
  for (auto& [key, process] : processes_) {
    if (key.manager != setup_.id || !process.known || !process.worker->node().alive) continue;
    const WorkerSetup& is = process.worker->setup();
    const bool as_stored = std::any_of(stored_.begin(), stored_.end(), [&](const pool::ReplicaSpec& spec) {
      return spec.replica_id == is.replica_id && spec.model_path == is.model_path;
    });
    if (!as_stored) {
      end_worker(process);
      continue;
    }
    found.workers.push_back({.replica_id = process.worker->setup().replica_id,
                             .inc = key.inc,
                             .pid = static_cast<std::int64_t>(key.inc.counter),
                             .endpoint = process.worker->endpoint()});
    world_.count(Fault::adopted);
  }
  return found;
}

void SimManager::step(const pool::Event& event) {
  if (!core_) return;
  if (const auto* exited = std::get_if<pool::ProcessExited>(&event)) note_end(*exited);
  pool::Effects effects;
  core_->step(event, node_.clock.local(world_.now()), effects);
  core_->check_invariants();
  follow_books();
  for (const pool::Effect& effect : effects) {
    if (world_.crashes_before(effect)) {
      setup_.die();
      return;
    }
    execute(effect);
    if (!core_) return;  // it was the last one
  }
  arm();
}

// The life of each lease in the books, step by step.
void SimManager::follow_books() {
  const auto move = [&](BookPhase& phase, BookPhase to) {
    if (phase == to) return;
    if (!may_change(phase, to)) {
      return world_.violation(node_.name + ": a lease in the book goes from " + phase_name(phase) + " to " +
                              phase_name(to));
    }
    world_.coverage().edge(phase, to);
    phase = to;
  };
  std::size_t seen = 0;
  const Instant now = node_.clock.local(world_.now());
  const std::vector<const pool::LeaseBook*> books = core_->books();
  for (const pool::LeaseBook* book : books) {
    for (const auto& [id, lease] : book->leases()) {
      ++seen;
      // L4: whose holder stays silent has lost it, whatever else happened since.
      if (!lease.closed && lease.expires <= now) {
        return world_.violation(node_.name + ": lease " + std::to_string(id.counter) + " stands behind its end");
      }
      move(books_[id], lease.closed                ? BookPhase::closed
                       : lease.acked_renewals > 0  ? BookPhase::acked
                       : lease.issued_renewals > 0 ? BookPhase::issued
                                                   : BookPhase::opened);
    }
  }
  if (seen == books_.size()) return;
  for (auto it = books_.begin(); it != books_.end();) {
    const bool here = std::any_of(books.begin(), books.end(),
                                  [&](const pool::LeaseBook* book) { return book->find(it->first) != nullptr; });
    if (!here) move(it->second, BookPhase::gone);
    it = here ? std::next(it) : books_.erase(it);
  }
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

void SimManager::to_all(const std::function<void(const LinkSink&)>& deliver, World::Copies copies) {
  std::vector<LinkId> ids;
  for (const auto& [id, link] : links_) {
    if (link.welcomed) ids.push_back(id);
  }
  for (const LinkId id : ids) to_link(id, deliver, copies);
}

void SimManager::execute(const pool::Effect& effect) {
  if (const auto* spawning = std::get_if<pool::SpawnWorker>(&effect)) return spawn(*spawning);
  if (const auto* signaling = std::get_if<pool::SignalWorker>(&effect)) return signal(*signaling);
  if (const auto* connecting = std::get_if<pool::ConnectWorker>(&effect))
    return connect(connecting->inc, connecting->wants_table);
  if (const auto* asking = std::get_if<pool::QueryInfo>(&effect)) return query(asking->inc);
  if (const auto* table = std::get_if<pool::SendTable>(&effect)) return send_table(*table);
  if (const auto* check = std::get_if<pool::SendSelfCheck>(&effect)) {
    if (Process* process = living(check->inc)) {
      world_.send(process->control, 1, World::Copies::one,
                  [worker = process->worker.get(), id = check->id] { worker->self_check(id); });
    }
  } else if (const auto* drain = std::get_if<pool::SendDrain>(&effect)) {
    const Instant until = node_.clock.local(world_.now()) + drain->deadline;
    Instant& known = drain_until_.try_emplace(drain->inc, until).first->second;
    known = std::min(known, until);
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
    check_end(changed->replica);
    to_all([view = changed->replica](const LinkSink& sink) { sink.replica(view); }, World::Copies::one);
  } else if (const auto* gone = std::get_if<pool::ReplicaGone>(&effect)) {
    ends_.erase(gone->replica_id);
    to_all([what = gone->replica_id](const LinkSink& sink) { sink.gone(what); }, World::Copies::one);
  } else if (const auto* reply = std::get_if<pool::OperationReply>(&effect)) {
    answered(*reply);
  } else if (const auto* done = std::get_if<pool::OperationEnded>(&effect)) {
    ended(done->operation);
  } else if (const auto* load = std::get_if<pool::ReplicaLoaded>(&effect)) {
    to_all([message = *load](const LinkSink& sink) { sink.load(message); }, World::Copies::repeatable);
  } else if (const auto* grant = std::get_if<pool::SendGrant>(&effect)) {
    setup_.history->told({setup_.id, grant->inc}, grant->lease, grant->slots, grant->number);
    if (world_.tracing()) {
      world_.trace(node_.name, "grants lease " + std::to_string(grant->lease.counter) + " of " + grant->replica_id +
                                   ", " + std::to_string(grant->slots) + " slots, from update " +
                                   std::to_string(grant->update_seq));
    }
    to_link(grant->link, [message = *grant](const LinkSink& sink) { sink.grant(message); }, World::Copies::repeatable);
    if (const auto link = links_.find(grant->link); link != links_.end()) link->second.sink.granting(*grant);
  } else if (const auto* others = std::get_if<pool::SendOthers>(&effect)) {
    to_link(
        others->link,
        [message = others->others, heard = reports_](const LinkSink& sink) { sink.others(message, heard); },
        World::Copies::repeatable);
  } else if (const auto* over = std::get_if<pool::SendEarlierOver>(&effect)) {
    to_link(over->link, [message = *over](const LinkSink& sink) { sink.over(message); }, World::Copies::repeatable);
  } else if (const auto* revoke = std::get_if<pool::SendRevoke>(&effect)) {
    if (world_.tracing())
      world_.trace(node_.name, "revokes lease " + std::to_string(revoke->lease.counter) + ": " + revoke->reason);
    to_link(
        revoke->link, [message = *revoke](const LinkSink& sink) { sink.revoke(message); }, World::Copies::repeatable);
  } else if (const auto* state = std::get_if<pool::NotedState>(&effect)) {
    world_.coverage().edge(state->from, state->to);
    if (world_.tracing())
      world_.trace(node_.name, state->replica_id + " is " + std::string(pool::to_string(state->to)));
  } else if (std::holds_alternative<pool::ShutdownComplete>(effect)) {
    if (!living_workers().empty()) world_.violation(node_.name + " says it is shut down and leaves a worker");
    setup_.shut_down();
  } else if (const auto* failure = std::get_if<pool::NotedFailure>(&effect)) {
    if (world_.tracing()) world_.trace(node_.name, failure->replica_id + " failed: " + failure->message);
  }
}

// --- processes ---

void SimManager::spawn(const pool::SpawnWorker& effect) {
  const Incarnation inc = effect.inc;
  const std::optional<pool::ReplicaSpec> spec = spec_of(effect.replica_id);
  if (!spec) return world_.violation(node_.name + ": a worker is started for a replica that is gone");
  const SpawnFate fate = draw_fate(*spec);
  if (fate != SpawnFate::runs) world_.count(Fault::refuse);
  if (fate == SpawnFate::no_process || fate == SpawnFate::never_starts) {
    world_.on_node(node_, world_.now() + Duration::milliseconds(5), [this, inc, fate] {
      step(pool::SpawnFailed{inc, "no memory for a process", fate == SpawnFate::never_starts});
    });
    return;
  }
  for (SimWorker* other : living_workers()) {  // L6: the next life begins when the last one has been reaped
    if (other->setup().replica_id == effect.replica_id)
      world_.violation(other->endpoint() + " lives while its successor is started");
  }
  const WorkerKey key{setup_.id, inc};
  WorkerSetup worker;
  worker.manager = setup_.id;
  worker.inc = inc;
  worker.replica_id = effect.replica_id;
  worker.slots = spec->slots;
  worker.model = spec->model_name;
  worker.model_path = effect.model.path;
  worker.digest = digest_in(effect.model.path);
  worker.accelerator = setup_.accelerators.at(spec->place);
  worker.fails_to_load = fate == SpawnFate::fails_to_load || fate == SpawnFate::fails_to_load_for_good;
  worker.fails_self_check = fate == SpawnFate::fails_check;
  // Every third replica has memory for two short jobs or one long one, however many slots it declares.
  const bool tight = mix(setup_.id.value.lo * 7 + static_cast<unsigned char>(spec->place.back())) % 3 == 0;
  if (setup_.memory)
    worker.kv = {.page_tokens = tight ? 256u : 16u, .pages_total = tight ? 2u : 1024u, .pages_used = 0};
  worker.load_time = world_.between(setup_.load_min, setup_.load_max);
  worker.step = world_.between(Duration::milliseconds(10), Duration::milliseconds(120));
  worker.mutant = setup_.mutant;
  worker.history = setup_.history;
  worker.attempts = setup_.attempts;
  worker.die = [this, key] { process_died(key, 0, 9); };
  worker.exit_lost = [this, key] { process_died(key, 69, 0); };
  Process process;
  process.worker = std::make_unique<SimWorker>(world_, worker);
  const std::string endpoint = process.worker->endpoint();
  Node& node = process.worker->node();
  processes_.emplace(key, std::move(process));
  world_.on_node(node_, world_.now() + Duration::milliseconds(3), [this, inc, endpoint, key] {
    processes_.at(key).known = true;
    step(pool::ProcessStarted{inc, static_cast<std::int64_t>(inc.counter), endpoint});
  });
  if (fate == SpawnFate::fails_to_load_for_good) {  // it says so, and leaves by itself
    world_.on_node(node,
                   world_.now() + worker.load_time + world_.between(Duration::milliseconds(300), Duration::seconds(1)),
                   [this, key] { process_died(key, 65, 0); });
  }
  if (fate == SpawnFate::exits_for_good) {
    world_.on_node(node, world_.now() + world_.between(Duration::milliseconds(5), Duration::seconds(4)),
                   [this, key] { process_died(key, 65, 0); });
  }
}

SimManager::Process* SimManager::living(Incarnation inc) {
  const auto it = processes_.find({setup_.id, inc});
  return it == processes_.end() || !it->second.worker->node().alive ? nullptr : &it->second;
}

void SimManager::process_died(const WorkerKey& key, int exit_code, int signal_number) {
  Process& process = processes_.at(key);
  if (setup_.mutant != Mutant::exit_without_death) {
    if (process.worker->node().alive) setup_.history->died(key);
    world_.crash(process.worker->node());
  }
  if (process.reaped) return;
  process.reaped = true;
  world_.on_node(node_, world_.now() + world_.between(Duration::microseconds(200), Duration::milliseconds(50)),
                 [this, inc = key.inc, exit_code, signal_number] {
                   step(pool::ProcessExited{inc, exit_code, signal_number, {}});
                 });
}

void SimManager::signal(const pool::SignalWorker& effect) {
  Process* process = living(effect.inc);
  if (process == nullptr) return;
  check_signal(effect);
  const WorkerKey key = process->worker->key();
  if (effect.signal == pool::StopSignal::kill) return process_died(key, 0, 9);
  world_.on_node(process->worker->node(), world_.now() + world_.between({}, Duration::milliseconds(300)),
                 [this, key] { process_died(key, 0, 0); });
}

// I9: a drain stops its worker when it is idle or when the deadline is over.
void SimManager::check_signal(const pool::SignalWorker& effect) {
  if (effect.signal != pool::StopSignal::terminate) return;
  const SimWorker& worker = *living(effect.inc)->worker;
  const auto until = drain_until_.find(effect.inc);
  if (until == drain_until_.end() || node_.clock.local(world_.now()) >= until->second) return;
  if (worker.running() > 0) world_.violation(worker.endpoint() + " is stopped with a job before the drain's deadline");
}

void SimManager::connect(Incarnation inc, bool wants_table) {
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
    const auto it = processes_.find({setup_.id, inc});
    if (it != processes_.end() && it->second.control == control) step(pool::ControlBroken{inc});
  };
  control->on_broken[1] = [worker, control] { worker->control_broken(control); };
  world_.send(control, 1, World::Copies::one, [this, worker, control, inc, wants_table] {
    worker->control_opened(control, wants_table, [this, inc, control](const pool::WorkerReport& report) {
      const auto it = processes_.find({setup_.id, inc});
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
  const Process& process = processes_.at({setup_.id, effect.inc});
  std::uint64_t promised = 0;
  for (const LeaseEntry& entry : effect.table.leases) {
    promised += entry.slots;
    const auto [known, fresh] = lease_of_.emplace(std::pair(setup_.id, entry.id), std::pair(entry.holder, effect.inc));
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

// --- for the others ---

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

SimWorker* SimManager::worker_of(ManagerId manager, Incarnation inc) {
  const auto it = processes_.find({manager, inc});
  return it == processes_.end() ? nullptr : it->second.worker.get();
}

bool SimManager::serves() const {
  if (!core_) return false;
  const std::vector<pool::ReplicaView> views = core_->replicas(node_.clock.local(world_.now()));
  const std::string& first = setup_.replicas.front().place;
  return std::any_of(views.begin(), views.end(), [&](const pool::ReplicaView& view) {
    return view.state == pool::ReplicaState::ready &&
           (view.replica_id == first || view.replica_id == pool::replica_id_of(first, 1));
  });
}

// --- links ---

LinkId SimManager::attach(const StreamPtr& stream, const Holder& holder, LinkSink sink) {
  const LinkId id{next_link_++};
  stream->on_broken[1] = [this, id] { link_broken(id); };
  world_.send(stream, 1, World::Copies::one, [this, id, stream, holder, sink = std::move(sink)] {
    links_[id] = Link{stream, sink, holder, false};
    step(pool::AttachOpened{id, holder, {}});  // addresses decide nothing in the cores
  });
  return id;
}

void SimManager::update(LinkId link, pool::HolderUpdate update) {
  update.link = link;
  if (links_.contains(link)) step(update);
}

void SimManager::fair(LinkId link, const FairReport& report, std::uint64_t number) {
  const auto from = links_.find(link);
  if (from == links_.end()) return;
  std::uint64_t& known = reports_[from->second.holder];
  known = std::max(known, number);
  step(pool::FairReported{link, report});
}

void SimManager::link_broken(LinkId link) {
  if (links_.erase(link) > 0) step(pool::AttachClosed{link});
}

}  // namespace orch::sim
