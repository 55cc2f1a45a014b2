// Who was promised which slots when, and who used them: a record of what happened in which order, judged when the run
// is over, by reading intervals and not by the bookkeeping of any process. It asks: was every use covered by a promise
// that its worker had applied and that had not ended; did uses ever exceed what was declared, or might they have
// (SlotWatch); did two lives of one replica overlap; was an attempt ever run twice (L1 to L6).
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/time.h"
#include "gen/outcome.h"
#include "sim/slot_watch.h"

namespace orch::sim {

struct WorkerKey {
  ManagerId manager;
  Incarnation inc;
  auto operator<=>(const WorkerKey&) const = default;
};

class LeaseHistory {
 public:
  // Calls come in the order in which things happen.
  void born(const WorkerKey& worker, const std::string& replica, std::uint32_t declared);
  void died(const WorkerKey& worker);
  // `ends`: of each entry of the table, by the worker's clock like `at` of used().
  void applied(const WorkerKey& worker, const LeaseTable& table, const std::vector<Instant>& ends);
  void used(const WorkerKey& worker, LeaseId lease, const Holder& holder, const DispatchId& dispatch, Instant at);
  void released(const WorkerKey& worker, const DispatchId& dispatch);
  // The manager tells a holder of a size by a grant of that number; later the holder hears it.
  void told(const WorkerKey& worker, LeaseId lease, std::uint32_t slots, std::uint64_t number);
  void granted(const WorkerKey& worker, LeaseId lease, const Holder& holder, std::uint32_t slots, std::uint64_t number);
  // A holder that knows of so many slots sends a job; it is used(), or refused, or given up by its holder on the way.
  void sent(const WorkerKey& worker, LeaseId lease, const DispatchId& dispatch, std::uint32_t slots);
  void refused(const WorkerKey& worker, const DispatchId& dispatch, Outcome why);
  void given_up(const DispatchId& dispatch);

  // The first contradiction in words; empty: none. `slot_fault` alone may be asked at any time.
  std::string check() const;
  std::string slot_fault() const;

 private:
  using Order = std::uint64_t;  // of what happened, over all processes
  static constexpr Order kNever = std::numeric_limits<Order>::max();

  struct Promise {
    Instant ends;
    Holder holder;
    std::uint32_t slots = 0;
  };
  struct Table {
    Order at = 0;
    TableVersion version;
    std::map<LeaseId, Promise> leases;
  };
  struct Use {
    Order from = 0;
    Order to = kNever;
    Instant began;
    LeaseId lease;
    Holder holder;
    DispatchId dispatch;
  };
  struct Grant {
    Order at = 0;
    LeaseId lease;
    Holder holder;
    std::uint32_t slots = 0;
  };
  struct Life {
    std::string replica;
    std::uint32_t declared = 0;
    Order from = 0;
    Order to = kNever;
    std::vector<Table> tables;
    std::vector<Use> uses;
    std::vector<Grant> grants;
    SlotWatch slots{0};
  };

  std::string check_life(const Life& life) const;
  std::string check_uses(const Life& life) const;
  std::string check_grants(const Life& life) const;
  std::string check_across() const;

  std::map<WorkerKey, Life> lives_;
  std::map<DispatchId, WorkerKey> under_way_;  // sent, and not decided yet
  Order order_ = 0;
};

}  // namespace orch::sim
