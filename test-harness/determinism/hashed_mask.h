// A mask made of nothing but a seed: which tokens may come next is a hash of all tokens before, as a grammar's state
// is. Of tokens that come again behind a preemption or a resumption none may be missed and none come twice. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/prng.h"
#include "worker/core/token_mask.h"

namespace orch::determinism {

class HashedMask final : public worker::TokenMask {
 public:
  // `vocabulary`: the tokenizer's size.
  HashedMask(std::uint64_t seed, std::uint32_t vocabulary) : state_(seed), vocabulary_(vocabulary) {}

  // Three quarters of the tokens.
  std::span<const std::uint32_t> allowed() override {
    Prng prng(state_);
    words_.assign((vocabulary_ + 31) / 32, 0);
    for (std::uint32_t id = 0; id < vocabulary_; ++id) {
      if (is_allowed(prng.next())) words_[id / 32] |= 1U << (id % 32);
    }
    return words_;
  }
  bool accept(std::uint32_t id) override {
    state_ = Prng(state_ + id).next();
    return true;
  }
  std::unique_ptr<worker::TokenMask> clone() const override { return std::make_unique<HashedMask>(*this); }

 private:
  static bool is_allowed(std::uint64_t drawn) { return drawn % 4 != 0; }

  std::uint64_t state_;
  std::uint32_t vocabulary_;
  std::vector<std::uint32_t> words_;
};

}  // namespace orch::determinism
