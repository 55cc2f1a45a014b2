// Waiting jobs in order, with the number and the work of those ahead of any of them in O(log n): a treap whose nodes
// carry the sums of their subtrees.
//
// Threads: owned by the core's loop. Units: work in nanoseconds of service. Deterministic: a node's priority is a mix
// of its arrival number, so that the shape follows from the content. Nodes live in one vector and are used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"

namespace orch::gateway {

// Place of a job among its tenant's: earliest deadline first (E1), then arrival.
struct LineKey {
  Instant order_by;
  std::uint64_t seq = 0;  // arrival; unique
  auto operator<=>(const LineKey&) const = default;
};

class RankedLine {
 public:
  struct Item {
    LineKey key;
    JobId job;
    std::uint64_t work = 0;
  };
  struct Sums {
    std::size_t jobs = 0;
    std::uint64_t work = 0;
  };

  void insert(const Item& item);
  bool erase(const LineKey& key);
  // Of the items before `key`, whether or not it is in.
  Sums before(const LineKey& key) const;
  Sums all() const { return sums_of(root_); }
  bool empty() const { return root_ == kNone; }
  std::size_t size() const { return all().jobs; }
  std::optional<Item> first() const;
  // The first item after `key`.
  std::optional<Item> after(const LineKey& key) const;
  // In words, what is wrong with the shape or the sums; empty: nothing. O(n).
  const char* check() const;

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  struct Node {
    Item item;
    std::uint64_t heap = 0;
    Index left = kNone;
    Index right = kNone;
    Sums sums;
  };

  Sums sums_of(Index index) const { return index == kNone ? Sums{} : nodes_[index].sums; }
  void refresh(Index index);
  Index merge(Index left, Index right);
  std::pair<Index, Index> split(Index index, const LineKey& key);  // (before key, the rest)
  const char* check(Index index, const LineKey*& last) const;

  std::vector<Node> nodes_;
  std::vector<Index> free_;
  Index root_ = kNone;
};

}  // namespace orch::gateway
