#include "worker/grammar/constraint_store.h"

#include <utility>

namespace orch::worker {

namespace {

constexpr std::size_t kEntryBytes = 512;  // of the map, the list, the texts' and the constraint's own allocations

}  // namespace

std::shared_ptr<TokenConstraint> ConstraintStore::find(const grammar::Constraint& constraint) {
  const auto found = entries_.find(constraint);
  if (found == entries_.end()) return nullptr;
  uses_.splice(uses_.begin(), uses_, found->second.use);
  return found->second.constraint;
}

std::shared_ptr<TokenConstraint> ConstraintStore::keep(const grammar::Constraint& constraint,
                                                       std::shared_ptr<TokenConstraint> made) {
  if (auto kept = find(constraint)) return kept;
  const std::size_t bytes = made->compiled_bytes() + constraint.text.capacity() + kEntryBytes;
  if (!make_room(bytes)) return nullptr;
  const auto at = entries_.emplace(constraint, Entry{std::move(made), bytes, {}}).first;
  uses_.push_front(&at->first);
  at->second.use = uses_.begin();
  bytes_ += bytes;
  return at->second.constraint;
}

// Nobody can begin to use one meanwhile: who would has to find it here.
bool ConstraintStore::make_room(std::size_t bytes) {
  for (auto use = uses_.end(); bytes_ + bytes > bytes_max_ && use != uses_.begin();) {
    --use;
    const auto at = entries_.find(**use);
    if (at->second.constraint.use_count() > 1) continue;
    bytes_ -= at->second.bytes;
    use = uses_.erase(use);
    entries_.erase(at);
  }
  return bytes_ + bytes <= bytes_max_;
}

}  // namespace orch::worker
