// Fixed-size, zeroed memory on a 64-byte boundary (one cache line, one AVX-512 register), owned alone or as a part of
// an arena. Move only.
#pragma once

#include <sys/mman.h>

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
    // From one huge page up the kernel is asked for huge pages: weights are read front to back for every token, and 4
    // KiB pages cost a page walk and a restart of the hardware prefetcher each.
    const std::size_t alignment = size >= kHugePage ? kHugePage : kAlignment;
    const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded);
    ORCH_CHECK(memory != nullptr);
    if (size >= kHugePage) ::madvise(memory, rounded, MADV_HUGEPAGE);  // advice: failing costs only speed
    std::memset(memory, 0, rounded);
    bytes_ = std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), [](std::byte* p) { std::free(p); });
  }
  AlignedBytes(AlignedBytes&&) = default;
  AlignedBytes& operator=(AlignedBytes&&) = default;

  // Bytes offset..offset + size of `arena`, which lives as long as any part; offset is a multiple of 64.
  static AlignedBytes part(const AlignedBytes& arena, std::size_t offset, std::size_t size) {
    ORCH_CHECK(offset % kAlignment == 0 && offset <= arena.size_ && size <= arena.size_ - offset);
    AlignedBytes bytes;
    bytes.size_ = size;
    bytes.bytes_ = std::shared_ptr<std::byte>(arena.bytes_, arena.bytes_.get() + offset);
    return bytes;
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::byte* data() { return bytes_.get(); }
  const std::byte* data() const { return bytes_.get(); }

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(bytes_.get());
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(bytes_.get());
  }

  std::span<const std::byte> span() const { return {bytes_.get(), size_}; }

 private:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

  std::size_t size_ = 0;
  std::shared_ptr<std::byte> bytes_;
};

// Hands out parts of one allocation, front to back.
class Arena {
 public:
  explicit Arena(std::size_t size) : bytes_(size) {}

  static constexpr std::size_t rounded(std::size_t size) {
    return (size + AlignedBytes::kAlignment - 1) / AlignedBytes::kAlignment * AlignedBytes::kAlignment;
  }
  AlignedBytes take(std::size_t size) {
    AlignedBytes part = AlignedBytes::part(bytes_, used_, size);
    used_ += rounded(size);
    return part;
  }

 private:
  AlignedBytes bytes_;
  std::size_t used_ = 0;
};

}  // namespace orch::worker
