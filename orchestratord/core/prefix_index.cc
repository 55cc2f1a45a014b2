#include "orchestratord/core/prefix_index.h"

#include <algorithm>

namespace orch::gateway {

void PrefixIndex::drop(Serial serial) {
  const auto entry = ages_.find(serial);
  const auto tenant = entry->second.tenant;
  const auto replica = numbers_.find(entry->second.key.replica);
  tenant->second.erase(entry->second.key);
  if (tenant->second.empty()) tenants_.erase(tenant);
  replica->second->second.entries.erase(serial);
  if (replica->second->second.entries.empty()) {
    replicas_.erase(replica->second);
    numbers_.erase(replica);
  }
  ages_.erase(entry);
}

// From the end to the beginning, so that a beginning always outlives what goes on from it.
void PrefixIndex::holds(const std::string& tenant, const PrefixChain& chain, const ReplicaKey& replica, Incarnation inc,
                        std::size_t chunks_max) {
  const std::size_t count = std::min({chain.size(), chunks_max, kEntriesMax});
  if (count == 0) return;
  forget_before(replica, inc);
  const auto [known, fresh] = replicas_.try_emplace(replica);
  Replica& of = known->second;
  if (fresh) {
    of.number = next_number_++;
    of.inc = inc;
    numbers_.emplace(of.number, known);
  }
  if (of.inc != inc) return;  // late news of an earlier life
  const auto its = tenants_.try_emplace(tenant).first;
  for (std::size_t i = count; i-- > 0;) {
    const Key key{chain[i], of.number};
    const Serial serial = next_serial_++;
    const auto [place, is_new] = its->second.try_emplace(key, serial);
    if (!is_new) {
      of.entries.erase(place->second);
      ages_.erase(place->second);
      place->second = serial;
    }
    of.entries.insert(serial);
    ages_.emplace(serial, Entry{its, key});
  }
  while (of.entries.size() > chunks_max) drop(*of.entries.begin());
  while (ages_.size() > kEntriesMax) drop(ages_.begin()->first);
}

void PrefixIndex::found_only(const std::string& tenant, const PrefixChain& chain, const ReplicaKey& replica,
                             std::size_t found) {
  const auto known = replicas_.find(replica);
  const auto its = tenants_.find(tenant);
  if (found >= chain.size() || known == replicas_.end() || its == tenants_.end()) return;
  const auto lost = its->second.find({chain[found], known->second.number});
  if (lost == its->second.end()) return;
  const std::set<Serial>& entries = known->second.entries;
  const std::vector<Serial> gone(entries.begin(), entries.upper_bound(lost->second));
  for (const Serial serial : gone) drop(serial);
}

void PrefixIndex::forget_before(const ReplicaKey& replica, Incarnation inc) {
  const auto known = replicas_.find(replica);
  if (known == replicas_.end() || !(known->second.inc < inc)) return;
  const std::vector<Serial> gone(known->second.entries.begin(), known->second.entries.end());
  for (const Serial serial : gone) drop(serial);
}

std::vector<PrefixIndex::Match> PrefixIndex::match(const std::string& tenant, const PrefixChain& chain) const {
  std::vector<Match> out;
  const auto its = tenants_.find(tenant);
  if (its == tenants_.end()) return out;
  std::map<std::uint32_t, std::size_t> chunks;  // by replica number
  for (std::size_t i = 0; i < chain.size(); ++i) {
    bool any = false;
    for (auto at = its->second.lower_bound({chain[i], 0}); at != its->second.end() && at->first.hash == chain[i];
         ++at) {
      std::size_t& count = chunks[at->first.replica];
      if (count != i) continue;  // a gap: nothing behind it can be shared
      count = i + 1;
      any = true;
    }
    if (!any) break;
  }
  for (const auto& [number, count] : chunks) {
    const auto& [key, replica] = *numbers_.at(number);
    if (count > 0) out.push_back({key, replica.inc, count});
  }
  std::sort(out.begin(), out.end(), [](const Match& a, const Match& b) { return a.replica < b.replica; });
  return out;
}

std::string PrefixIndex::check() const {
  std::size_t placed = 0;
  std::size_t owned = 0;
  for (const auto& [name, tenant] : tenants_) {
    if (tenant.empty()) return "a tenant without prefixes is kept";
    placed += tenant.size();
  }
  for (const auto& [key, replica] : replicas_) {
    if (replica.entries.empty()) return "a replica without prefixes is kept";
    owned += replica.entries.size();
  }
  if (placed != ages_.size() || owned != ages_.size() || numbers_.size() != replicas_.size())
    return "the prefix index counts differently in two places";
  return ages_.size() > kEntriesMax ? "more prefixes than may be" : std::string();
}

}  // namespace orch::gateway
