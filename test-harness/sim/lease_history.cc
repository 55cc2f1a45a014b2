#include "sim/lease_history.h"

#include <algorithm>
#include <set>

namespace orch::sim {

void LeaseHistory::born(const WorkerKey& worker, const std::string& replica, std::uint32_t declared) {
  Life& life = lives_[worker];
  life.replica = replica;
  life.declared = declared;
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
  for (std::size_t i = 0; i < table.leases.size(); ++i) {
    const LeaseEntry& lease = table.leases[i];
    entry.leases.emplace(lease.id, Promise{ends[i], lease.holder, lease.stop ? 0 : lease.slots});
  }
  lives_[worker].tables.push_back(std::move(entry));
}

void LeaseHistory::used(const WorkerKey& worker, LeaseId lease, const Holder& holder, const DispatchId& dispatch,
                        Instant at) {
  lives_[worker].uses.push_back({++order_, kNever, at, lease, holder, dispatch});
}

void LeaseHistory::released(const WorkerKey& worker, const DispatchId& dispatch) {
  Life& life = lives_[worker];
  const Order at = ++order_;
  for (auto use = life.uses.rbegin(); use != life.uses.rend(); ++use) {
    if (use->dispatch != dispatch) continue;
    use->to = std::min(use->to, at);
    return;
  }
}

void LeaseHistory::told(const WorkerKey& worker, LeaseId lease, std::uint32_t slots) {
  const auto life = lives_.find(worker);
  if (life != lives_.end()) life->second.told.push_back({++order_, lease, slots});
}

void LeaseHistory::granted(const WorkerKey& worker, LeaseId lease, const Holder& holder, std::uint32_t slots) {
  lives_[worker].grants.push_back({++order_, lease, holder, slots});
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
  if (std::string fault = check_told(life); !fault.empty()) return fault;
  return check_grants(life);
}

// Whether the lease had more uses, this one included, than its holder had been told of last when this one began.
bool LeaseHistory::on_an_older_word(const Life& life, const Use& use) {
  std::uint32_t told = 0;
  for (const Told& each : life.told) {
    if (each.at > use.from) break;
    if (each.lease == use.lease) told = each.slots;
  }
  const auto beside = std::count_if(life.uses.begin(), life.uses.end(), [&](const Use& other) {
    return other.lease == use.lease && other.from <= use.from && other.to > use.from;
  });
  return static_cast<std::uint64_t>(beside) > told;
}

// L6: when a holder is told of more, nobody else can be using it: neither by a running job nor by what was told before
// and is still admitted. A job that was sent on an older word than the manager's last (it was told of less and had not
// heard it, and a later table admitted it) is not the manager's to know: the worker's own sum answers SLOT_BUSY there.
std::string LeaseHistory::check_told(const Life& life) const {
  std::map<LeaseId, std::uint32_t> told;
  for (const Told& each : life.told) {
    const bool grows = each.slots > told[each.lease];
    told[each.lease] = each.slots;
    if (!grows) continue;
    const auto next = std::upper_bound(life.tables.begin(), life.tables.end(), each.at,
                                       [](Order at, const Table& table) { return at < table.at; });
    std::map<LeaseId, std::uint32_t> held;
    for (const Use& use : life.uses) {
      if (use.from < each.at && use.to > each.at && !on_an_older_word(life, use)) ++held[use.lease];
    }
    if (held[each.lease] >= each.slots) continue;  // it uses as much already: the word gives nothing away
    if (next != life.tables.begin()) {
      for (const auto& [id, promise] : std::prev(next)->leases) {
        const auto size = told.find(id);
        if (size != told.end()) held[id] = std::max(held[id], std::min(promise.slots, size->second));
      }
    }
    std::uint64_t sum = 0;
    for (const auto& [id, slots] : held) sum += slots;
    if (sum <= life.declared) continue;
    std::string text = "the holder of lease " + std::to_string(each.lease.counter) + " was told of " +
                       std::to_string(each.slots) + " slots while others may use";
    for (const auto& [id, slots] : held) text += " " + std::to_string(id.counter) + ":" + std::to_string(slots);
    return text + " of " + std::to_string(life.declared);
  }
  return {};
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
  // A holder's next life does not know of an attempt whose record was not durable, and counts it anew (J4).
  std::set<std::pair<Holder, DispatchId>> dispatches;
  std::map<std::string, std::vector<std::pair<Order, Order>>> lives;
  for (const auto& [key, life] : lives_) {
    for (const Use& use : life.uses) {
      if (!dispatches.emplace(use.holder, use.dispatch).second) return "an attempt was admitted twice";
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
