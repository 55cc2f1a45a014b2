#include "sim/scenario.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "sim/attempt_watch.h"
#include "sim/lease_history.h"
#include "sim/nemesis.h"
#include "sim/script.h"
#include "sim/sim_gateway.h"
#include "sim/sim_manager.h"

namespace orch::sim {
namespace {

constexpr const char* kModels[] = {"alpha", "beta"};

class Scenario {
 public:
  explicit Scenario(const ScenarioOptions& options)
      : options_(options),
        world_(options.seed, options.trace_lines),
        attempts_(world_),
        gaps_(world_),
        poisons_(world_, gaps_),
        clients_(world_, poisons_, 300),
        operators_(world_),
        nemesis_(world_, room_) {}

  ScenarioResult run() {
    build();
    for (auto& manager : managers_) manager->start();
    world_.run_until(world_.now() + Duration::seconds(1));
    for (auto& gateway : gateways_) gateway->start();
    const Instant quiet_from = world_.now() + length();
    contest_ ? schedule_contest(quiet_from) : schedule_work(quiet_from);
    nemesis_.schedule(world_.now() + Duration::seconds(3), quiet_from);
    watch();
    if (world_.run_until(quiet_from)) come_to_rest();
    if (world_.violated().empty()) {
      if (const std::string fault = history_.check(); !fault.empty()) world_.violation(fault);
    }
    ScenarioResult result;
    result.violation = world_.violated();
    result.events = world_.events();
    result.digest = world_.digest();
    result.coverage = world_.coverage();
    result.work = clients_.totals();
    result.gaps = gaps_.totals();
    result.poisons = poisons_.totals();
    result.trace = world_.trace_tail();
    return result;
  }

 private:
  Duration length();
  void build();
  void build_manager(std::uint64_t number, Duration ttl);
  void build_gateway(std::uint64_t number);
  gateway::Config draw_config();
  void schedule_work(Instant until);
  void schedule_contest(Instant until);
  void keep_busy(std::size_t tenant, Instant until);
  void watch();
  void watch_orphans();
  void come_to_rest();
  void revive();
  void probe();
  template <typename Condition>
  bool run_until_true(Duration least, Duration most, Condition condition);
  std::string why_not_at_rest() const;

