// The KV pages of a CPU backend (ENGINE-RULES interface 2). A page holds 32 tokens of all layers: per layer a K tile
// [kv_head][d / 8][32][8] and a V tile [kv_head][32][d], f16. Memory is reserved at once and backed on first use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/result.h"
#include "worker/core/backend.h"
#include "worker/model/model_config.h"
#include "worker/model/model_error.h"

namespace orch::worker::cpu {

class KvStore {
 public:
  static Result<KvStore, ModelError> create(const ModelConfig& config, std::uint32_t pages);
  KvStore(KvStore&& other) noexcept;
  KvStore& operator=(KvStore&&) = delete;
  ~KvStore();

  std::uint32_t pages() const { return pages_; }
  std::size_t byte_size() const { return std::size_t{pages_} * page_values_ * sizeof(std::uint16_t); }

  std::size_t page_stride() const { return page_values_; }  // in f16 values
  const std::uint16_t* base() const { return values_; }
  std::size_t key_offset(std::uint32_t layer, std::uint32_t kv_head) const {
    return layer * layer_values_ + std::size_t{kv_head} * head_dim_ * kPageTokens;
  }
  std::size_t value_offset(std::uint32_t layer, std::uint32_t kv_head) const {
    return key_offset(layer, kv_head) + layer_values_ / 2;
  }
  std::uint16_t* page(PageId id) { return values_ + id * page_values_; }

  void copy(PageId source, PageId target);

 private:
  KvStore() = default;

  std::uint16_t* values_ = nullptr;  // mapped
  std::uint32_t pages_ = 0;
  std::uint32_t head_dim_ = 0;
  std::size_t layer_values_ = 0;  // K and V of one layer of one page
  std::size_t page_values_ = 0;
};

}  // namespace orch::worker::cpu
