// A pool-managerd of the simulator: the real core, with the simulator's processes and streams where its shell would be.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pool-managerd/core/manager.h"
#include "sim/gap_watch.h"
#include "sim/lease_history.h"
#include "sim/mutant.h"
#include "sim/sim_worker.h"
#include "sim/world.h"

namespace orch::sim {

struct ManagerSetup {
  ManagerId id;
  std::vector<pool::ReplicaSpec> replicas;
  std::map<std::string, std::string> accelerators;  // by place
  Duration ttl = Duration::seconds(15);
  Duration load_min = Duration::milliseconds(50);
  Duration load_max = Duration::seconds(2);
  pool::RestartPolicy restart;
  Mutant mutant = Mutant::none;
  bool memory = false;  // workers tell of theirs
  pool::Mutation mutation = pool::Mutation::none;
  LeaseHistory* history = nullptr;   // of the run, outlives the manager
  AttemptWatch* attempts = nullptr;  // likewise
  std::function<void()> die;         // the process dies here and now, and comes back later
  std::function<void()> shut_down;   // it has nothing left and ends
};

// What a link of the manager delivers to its orchestrator.
struct LinkSink {
  std::function<void(const pool::AttachWelcome&, ManagerId, std::uint64_t boot)> welcome;
  std::function<void(const pool::ReplicaView&)> replica;
  std::function<void(const std::string& replica_id)> gone;
  std::function<void(const pool::ReplicaLoaded&)> load;
  std::function<void(const pool::SendGrant&)> grant;
  std::function<void(const pool::SendGrant&)> granting;  // as it is sent, whatever the network does to it
  std::function<void(const pool::SendRevoke&)> revoke;
  std::function<void(const OthersReport&, const ReportsHeard&)> others;
  std::function<void(const pool::SendEarlierOver&)> over;
};

// Where a file of these weights lies; `copy` tells several of them apart.
std::string model_path(const std::string& digest, std::uint64_t copy);
std::string digest_in(const std::string& path);

class SimManager {
 public:
  SimManager(World& world, ManagerSetup setup);

  Node& node() { return node_; }
  const ManagerSetup& setup() const { return setup_; }
  std::uint64_t boot() const { return boot_; }

  void start();  // a new boot
  enum class Extent : std::uint8_t { process, host };
  void stop(Extent extent);  // the end of the process, whatever the reason; its workers outlive it alone (L8)
  void lose_state();         // the host is another one: the next start is another manager (L1)
  void shutdown(Duration deadline);
  void crash_worker(std::uint64_t pick);
  void pause_worker(std::uint64_t pick, Duration length);
  void stall_worker(std::uint64_t pick);
  void lose_device(std::uint64_t pick);
  void kill_stalled();        // as an operator would, when nothing shows it for want of a job
  std::vector<Node*> host();  // this process and its living workers
  std::vector<SimWorker*> living_workers();
  SimWorker* worker_at(const std::string& endpoint);
  // What an operator asks for. The first place serves the probe at the end: nothing takes it away.
  void drain_some(std::uint64_t pick, Duration deadline);
  void undrain_some(std::uint64_t pick);
  enum class Rollout : std::uint8_t { restart, other_file, other_weights, wrong_digest };
  void roll_out(std::uint64_t pick, Rollout rollout, Duration deadline);

  // Orchestrator's side of Attach; the link id is the manager's own.
  LinkId attach(const StreamPtr& stream, const Holder& holder, LinkSink sink);
  void update(LinkId link, pool::HolderUpdate update);
  void fair(LinkId link, const FairReport& report, std::uint64_t number);
  void link_broken(LinkId link);

  void operate(const gateway::OperateReplica& operation);  // what an orchestratord asks for
  void undrain_all();
  bool serves() const;  // the replica at its first place is ready
  bool operates() const { return !operations_.empty(); }
  const pool::Manager* core() const { return core_ ? &*core_ : nullptr; }
  // The worker of this incarnation, dead or alive.
  SimWorker* worker_of(ManagerId manager, Incarnation inc);

 private:
  enum class SpawnFate : std::uint8_t {
    runs,
    no_process,
    never_starts,
    fails_to_load,
    fails_to_load_for_good,
    fails_check,
    exits_for_good
  };
  struct Link {
    StreamPtr stream;
    LinkSink sink;
    Holder holder;
    bool welcomed = false;
  };
  struct Process {
    std::unique_ptr<SimWorker> worker;
    StreamPtr control;
    bool known = false;  // written down by the manager: the next boot finds it
    bool reaped = false;
  };
  class Entropy : public pool::EntropySource {
   public:
    explicit Entropy(Prng& rng) : rng_(rng) {}
    std::uint64_t next_u64() override { return rng_.next(); }

   private:
    Prng& rng_;
  };

  void step(const pool::Event& event);
  void execute(const pool::Effect& effect);
  void ask(pool::StartOperation operation);
  void answered(const pool::OperationReply& reply);
  void ended(const pool::Operation& operation);
  std::optional<pool::ReplicaSpec> spec_of(const std::string& replica_id) const;
  void arm();
  void spawn(const pool::SpawnWorker& effect);
  void signal(const pool::SignalWorker& effect);
  void connect(Incarnation inc, bool wants_table);
  pool::WorkersFound find_workers();
  void end_worker(Process& process);
  void query(Incarnation inc);
  void send_table(const pool::SendTable& effect);
  void process_died(const WorkerKey& key, int exit_code, int signal);
  void check_table(const pool::SendTable& effect);
  void check_signal(const pool::SignalWorker& effect);
  void note_end(const pool::ProcessExited& exited);
  void check_end(const pool::ReplicaView& view);
  void follow_books();
  SpawnFate draw_fate(const pool::ReplicaSpec& spec);
  Process* living(Incarnation inc);
  void to_all(const std::function<void(const LinkSink&)>& deliver, World::Copies copies);
  void to_link(LinkId id, const std::function<void(const LinkSink&)>& deliver, World::Copies copies);

  World& world_;
  Node& node_;
  ManagerSetup setup_;
  Entropy entropy_;
  std::optional<pool::Manager> core_;
  std::uint64_t boot_ = 0;
  std::uint64_t next_link_ = 1;
  std::map<LinkId, Link> links_;
  ReportsHeard reports_;                    // of this boot
  std::map<WorkerKey, Process> processes_;  // all of this run
  // L1: a lease id never changes holder or incarnation.
  std::map<std::pair<ManagerId, LeaseId>, std::pair<Holder, Incarnation>> lease_of_;
  std::map<LeaseId, BookPhase> books_;          // of this boot
  std::map<Incarnation, Instant> drain_until_;  // local
  // Of this boot, by replica: how its last process ended, when nobody had asked for that.
  std::map<std::string, pool::ProcessEnd> ends_;
  // On the disk: what reloads and restarts have made of the configured replicas (OC-POOL-3054).
  std::vector<pool::ReplicaSpec> stored_;
  std::uint64_t next_request_ = 1;
  std::set<RequestId> asked_;               // of this boot, not answered yet
  std::set<pool::OperationId> operations_;  // of this boot, accepted and not ended
  Instant armed_for_ = Instant::never();
};

}  // namespace orch::sim
