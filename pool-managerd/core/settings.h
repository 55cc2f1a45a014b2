// What the pool manager's core is told once, at construction. The shell fills it from the configuration; the numbers
// that have no configuration key are proposals of DESIGN-RULES and stand here once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "pool-managerd/core/mutation.h"

namespace orch::pool {

// One worker process to keep alive. How it is started is the shell's business.
struct ReplicaSpec {
  std::string replica_id;
  std::string pool_id;
  std::string engine;           // what WorkerInfo must say
  std::string model_name;       // what WorkerInfo must say
  std::string model_digest;     // "sha256:<hex>" that WorkerInfo must say; empty: any
  std::string model_path = {};  // handed on; empty: the engine has its own
  std::uint32_t slots = 1;      // upper bound of what the worker may declare
  std::string place = {};       // what its successors keep; empty: replica_id. Their ids are the place, or it and a "b"
  std::string device = {};      // as configured, of the native engine; empty: it takes no memory of this host
  std::uint32_t memory_sharers = 1;  // replicas that may take from the same memory, itself among them (OC-POOL-3065)
  std::uint32_t generation = 0;      // how many reloads and restarts lie behind it
};

// A place has at most two replicas at a time, and their ids take turns: gateways and logs never meet a third.
inline std::string replica_id_of(const std::string& place, std::uint32_t generation) {
  return generation % 2 == 0 ? place : place + "b";
}

struct RestartPolicy {
  Duration initial = Duration::seconds(1);
  std::uint32_t factor = 2;
  Duration max = Duration::seconds(60);
  std::uint32_t jitter_percent = 10;
  Duration reset_after = Duration::seconds(300);  // ready this long clears the failures in a row
  std::uint32_t breaker_failures = 5;             // in a row
  Duration breaker_open = Duration::seconds(300);
  Duration host_interval = Duration::milliseconds(250);  // between two restarts on this host, whatever replica
};

struct HealthPolicy {
  Duration start_limit = Duration::seconds(30);       // spawn to the first answer and the first report
  Duration load_limit = Duration::seconds(1800);      // spawn to a loaded model
  Duration self_check_limit = Duration::seconds(90);  // the worker's own limit is 60 s
  Duration stall_floor = Duration::seconds(30);       // OC-POOL-3044: max(it, 20 x the longest step)
  std::int64_t stall_factor = 20;
  Duration info_poll = Duration::milliseconds(200);        // GetInfo until the worker is loaded
  Duration reconnect_delay = Duration::milliseconds(200);  // of a broken Control stream
  Duration adopt_limit = Duration::seconds(5);  // a worker of an earlier boot that does not show its table by then goes
  Duration exit_settle = Duration::seconds(2);  // a worker that reported a load failure may exit by itself this long
  Duration drain_settle = Duration::seconds(1);  // after a drain deadline, for the worker to end its jobs by itself
};

// DESIGN-RULES S4, S5.
struct DivisionPolicy {
  Duration patience_floor = Duration::milliseconds(20);  // max(20 ms, 4 round trips)
  std::int64_t patience_round_trips = 4;
  Duration pass_over_max = Duration::seconds(1);  // patience doubles up to it with each grant in a row left unused
  Duration hunger_floor = Duration::seconds(1);   // max(1 s, 2 mean job times)
  std::int64_t hunger_job_times = 2;
};

struct Limits {
  Duration fair_interval = Duration::milliseconds(100);  // F4
  Duration load_interval = Duration::milliseconds(50);   // between two words on one replica's memory (OC-POOL-3055)
  std::size_t links_max = 64;                            // attached orchestrators
  std::size_t operations_kept = 64;                      // that have ended
  std::size_t update_entries_max = 4096;                 // per list of one HolderUpdate
  std::size_t bid_tenants_max = 32;                      // S1
};

struct Settings {
  ManagerId manager;
  std::uint64_t boot = 0;
  Duration ttl = Duration::seconds(15);
  Duration term_grace = Duration::seconds(5);
  RestartPolicy restart;
  HealthPolicy health;
  DivisionPolicy division;
  Limits limits;
  std::vector<ReplicaSpec> replicas;  // ids unique
  Mutation mutation = Mutation::none;
};

// Where secrets and jitter come from; the simulator passes a seeded one.
class EntropySource {
 public:
  virtual ~EntropySource() = default;
  virtual std::uint64_t next_u64() = 0;
};

}  // namespace orch::pool
