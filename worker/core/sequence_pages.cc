#include "worker/core/sequence_pages.h"

#include <algorithm>
#include <span>
#include <utility>

namespace orch::worker {

bool find_pages(KvPagePool& pool, SequencePages& pages, Sequence& sequence) {
  std::vector<PageId>& own = pages.table.pages;
  bool any = false;
  for (std::uint32_t page = sequence.fed() / kPageTokens; (page + 1) * kPageTokens <= sequence.sharable(); ++page) {
    const auto found = pool.acquire(pages.key(page, sequence));
    if (!found) break;
    if (page < own.size())
      pool.release(std::exchange(own[page], *found));
    else
      own.push_back(*found);
    pages.published = page + 1;
    pages.table.length = std::max(pages.table.length, (page + 1) * kPageTokens);
    sequence.set_fed((page + 1) * kPageTokens);
    any = true;
  }
  return any;
}

std::optional<PageCopy> find_beginning(KvPagePool& pool, SequencePages& pages, Sequence& sequence) {
  const std::uint32_t page = sequence.fed() / kPageTokens;
  const std::uint32_t first = page * kPageTokens;
  const std::uint32_t end = std::min(first + kPageTokens, sequence.sharable());
  if (end <= sequence.fed()) return std::nullopt;
  const auto wanted = std::span(sequence.all()).subspan(first, end - first);
  const auto found = pool.acquire_likest(pages.before(page, sequence), wanted, sequence.fed() - first + 1);
  if (!found) return std::nullopt;
  pool.release(found->page);  // whoever gets it from now on writes behind the copy
  sequence.set_fed(first + found->tokens);
  return PageCopy{found->page, pages.table.pages[page]};
}

void publish_full_pages(KvPagePool& pool, SequencePages& pages, const Sequence& sequence) {
  const std::uint32_t full = sequence.fed() / kPageTokens;
  for (; pages.published < full; ++pages.published) {
    const std::uint32_t page = pages.published;
    pool.publish(pages.table.pages[page], pages.key(page, sequence));
    pool.describe(pages.table.pages[page], pages.before(page, sequence),
                  std::span(sequence.all()).subspan(std::size_t{page} * kPageTokens, kPageTokens));
  }
}

void publish_beginning(KvPagePool& pool, SequencePages& pages, const Sequence& sequence) {
  const std::uint32_t page = sequence.fed() / kPageTokens;
  const std::uint32_t first = page * kPageTokens;
  if (first == sequence.fed()) return;
  pool.describe(pages.table.pages[page], pages.before(page, sequence),
                std::span(sequence.all()).subspan(first, sequence.fed() - first));
}

void ComingPages::add(SequencePages& pages, const Sequence& sequence, std::uint32_t count) {
  const std::uint32_t full = (sequence.fed() + count) / kPageTokens;
  for (std::uint32_t page = sequence.fed() / kPageTokens; page < full; ++page) keys_.insert(pages.key(page, sequence));
}

bool ComingPages::cover(SequencePages& pages, const Sequence& sequence, std::uint32_t count) const {
  const std::uint32_t findable = sequence.sharable() / kPageTokens;
  std::uint32_t page = sequence.fed() / kPageTokens;
  const std::uint32_t first = page;
  while (page < findable && keys_.contains(pages.key(page, sequence))) ++page;
  return page > first && page * kPageTokens >= std::min(sequence.fed() + count, findable * kPageTokens);
}

}  // namespace orch::worker
