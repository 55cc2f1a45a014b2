// The compiled constraints of one engine by their text, the least recently used dropped first and by their bytes
// (OC-GRAMMAR-1023, OC-GRAMMAR-1035). One that a sequence runs under is never dropped: that would free nothing, and the
// next one like it would be compiled beside it. Threads: one at a time, its owner sees to that.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>

#include "common/grammar/constraint.h"
#include "common/grammar/limits.h"
#include "worker/grammar/token_constraint.h"

namespace orch::worker {

class ConstraintStore {
 public:
  explicit ConstraintStore(std::size_t bytes_max = grammar::kCompiledBytesMax) : bytes_max_(bytes_max) {}

  // Null: not kept.
  std::shared_ptr<TokenConstraint> find(const grammar::Constraint& constraint);
  // Keeps it, and gives back what is kept of this text, which may be an earlier one. Null: those in use leave no room.
  std::shared_ptr<TokenConstraint> keep(const grammar::Constraint& constraint, std::shared_ptr<TokenConstraint> made);

  std::size_t bytes() const { return bytes_; }
  std::size_t size() const { return entries_.size(); }

 private:
  using Uses = std::list<const grammar::Constraint*>;  // keys of entries_, latest first
  struct Entry {
    std::shared_ptr<TokenConstraint> constraint;
    std::size_t bytes = 0;
    Uses::iterator use;
  };
  bool make_room(std::size_t bytes);

  std::size_t bytes_max_;
  std::map<grammar::Constraint, Entry> entries_;
  Uses uses_;
  std::size_t bytes_ = 0;
};

}  // namespace orch::worker
