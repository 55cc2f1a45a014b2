#include "sim/nemesis.h"

#include <algorithm>
#include <numeric>

namespace orch::sim {

// Swarm testing: each kind of fault is on in about two seeds of three, at a rate of its own.
void Nemesis::draw() {
  Prng& rng = world_.rng();
  const auto rate = [&](std::uint32_t most) {
    return rng.below(3) == 0 ? 0 : static_cast<std::uint32_t>(rng.below(most) + 1);
  };
  FaultRates& rates = world_.rates;
  rates.drop = rate(60);
  rates.half_open = rate(5000);
  rates.delay = rate(300);
  rates.duplicate = rate(200);
  rates.refuse = rate(400);
  rates.lose_report = rate(1500);
  rates.slow_reader = rate(3000);
  rates.slow_disk = rate(400);
  rates.disk_fails = rate(300);
  rates.crash_at_effect = rate(200);
  for (std::uint32_t& weight : weights_) weight = rng.below(3) == 0 ? 0 : static_cast<std::uint32_t>(rng.between(1, 4));
  weights_[static_cast<std::size_t>(Kind::lose_state)] = rng.below(5) == 0 ? 1 : 0;
  weights_[static_cast<std::size_t>(Kind::stall)] = rng.below(4) == 0 ? 1 : 0;
  weights_[static_cast<std::size_t>(Kind::change_tenants)] = rng.below(3) == 0 ? 2 : 0;
  weights_[static_cast<std::size_t>(Kind::change_model)] = rng.below(3) == 0 ? 2 : 0;
  gap_max_ = Duration::milliseconds(rng.between(1000, 5000));
  world_.draw_crash_targets(rng.below(3));
}

void Nemesis::draw_calm() {
  Prng& rng = world_.rng();
  world_.rates = {};
  weights_ = {};
  gap_min_ = Duration::seconds(4);
  gap_max_ = Duration::seconds(12);
  if (rng.below(2) == 0) return;
  for (const Kind kind : {Kind::crash_worker, Kind::crash_manager, Kind::crash_gateway, Kind::drain_replica,
                          Kind::lose_state, Kind::undrain, Kind::roll_out})
    weights_[static_cast<std::size_t>(kind)] = static_cast<std::uint32_t>(rng.below(3));
}

void Nemesis::schedule(Instant from, Instant until) {
  until_ = until;
  Instant at = from;
  while (at < until) {
    world_.at(at, [this] { strike(); });
    at = at + world_.between(gap_min_, gap_max_);
  }
}

void Nemesis::strike() {
  Prng& rng = world_.rng();
  const std::uint64_t total = std::accumulate(weights_.begin(), weights_.end(), std::uint64_t{0});
  if (total == 0) return;
  std::uint64_t pick = rng.below(total);
  std::size_t kind = 0;
  while (pick >= weights_[kind]) pick -= weights_[kind++];
  SimManager& manager = *room_.managers[rng.below(room_.managers.size())];
  SimGateway& gateway = *room_.gateways[rng.below(room_.gateways.size())];
  strike(static_cast<Kind>(kind), gateway, manager);
}

void Nemesis::strike(Kind kind, SimGateway& gateway, SimManager& manager) {
  Prng& rng = world_.rng();
  const std::uint64_t pick = rng.next();
  const Duration length = world_.between(Duration::milliseconds(20), Duration::seconds(20));
  switch (kind) {
    case Kind::crash_worker:  // by itself, or with its device
      return pick % 3 == 0 ? manager.lose_device(pick / 3) : manager.crash_worker(pick);
    case Kind::crash_manager:
      if (!manager.node().alive) return;
      world_.count(Fault::crash_manager);
      return crash_manager(manager);
    case Kind::crash_gateway:
      if (!gateway.node().alive) return;
      world_.count(Fault::crash_orchestrator);
      return crash_gateway(gateway);
    case Kind::pause_worker:
      return manager.pause_worker(pick, length);
    case Kind::pause_process:
      return world_.pause(pick % 2 == 0 ? manager.node() : gateway.node(), length);
    case Kind::drain_replica:
      if (manager.setup().replicas.size() < 2 || !manager.node().alive || pick % 3 != 0) return;
      world_.count(Fault::drain);
      return manager.drain_some(pick / 3, world_.between({}, Duration::seconds(10)));
    case Kind::undrain:
      if (!manager.node().alive) return;
      world_.count(Fault::undrain);
      return manager.undrain_some(pick);
    case Kind::roll_out:
      if (!manager.node().alive) return;
      world_.count(Fault::rollout);
      return manager.roll_out(pick, static_cast<SimManager::Rollout>(rng.below(4)),
                              world_.between({}, Duration::seconds(6)));
    case Kind::change_tenants:
      return room_.operators->change_tenants(index_of(gateway));
    case Kind::change_model:
      return room_.operators->change_model(index_of(gateway), manager.setup().replicas[0].model_name);
    case Kind::shut_manager:  // SIGTERM
      if (!manager.node().alive || pick % 2 != 0) return;
      world_.count(Fault::drain);
      return manager.shutdown(world_.between({}, Duration::seconds(8)));
    case Kind::drain_gateway:  // SIGTERM
      if (!gateway.node().alive || pick % 2 != 0) return;
      world_.count(Fault::drain);
      return drain(gateway);
    case Kind::suspend:
      return world_.suspend(pick % 2 == 0 ? manager.host() : std::vector<Node*>{&gateway.node()}, length);
    case Kind::stall:
      return manager.stall_worker(pick);
    case Kind::lose_state:
      if (!manager.node().alive) return;
      world_.count(Fault::crash_manager);
      crash_manager(manager);
      return manager.lose_state();
    case Kind::cut_manager:
    case Kind::cut_worker:
    case Kind::cut_host:
    case Kind::one_way_manager:
    case Kind::one_way_worker:
      return cut(gateway, manager, kind, length);
  }
}

// A process that stands still as its deadline passes finds whatever came meanwhile before its own timer.
void Nemesis::drain(SimGateway& gateway) {
  const Duration deadline = world_.between({}, Duration::seconds(8));
  gateway.event(gateway::DrainBegin{deadline});
  if (world_.rng().below(3) != 0) return;
  const Duration length = world_.between(Duration::milliseconds(50), Duration::seconds(5));
  world_.after(world_.between({}, deadline), [this, &gateway, length] { world_.pause(gateway.node(), length); });
}

// A short drain during which the process stands still: the lease is the first thing it hears of behind the deadline.
void Nemesis::first_grant(SimGateway& gateway) {
  Prng& rng = world_.rng();
  const bool on = weights_[static_cast<std::size_t>(Kind::drain_gateway)] > 0 && world_.now() < until_;
  if (!on || rng.below(32) != 0 || !gateway.node().alive || gateway.core()->draining()) return;
  const Duration deadline = world_.between(Duration::milliseconds(5), Duration::milliseconds(50));
  world_.count(Fault::drain);
  gateway.event(gateway::DrainBegin{deadline});
  world_.after(Duration::microseconds(1), [this, &gateway, deadline] { world_.pause(gateway.node(), deadline * 2); });
}

// It dies while the word of the death is on its way to it, or to its journal (M6).
void Nemesis::poisoned(const Holder& holder) {
  if (weights_[static_cast<std::size_t>(Kind::crash_gateway)] == 0 || world_.rng().below(3) != 0) return;
  for (SimGateway* gateway : room_.gateways) {
    if (gateway->holder() != holder) continue;
    world_.after(world_.between({}, Duration::milliseconds(400)), [this, gateway, holder] {
      if (gateway->holder() == holder && world_.now() < until_)
        strike(Kind::crash_gateway, *gateway, *room_.managers[0]);
    });
  }
}

void Nemesis::cut(SimGateway& gateway, SimManager& manager, Kind kind, Duration length) {
  const auto workers = manager.living_workers();
  Prng& rng = world_.rng();
  Node& worker = workers.empty() ? manager.node() : workers[rng.below(workers.size())]->node();
  const bool outward = rng.below(2) == 0;
  const auto one_way = [&](Node& other) {
    outward ? world_.partition_one_way(gateway.node(), other, length)
            : world_.partition_one_way(other, gateway.node(), length);
  };
  switch (kind) {
    case Kind::cut_manager:
      return world_.partition(gateway.node(), manager.node(), length);
    case Kind::cut_worker:
      return world_.partition(gateway.node(), worker, length);
    case Kind::cut_host:
      for (Node* node : manager.host()) world_.partition(gateway.node(), *node, length);
      return;
    case Kind::one_way_manager:
      return one_way(manager.node());
    default:
      return one_way(worker);
  }
}

std::size_t Nemesis::index_of(const SimGateway& gateway) const {
  return static_cast<std::size_t>(std::find(room_.gateways.begin(), room_.gateways.end(), &gateway) -
                                  room_.gateways.begin());
}

void Nemesis::crash_gateway(SimGateway& gateway) {
  died_at_[gateway.holder()] = world_.now();
  room_.clients->gateway_crashed(index_of(gateway));
  room_.operators->gateway_crashed(index_of(gateway));
  const std::uint32_t half_open = world_.rates.half_open;
  const bool power_cut = half_open > 0 && !world_.healed() && world_.rng().below(3) == 0;
  if (power_cut) hide_jobs_of(gateway.holder());
  gateway.stop();
  world_.rates.half_open = half_open;
  const Duration delay =
      power_cut ? world_.between(Duration::milliseconds(20), Duration::milliseconds(300)) : restart_delay();
  world_.after(delay, [&gateway] { gateway.start(); });
}

// A power cut: those that it talked to hear of it late. The workers that run its jobs are out of their managers' reach
// meanwhile, so that nobody can say soon that these attempts are over (M1).
void Nemesis::hide_jobs_of(const Holder& holder) {
  world_.rates.half_open = 10'000;
  for (SimManager* manager : room_.managers) {
    for (SimWorker* worker : manager->living_workers()) {
      if (worker->running_of(holder) > 0)
        world_.partition(manager->node(), worker->node(),
                         world_.between(Duration::milliseconds(100), Duration::seconds(3)));
    }
  }
}

void Nemesis::crash_manager(SimManager& manager) {
  manager.stop(world_.rng().below(3) == 0 ? SimManager::Extent::host : SimManager::Extent::process);
  world_.after(restart_delay(), [&manager] { manager.start(); });
}

void Nemesis::restart_after_exit(SimManager& manager) {
  world_.after(Duration::milliseconds(1), [this, &manager] {
    if (manager.core() == nullptr || !manager.core()->is_shut_down()) return;  // crashed meanwhile
    crash_manager(manager);
  });
}

void Nemesis::drained(SimGateway& gateway) {
  world_.after(Duration::milliseconds(1), [this, &gateway] {
    if (gateway.core() == nullptr || !gateway.core()->drained()) return;  // crashed meanwhile
    room_.clients->gateway_drained(index_of(gateway));
    room_.clients->gateway_crashed(index_of(gateway));  // its readers and late requests find a closed port
    room_.operators->gateway_crashed(index_of(gateway));
    gateway.stop();
    world_.after(world_.between(Duration::milliseconds(50), Duration::seconds(2)), [&gateway] { gateway.start(); });
  });
}

}  // namespace orch::sim
