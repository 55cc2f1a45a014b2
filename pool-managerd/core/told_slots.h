// Purpose: how many slots of one lease its holder may act upon, from what it was told and what it says it has heard
// (L6). A holder goes by the last word that came to it, and words travel: until it says that it heard of less, it may
// use what it knew before, and a job that it sent on the older word may still be on its way to the worker.
//
// Pure. Bounded: words beyond kUnheardMax are folded into what may have been heard, which only makes the answer larger.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>

#include "common/base/ids.h"

namespace orch::pool {

class ToldSlots {
 public:
  static constexpr std::size_t kUnheardMax = 64;
  struct Word {
    LinkId link;
    std::uint64_t number = 0;  // of the grants on that link
    std::uint32_t slots = 0;
  };

  // L8: an earlier boot of the manager may have said anything.
  void assume_anything() { heard_ = std::numeric_limits<std::uint32_t>::max(); }
  void tell(const Word& word);
  // The holder has heard every grant up to `number` of that link; `beyond`: the jobs it has open under the lease when
  // they are more than the size it knows, else 0.
  void hear(LinkId link, std::uint64_t number, std::uint32_t beyond);
  std::uint32_t most() const;

  std::uint32_t heard() const { return heard_; }
  std::uint32_t beyond() const { return beyond_; }
  const std::deque<Word>& unheard() const { return unheard_; }

 private:
  void fold_first();

  std::uint32_t heard_ = 0;  // the most that the last word heard for certain, or one that may have been, gave
  std::uint32_t beyond_ = 0;
  std::deque<Word> unheard_;  // of one link, ascending numbers
};

}  // namespace orch::pool
