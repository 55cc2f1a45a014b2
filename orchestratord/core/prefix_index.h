// Which replica is believed to hold the keys and values of which beginnings of prompts (OC-CORE-1018, proposal 0009).
// It mirrors what the workers do: pages of one tenant are shared, the least recently used go first, a new life has
// none. What a worker finds in its cache is told with each admission and corrects the belief.
//
// Threads: owned by the core's loop. Bounds: kEntriesMax entries, the least recently used first out, and of one replica
// no more than its memory can hold. Deterministic: recency is the order of calls.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "orchestratord/core/fleet.h"
#include "orchestratord/core/prefix_chain.h"

namespace orch::gateway {

class PrefixIndex {
 public:
  static constexpr std::size_t kEntriesMax = 65'536;

  struct Match {
    ReplicaKey replica;
    Incarnation inc;
    std::size_t chunks = 0;  // of the chain's beginning
  };

  // The replica has this beginning, or will when it has computed the prompt that it admitted. `chunks_max`: that its
  // memory can hold, of all prompts.
  void holds(const std::string& tenant, const PrefixChain& chain, const ReplicaKey& replica, Incarnation inc,
             std::size_t chunks_max);
  // It has only the first `found` chunks, though more were believed: it has dropped that one, and what was used even
  // longer ago.
  void found_only(const std::string& tenant, const PrefixChain& chain, const ReplicaKey& replica, std::size_t found);
  // Everything of lives before `inc`.
  void forget_before(const ReplicaKey& replica, Incarnation inc);

  // By replica key.
  std::vector<Match> match(const std::string& tenant, const PrefixChain& chain) const;
  std::size_t size() const { return ages_.size(); }
  // The first broken invariant in words; empty: none. O(n).
  std::string check() const;

 private:
  using Serial = std::uint64_t;  // grows with use
  struct Key {
    std::uint64_t hash = 0;
    std::uint32_t replica = 0;
    auto operator<=>(const Key&) const = default;
  };
  using Tenant = std::map<Key, Serial>;
  struct Entry {
    std::map<std::string, Tenant>::iterator tenant;
    Key key;
  };
  struct Replica {
    std::uint32_t number = 0;  // never used again
    Incarnation inc;
    std::set<Serial> entries;
  };

  void drop(Serial serial);

  std::map<std::string, Tenant> tenants_;
  std::map<Serial, Entry> ages_;
  std::map<ReplicaKey, Replica> replicas_;
  std::map<std::uint32_t, std::map<ReplicaKey, Replica>::iterator> numbers_;
  Serial next_serial_ = 1;
  std::uint32_t next_number_ = 1;
};

}  // namespace orch::gateway
