#include "worker/core/kv_pages.h"

#include <algorithm>
#include <iterator>

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
    forget(pages_[id]);
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
  if (entry.findable()) {
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
  take(found->second);
  return found->second;
}

void KvPagePool::take(PageId page) {
  Page& entry = pages_[page];
  if (entry.references == 0) {
    cached_.erase(entry.cached);
    ++live_;
  }
  ++entry.references;
}

void KvPagePool::forget(Page& page) {
  if (page.key) by_key_.erase(*page.key);
  if (page.begins) beginnings_.erase(*page.begins);
  page.key.reset();
  page.begins.reset();
}

void KvPagePool::describe(PageId page, const PageKey& before, std::span<const std::uint32_t> tokens) {
  ORCH_CHECK(page < pages_.size() && pages_[page].references > 0 && !tokens.empty() && tokens.size() <= kPageTokens);
  Page& entry = pages_[page];
  const auto [at, fresh] = beginnings_.try_emplace({before, {tokens.begin(), tokens.end()}}, page);
  if (!fresh) return;
  if (entry.begins) beginnings_.erase(*entry.begins);
  entry.begins = at;
}

std::optional<KvPagePool::Likest> KvPagePool::acquire_likest(const PageKey& before,
                                                             std::span<const std::uint32_t> tokens,
                                                             std::uint32_t least) {
  ORCH_CHECK(least > 0);
  Likest best;
  const auto consider = [&](Beginnings::const_iterator at) {
    if (at->first.first != before) return;
    const std::vector<std::uint32_t>& there = at->first.second;
    const auto differs = std::mismatch(tokens.begin(), tokens.end(), there.begin(), there.end()).first;
    const auto common = static_cast<std::uint32_t>(differs - tokens.begin());
    if (common > best.tokens) best = {at->second, common};
  };
  const auto next = beginnings_.lower_bound({before, {tokens.begin(), tokens.end()}});
  if (next != beginnings_.end()) consider(next);
  if (next != beginnings_.begin()) consider(std::prev(next));
  if (best.tokens < least) return std::nullopt;
  take(best.page);
  return best;
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

void free_table(KvPagePool& pool, PageTable& table) {
  std::for_each(table.pages.rbegin(), table.pages.rend(), [&pool](auto page) { pool.release(page); });
  table = PageTable{};
}

}  // namespace orch::worker