  ScenarioOptions options_;
  bool memory_ = false;   // workers tell of theirs
  bool contest_ = false;  // F6: tenants that never stop waiting, each at gateways of its own
  std::uint32_t third_weight_ = 1;
  std::vector<bool> resting_;  // tenants that do
  World world_;
  LeaseHistory history_;
  AttemptWatch attempts_;
  GapWatch gaps_;
  PoisonWatch poisons_;
  Clients clients_;
  Operators operators_;
  Room room_;
  Nemesis nemesis_;
  std::vector<std::unique_ptr<SimManager>> managers_;
  std::vector<std::unique_ptr<SimGateway>> gateways_;
};

Duration Scenario::length() {
  switch (options_.profile) {
    case Profile::smoke:
      return Duration::seconds(15);
    case Profile::swarm:
      return world_.between(Duration::seconds(12), Duration::seconds(40));
    case Profile::soak:
      return world_.between(Duration::seconds(60), Duration::seconds(240));
  }
  return {};
}

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
  const bool narrow = rng.chance(1, 5);  // room for `started` and a few tokens
  config.streams.buffer_bytes_max = narrow ? 320u : 64u << 10;
  config.streams.replay_bytes = narrow ? 16u : 100u;
  config.journal.enabled = rng.below(3) != 0 && options_.journal;
  config.limits.journal_retry_max = Duration::seconds(1);
  config.limits.journal_stall = Duration::seconds(rng.between(1, 10));
  config.limits.recovery_wait = Duration::seconds(rng.between(5, 20));
  config.result_ttl = Duration::seconds(rng.between(2, 40));
  config.limits.queue_wait_max = Duration::seconds(rng.between(10, 30));
  config.limits.first_token_max = Duration::seconds(20);
  config.limits.idle_max = Duration::seconds(15);
  config.limits.finished_max = static_cast<std::uint32_t>(rng.between(2, 64));
  config.limits.admitting_max = 3;
  if (contest_) {
    config.queue.capacity = config.queue.interactive_capacity = config.queue.batch_capacity = 24;
    config.queue.bytes_max = 1u << 20;
    config.tenants.tenants.resize(1);
    config.tenants.tenants[0].name = "t2";
    config.tenants.tenants[0].weight = third_weight_;
  }
  return config;
}

void Scenario::build_manager(std::uint64_t number, Duration ttl) {
  Prng& rng = world_.rng();
  const std::size_t index = managers_.size();
  ManagerSetup setup;
  setup.id = {{0x4D, number}};
  setup.ttl = ttl;
  setup.mutant = options_.mutant;
  setup.mutation = options_.pool_mutation;
  setup.memory = memory_;
  setup.history = &history_;
  setup.attempts = &attempts_;
  setup.die = [this, index] { nemesis_.crash_manager(*managers_[index]); };
  setup.shut_down = [this, index] { nemesis_.restart_after_exit(*managers_[index]); };
  // Restarts are quick, so that a run of one virtual minute sees many lives.
  setup.restart.initial = Duration::milliseconds(200);
  setup.restart.max = Duration::seconds(2);
  setup.restart.breaker_failures = rng.below(3) == 0 ? 2 : 1000;
  setup.restart.breaker_open = Duration::seconds(rng.between(1, 6));
  setup.restart.reset_after = Duration::seconds(rng.between(2, 30));
  const std::uint64_t replicas = contest_ ? 1 + rng.below(2) : 1 + rng.below(3);
  // As configured, a pool has one model and one kind of device.
  const std::string models[] = {kModels[0], kModels[rng.below(2)]};
  const std::string accelerators[] = {rng.below(4) == 0 ? "vulkan" : "cpu", rng.below(4) == 0 ? "vulkan" : "cpu"};
  for (std::uint64_t r = 0; r < replicas; ++r) {
    pool::ReplicaSpec spec;
    spec.replica_id = "m" + std::to_string(number) + "r" + std::to_string(r + 1);
    spec.pool_id = "pool-" + std::to_string(r % 2);
    spec.engine = "native";
    spec.model_name = models[r % 2];
    spec.model_digest = "sha256:" + spec.model_name;
    spec.model_path = model_path(spec.model_digest, 0);
    spec.slots = static_cast<std::uint32_t>(rng.between(1, contest_ ? 2 : 4));
    spec.place = spec.replica_id;
    setup.accelerators[spec.place] = accelerators[r % 2];
    setup.replicas.push_back(std::move(spec));
  }
  managers_.push_back(std::make_unique<SimManager>(world_, std::move(setup)));
  room_.managers.push_back(managers_.back().get());
}

void Scenario::build_gateway(std::uint64_t number) {
  const std::size_t index = gateways_.size();
  GatewaySetup setup;
  setup.id = OrchId{{0x4F, number}};
  setup.config = draw_config();
  setup.managers = room_.managers;
  setup.config.managers = static_cast<std::uint32_t>(room_.managers.size());
  setup.mutant = options_.mutant;
  setup.history = &history_;
  setup.gaps = &gaps_;
  setup.poisons = &poisons_;
  setup.index = index;
  setup.first_grant = [this, index] { nemesis_.first_grant(*gateways_[index]); };
  setup.die = [this, index] { nemesis_.crash_gateway(*gateways_[index]); };
  setup.to_clients = [this, index](const gateway::Effect& effect) {
    if (std::holds_alternative<gateway::Drained>(effect)) return nemesis_.drained(*gateways_[index]);
    clients_.receive(index, effect);
    operators_.receive(effect);
  };
  gateways_.push_back(std::make_unique<SimGateway>(world_, std::move(setup)));
  room_.gateways.push_back(gateways_.back().get());
}

void Scenario::build() {
  Prng& rng = world_.rng();
  const bool smoke = options_.profile == Profile::smoke;
  nemesis_.draw();
  contest_ = options_.profile != Profile::smoke && mix(options_.seed * 977) % 8 == 0;
  if (contest_) {
    nemesis_.draw_calm();
    third_weight_ = 1u << rng.below(3);
  }
  world_.on_poisoned = [this](JobId job, const Holder& holder) {
    poisons_.died(job);
    nemesis_.poisoned(holder);
  };
  memory_ = rng.below(8) == 0 || options_.memory;
  const Duration ttl = rng.below(2) == 0 ? Duration::seconds(15) : Duration::seconds(4);
  const std::uint64_t managers = smoke ? 1 : 1 + rng.below(contest_ ? 2 : 3);
  for (std::uint64_t m = 1; m <= managers; ++m) build_manager(m, ttl);
  const std::uint64_t gateways = smoke ? 1 : contest_ ? 2 + rng.below(2) : 1 + rng.below(3);
  gaps_.set_gateways(gateways, [this] {
    return std::all_of(gateways_.begin(), gateways_.end(), [](const auto& each) { return each->attached_to_all(); });
  });
  for (std::uint64_t g = 1; g <= gateways; ++g) build_gateway(g);
  clients_.set_gateways(room_.gateways);
  room_.clients = &clients_;
  operators_.set_gateways(room_.gateways);
  room_.operators = &operators_;
}

void Scenario::schedule_work(Instant until) {
  Prng& rng = world_.rng();
  Instant at = world_.now() + Duration::milliseconds(200);
  while (at < until) {
    const std::uint64_t burst = rng.below(6) == 0 ? 4 + rng.below(10) : 1;
    for (std::uint64_t i = 0; i < burst; ++i) {
      const std::size_t gateway = rng.below(gateways_.size());
      const std::string model = kModels[rng.below(8) == 0 ? 1 : 0];
      world_.at(at + world_.between({}, Duration::milliseconds(10)),
                [this, gateway, model] { clients_.submit(gateway, model, Clients::Manners::any); });
    }
    at = at + world_.between(Duration::milliseconds(50), Duration::milliseconds(1500));
  }
}

// Tenants 0 and 1 wait at the first and the last gateway alone, tenant 2 at all of them.
void Scenario::schedule_contest(Instant until) {
  for (std::size_t tenant = 0; tenant < 3; ++tenant) {
    resting_.push_back(false);
    keep_busy(tenant, until);
    if (world_.rng().below(2) == 0) continue;
    for (Instant at = world_.now(); at < until;) {
      at = at + world_.between(Duration::seconds(1), Duration::seconds(8));
      world_.at(at, [this, tenant] { resting_[tenant] = !resting_[tenant]; });
    }
  }
}

void Scenario::keep_busy(std::size_t tenant, Instant until) {
  if (world_.now() >= until) return;
  for (std::size_t gateway = 0; gateway < gateways_.size() && !resting_[tenant]; ++gateway) {
    const bool home = tenant == 2 || gateway == (tenant == 0 ? 0 : gateways_.size() - 1);
    if (home) clients_.keep_waiting(gateway, kModels[0], "t" + std::to_string(tenant));
  }
  world_.after(Duration::milliseconds(20), [this, tenant, until] { keep_busy(tenant, until); });
}

void Scenario::watch() {
  world_.after(Duration::milliseconds(500), [this] {
    watch_orphans();
    if (const std::string fault = history_.slot_fault(); !fault.empty()) return world_.violation(fault);
    for (const auto& gateway : gateways_) gateway->look();
    watch();
  });
}

// L5: work of a gateway that died is stopped at the latest a TTL and a step later, on any clock.
void Scenario::watch_orphans() {
  for (const auto& manager : managers_) {
    const Duration patience = manager->setup().ttl + manager->setup().ttl / 8 + Duration::seconds(1);
    for (SimWorker* worker : manager->living_workers()) {
      if (worker->stalled()) continue;
      if (worker->node().paused_until > Instant{} && worker->node().paused_until + Duration::seconds(1) > world_.now())
        continue;
      if (worker->overdue_calls() > 0)
        return world_.violation(worker->node().name + " goes on with a call that has ended or lost its holder");
      for (const auto& [holder, at] : nemesis_.died_at()) {
        if (at + patience < world_.now() && worker->running_of(holder) > 0) {
          return world_.violation(worker->node().name + " still works for a gateway that died " +
                                  std::to_string((world_.now() - at).ms()) + " ms ago");
        }
      }
    }
  }
}

void Scenario::revive() {
  world_.heal();
  for (const auto& manager : managers_) manager->kill_stalled();
}

void Scenario::come_to_rest() {
  revive();
  operators_.restore();
  // The limit is longer than every limit a job can run into, and every restart; most runs rest long before it.
  if (!run_until_true(Duration::seconds(3), Duration::seconds(150), [this] { return why_not_at_rest().empty(); }))
    return;
  operators_.restore();
  for (const auto& manager : managers_)
    manager->undrain_all();  // of models whose gateway forgot that it had retired them
  if (!world_.run_until(world_.now() + Duration::seconds(1))) return;  // what was said last has arrived
  probe();
  if (!world_.violated().empty()) return;
  if (!run_until_true({}, Duration::seconds(60), [this] { return why_not_at_rest().empty(); })) return;
  if (const std::string fault = why_not_at_rest(); !fault.empty()) world_.violation("at rest: " + fault);
}

// Looks every other second from `least` on. False: a rule was broken; reaching `most` is none.
template <typename Condition>
bool Scenario::run_until_true(Duration least, Duration most, Condition condition) {
  const Instant last = world_.now() + most;
  if (!world_.run_until(world_.now() + least)) return false;
  while (world_.now() < last && !condition()) {
    if (!world_.run_until(world_.now() + Duration::seconds(2))) return false;
  }
  return true;
}

// A new job at every gateway must be served. A refusal is answered like clients do, by coming back: a stream that broke
// during the faults may be noticed only now.
void Scenario::probe() {
  std::vector<JobId> probes(gateways_.size());
  const auto ask = [&](std::size_t i) {
    const auto job = clients_.submit(i, kModels[0], Clients::Manners::plain);
    if (!job) return world_.violation("a gateway is down after the faults are over");
    probes[i] = *job;
  };
  for (std::size_t i = 0; i < gateways_.size(); ++i) ask(i);
  const auto served = [&] {
    bool all = true;
    for (std::size_t i = 0; i < gateways_.size(); ++i) {
      if (clients_.was_refused(probes[i])) ask(i);
      all = all && clients_.ended_well(probes[i]);
    }
    return all;
  };
  if (!run_until_true({}, Duration::seconds(60), served)) return;
  for (std::size_t i = 0; i < gateways_.size(); ++i) {
    if (!clients_.ended_well(probes[i]))
      return world_.violation("job " + std::to_string(probes[i].value.lo) + ", submitted to " +
                              gateways_[i]->node().name + " after the faults were over, was not served");
  }
}

std::string Scenario::why_not_at_rest() const {
  for (const auto& gateway : gateways_) {
    if (gateway->core() == nullptr) return gateway->node().name + " is down";
    if (!gateway->node().runs(world_.now())) return gateway->node().name + " is paused";
    if (std::string fault = gateway->check_rest(); !fault.empty()) return fault;
  }
  for (const auto& manager : managers_) {
    if (!manager->node().runs(world_.now())) return manager->node().name + " is paused";
    if (manager->operates()) return manager->node().name + " has not ended an operation";
    if (!manager->serves()) return manager->node().name + " has not brought its first replica back";
    for (SimWorker* worker : manager->living_workers()) {
      if (worker->running() > 0) return worker->node().name + " still runs a job";
    }
  }
  if (std::string fault = operators_.check_rest(); !fault.empty()) return fault;
  return clients_.check_rest();
}

}  // namespace

ScenarioResult run_scenario(const ScenarioOptions& options) {
  auto scenario = std::make_unique<Scenario>(options);
  return scenario->run();
}

}  // namespace orch::sim
