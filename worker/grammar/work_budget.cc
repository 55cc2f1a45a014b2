#include "worker/grammar/work_budget.h"

#include <utility>

#include "worker/grammar/token_constraint.h"

namespace orch::worker {

WorkBudget::Place WorkBudget::add(std::weak_ptr<TokenConstraint> constraint) {
  entries_.push_front({std::move(constraint), 0});
  return entries_.begin();
}

void WorkBudget::begin(Place place) {
  entries_.splice(entries_.begin(), entries_, place);
  while (bytes_ - place->bytes > others_max_) {
    Entry& oldest = entries_.back();
    bytes_ -= std::exchange(oldest.bytes, 0);
    if (const auto constraint = oldest.constraint.lock()) constraint->drop_work();
    entries_.pop_back();
  }
}

void WorkBudget::end(Place place, std::size_t bytes) {
  bytes_ += bytes;
  bytes_ -= std::exchange(place->bytes, bytes);
}

}  // namespace orch::worker
