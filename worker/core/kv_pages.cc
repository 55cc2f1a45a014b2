#include "worker/core/kv_pages.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::worker {
KvPagePool::KvPagePool(std::uint32_t pages_total) : pages_(pages_total) {
  free_.reserve(pages_total);
  for (std::uint32_t i = pages_total; i > 0; --i) free_.push_back(i - 1);  // lowest id is taken first
}

std::optional<PageId> KvPagePool::alloc() {
  PageId id = 0;
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
  } else if (!cached_.empty()) {
    id = cached_.front();
    cached_.pop_front();
    by_key_.erase(*pages_[id].key);
    pages_[id].key.reset();
  } else {
    return std::nullopt;
  }
  pages_[id].references = 1;
  ++live_;
  return id;
}

void KvPagePool::share(PageId page) {
  ORCH_CHECK(page < pages_.size() && pages_[page].references > 0);
  ++pages_[page].references;
}

void KvPagePool::release(PageId page) {
  ORCH_CHECK(page < pages_.size() && pages_[page].references > 0);
  Page& entry = pages_[page];
  if (--entry.references > 0) return;
  --live_;
  if (entry.key) {
    entry.cached = cached_.insert(cached_.end(), page);
  } else {
    free_.push_back(page);
  }
}

void KvPagePool::publish(PageId page, const PageKey& key) {
  ORCH_CHECK(page < pages_.size() && pages_[page].references > 0);
  if (pages_[page].key || by_key_.contains(key)) return;
  pages_[page].key = key;
  by_key_.emplace(key, page);
}

std::optional<PageId> KvPagePool::acquire(const PageKey& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  Page& entry = pages_[found->second];
  if (entry.references == 0) {
    cached_.erase(entry.cached);
    ++live_;
  }
  ++entry.references;
  return found->second;
}

bool extend(KvPagePool& pool, PageTable& table, std::uint32_t length) {
  const std::size_t wanted = pages_for(length);
  if (wanted > table.pages.size() && wanted - table.pages.size() > pool.pages_available()) return false;
  while (table.pages.size() < wanted) {
    const std::optional<PageId> page = pool.alloc();
    ORCH_CHECK(page.has_value());
    table.pages.push_back(*page);
  }
  if (length > table.length) table.length = length;
  return true;
}

void truncate(KvPagePool& pool, PageTable& table, std::uint32_t length) {
  if (length >= table.length) return;
  const std::size_t kept = pages_for(length);
  while (table.pages.size() > kept) {
    pool.release(table.pages.back());
    table.pages.pop_back();
  }
  table.length = length;
}

std::optional<Fork> fork(KvPagePool& pool, const PageTable& table) {
  const std::size_t full = table.length / kPageTokens;
  const bool partial = table.length % kPageTokens != 0;
  Fork result;
  if (partial) {
    const std::optional<PageId> target = pool.alloc();
    if (!target) return std::nullopt;
    result.copy = PageCopy{table.pages[full], *target};
  }
  for (std::size_t i = 0; i < full; ++i) {
    pool.share(table.pages[i]);
    result.table.pages.push_back(table.pages[i]);
  }
  if (result.copy) result.table.pages.push_back(result.copy->target);
  result.table.length = table.length;
  return result;
}

void free_table(KvPagePool& pool, PageTable& table) {
  std::for_each(table.pages.rbegin(), table.pages.rend(), [&pool](auto page) { pool.release(page); });
  table = PageTable{};
}

}  // namespace orch::worker
