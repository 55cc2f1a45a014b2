#include "sim/scenario.h"

#include <memory>
#include <vector>

#include "sim/sim_gateway.h"
#include "sim/sim_manager.h"

namespace orch::sim {
namespace {

const std::string kModels[] = {"alpha", "beta"};

class Scenario {
 public:
  explicit Scenario(const ScenarioOptions& options)
      : options_(options), world_(options.seed, options.tracing), clients_(world_, 300) {}

  ScenarioResult run() {
    build();
    for (auto& manager : managers_) manager->start();
    world_.run_until(world_.now() + Duration::seconds(1));
    for (auto& gateway : gateways_) gateway->start();
    const Instant quiet_from = world_.now() + (options_.profile == Profile::smoke
                                                   ? Duration::seconds(15)
                                                   : world_.between(Duration::seconds(20), Duration::seconds(60)));
    schedule_work(quiet_from);
    schedule_faults(quiet_from);
    watch_orphans();
    if (world_.run_until(quiet_from)) come_to_rest();
    ScenarioResult result;
    result.violation = world_.violated();
    result.events = world_.events();
    result.faults = world_.counts();
    result.work = clients_.totals();
    result.trace = world_.trace_tail();
    return result;
  }

 private:
  void build();
  gateway::Config draw_config();
  void schedule_work(Instant until);
  void schedule_faults(Instant until);
  void fault_once();
  void drained(std::size_t gateway);
  void watch_orphans();
  void come_to_rest();
  void revive();

