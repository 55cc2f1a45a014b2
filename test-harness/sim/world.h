// The simulated machine room: one thread, virtual time, one seed. Everything that happens is a scheduled action; ties
// are broken by the order of scheduling, so a seed gives the same run everywhere.
//
// Purpose: nodes (processes that crash, pause and have clocks of their own), streams between them (ordered, breakable),
// and the faults. Errors: a broken rule is reported by violation(), which ends the run.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "common/base/time.h"

namespace orch::sim {

using Action = std::function<void()>;

enum class Fault : std::uint8_t {
  drop,
  half_open,
  delay,
  duplicate,
  reorder,
  partition,
  pause,
  crash_worker,
  crash_manager,
  crash_orchestrator,
  refuse,
  drain
};
inline constexpr std::size_t kFaults = 12;
const char* fault_name(Fault fault);
using FaultCounts = std::array<std::uint64_t, kFaults>;

// Chances in 1/10000 per opportunity; 0: off. Drawn per seed (swarm testing): most runs have some kinds switched off.
struct FaultRates {
  std::uint32_t drop = 0;       // per message: the stream breaks
  std::uint32_t half_open = 0;  // of broken streams: one end learns of it late
  std::uint32_t delay = 0;      // per message
  std::uint32_t duplicate = 0;  // per message
  std::uint32_t refuse = 0;     // per connection, spawn or load
};

// Local time of one process: started at an arbitrary value, running a little fast or slow. The rate error between any
// two stays inside the tenth that L4 allows.
struct NodeClock {
  std::int64_t offset_ns = 0;
  std::int64_t rate_ppm = 0;  // within +-40,000
  Instant local(Instant real) const;
  Instant real(Instant local_time) const;  // never earlier than the instant at which local() reaches it
};

struct Node {
  std::string name;
  bool alive = true;
  std::uint64_t life = 1;
  Instant paused_until;
  NodeClock clock;
  std::deque<std::pair<std::uint64_t, Action>> held;  // (life, what arrived while it was paused), in order
};

// An ordered, reliable connection until it breaks. Undelivered messages of a broken stream are lost.
struct Stream {
  bool open = true;
  std::array<Node*, 2> ends{};
  std::array<std::uint64_t, 2> lives{};
  std::array<Instant, 2> clear_at{};                                   // last scheduled delivery towards each end
  std::array<Action, 2> on_broken;                                     // told to each living end once
  std::array<Instant, 2> told_at{Instant::never(), Instant::never()};  // when each end learns that it broke
};
using StreamPtr = std::shared_ptr<Stream>;

class World {
 public:
  World(std::uint64_t seed, bool tracing);
  ~World();  // streams refer to themselves through their actions
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Instant now() const { return now_; }
  Prng& rng() { return rng_; }
  bool chance(std::uint32_t per_10000) { return per_10000 > 0 && rng_.chance(per_10000, 10000); }
  Duration between(Duration low, Duration high) { return {rng_.between(low.ns, high.ns)}; }

  void at(Instant when, Action action);
  void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }
  // Runs `action` on the node as it is now; never when it has died since, later when it is paused.
  void on_node(Node& node, Instant when, Action action);
  // Runs to `end` or to the first violation. False: violated.
  bool run_until(Instant end);

  Node& new_node(std::string name);
  void crash(Node& node);  // its peers learn of it soon or, like after a power cut, late
  void pause(Node& node, Duration length);

  StreamPtr connect(Node& a, Node& b);  // nullptr: refused or partitioned
  // Towards end 0 or 1. `repeatable`: the receiver has a guard of its own against a second copy (a version, a sequence
  // number, an attempt), and the simulator exercises it, out of order too.
  enum class Copies : std::uint8_t { one, repeatable };
  void send(const StreamPtr& stream, std::size_t to, Copies copies, Action action);
  // Both ends learn of it, `by` (0, 1) excepted; 2: nobody is excepted.
  enum class Silence : std::uint8_t { never, possible };
  void break_stream(const StreamPtr& stream, std::size_t by, Silence silence = Silence::never);
  // The exchange is over: both ends know, and nothing more travels.
  void close(const StreamPtr& stream);
  void partition(Node& a, Node& b, Duration length);
  // From now on nothing goes wrong any more.
  void heal();
  bool healed() const { return healed_; }

  void count(Fault fault) { ++counts_[static_cast<std::size_t>(fault)]; }
  const FaultCounts& counts() const { return counts_; }
  std::uint64_t events() const { return events_; }

  bool tracing() const { return tracing_; }
  void trace(const std::string& who, const std::string& what);
  const std::deque<std::string>& trace_tail() const { return trace_; }
  void violation(const std::string& what);
  const std::string& violated() const { return violation_; }

  FaultRates rates;

 private:
  struct Entry {
    Instant when;
    std::uint64_t seq = 0;
    std::shared_ptr<Action> action;
    bool operator>(const Entry& other) const { return std::pair(when, seq) > std::pair(other.when, other.seq); }
  };
  void deliver(Node& node, std::uint64_t life, Instant when, Action action);
  void run_on(Node& node, std::uint64_t life, const Action& action);
  void resume(Node& node);
  void tell_broken(const StreamPtr& stream, std::size_t end, bool late);
  Duration latency();

  Instant now_;
  Prng rng_;
  bool tracing_;
  bool healed_ = false;
  std::uint64_t next_seq_ = 0;
  std::uint64_t events_ = 0;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> agenda_;
  std::deque<std::unique_ptr<Node>> nodes_;
  std::vector<StreamPtr> streams_;
  std::map<std::pair<const Node*, const Node*>, Instant>
      last_sent_;  // of the delivery before, for counting reorderings
  std::map<std::pair<std::string, std::string>, Instant> partitions_;
  FaultCounts counts_{};
  std::deque<std::string> trace_;
  std::string violation_;
};

}  // namespace orch::sim
