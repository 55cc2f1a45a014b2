// One vector of a text from the hidden states of its tokens (OC-ENGINE-1022). Pure; all float work is of the numerics
// contract, so that the vector depends on the text alone.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace orch::worker {

enum class Pooling : std::uint8_t {
  mean,  // of all tokens
  cls,   // the first token
  last,  // the last token
};

// Takes the rows it needs in order of their positions, each once; a text whose computation begins again gives it only
// those it has not seen.
class RowPool {
 public:
  RowPool(Pooling pooling, std::uint32_t tokens);

  Pooling pooling() const { return pooling_; }
  // The first position whose row it still needs; the number of tokens when none is left.
  std::uint32_t next() const { return next_; }
  bool needs(std::uint32_t position) const;
  void take(std::uint32_t position, std::span<const float> row);

  // Of length 1. nullopt: a value is not finite, or the sum has no direction.
  std::optional<std::vector<float>> vector() const;

 private:
  Pooling pooling_;
  std::uint32_t last_;  // position of the last token
  std::uint32_t next_;
  std::vector<float> sum_;
};

}  // namespace orch::worker
