#include "pool-managerd/core/told_slots.h"

#include <algorithm>

namespace orch::pool {

void ToldSlots::fold_first() {
  heard_ = std::max(heard_, unheard_.front().slots);
  unheard_.pop_front();
}

void ToldSlots::tell(const Word& word) {
  // Which words of a link that is gone were heard will never be known.
  while (!unheard_.empty() && (unheard_.front().link != word.link || unheard_.size() >= kUnheardMax)) fold_first();
  unheard_.push_back(word);
}

void ToldSlots::hear(LinkId link, std::uint64_t number, std::uint32_t beyond) {
  while (!unheard_.empty() && unheard_.front().link == link && unheard_.front().number <= number) {
    heard_ = unheard_.front().slots;  // grants come in order: the later word is the one that holds
    unheard_.pop_front();
  }
  beyond_ = beyond;
}

std::uint32_t ToldSlots::most() const {
  std::uint32_t most = std::max(heard_, beyond_);
  for (const Word& word : unheard_) most = std::max(most, word.slots);
  return most;
}

}  // namespace orch::pool
