// Prints the time of one placement and how it grows with the number of replicas. Numbers of a machine, not a test.
#include <chrono>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

#include "orchestratord/core/placement.h"

namespace orch::gateway {
namespace {

void measure(std::size_t replicas) {
  Fleet fleet{Limits{}};
  LeaseTable leases{Limits{}, Mutation::none};
  const ReplicaSpeeds speeds;
  PlacementIndex index;
  const Instant now{1'000'000'000};
  ManagerUp up{LinkId{1}, ManagerId{{1, 1}}, 1, {}};
  for (std::size_t i = 0; i < replicas; ++i) {
    ReplicaView view;
    view.replica_id = "pool-" + std::to_string(i % 16) + "/" + std::to_string(i);
    view.pool_id = "pool-" + std::to_string(i % 16);
    view.state = ReplicaState::ready;
    view.inc = {1, 1};
    view.model_name = "model";
    view.ctx_max = 8192;
    view.slots = 8;
    up.replicas.push_back(view);
  }
  std::uint64_t previous = 0;
  fleet.attach(up, &previous);
  for (std::size_t i = 0; i < replicas; ++i) {
    const LeaseGranted grant{LinkId{1}, {1, i + 1}, up.replicas[i].replica_id, {1, 1}, 8, {}, 1, Duration::seconds(15)};
    const LeaseKey key{up.manager, {1, i + 1}};
    leases.apply(key, grant, "unix:/w", now, now);
    for (std::size_t busy = 0; busy < i % 8; ++busy) leases.take_slot(key);
  }
  Lane lane;
  lane.model = "model";
  const std::vector<PlacementIndex::Entry>& entries = index.of("model", fleet, leases, speeds);
  std::vector<std::string> sessions;
  for (int i = 0; i < 64; ++i) sessions.push_back("session-" + std::to_string(i));
  const std::array<Duration, 4> service{Duration::milliseconds(1000), Duration::milliseconds(1300),
                                        Duration::milliseconds(1700), Duration::milliseconds(2200)};
  std::size_t chosen = 0;
  const int rounds = static_cast<int>(2'000'000 / (replicas + 50));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < rounds; ++i) {
    const PlacementDecision decision = decide({.lane = lane,
                                               .entries = entries,
                                               .tokens_bound = 500,
                                               .session = sessions[static_cast<std::size_t>(i) % sessions.size()],
                                               .service = service,
                                               .now = now});
    chosen += decision.lease ? 1 : 0;
  }
  const double ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count() / rounds;
  std::printf("%6zu replicas: %9.0f ns per placement, %6.1f ns per replica (%zu placed)\n", replicas, ns,
              ns / static_cast<double>(replicas), chosen);
}

}  // namespace
}  // namespace orch::gateway

int main() {
  for (const std::size_t replicas : std::initializer_list<std::size_t>{1, 10, 100, 1000})
    orch::gateway::measure(replicas);
}
