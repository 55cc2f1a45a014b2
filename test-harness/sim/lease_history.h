// Who was promised which slots when, and who used them: a record of what happened in which order, judged once when the
// run is over, by reading intervals and not by the bookkeeping of any process. It knows nothing of grants' sizes
// changing hands; it asks: was every use covered by a promise that its worker had applied and that had not ended; did
// uses ever exceed what was declared; did two lives of one replica overlap; was an attempt ever run twice (L1 to L6).
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
  // The manager tells a holder of a size; later the holder hears it.
  void told(const WorkerKey& worker, LeaseId lease, std::uint32_t slots);
  void granted(const WorkerKey& worker, LeaseId lease, const Holder& holder, std::uint32_t slots);

  // The first contradiction in words; empty: none.
  std::string check() const;

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
  struct Told {
    Order at = 0;
    LeaseId lease;
    std::uint32_t slots = 0;
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
    std::vector<Told> told;
    std::vector<Grant> grants;
  };

  std::string check_life(const Life& life) const;
  std::string check_uses(const Life& life) const;
  static bool on_an_older_word(const Life& life, const Use& use);
  std::string check_told(const Life& life) const;
  std::string check_grants(const Life& life) const;
  std::string check_across() const;

  std::map<WorkerKey, Life> lives_;
  Order order_ = 0;
};

}  // namespace orch::sim
