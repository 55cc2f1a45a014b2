#include "orchestratord/core/ranked_line.h"

#include "common/base/check.h"

namespace orch::gateway {
namespace {

// splitmix64's finaliser.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

}  // namespace

void RankedLine::refresh(Index index) {
  Node& node = nodes_[index];
  const Sums left = sums_of(node.left);
  const Sums right = sums_of(node.right);
  node.sums = {left.jobs + right.jobs + 1, left.work + right.work + node.item.work};
}

RankedLine::Index RankedLine::merge(Index left, Index right) {
  if (left == kNone) return right;
  if (right == kNone) return left;
  if (nodes_[left].heap > nodes_[right].heap) {
    nodes_[left].right = merge(nodes_[left].right, right);
    refresh(left);
    return left;
  }
  nodes_[right].left = merge(left, nodes_[right].left);
  refresh(right);
  return right;
}

std::pair<RankedLine::Index, RankedLine::Index> RankedLine::split(Index index, const LineKey& key) {
  if (index == kNone) return {kNone, kNone};
  if (nodes_[index].item.key < key) {
    const auto [low, high] = split(nodes_[index].right, key);
    nodes_[index].right = low;
    refresh(index);
    return {index, high};
  }
  const auto [low, high] = split(nodes_[index].left, key);
  nodes_[index].left = high;
  refresh(index);
  return {low, index};
}

void RankedLine::insert(const Item& item) {
  Index index = 0;
  if (free_.empty()) {
    index = static_cast<Index>(nodes_.size());
    nodes_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  nodes_[index] = {item, mix(item.key.seq), kNone, kNone, {1, item.work}};
  const auto [low, high] = split(root_, item.key);
  root_ = merge(merge(low, index), high);
}

bool RankedLine::erase(const LineKey& key) {
  const auto [low, rest] = split(root_, key);
  const auto [found, high] = split(rest, {key.order_by, key.seq + 1});
  root_ = merge(low, high);
  if (found == kNone) return false;
  ORCH_CHECK(nodes_[found].sums.jobs == 1);
  free_.push_back(found);
  if (root_ == kNone) {  // an empty line keeps no room
    nodes_.clear();
    free_.clear();
  }
  return true;
}

RankedLine::Sums RankedLine::before(const LineKey& key) const {
  Sums out;
  for (Index index = root_; index != kNone;) {
    const Node& node = nodes_[index];
    if (node.item.key < key) {
      const Sums left = sums_of(node.left);
      out.jobs += left.jobs + 1;
      out.work += left.work + node.item.work;
      index = node.right;
    } else {
      index = node.left;
    }
  }
  return out;
}

std::optional<RankedLine::Item> RankedLine::first() const {
  if (root_ == kNone) return std::nullopt;
  Index index = root_;
  while (nodes_[index].left != kNone) index = nodes_[index].left;
  return nodes_[index].item;
}

std::optional<RankedLine::Item> RankedLine::after(const LineKey& key) const {
  Index best = kNone;
  for (Index index = root_; index != kNone;) {
    if (key < nodes_[index].item.key) {
      best = index;
      index = nodes_[index].left;
    } else {
      index = nodes_[index].right;
    }
  }
  if (best == kNone) return std::nullopt;
  return nodes_[best].item;
}

const char* RankedLine::check(Index index, const LineKey*& last) const {
  if (index == kNone) return "";
  const Node& node = nodes_[index];
  if (const char* fault = check(node.left, last); *fault != 0) return fault;
  if (last != nullptr && !(*last < node.item.key)) return "ranked_line: out of order";
  last = &node.item.key;
  if (const char* fault = check(node.right, last); *fault != 0) return fault;
  for (const Index child : {node.left, node.right}) {
    if (child != kNone && nodes_[child].heap > node.heap) return "ranked_line: the heap order is broken";
  }
  const Sums left = sums_of(node.left);
  const Sums right = sums_of(node.right);
  const bool right_sums =
      node.sums.jobs == left.jobs + right.jobs + 1 && node.sums.work == left.work + right.work + node.item.work;
  return right_sums ? "" : "ranked_line: sums are wrong";
}

const char* RankedLine::check() const {
  const LineKey* last = nullptr;
  return check(root_, last);
}

}  // namespace orch::gateway
