// What the constraints of one engine have made in bytes: states and masks. They stay within one sum, whatever number of
// constraints is kept or in use: before one works, others that were used longest ago lose theirs (OC-GRAMMAR-1035).
// Nothing is lost but time, since states and masks follow from the text. Threads: one, the engine's.
#pragma once

#include <cstddef>
#include <list>
#include <memory>

namespace orch::worker {

class TokenConstraint;

class WorkBudget {
 private:
  struct Entry {
    std::weak_ptr<TokenConstraint> constraint;  // dies where its last user lets go of it, which may be another thread
    std::size_t bytes = 0;
  };

 public:
  using Place = std::list<Entry>::iterator;

  // `bytes_max` of all; `share_max` of the one that works.
  WorkBudget(std::size_t bytes_max, std::size_t share_max) : others_max_(bytes_max - share_max) {}
  WorkBudget(const WorkBudget&) = delete;
  WorkBudget& operator=(const WorkBudget&) = delete;

  Place add(std::weak_ptr<TokenConstraint> constraint);
  // It is about to work: others give room for its share.
  void begin(Place place);
  // It has worked, and holds so much.
  void end(Place place, std::size_t bytes);

  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t others_max_;
  std::list<Entry> entries_;  // latest use first
  std::size_t bytes_ = 0;
};

}  // namespace orch::worker
