// The events of one stream that are still to be had: token events as a few bytes each, the others as they are. Charges
// what it holds. Threads: owned by one loop. Bounds: its owner's. Event ids only grow.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "orchestratord/core/stream_event.h"

namespace orch::gateway {

// What an event costs as it is: its texts and ids plus the bookkeeping around them.
std::uint64_t event_bytes(const StreamEvent& event);

class EventLog {
 public:
  using Event = std::shared_ptr<const StreamEvent>;

  // What append() would charge for it.
  static std::uint64_t cost(const StreamEvent& event);
  void append(const Event& event);
  void drop_first();
  // No longer than needed: nothing is appended any more.
  void shrink();

  bool empty() const { return entries_ == 0; }
  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t first_id() const { return first_id_; }  // meaningless when empty
  std::uint64_t last_id() const { return last_id_; }
  // Events with a higher id, in order, until `visit` says false; it is told what each costs.
  void read(std::uint64_t after, const std::function<bool(Event, std::uint64_t cost)>& visit) const;

 private:
  // Token events one behind the other, or one event that is kept as it is.
  struct Block {
    Event whole;  // null: tokens
    std::string bytes;
    std::size_t begin = 0;  // of the first entry that is left
    std::uint64_t first_id = 0;
    std::uint64_t last_id = 0;
  };
  void find_first();

  std::deque<Block> blocks_;
  std::uint64_t entries_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t first_id_ = 0;
  std::uint64_t last_id_ = 0;
};

}  // namespace orch::gateway
