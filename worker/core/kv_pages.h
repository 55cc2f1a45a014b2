// Who owns which KV page (ENGINE-RULES interface 2): reference counts, a prefix index of full pages, and per-sequence
// tables. Pages themselves live in the backend; this is bookkeeping by number. Pure; one engine thread owns it.
//
// A page is free (in nobody's table), live (count >= 1), or cached (count 0 but findable by its key until it is reused,
// oldest first). Only full pages are published, so a shared page is never written again.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "worker/core/backend.h"

namespace orch::worker {

// SHA-256 chain over (tenant salt, model digest, adapter, numeric class, contract version, KV type, tokens), made by
// the caller.
using PageKey = std::array<std::uint8_t, 32>;

class KvPagePool {
 public:
  explicit KvPagePool(std::uint32_t pages_total);

  // A page with count 1, or nullopt when every page is live. Reuses free pages first, then the oldest cached one.
  std::optional<PageId> alloc();
  void share(PageId page);    // live pages only
  void release(PageId page);  // at 0 the page is cached when published, else free

  // Makes a full live page findable. A key that exists already keeps its page; this one stays unpublished.
  void publish(PageId page, const PageKey& key);
  // The published page with this key, its count raised by one.
  std::optional<PageId> acquire(const PageKey& key);

  std::uint32_t pages_total() const { return static_cast<std::uint32_t>(pages_.size()); }
  std::uint32_t pages_live() const { return live_; }
  std::uint32_t pages_available() const { return pages_total() - live_; }  // free or cached

 private:
  struct Page {
    std::uint32_t references = 0;
    std::optional<PageKey> key;
    std::list<PageId>::iterator cached;  // valid when references == 0 and key
  };

  std::vector<Page> pages_;
  std::vector<PageId> free_;
  std::list<PageId> cached_;  // oldest first
  std::map<PageKey, PageId> by_key_;
  std::uint32_t live_ = 0;
};

constexpr std::uint32_t pages_for(std::uint32_t tokens) {
  return tokens / kPageTokens + (tokens % kPageTokens != 0 ? 1 : 0);
}

// The pages of one sequence. `length` counts tokens written or about to be written.
struct PageTable {
  std::vector<PageId> pages;
  std::uint32_t length = 0;
};

struct PageCopy {
  PageId source = 0;
  PageId target = 0;
};

struct Fork {
  PageTable table;
  std::optional<PageCopy> copy;  // the caller tells the backend before the next step
};

// Extends the table to `length` tokens; all or nothing. False: not enough pages (NO_PAGES).
bool extend(KvPagePool& pool, PageTable& table, std::uint32_t length);
// Drops tokens past `length` and the pages only they used.
void truncate(KvPagePool& pool, PageTable& table, std::uint32_t length);
// A second sequence with the same tokens: full pages shared, a partial last page copied. nullopt: no page for the copy.
std::optional<Fork> fork(KvPagePool& pool, const PageTable& table);
// The last page goes first, so that the beginning of a text is kept longest.
void free_table(KvPagePool& pool, PageTable& table);

}  // namespace orch::worker
