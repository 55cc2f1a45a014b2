#include "worker/core/pooling.h"

#include "common/base/check.h"
#include "worker/core/log_probs.h"
#include "worker/core/numerics.h"

namespace orch::worker {

RowPool::RowPool(Pooling pooling, std::uint32_t tokens)
    : pooling_(pooling), last_(tokens - 1), next_(pooling == Pooling::last ? last_ : 0) {
  ORCH_CHECK(tokens > 0);
}

bool RowPool::needs(std::uint32_t position) const {
  return position >= next_ && (pooling_ != Pooling::cls || position == 0);
}

void RowPool::take(std::uint32_t position, std::span<const float> row) {
  ORCH_CHECK(position == next_ && needs(position));
  next_ = pooling_ == Pooling::cls ? last_ + 1 : next_ + 1;
  sum_.resize(row.size());  // +0
  for (std::size_t i = 0; i < row.size(); ++i) sum_[i] = sum_[i] + row[i];
}

// OC-NUM-1410.
std::optional<std::vector<float>> RowPool::vector() const {
  ORCH_CHECK(next_ > last_ && !sum_.empty());
  if (!all_finite(sum_)) return std::nullopt;
  const float inverse = 1.0F / static_cast<float>(pooling_ == Pooling::mean ? last_ + 1 : 1);
  std::vector<float> out;
  out.reserve(sum_.size());
  for (const float each : sum_) out.push_back(numerics::store(each * inverse));
  const float square = numerics::tree_sum(out.size(), [&out](std::size_t i) { return out[i] * out[i]; });
  if (!all_finite({&square, 1}) || square < 0x1p-60F) return std::nullopt;
  const float factor = numerics::rsqrt(square);
  for (float& each : out) each = numerics::store(each * factor);
  return out;
}

}  // namespace orch::worker
