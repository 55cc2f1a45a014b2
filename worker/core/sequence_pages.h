// The pages of one sequence, and what of them it need not fill itself (OC-ENGINE-1016, OC-ENGINE-1026, OC-ENGINE-1027).
// Pure; the batch owns it.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string_view>

#include "worker/core/kv_pages.h"
#include "worker/core/page_keys.h"
#include "worker/core/sequence.h"

namespace orch::worker {

struct SequencePages {
  SequencePages(const PageScope& scope, std::string_view tenant) : keys(scope, tenant) {}

  PageTable table{};
  PageKeys keys;
  std::uint32_t published = 0;  // pages of the table that have their keys

  const PageKey& key(std::uint32_t page, const Sequence& sequence) {
    return keys.key(page, [&](std::uint32_t at) { return sequence.token_at(at); });
  }
  const PageKey& before(std::uint32_t page, const Sequence& sequence) {
    return keys.before(page, [&](std::uint32_t at) { return sequence.token_at(at); });
  }
};

// Takes the pages that others have filled, in place of the sequence's own ones, from where it is fed to on. False:
// there are none.
bool find_pages(KvPagePool& pool, SequencePages& pages, Sequence& sequence);

// Behind the pages that can be shared: of the next one as much as another page begins with, to be copied before any row
// of the step is written. nullopt: no page begins with more than is fed.
std::optional<PageCopy> find_beginning(KvPagePool& pool, SequencePages& pages, Sequence& sequence);

// Lets others find the full pages of what is fed: only what the backend has written whole.
void publish_full_pages(KvPagePool& pool, SequencePages& pages, const Sequence& sequence);
// And the beginning of the last page.
void publish_beginning(KvPagePool& pool, SequencePages& pages, const Sequence& sequence);

// The pages that are filled in the step being built.
class ComingPages {
 public:
  void clear() { keys_.clear(); }
  // Of the sequence's next `count` rows.
  void add(SequencePages& pages, const Sequence& sequence, std::uint32_t count);
  // True: behind the step the sequence finds at least as much as its own next `count` rows would compute of what can be
  // found at all.
  bool cover(SequencePages& pages, const Sequence& sequence, std::uint32_t count) const;

 private:
  std::set<PageKey> keys_;
};

}  // namespace orch::worker
