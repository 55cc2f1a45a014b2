// An orchestratord of the simulator: the real core, with the simulator's streams where its shell would be. What it says
// to clients goes to the Clients, who check it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/orchestrator.h"
#include "sim/gap_watch.h"
#include "sim/job_watch.h"
#include "sim/mutant.h"
#include "sim/poison_watch.h"
#include "sim/quota_watch.h"
#include "sim/sim_journal.h"
#include "sim/sim_manager.h"
#include "sim/world.h"

namespace orch::sim {

struct GatewaySetup {
  OrchId id;
  gateway::Config config;
  std::vector<SimManager*> managers;
  Mutant mutant = Mutant::none;
  LeaseHistory* history = nullptr;  // of the run, outlives the gateway
  GapWatch* gaps = nullptr;         // likewise
  PoisonWatch* poisons = nullptr;   // likewise
  std::size_t index = 0;            // among the gateways
  std::function<void(const gateway::Effect&)> to_clients;
  std::function<void()> first_grant;  // of a lease is on its way to the process
  std::function<void()> die;          // the process dies here and now, and comes back later
};

class SimGateway {
 public:
  SimGateway(World& world, GatewaySetup setup);

  Node& node() { return node_; }
  Holder holder() const { return {setup_.id, boot_}; }
  std::uint64_t boot() const { return boot_; }
  void start();
  void crash();
  void stop();  // a clean exit, after Drained
  // From a client or the operator; nothing happens when the process is down.
  void event(const gateway::Event& event);
  const gateway::Orchestrator* core() const { return core_ ? &*core_ : nullptr; }
  std::string check_rest() const;  // with all quiet: nothing held, nothing waiting; empty: well
  bool attached_to_all() const;    // and means to stay
  bool journals() const { return setup_.config.journal.enabled; }
  bool journal_has(JobId job) const { return journal_.has(job); }
  void look();  // now and then: what only time can break

 private:
  struct Uplink {
    StreamPtr stream;
    LinkId ours;
    LinkId theirs;
    ManagerId manager;  // once welcomed
  };
  struct Hold {
    StreamPtr stream;
  };

  void step(const gateway::Event& event);
  void execute(const gateway::Effect& effect);
  void arm();
  void attach(std::size_t manager);
  void dispatch(const gateway::Dispatch& effect);
  void cancel(const gateway::CancelDispatch& effect);
  void call_broken(DispatchId id);
  void beat(const gateway::BeatWorker& effect);
  void forget(const gateway::ForgetWorker& effect);
  void count_tokens(const gateway::CountTokens& effect);
  void send_update(const gateway::SendUpdate& effect);
  void send_fair(const gateway::SendFair& effect);
  void operate(const gateway::OperateReplica& effect);
  void check_leases();
  void follow_leases();
  void check_dispatch(const gateway::Dispatch& effect);
  SimWorker* worker_at(const std::string& endpoint);
  SimManager* manager_with(ManagerId id);
  std::optional<ManagerId> manager_of(LinkId link) const;

  World& world_;
  Node& node_;
  GatewaySetup setup_;
  SimJournal journal_;
  std::optional<gateway::Orchestrator> core_;
  std::optional<JobWatch> watch_;
  std::optional<QuotaWatch> quota_watch_;
  std::map<gateway::LeaseKey, LeasePhase> phases_;
  std::uint64_t boot_ = 0;
  std::uint64_t next_link_ = 1;
  std::map<std::size_t, Uplink> uplinks_;  // by manager
  std::map<LinkId, std::uint64_t> last_update_;
  std::map<LinkId, std::uint64_t> last_grant_;
  std::map<DispatchId, StreamPtr> calls_;
  std::map<JobId, std::string> weights_;  // the digest that wrote what each job has shown, over all lives
  std::map<std::string, Hold> holds_;
  Instant armed_for_ = Instant::never();
};

// The pool's view in the gateway's words; worker facts are flattened the way the wire does.
gateway::ReplicaView to_gateway(const pool::ReplicaView& view);

}  // namespace orch::sim
