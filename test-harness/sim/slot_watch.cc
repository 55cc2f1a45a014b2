#include "sim/slot_watch.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace orch::sim {

// The most that may run of it: what its holder knows of, is about to hear of, or has sent a job with.
std::uint32_t SlotWatch::Standing::claim() const {
  std::uint32_t most = 0;
  for (const auto& [dispatch, slots] : under_way) most = std::max(most, slots);
  for (const Word& word : words) most = std::max(most, word.slots);
  return most;
}

std::uint32_t SlotWatch::promised(LeaseId lease) const {
  const auto found = promised_.find(lease);
  return found == promised_.end() ? 0 : found->second;
}

void SlotWatch::applied(std::map<LeaseId, std::uint32_t> promised) {
  promised_ = std::move(promised);
  judge("a table was applied");
}

void SlotWatch::told(LeaseId lease, std::uint32_t slots, std::uint64_t number) {
  leases_[lease].words.push_back({number, slots});
  judge("the holder of lease " + std::to_string(lease.counter) + " was told of " + std::to_string(slots) + " slots");
}

// Numbers begin anew with each link, and what was on the way on an older one never arrives.
void SlotWatch::heard(LeaseId lease, std::uint64_t number) {
  std::vector<Word>& words = leases_[lease].words;
  const auto word = std::find_if(words.rbegin(), words.rend(), [&](const Word& each) { return each.number == number; });
  if (word != words.rend()) words.erase(words.begin(), std::prev(word.base()));
}

void SlotWatch::sent(LeaseId lease, const DispatchId& dispatch, std::uint32_t slots) {
  leases_[lease].under_way[dispatch] = slots;
}

std::pair<LeaseId, std::uint32_t> SlotWatch::no_more_under_way(const DispatchId& dispatch) {
  for (auto& [id, lease] : leases_) {
    if (const auto sent = lease.under_way.extract(dispatch)) return {id, sent.mapped()};
  }
  return {};
}

void SlotWatch::used(LeaseId lease, const DispatchId& dispatch) {
  no_more_under_way(dispatch);
  ++leases_[lease].running;
}

void SlotWatch::released(LeaseId lease) {
  Standing& standing = leases_[lease];
  if (standing.running > 0) --standing.running;
}

void SlotWatch::refused(const DispatchId& dispatch, bool busy) {
  const auto [id, known] = no_more_under_way(dispatch);
  if (!busy || id.is_zero() || !fault_.empty()) return;
  const Standing& lease = leases_[id];
  if (lease.words.empty() || lease.running >= std::min({promised(id), known, lease.words.back().slots})) return;
  fault_ = "the holder of lease " + std::to_string(id.counter) + " was refused a slot that it was told of";
}

void SlotWatch::judge(const std::string& what) {
  if (!fault_.empty()) return;
  std::uint64_t sum = 0;
  std::string text;
  for (const auto& [id, lease] : leases_) {
    const std::uint32_t slots = std::max(lease.running, std::min(promised(id), lease.claim()));
    sum += slots;
    if (slots > 0) text += " " + std::to_string(id.counter) + ":" + std::to_string(slots);
  }
  if (sum > declared_) fault_ = what + " while holders may use" + text + " of " + std::to_string(declared_);
}

}  // namespace orch::sim
