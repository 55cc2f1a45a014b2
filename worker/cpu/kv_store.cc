#include "worker/cpu/kv_store.h"

#include <sys/mman.h>

#include <cstring>
#include <utility>

#include "common/base/check.h"

namespace orch::worker::cpu {

Result<KvStore, ModelError> KvStore::create(const ModelConfig& config, std::uint32_t pages) {
  KvStore store;
  store.pages_ = pages;
  store.head_dim_ = config.head_dim;
  store.layer_values_ = std::size_t{2} * config.kv_width() * kPageTokens;
  store.page_values_ = store.layer_values_ * config.layers;
  void* memory =
      ::mmap(nullptr, store.byte_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return Err{ModelError{ModelErrorKind::memory, "ctx",
                          "cannot reserve " + std::to_string(store.byte_size()) + " bytes of KV pages"}};
  }
  store.values_ = static_cast<std::uint16_t*>(memory);
  return store;
}

KvStore::KvStore(KvStore&& other) noexcept
    : values_(std::exchange(other.values_, nullptr)),
      pages_(other.pages_),
      head_dim_(other.head_dim_),
      layer_values_(other.layer_values_),
      page_values_(other.page_values_) {}

KvStore::~KvStore() {
  if (values_ != nullptr) ::munmap(values_, byte_size());
}

void KvStore::copy(PageId source, PageId target) {
  ORCH_CHECK(source < pages_ && target < pages_ && source != target);
  std::memcpy(page(target), page(source), page_values_ * sizeof(std::uint16_t));
}

}  // namespace orch::worker::cpu
