#include "sim/sim_gateway.h"

#include <algorithm>
#include <utility>

#include "sim/script.h"

namespace orch::sim {
namespace {

bool for_clients(const gateway::Effect& effect) {
  using namespace gateway;
  return std::holds_alternative<HeadReply>(effect) || std::holds_alternative<AdmissionReply>(effect) ||
         std::holds_alternative<CancelReply>(effect) || std::holds_alternative<StreamOpened>(effect) ||
         std::holds_alternative<StreamRefused>(effect) || std::holds_alternative<Deliver>(effect) ||
         std::holds_alternative<AwaitReader>(effect) || std::holds_alternative<CutReader>(effect) ||
         std::holds_alternative<StreamClosed>(effect) || std::holds_alternative<NotedEnded>(effect) ||
         std::holds_alternative<NotedRetried>(effect) || std::holds_alternative<NotedPreempted>(effect) ||
         std::holds_alternative<NotedRecovered>(effect) || std::holds_alternative<SessionEnded>(effect) ||
         std::holds_alternative<TenantsReply>(effect) || std::holds_alternative<ModelsChanged>(effect) ||
         std::holds_alternative<Drained>(effect);
}

}  // namespace

gateway::ReplicaView to_gateway(const pool::ReplicaView& view) {
  gateway::ReplicaView out;
  out.replica_id = view.replica_id;
  out.pool_id = view.pool_id;
  out.state = view.state;
  out.inc = view.inc;
  out.endpoint = view.endpoint;
  out.engine = view.facts.engine.empty() ? view.engine : view.facts.engine;
  out.engine_version = view.facts.engine_version;
  out.model_name = view.model_name;
  out.model_digest = view.facts.model_digest;
  out.numeric_class = view.facts.numeric_class;
  out.accelerator = view.facts.accelerator;
  out.last_error = view.last_error;
  if (view.last_end)
    out.last_end = gateway::ProcessEnd{view.last_end->inc, std::string(pool::to_string(view.last_end->failure))};
  out.has_process = view.pid != 0;
  out.ctx_max = view.facts.ctx_max;
  out.slots = view.slots;
  out.template_fixed_bytes = view.facts.template_fixed_bytes;
  out.template_per_message_bytes = view.facts.template_per_message_bytes;
  out.token_bytes_expansion = view.facts.token_bytes_expansion;
  out.was_ready = view.was_ready;
  out.kv = view.kv;
  out.prefix_cache = view.facts.prefix_cache;
  out.retry_in = view.retry_in;
  return out;
}

SimGateway::SimGateway(World& world, GatewaySetup setup)
    : world_(world),
      node_(world.new_node("gateway-" + std::to_string(setup.id.value.lo))),
      setup_(std::move(setup)),
      journal_(world, node_) {
  node_.alive = false;
  node_.rearm = [this] { step(gateway::Tick{}); };
}

void SimGateway::start() {
  node_.alive = true;
  ++boot_;
  core_.emplace(setup_.config);
  setup_.gaps->began(setup_.index, holder(), *core_);
  watch_.emplace(world_, node_.name);
  quota_watch_.emplace(world_, node_.name, setup_.config.tenants, node_.clock.local(world_.now()));
  phases_.clear();
  armed_for_ = Instant::never();
  uplinks_.clear();
  last_update_.clear();
  last_grant_.clear();
  calls_.clear();
  holds_.clear();
  if (world_.tracing()) world_.trace(node_.name, "starts, boot " + std::to_string(boot_));
  journal_.process_died();  // the last life
  if (setup_.config.journal.enabled) {
    gateway::Recovered recovered = journal_.recover();
    step(recovered);
    if (!core_) return;  // it died of it
  }
  for (std::size_t i = 0; i < setup_.managers.size(); ++i) attach(i);
}

void SimGateway::crash() {
  if (!node_.alive) return;
  world_.count(Fault::crash_orchestrator);
  stop();
}

void SimGateway::stop() {
  world_.crash(node_);
  setup_.gaps->over(setup_.index);
  for (const auto& [id, stream] : calls_) setup_.history->given_up(id);
  core_.reset();
}

void SimGateway::event(const gateway::Event& event) {
  world_.on_node(node_, world_.now(), [this, event] { step(event); });  // a paused process answers later
}

void SimGateway::step(const gateway::Event& event) {
  if (!core_ || !node_.alive) return;
  const Instant local = node_.clock.local(world_.now());
  gateway::Effects effects;
  watch_->before(event, *core_, local);
  core_->step(event, local, effects);
  if (core_->next_wakeup() <= local) return world_.violation(node_.name + ": the next wakeup is not ahead");
  const std::string fault = core_->check_invariants();
  if (!fault.empty()) return world_.violation(node_.name + ": " + fault);
  watch_->after(event, effects, *core_, local);
  const auto* others = std::get_if<gateway::OthersReported>(&event);
  quota_watch_->after(event, effects, *core_, others != nullptr && manager_of(others->link), local);
  setup_.gaps->after(setup_.index);
  // The hot path changes no lease.
  if (!std::holds_alternative<gateway::DispatchTokens>(event)) {
    check_leases();
    follow_leases();
  }
  for (const gateway::Effect& effect : effects) {
    if (world_.crashes_before(effect)) return setup_.die();
    execute(effect);
  }
  if (core_) arm();
}

void SimGateway::look() {
  const Duration slack = Duration::milliseconds(500);
  const bool steady = node_.runs(world_.now()) && node_.paused_until + slack < world_.now();
  if (core_ && steady) watch_->look(*core_, node_.clock.local(world_.now()), slack);
}

// The life of each lease as its holder sees it, step by step.
void SimGateway::follow_leases() {
  const Instant local = node_.clock.local(world_.now());
  const auto move = [&](LeasePhase& phase, LeasePhase to) {
    if (phase == to) return;
    if (!may_change(phase, to)) {
      return world_.violation(node_.name + ": a held lease goes from " + phase_name(phase) + " to " + phase_name(to));
    }
    world_.coverage().edge(phase, to);
    phase = to;
  };
  const auto& leases = core_->leases().all();
  for (const auto& [key, lease] : leases) {
    move(phases_[key], lease.closed         ? LeasePhase::closed
                       : lease.end <= local ? LeasePhase::lapsed
                       : lease.stale        ? LeasePhase::stale
                                            : LeasePhase::live);
  }
  if (leases.size() == phases_.size()) return;
  for (auto it = phases_.begin(); it != phases_.end();) {
    const bool here = leases.contains(it->first);
    if (!here) move(it->second, LeasePhase::gone);
    it = here ? std::next(it) : phases_.erase(it);
  }
}

void SimGateway::arm() {
  const Instant next = core_->next_wakeup();
  if (next.is_never() || next == armed_for_) return;
  armed_for_ = next;
  world_.on_node(node_, node_.clock.real(next), [this, next] {
    if (armed_for_ != next) return;  // something else was armed meanwhile
    armed_for_ = Instant::never();
    step(gateway::Tick{});
  });
}

void SimGateway::execute(const gateway::Effect& effect) {
  using namespace gateway;
  setup_.poisons->before(setup_.index, effect);
  // Stored before anybody is told (OC-TENANT-1007, OC-MODEL-1007).
  if (const auto* tenants = std::get_if<TenantsReply>(&effect); tenants != nullptr && !tenants->failure)
    setup_.config.tenants = core_->tenants().config();
  if (const auto* models = std::get_if<ModelsChanged>(&effect)) setup_.config.models = models->standings;
  if (const auto* models = std::get_if<ModelsSettled>(&effect)) setup_.config.models = models->standings;
  if (for_clients(effect)) setup_.to_clients(effect);
  if (const auto* dispatching = std::get_if<Dispatch>(&effect)) return dispatch(*dispatching);
  if (const auto* canceling = std::get_if<CancelDispatch>(&effect)) return cancel(*canceling);
  if (const auto* beating = std::get_if<BeatWorker>(&effect)) return beat(*beating);
  if (const auto* forgetting = std::get_if<ForgetWorker>(&effect)) return forget(*forgetting);
  if (const auto* counting = std::get_if<CountTokens>(&effect)) return count_tokens(*counting);
  if (const auto* update = std::get_if<SendUpdate>(&effect)) return send_update(*update);
  if (const auto* write = std::get_if<JournalWrite>(&effect))
    return journal_.write(*write, [this](const Event& event) { step(event); });
  if (const auto* wanted = std::get_if<ReadJournal>(&effect))
    return journal_.read(*wanted, [this](const Event& event) { step(event); });
  if (const auto* fair = std::get_if<SendFair>(&effect)) return send_fair(*fair);
  if (const auto* operation = std::get_if<OperateReplica>(&effect)) return operate(*operation);
}

// --- managers ---

void SimGateway::attach(std::size_t index) {
  SimManager& manager = *setup_.managers[index];
  const StreamPtr stream = world_.connect(node_, manager.node());
  if (!stream) {
    world_.on_node(node_, world_.now() + world_.between(Duration::milliseconds(100), Duration::milliseconds(600)),
                   [this, index] { attach(index); });
    return;
  }
  const LinkId ours{next_link_++};
  stream->on_broken[0] = [this, index, ours] {
    step(gateway::ManagerDown{ours});
    const auto it = uplinks_.find(index);
    if (it != uplinks_.end() && it->second.ours == ours) uplinks_.erase(it);
    world_.on_node(node_, world_.now() + world_.between(Duration::milliseconds(100), Duration::milliseconds(600)),
                   [this, index] { attach(index); });
  };
  LinkSink sink;
  sink.welcome = [this, index, ours](const pool::AttachWelcome& welcome, ManagerId id, std::uint64_t boot) {
    const auto uplink = uplinks_.find(index);
    if (uplink != uplinks_.end() && uplink->second.ours == ours) uplink->second.manager = id;
    world_.disturb(world_.now());  // what the others know has yet to reach it
    gateway::ManagerUp up{ours, id, boot, {}};
    for (const pool::ReplicaView& view : welcome.replicas) up.replicas.push_back(to_gateway(view));
    step(up);
  };
  sink.replica = [this, ours](const pool::ReplicaView& view) { step(gateway::ReplicaChanged{ours, to_gateway(view)}); };
  sink.gone = [this, ours](const std::string& replica_id) { step(gateway::ReplicaGone{ours, replica_id}); };
  sink.load = [this, ours](const pool::ReplicaLoaded& load) {
    step(gateway::ReplicaLoaded{ours, load.replica_id, load.inc, load.kv_pages_used});
  };
  sink.grant = [this, ours](const pool::SendGrant& grant) {
    if (world_.tracing()) {
      world_.trace(node_.name, "hears of lease " + std::to_string(grant.lease.counter) + " of " + grant.replica_id +
                                   ", " + std::to_string(grant.slots) + " slots");
    }
    const bool forged = grant.update_seq == ~0ull;  // Mutant::grant_before_ack
    const std::uint64_t seq = forged ? last_update_[ours] : grant.update_seq;
    std::uint64_t& last_grant = last_grant_[ours];
    const bool renumbered = forged || setup_.mutant == Mutant::copies_are_news;
    const std::uint64_t number = renumbered ? last_grant + 1 : grant.number;
    last_grant = std::max(last_grant, number);
    if (const std::optional<ManagerId> manager = manager_of(ours))
      setup_.history->granted({*manager, grant.inc}, grant.lease, holder(), grant.slots, grant.number);
    step(gateway::LeaseGranted{ours, grant.lease, grant.replica_id, grant.inc, grant.slots, grant.secret, seq,
                               grant.ttl, number});
  };
  sink.granting = [this, ours](const pool::SendGrant& grant) {
    const std::optional<ManagerId> manager = manager_of(ours);
    if (core_ && manager && core_->leases().find({*manager, grant.lease}) == nullptr) setup_.first_grant();
  };
  sink.revoke = [this, ours](const pool::SendRevoke& revoke) {
    step(gateway::LeaseRevoked{ours, revoke.lease, revoke.stop});
  };
  sink.over = [this, ours](const pool::SendEarlierOver& over) {
    if (world_.tracing()) world_.trace(node_.name, "hears that nothing earlier is left at " + over.replica_id);
    step(gateway::EarlierOver{ours, over.replica_id, over.inc});
  };
  sink.others = [this, ours](const OthersReport& report, const ReportsHeard& heard) {
    step(gateway::OthersReported{ours, report});
    if (core_) setup_.gaps->heard(setup_.index, heard);
  };
  const LinkId theirs = manager.attach(stream, holder(), std::move(sink));
  uplinks_[index] = Uplink{stream, ours, theirs, {}};
}

void SimGateway::send_update(const gateway::SendUpdate& effect) {
  if (world_.tracing()) {
    std::string text = "bids";
    for (const gateway::PoolBid& bid : effect.bids)
      text += " " + bid.pool_id + " " + std::to_string(bid.running) + "+" + std::to_string(bid.waiting);
    world_.trace(node_.name, text + " in update " + std::to_string(effect.seq));
  }
  last_update_[effect.link] = effect.seq;
  for (const auto& [index, uplink] : uplinks_) {
    if (uplink.ours != effect.link) continue;
    pool::HolderUpdate update;
    update.seq = effect.seq;
    for (const gateway::PoolBid& bid : effect.bids) {
      pool::Bid& copy = update.bids.emplace_back(pool::Bid{bid.pool_id, bid.running, bid.waiting});
      for (const gateway::TenantBid& tenant : bid.tenants) {
        copy.tenants.push_back(
            {tenant.priority == Priority::batch ? pool::JobClass::batch : pool::JobClass::interactive, tenant.class_v,
             tenant.tenant_v, tenant.waiting, tenant.age});
      }
    }
    update.grants_seen = effect.grants_seen;
    if (setup_.mutant != Mutant::beyond_unsaid) update.beyond = effect.beyond;
    update.grant_age = effect.grant_age;
    update.renew = effect.renew;
    update.release = effect.release;
    world_.send(uplink.stream, 1, World::Copies::repeatable,
                [manager = setup_.managers[index], link = uplink.theirs, update] { manager->update(link, update); });
    return;
  }
}

void SimGateway::send_fair(const gateway::SendFair& effect) {
  for (const auto& [index, uplink] : uplinks_) {
    if (uplink.ours != effect.link) continue;
    world_.send(uplink.stream, 1, World::Copies::repeatable,
                [manager = setup_.managers[index], link = uplink.theirs, report = effect.report,
                 number = setup_.gaps->said(setup_.index)] { manager->fair(link, report, number); });
    return;
  }
}

bool SimGateway::attached_to_all() const {
  if (!core_ || core_->draining() || uplinks_.size() < setup_.managers.size()) return false;
  return std::all_of(uplinks_.begin(), uplinks_.end(), [&](const auto& entry) {
    const SimManager& manager = *setup_.managers[entry.first];
    return entry.second.stream->open && entry.second.manager == manager.setup().id && manager.core() != nullptr;
  });
}

SimManager* SimGateway::manager_with(ManagerId id) {
  for (SimManager* manager : setup_.managers) {
    if (manager->setup().id.value.lo == id.value.lo) return manager;  // also under an identity it has lost since
  }
  return nullptr;
}

std::optional<ManagerId> SimGateway::manager_of(LinkId link) const {
  for (const auto& [index, uplink] : uplinks_) {
    if (uplink.ours == link) return uplink.manager;
  }
  return std::nullopt;
}

void SimGateway::operate(const gateway::OperateReplica& effect) {
  for (const auto& [index, uplink] : uplinks_) {
    if (uplink.ours != effect.link) continue;
    world_.send(uplink.stream, 1, World::Copies::one,
                [manager = setup_.managers[index], effect] { manager->operate(effect); });
  }
}

// L4: at no instant does the holder believe longer in a lease than its worker does.
void SimGateway::check_leases() {
  for (const auto& [key, lease] : core_->leases().all()) {
    if (lease.closed || lease.stale) continue;
    SimManager* manager = manager_with(key.manager);
    SimWorker* worker = manager == nullptr ? nullptr : manager->worker_of(key.manager, lease.inc);
    if (worker == nullptr || !worker->node().alive) continue;
    const Instant holder_end = node_.clock.real(lease.end);
    if (holder_end <= world_.now()) continue;
    const std::optional<Instant> worker_end = worker->lease_end(key.lease);
    // A lease that the worker has dropped is on its way to be revoked: dispatches on it are refused.
    if (worker_end && holder_end > *worker_end + Duration::milliseconds(4)) {
      return world_.violation("the holder's end of lease " + std::to_string(key.lease.counter) + " lies " +
                              std::to_string((holder_end - *worker_end).ms()) + " ms after the worker's");
    }
    if (!worker_end && manager->core() != nullptr && manager->setup().id == key.manager) {
      const pool::LeaseBook* book = manager->core()->book_of(lease.inc);
      const pool::Lease* entry = book == nullptr ? nullptr : book->find(key.lease);
      if (entry != nullptr && !entry->closed)
        return world_.violation("a holder was told of lease " + std::to_string(key.lease.counter) +
                                " before its worker");
    }
  }
}

// --- workers ---

SimWorker* SimGateway::worker_at(const std::string& endpoint) {
  for (SimManager* manager : setup_.managers) {
    if (SimWorker* worker = manager->worker_at(endpoint)) return worker;
  }
  return nullptr;
}

// L3, L4 at the sender: every dispatch goes out under a lease that the core itself holds to be live.
void SimGateway::check_dispatch(const gateway::Dispatch& effect) {
  const gateway::HeldLease* lease = core_->leases().find({effect.fence.manager, effect.fence.lease});
  const Instant local = node_.clock.local(world_.now());
  if (lease == nullptr || !lease->live(local)) return world_.violation("a dispatch under a lease that is over");
  if (lease->in_use > lease->slots) return world_.violation("a dispatch beyond the slots of its lease");
}

void SimGateway::dispatch(const gateway::Dispatch& effect) {
  check_dispatch(effect);
  const DispatchId id = effect.dispatch;
  if (world_.tracing())
    world_.trace(node_.name, "dispatches job " + std::to_string(id.job.value.lo) + " attempt " +
                                 std::to_string(id.attempt) + " to " + effect.endpoint);
  SimWorker* worker = worker_at(effect.endpoint);
  const StreamPtr stream = worker == nullptr ? nullptr : world_.connect(node_, worker->node());
  if (!stream) {
    world_.on_node(node_, world_.now() + Duration::milliseconds(2), [this, id] { step(gateway::DispatchBroken{id}); });
    return;
  }
  const auto [weights, first] = weights_.try_emplace(id.job, worker->setup().digest);
  if (effect.resume_ids.empty()) weights->second = worker->setup().digest;
  if (weights->second != worker->setup().digest)
    return world_.violation(node_.name + ": job " + std::to_string(id.job.value.lo) +
                            " goes on with other weights (M3)");
  calls_[id] = stream;
  setup_.history->sent({effect.fence.manager, effect.fence.inc}, effect.fence.lease, id, effect.lease_slots);
  stream->on_broken[0] = [this, id] { call_broken(id); };
  stream->on_broken[1] = [worker, id, stream] { worker->call_broken(id, stream); };
  CallAnswer answer = [this, id](const gateway::Event& event) {
    const bool last = std::holds_alternative<gateway::DispatchFinished>(event) ||
                      std::holds_alternative<gateway::DispatchFailed>(event);
    if (last && setup_.mutant == Mutant::drop_terminal && id.job.value.lo % 5 == 0) return;
    if (last) {
      const auto call = calls_.find(id);
      if (call != calls_.end()) {
        world_.close(call->second);
        calls_.erase(call);
      }
    }
    step(event);
  };
  // A second copy stands for a dispatch that some hop repeats: the worker must refuse what it has admitted, and nobody
  // hears the refusal.
  const auto admitted = std::make_shared<std::optional<bool>>();
  world_.send(stream, 1, World::Copies::repeatable, [worker, stream, effect, holder = holder(), answer, admitted] {
    if (!*admitted) {
      *admitted = worker->generate(stream, effect, holder, answer);
    } else if (**admitted) {
      worker->generate(nullptr, effect, holder, answer);
    }
  });
}

// Cancelling ends the call here at once; the worker learns of it, and what it had sent before may still surface (L10).
void SimGateway::cancel(const gateway::CancelDispatch& effect) {
  const auto it = calls_.find(effect.dispatch);
  if (it == calls_.end()) return;
  const StreamPtr stream = it->second;
  world_.on_node(node_, world_.now() + world_.between(Duration::microseconds(10), Duration::milliseconds(400)),
                 [this, id = effect.dispatch, stream] {
                   world_.break_stream(stream, 0);
                   call_broken(id);
                 });
}

void SimGateway::call_broken(DispatchId id) {
  setup_.history->given_up(id);
  if (calls_.erase(id) > 0) step(gateway::DispatchBroken{id});
}

void SimGateway::beat(const gateway::BeatWorker& effect) {
  SimWorker* worker = worker_at(effect.endpoint);
  if (worker == nullptr) return;
  Hold& hold = holds_[effect.endpoint];
  if (!hold.stream || !hold.stream->open) {
    hold.stream = world_.connect(node_, worker->node());
    if (!hold.stream) return;
    const StreamPtr stream = hold.stream;
    stream->on_broken[1] = [worker, stream, holder = holder()] { worker->hold_broken(holder, stream); };
    world_.send(stream, 1, World::Copies::one,
                [worker, stream, holder = holder()] { worker->hold_opened(holder, stream); });
    return;
  }
  world_.send(hold.stream, 1, World::Copies::repeatable, [worker, holder = holder()] { worker->beat(holder); });
}

void SimGateway::forget(const gateway::ForgetWorker& effect) {
  const auto it = holds_.find(effect.endpoint);
  if (it == holds_.end()) return;
  world_.break_stream(it->second.stream, 0);
  holds_.erase(it);
}

void SimGateway::count_tokens(const gateway::CountTokens& effect) {
  const bool lost = !world_.healed() && world_.chance(500);
  const auto tokens = static_cast<std::uint32_t>(world_.rng().below(700));
  world_.on_node(node_, world_.now() + world_.between(Duration::milliseconds(1), Duration::seconds(7)),
                 [this, request = effect.request, lost, tokens] {
                   step(gateway::TokensCounted{request, lost ? std::nullopt : std::optional(tokens)});
                 });
}

std::string SimGateway::check_rest() const {
  if (!core_) return {};
  for (std::size_t i = 0; i < setup_.managers.size(); ++i) {
    const auto uplink = uplinks_.find(i);
    if (uplink == uplinks_.end() || uplink->second.manager != setup_.managers[i]->setup().id)
      return node_.name + " is not attached to " + setup_.managers[i]->node().name;
  }
  for (const auto& [key, lease] : core_->leases().all()) {
    const bool known = std::any_of(setup_.managers.begin(), setup_.managers.end(),
                                   [&](const SimManager* manager) { return manager->setup().id == key.manager; });
    if (!known) return node_.name + " still believes in a lease of a manager that lost its state";
  }
  if (core_->queue().size() > 0) return node_.name + ": jobs still wait";
  if (core_->in_flight() > 0) return node_.name + ": calls are still open";
  for (const auto& [key, lease] : core_->leases().all()) {
    if (lease.in_use > 0) return node_.name + ": lease " + std::to_string(key.lease.counter) + " keeps a slot";
  }
  for (const auto& [id, job] : core_->jobs()) {
    if (job.state != gateway::JobState::ended)
      return node_.name + ": job " + std::to_string(id.value.lo) + " has not ended";
  }
  return {};
}

}  // namespace orch::sim
