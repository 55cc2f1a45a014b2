#include "sim/lease_history.h"

#include <algorithm>
#include <set>

namespace orch::sim {

void LeaseHistory::born(const WorkerKey& worker, const std::string& replica, std::uint32_t declared) {
  Life& life = lives_[worker];
  life.replica = replica;
  life.declared = declared;
  life.slots = SlotWatch(declared);
  life.from = ++order_;
}

void LeaseHistory::died(const WorkerKey& worker) {
  Life& life = lives_[worker];
  const Order at = ++order_;
  life.to = std::min(life.to, at);
  for (Use& use : life.uses) use.to = std::min(use.to, at);
}

void LeaseHistory::applied(const WorkerKey& worker, const LeaseTable& table, const std::vector<Instant>& ends) {
  Table entry{++order_, table.version, {}};
  std::map<LeaseId, std::uint32_t> promised;
  for (std::size_t i = 0; i < table.leases.size(); ++i) {
    const LeaseEntry& lease = table.leases[i];
    const std::uint32_t slots = lease.stop ? 0 : lease.slots;
    entry.leases.emplace(lease.id, Promise{ends[i], lease.holder, slots});
    promised.emplace(lease.id, slots);
  }
  Life& life = lives_[worker];
  life.tables.push_back(std::move(entry));
  life.slots.applied(std::move(promised));
}

void LeaseHistory::used(const WorkerKey& worker, LeaseId lease, const Holder& holder, const DispatchId& dispatch,
                        Instant at) {
  Life& life = lives_[worker];
  life.uses.push_back({++order_, kNever, at, lease, holder, dispatch});
  life.slots.used(lease, dispatch);
  under_way_.erase(dispatch);
}

void LeaseHistory::released(const WorkerKey& worker, const DispatchId& dispatch) {
  Life& life = lives_[worker];
  const Order at = ++order_;
  for (auto use = life.uses.rbegin(); use != life.uses.rend(); ++use) {
    if (use->dispatch != dispatch) continue;
    use->to = std::min(use->to, at);
    return life.slots.released(use->lease);
  }
}

void LeaseHistory::told(const WorkerKey& worker, LeaseId lease, std::uint32_t slots, std::uint64_t number) {
  const auto life = lives_.find(worker);
  if (life != lives_.end()) life->second.slots.told(lease, slots, number);
}

void LeaseHistory::granted(const WorkerKey& worker, LeaseId lease, const Holder& holder, std::uint32_t slots,
                           std::uint64_t number) {
  Life& life = lives_[worker];
  life.grants.push_back({++order_, lease, holder, slots});
  life.slots.heard(lease, number);
}

void LeaseHistory::sent(const WorkerKey& worker, LeaseId lease, const DispatchId& dispatch, std::uint32_t slots) {
  lives_[worker].slots.sent(lease, dispatch, slots);
  under_way_[dispatch] = worker;
}

void LeaseHistory::refused(const WorkerKey& worker, const DispatchId& dispatch, Outcome why) {
  if (under_way_.erase(dispatch) > 0) lives_[worker].slots.refused(dispatch, why == Outcome::SLOT_BUSY);
}

void LeaseHistory::given_up(const DispatchId& dispatch) {
  const auto found = under_way_.find(dispatch);
  if (found == under_way_.end()) return;
  lives_[found->second].slots.given_up(dispatch);
  under_way_.erase(found);
}

std::string LeaseHistory::slot_fault() const {
  for (const auto& [key, life] : lives_) {
    if (!life.slots.fault().empty()) return "history of " + life.replica + ": " + life.slots.fault();
  }
  return {};
}

std::string LeaseHistory::check() const {
  for (const auto& [key, life] : lives_) {
    if (std::string fault = check_life(life); !fault.empty()) return "history of " + life.replica + ": " + fault;
  }
  return check_across();
}

std::string LeaseHistory::check_life(const Life& life) const {
  std::map<LeaseId, Holder> holders;
  const Table* before = nullptr;
  for (const Table& table : life.tables) {
    if (table.at < life.from || table.at > life.to) return "a table was applied outside the worker's life";
    if (before != nullptr && table.version <= before->version) return "table versions went back";
    before = &table;
    std::uint64_t sum = 0;
    for (const auto& [id, promise] : table.leases) {
      sum += promise.slots;
      if (holders.emplace(id, promise.holder).first->second != promise.holder) return "a lease changed its holder";
    }
    if (sum > life.declared) return "a table promised more than was declared";
  }
  if (std::string fault = check_uses(life); !fault.empty()) return fault;
  if (!life.slots.fault().empty()) return life.slots.fault();
  return check_grants(life);
}

std::string LeaseHistory::check_uses(const Life& life) const {
  std::vector<std::pair<Order, int>> edges;
  for (const Use& use : life.uses) {
    if (use.from < life.from || use.from > life.to) return "a use outside the worker's life";
    // The table in force when the use began.
    const auto next = std::upper_bound(life.tables.begin(), life.tables.end(), use.from,
                                       [](Order at, const Table& table) { return at < table.at; });
    if (next == life.tables.begin()) return "a use before the first table";
    const Table& table = *std::prev(next);
    const auto promise = table.leases.find(use.lease);
    if (promise == table.leases.end()) return "a use of a lease that is not in the table in force";
    if (promise->second.holder != use.holder) return "a use by another than the holder";
    if (use.began >= promise->second.ends) return "a use after the worker's end of its lease";
    const auto beside = std::count_if(life.uses.begin(), life.uses.end(), [&](const Use& other) {
      return other.lease == use.lease && other.from <= use.from && other.to > use.from;
    });
    if (static_cast<std::uint64_t>(beside) > promise->second.slots) return "more uses of a lease than it has slots";
    edges.emplace_back(use.from, 1);
    if (use.to != kNever) edges.emplace_back(use.to, -1);
  }
  std::sort(edges.begin(), edges.end());
  std::int64_t running = 0;
  for (const auto& [at, step] : edges) {
    running += step;
    if (running > std::int64_t{life.declared}) return "more uses at once than the worker declared";
  }
  return {};
}

// L2: a holder learns of a lease, and of its size, after its worker did.
std::string LeaseHistory::check_grants(const Life& life) const {
  for (const Grant& grant : life.grants) {
    const bool known = std::any_of(life.tables.begin(), life.tables.end(), [&](const Table& table) {
      const auto promise = table.leases.find(grant.lease);
      return table.at < grant.at && promise != table.leases.end() && promise->second.holder == grant.holder &&
             promise->second.slots >= grant.slots;
    });
    if (!known) return "a holder was granted what its worker had not applied";
  }
  return {};
}

std::string LeaseHistory::check_across() const {
  std::set<DispatchId> dispatches;
  std::map<std::string, std::vector<std::pair<Order, Order>>> lives;
  for (const auto& [key, life] : lives_) {
    for (const Use& use : life.uses) {
      if (!dispatches.insert(use.dispatch).second) return "an attempt was admitted twice";
    }
    lives[life.replica].emplace_back(life.from, life.to);
  }
  for (auto& [replica, spans] : lives) {
    std::sort(spans.begin(), spans.end());
    for (std::size_t i = 1; i < spans.size(); ++i) {
      if (spans[i].first < spans[i - 1].second) return "two lives of " + replica + " overlap";
    }
  }
  return {};
}

}  // namespace orch::sim