  ScenarioOptions options_;
  World world_;
  Clients clients_;
  std::vector<std::unique_ptr<SimManager>> managers_;
  std::vector<std::unique_ptr<SimGateway>> gateways_;
  std::map<Holder, Instant> died_at_;
  std::uint32_t crash_weights_[4] = {};  // worker, manager, gateway, pause
};

gateway::Config Scenario::draw_config() {
  Prng& rng = world_.rng();
  gateway::Config config;
  config.mutation = options_.mutation;
  config.queue.capacity = static_cast<std::uint32_t>(rng.between(2, 24));
  config.queue.interactive_capacity = static_cast<std::uint32_t>(rng.between(1, config.queue.capacity));
  config.queue.batch_capacity = static_cast<std::uint32_t>(rng.between(1, config.queue.capacity));
  config.queue.bytes_max = rng.chance(1, 4) ? 1500 : 1u << 20;
  const gateway::FullPolicy policies[] = {gateway::FullPolicy::reject, gateway::FullPolicy::drop_lru,
                                          gateway::FullPolicy::shed_low_priority};
  config.queue.interactive_full_policy = policies[rng.below(3)];
  config.queue.batch_full_policy = policies[rng.below(3)];
  config.streams.reconnect_grace = Duration::seconds(rng.between(1, 5));
  config.streams.buffer_bytes_max = rng.chance(1, 5) ? 900 : 64u << 10;
  config.result_ttl = Duration::seconds(rng.between(2, 40));
  config.limits.queue_wait_max = Duration::seconds(60);
  config.limits.first_token_max = Duration::seconds(20);
  config.limits.idle_max = Duration::seconds(15);
  config.limits.finished_max = static_cast<std::uint32_t>(rng.between(2, 64));
  config.limits.admitting_max = 3;
  return config;
}

void Scenario::build() {
  Prng& rng = world_.rng();
  const bool smoke = options_.profile == Profile::smoke;
  // Swarm testing: each kind of fault is on in about two seeds of three, at a rate of its own.
  const auto rate = [&](std::uint32_t most) {
    return rng.below(3) == 0 ? 0 : static_cast<std::uint32_t>(rng.below(most) + 1);
  };
  world_.rates = {rate(60), rate(5000), rate(300), rate(200), rate(400)};
  for (std::uint32_t& weight : crash_weights_)
    weight = rng.below(3) == 0 ? 0 : static_cast<std::uint32_t>(rng.between(1, 4));

  const std::uint64_t managers = smoke ? 1 : 1 + rng.below(2);
  const Duration ttl = rng.below(2) == 0 ? Duration::seconds(15) : Duration::seconds(4);
  for (std::uint64_t m = 0; m < managers; ++m) {
    ManagerSetup setup;
    setup.id = {{0x4D, m + 1}};
    setup.ttl = ttl;
    setup.mutant = options_.mutant;
    const std::uint64_t replicas = 1 + rng.below(3);
    for (std::uint64_t r = 0; r < replicas; ++r) {
      pool::ReplicaSpec spec;
      spec.replica_id = "m" + std::to_string(m + 1) + "r" + std::to_string(r + 1);
      spec.pool_id = "pool-" + std::to_string(r % 2);
      spec.engine = "native";
      spec.model_name = r == 0 ? kModels[0] : kModels[rng.below(2)];
      spec.model_digest = "sha256:" + spec.model_name;
      spec.slots = static_cast<std::uint32_t>(rng.between(1, 4));
      setup.accelerators[spec.replica_id] = rng.below(4) == 0 ? "vulkan" : "cpu";
      setup.replicas.push_back(std::move(spec));
    }
    managers_.push_back(std::make_unique<SimManager>(world_, std::move(setup)));
  }
  std::vector<SimManager*> all;
  for (const auto& manager : managers_) all.push_back(manager.get());
  const std::uint64_t gateways = smoke ? 1 : 1 + rng.below(2);
  std::vector<SimGateway*> handles;
  for (std::uint64_t g = 0; g < gateways; ++g) {
    const std::size_t index = gateways_.size();
    gateways_.push_back(std::make_unique<SimGateway>(world_, OrchId{{0x4F, g + 1}}, draw_config(), all, options_.mutant,
                                                     [this, index](const gateway::Effect& effect) {
                                                       if (std::holds_alternative<gateway::Drained>(effect))
                                                         return drained(index);
                                                       clients_.receive(index, effect);
                                                     }));
    handles.push_back(gateways_.back().get());
  }
  clients_.set_gateways(std::move(handles));
}

void Scenario::schedule_work(Instant until) {
  Prng& rng = world_.rng();
  Instant at = world_.now() + Duration::milliseconds(200);
  while (at < until) {
    const std::uint64_t burst = rng.below(6) == 0 ? 4 + rng.below(10) : 1;
    for (std::uint64_t i = 0; i < burst; ++i) {
      const std::size_t gateway = rng.below(gateways_.size());
      const std::string& model = kModels[rng.below(8) == 0 ? 1 : 0];
      world_.at(at + world_.between({}, Duration::milliseconds(10)),
                [this, gateway, model] { clients_.submit(gateway, model, Clients::Manners::any); });
    }
    at = at + world_.between(Duration::milliseconds(50), Duration::milliseconds(1500));
  }
}

void Scenario::schedule_faults(Instant until) {
  Instant at = world_.now() + Duration::seconds(3);
  while (at < until) {
    world_.at(at, [this] { fault_once(); });
    at = at + world_.between(Duration::milliseconds(150), Duration::seconds(5));
  }
}

void Scenario::fault_once() {
  Prng& rng = world_.rng();
  SimManager& manager = *managers_[rng.below(managers_.size())];
  SimGateway& gateway = *gateways_[rng.below(gateways_.size())];
  const std::uint64_t pick = rng.next();
  const Duration length = world_.between(Duration::milliseconds(20), Duration::seconds(20));
  const Duration restart = world_.between(Duration::milliseconds(50), Duration::seconds(4));
  switch (rng.below(9)) {
    case 0:
      if (crash_weights_[0] > 0) manager.crash_worker(pick);
      return;
    case 1:
      if (crash_weights_[1] == 0 || !manager.node().alive) return;
      manager.crash();
      world_.after(restart, [&manager] { manager.start(); });
      return;
    case 2: {
      if (crash_weights_[2] == 0 || !gateway.node().alive) return;
      died_at_[gateway.holder()] = world_.now();
      for (std::size_t i = 0; i < gateways_.size(); ++i) {
        if (gateways_[i].get() == &gateway) clients_.gateway_crashed(i);
      }
      gateway.crash();
      world_.after(restart, [&gateway] { gateway.start(); });
      return;
    }
    case 3:
      if (crash_weights_[3] > 0) manager.pause_worker(pick, length);
      return;
    case 4:
      if (crash_weights_[3] > 0) world_.pause(pick % 2 == 0 ? manager.node() : gateway.node(), length);
      return;
    case 7:  // an operator's drain: not of the first replica, which serves the probe
      if (manager.setup().replicas.size() < 2 || !manager.node().alive || pick % 4 != 0) return;
      world_.count(Fault::drain);
      return manager.drain_replica(1 + pick % (manager.setup().replicas.size() - 1),
                                   world_.between({}, Duration::seconds(10)));
    case 8:  // SIGTERM
      if (!gateway.node().alive || pick % 3 != 0) return;
      world_.count(Fault::drain);
      return gateway.event(gateway::DrainBegin{world_.between({}, Duration::seconds(8))});
    case 5:
      world_.partition(gateway.node(), manager.node(), length);
      return;
    default: {
      const auto workers = manager.living_workers();
      if (!workers.empty()) world_.partition(gateway.node(), workers[pick % workers.size()]->node(), length);
      return;
    }
  }
}

void Scenario::drained(std::size_t index) {
  world_.after(Duration::milliseconds(1), [this, index] {
    SimGateway& gateway = *gateways_[index];
    if (gateway.core() == nullptr || !gateway.core()->drained()) return;  // crashed meanwhile
    clients_.gateway_drained(index);
    clients_.gateway_crashed(index);  // its readers and late requests find a closed port
    gateway.stop();
    world_.after(world_.between(Duration::milliseconds(50), Duration::seconds(2)), [&gateway] { gateway.start(); });
  });
}

// L5: work of a gateway that died is stopped at the latest a TTL and a step later, on any clock.
void Scenario::watch_orphans() {
  world_.after(Duration::milliseconds(500), [this] {
    for (const auto& manager : managers_) {
      const Duration patience = manager->setup().ttl + manager->setup().ttl / 20 + Duration::seconds(1);
      for (SimWorker* worker : manager->living_workers()) {
        if (worker->node().paused_until > Instant{} &&
            worker->node().paused_until + Duration::seconds(1) > world_.now())
          continue;
        if (worker->overdue_calls() > 0)
          return world_.violation(worker->node().name + " goes on with a call that has ended or lost its holder");
        for (const auto& [holder, at] : died_at_) {
          if (at + patience < world_.now() && worker->running_of(holder) > 0) {
            return world_.violation(worker->node().name + " still works for a gateway that died " +
                                    std::to_string((world_.now() - at).ms()) + " ms ago");
          }
        }
      }
    }
    watch_orphans();
  });
}

void Scenario::revive() {
  world_.heal();
  for (const auto& manager : managers_) {
    if (!manager->node().alive) continue;  // its restart is on the agenda
    manager->node().paused_until = std::min(manager->node().paused_until, world_.now());
  }
}

void Scenario::come_to_rest() {
  revive();
  // Longer than every limit a job can run into, and every restart.
  if (!world_.run_until(world_.now() + Duration::seconds(150))) return;
  std::vector<std::pair<JobId, std::size_t>> probes;
  for (std::size_t i = 0; i < gateways_.size(); ++i) {
    const auto job = clients_.submit(i, kModels[0], Clients::Manners::plain);
    if (!job) return world_.violation("a gateway is down after the faults are over");
    probes.emplace_back(*job, i);
  }
  if (!world_.run_until(world_.now() + Duration::seconds(60))) return;
  for (const auto& [job, index] : probes) {
    if (!clients_.ended_well(job))
      return world_.violation("job " + std::to_string(job.value.lo) + ", submitted to " +
                              gateways_[index]->node().name + " after the faults were over, was not served");
  }
  for (const auto& gateway : gateways_) {
    if (const std::string fault = gateway->check_rest(); !fault.empty()) return world_.violation("at rest: " + fault);
  }
  for (const auto& manager : managers_) {
    for (SimWorker* worker : manager->living_workers()) {
      if (worker->running() > 0) return world_.violation("at rest: " + worker->node().name + " still runs a job");
    }
  }
  if (const std::string fault = clients_.check_rest(); !fault.empty()) world_.violation("at rest: " + fault);
}

}  // namespace

ScenarioResult run_scenario(const ScenarioOptions& options) {
  auto scenario = std::make_unique<Scenario>(options);
  return scenario->run();
}

}  // namespace orch::sim
