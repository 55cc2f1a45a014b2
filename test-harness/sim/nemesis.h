// What goes wrong, and when: drawn from the seed once per run (which kinds, how often), then one fault at a time.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "sim/clients.h"
#include "sim/operators.h"
#include "sim/sim_gateway.h"
#include "sim/sim_manager.h"
#include "sim/world.h"

namespace orch::sim {

struct Room {  // the processes of the run, in the order of their ids
  std::vector<SimManager*> managers;
  std::vector<SimGateway*> gateways;
  Clients* clients = nullptr;
  Operators* operators = nullptr;
};

class Nemesis {
 public:
  // `rates` of the world are drawn here too.
  Nemesis(World& world, Room& room) : world_(world), room_(room) {}

  void draw();
  void draw_calm();  // a network and disks without faults, now and then a process that ends
  void schedule(Instant from, Instant until);
  // A crash with its restart later, as a fault or between two effects.
  void crash_gateway(SimGateway& gateway);
  void crash_manager(SimManager& manager);  // in one of three cases the whole host
  void restart_after_exit(SimManager& manager);
  void drained(SimGateway& gateway);
  void first_grant(SimGateway& gateway);  // of a lease is on its way to it
  void poisoned(const Holder& holder);    // a worker has died of a job of it
  // When each start of an orchestratord died, real time.
  const std::map<Holder, Instant>& died_at() const { return died_at_; }

 private:
  enum class Kind : std::uint8_t {
    crash_worker,
    crash_manager,
    crash_gateway,
    pause_worker,
    pause_process,
    drain_replica,
    shut_manager,
    drain_gateway,
    cut_manager,
    cut_worker,
    cut_host,
    one_way_manager,
    one_way_worker,
    suspend,
    stall,
    lose_state,
    undrain,
    roll_out,
    change_tenants,
    change_model
  };
  static constexpr std::size_t kKinds = 20;

  void strike();
  void drain(SimGateway& gateway);
  void strike(Kind kind, SimGateway& gateway, SimManager& manager);
  void cut(SimGateway& gateway, SimManager& manager, Kind kind, Duration length);
  std::size_t index_of(const SimGateway& gateway) const;
  void hide_jobs_of(const Holder& holder);
  Duration restart_delay() { return world_.between(Duration::milliseconds(50), Duration::seconds(4)); }

  World& world_;
  Room& room_;
  std::array<std::uint32_t, kKinds> weights_{};
  Duration gap_min_ = Duration::milliseconds(150);
  Duration gap_max_ = Duration::seconds(5);
  Instant until_;  // nothing is done from then on
  std::map<Holder, Instant> died_at_;
};

}  // namespace orch::sim
