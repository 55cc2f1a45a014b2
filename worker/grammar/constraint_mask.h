// The mask of one sequence under a constraint. Its state follows from the accepted tokens alone, so a resumed sequence
// has the mask it would have had (M2, OC-GRAMMAR-1022).
//
// It also sees to it that the text ends in time: once the tokens left are as many as the bytes of the shortest end,
// only tokens that keep an end in reach are allowed, since every byte of it has a token (OC-GRAMMAR-1024).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "worker/core/token_mask.h"
#include "worker/grammar/token_constraint.h"

namespace orch::worker {

class ConstraintMask final : public TokenMask {
 public:
  // `tokens_max`: of the whole text.
  ConstraintMask(std::shared_ptr<TokenConstraint> constraint, std::uint32_t tokens_max)
      : constraint_(std::move(constraint)), tokens_left_(tokens_max) {}

  std::span<const std::uint32_t> allowed() override;
  bool accept(std::uint32_t id) override;
  std::unique_ptr<TokenMask> clone() const override { return std::make_unique<ConstraintMask>(*this); }

  // The text so far satisfies the constraint as a whole.
  bool is_complete();
  std::uint32_t allowed_count() const { return bits_ ? bits_->count : 0; }

 private:
  TokenConstraint::State state();

  std::shared_ptr<TokenConstraint> constraint_;
  std::string text_;
  TokenConstraint::State state_ = grammar::Automaton::kDead;
  std::uint64_t epoch_ = 0;  // the constraint counts from 1, so the first use finds the state
  std::uint32_t tokens_left_;
  bool broken_ = false;
  std::shared_ptr<const TokenBits> bits_;  // of the state; kept alive while the sampler reads it
};

}  // namespace orch::worker
