// A fixed-size, zeroed byte buffer on a 64-byte boundary (one cache line, one AVX-512 register). Owns its memory; move only.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "common/base/check.h"

namespace orch::worker {

class AlignedBytes {
 public:
  static constexpr std::size_t kAlignment = 64;

  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t size) : size_(size) {
    if (size == 0) return;
    const std::size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
    void* memory = std::aligned_alloc(kAlignment, rounded);
    ORCH_CHECK(memory != nullptr);
    std::memset(memory, 0, rounded);
    bytes_.reset(static_cast<std::byte*>(memory));
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::byte* data() { return bytes_.get(); }
  const std::byte* data() const { return bytes_.get(); }

  template <typename T>
  T* as() { return reinterpret_cast<T*>(bytes_.get()); }
  template <typename T>
  const T* as() const { return reinterpret_cast<const T*>(bytes_.get()); }

  std::span<const std::byte> span() const { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::size_t size_ = 0;
  std::unique_ptr<std::byte, Free> bytes_;
};

}  // namespace orch::worker
