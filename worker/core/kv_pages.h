// Who owns which KV page (ENGINE-RULES interface 2): reference counts, what of them can be found, and per-sequence
// tables. Pages themselves live in the backend; this is bookkeeping by number. Pure; one engine thread owns it.
//
// A page is free (in nobody's table), live (count >= 1), or cached (count 0 but findable until it is reused, oldest
// first). Only full pages are published, so a shared page is never written again. What a page begins with can be found
// too, to be copied: it stays as it is while its owner goes on behind it.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <utility>
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

  // Makes what is written at the beginning of a live page findable: `tokens`, behind the page with the key `before`. In
  // place of what was said of the page; what another page says already stays that page's.
  void describe(PageId page, const PageKey& before, std::span<const std::uint32_t> tokens);
  // Of the pages described with `before` one that begins with the most of `tokens`, its count raised by one, and how
  // many those are: at least `least`.
  struct Likest {
    PageId page = 0;
    std::uint32_t tokens = 0;
  };
  std::optional<Likest> acquire_likest(const PageKey& before, std::span<const std::uint32_t> tokens,
                                       std::uint32_t least);

  std::uint32_t pages_total() const { return static_cast<std::uint32_t>(pages_.size()); }
  std::uint32_t pages_live() const { return live_; }
  std::uint32_t pages_available() const { return pages_total() - live_; }  // free or cached

 private:
  // In the order of tokens, so that those with the longest common beginning stand beside each other.
  using Beginnings = std::map<std::pair<PageKey, std::vector<std::uint32_t>>, PageId>;
  struct Page {
    std::uint32_t references = 0;
    std::optional<PageKey> key;
    std::optional<Beginnings::iterator> begins;
    std::list<PageId>::iterator cached;  // valid when references == 0 and it can be found

    bool findable() const { return key || begins; }
  };

  void forget(Page& page);
  void take(PageId page);

  std::vector<Page> pages_;
  std::vector<PageId> free_;
  std::list<PageId> cached_;  // oldest first
  std::map<PageKey, PageId> by_key_;
  Beginnings beginnings_;
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

// The caller tells the backend before the step.
struct PageCopy {
  PageId source = 0;
  PageId target = 0;
};

// Extends the table to `length` tokens; all or nothing. False: not enough pages (NO_PAGES).
bool extend(KvPagePool& pool, PageTable& table, std::uint32_t length);
// Drops tokens past `length` and the pages only they used.
void truncate(KvPagePool& pool, PageTable& table, std::uint32_t length);
// The last page goes first, so that the beginning of a text is kept longest.
void free_table(KvPagePool& pool, PageTable& table);

}  // namespace orch::worker
