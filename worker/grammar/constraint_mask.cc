#include "worker/grammar/constraint_mask.h"

namespace orch::worker {

TokenConstraint::State ConstraintMask::state() {
  if (broken_) return grammar::Automaton::kDead;
  if (epoch_ != constraint_->epoch()) {
    state_ = constraint_->state_of(text_);
    epoch_ = constraint_->epoch();
  }
  return state_;
}

std::span<const std::uint32_t> ConstraintMask::allowed() {
  if (bits_) return bits_->words;
  const TokenConstraint::State now = state();
  const std::uint32_t to_end = constraint_->bytes_to_end(now);
  bits_ = constraint_->bits(now);
  const std::uint32_t behind_next = tokens_left_ > 0 ? tokens_left_ - 1 : 0;
  if (!broken_ && to_end <= tokens_left_ && bits_->farthest_end > behind_next) {
    auto near = constraint_->bits_near_end(state(), behind_next);
    if (near->count > 0) bits_ = std::move(near);
  }
  return bits_->words;
}

bool ConstraintMask::accept(std::uint32_t id) {
  bits_.reset();
  if (broken_ || id >= constraint_->vocabulary().vocabulary() || constraint_->vocabulary().bytes_of(id).empty()) {
    broken_ = true;
    return false;
  }
  state_ = constraint_->step(state(), id);
  epoch_ = constraint_->epoch();  // the step may have forgotten the state it came from
  text_ += constraint_->vocabulary().bytes_of(id);
  if (tokens_left_ > 0) --tokens_left_;
  broken_ = state_ == grammar::Automaton::kDead;
  return !broken_;
}

bool ConstraintMask::is_complete() { return !broken_ && constraint_->accepts(state()); }

}  // namespace orch::worker
