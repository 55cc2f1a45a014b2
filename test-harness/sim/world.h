// The simulated machine room: one thread, virtual time, one seed. Everything that happens is a scheduled action; ties
// are broken by the order of scheduling, so a seed gives the same run everywhere.
//
// Purpose: nodes (processes that crash, pause, are suspended and have clocks of their own), streams between them
// (ordered, breakable), and the faults. Errors: a broken rule is reported by violation(), which ends the run.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/prng.h"
#include "common/base/time.h"
#include "sim/coverage.h"

namespace orch::sim {

using Action = std::function<void()>;

// Chances in 1/10000 per opportunity; 0: off. Drawn per seed (swarm testing): most runs have some kinds switched off.
struct FaultRates {
  std::uint32_t drop = 0;             // per message: the stream breaks
  std::uint32_t half_open = 0;        // of broken streams: one end learns of it late
  std::uint32_t delay = 0;            // per message
  std::uint32_t duplicate = 0;        // per message
  std::uint32_t refuse = 0;           // per connection, spawn or load
  std::uint32_t lose_report = 0;      // per load report
  std::uint32_t slow_reader = 0;      // per reader
  std::uint32_t slow_disk = 0;        // per transaction
  std::uint32_t disk_fails = 0;       // per transaction
  std::uint32_t crash_at_effect = 0;  // in 1/1000000, per effect that is about to be executed
};

// Local time of one process: started at an arbitrary value, running up to a tenth fast or slow and jumping forward when
// its host wakes from suspend. Two clocks of one run stay within the relative rate error that L4 allows, jumps
// included.
struct NodeClock {
  std::int64_t offset_ns = 0;
  std::int64_t rate_ppm = 0;
  Instant local(Instant real) const;
  Instant real(Instant local_time) const;  // never earlier than the instant at which local() reaches it
};

// An ordered, reliable connection until it breaks. Undelivered messages of a broken stream are lost.
struct Node;
struct Stream {
  bool open = true;
  std::array<Node*, 2> ends{};
  std::array<std::uint64_t, 2> lives{};
  std::array<Instant, 2> clear_at{};                                   // last scheduled delivery towards each end
  std::array<Action, 2> on_broken;                                     // told to each living end once
  std::array<Instant, 2> told_at{Instant::never(), Instant::never()};  // when each end learns that it broke
};
using StreamPtr = std::shared_ptr<Stream>;  // both ends and every message under way hold it

// Something that will happen: on the node of that life, through that stream, or to the room itself.
struct Pending {
  Action action;
  Node* node = nullptr;
  std::uint64_t life = 0;
  StreamPtr stream;
  std::uint32_t source = 0;  // index of the sender, for messages
  Instant sent;
  bool network = false;  // a message, or the news that a stream broke
};

struct Node {
  std::string name;
  std::uint32_t index = 0;
  bool alive = true;
  std::uint64_t life = 1;
  Instant paused_until;
  NodeClock clock;
  std::deque<Pending> held;        // what arrived while it was paused, in order
  Action rearm;                    // after a jump of its clock: timers are due earlier than they were armed for
  std::vector<Instant> last_from;  // by sender: when the delivery before was sent, for counting reorderings
  bool runs(Instant now) const { return alive && paused_until <= now; }
};

class World {
 public:
  // `trace_lines`: how many of the last ones are kept; 0: no trace.
  World(std::uint64_t seed, std::size_t trace_lines);
  ~World();  // streams refer to themselves through their actions
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Instant now() const { return now_; }
  std::uint64_t seed() const { return seed_; }
  Prng& rng() { return rng_; }
  bool chance(std::uint32_t per_10000) { return per_10000 > 0 && rng_.chance(per_10000, 10000); }
  Duration between(Duration low, Duration high) { return {rng_.between(low.ns, high.ns)}; }

  void at(Instant when, Action action) { push(when, Pending{std::move(action), nullptr, 0, nullptr, 0, {}, false}); }
  void after(Duration delay, Action action) { at(now_ + delay, std::move(action)); }
  // Runs `action` on the node as it is now; never when it has died since, later when it is paused.
  void on_node(Node& node, Instant when, Action action) {
    push(when, Pending{std::move(action), &node, node.life, nullptr, 0, {}, false});
  }
  // Runs to `end` or to the first violation. False: violated.
  bool run_until(Instant end);

  Node& new_node(std::string name);
  void crash(Node& node);  // its peers learn of it soon or, like after a power cut, late
  void pause(Node& node, Duration length);
  // The whole host sleeps; when it wakes, its clocks have gone on (CLOCK_BOOTTIME), read anew from a coarser one.
  void suspend(const std::vector<Node*>& host, Duration length);

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
  // Nothing from `a` reaches `b` until then, the other way is open. What was sent arrives afterwards, unless the
  // connection gives up first.
  void partition_one_way(Node& a, Node& b, Duration length);
  // From now on nothing goes wrong any more, and what the network held back arrives.
  void heal();
  bool healed() const { return healed_; }
  // From here on everything travels and runs as it should, as far as is known now: the end of the last fault.
  Instant undisturbed_since() const { return disturbed_until_; }
  void disturb(Instant until) { disturbed_until_ = std::max(disturbed_until_, until); }
  // Whether the process dies here, between two effects of one step: by chance, or because this run is to see a death
  // before the n-th effect of that kind. Counted by the caller's kind.
  bool crashes_before(const gateway::Effect& effect);
  bool crashes_before(const pool::Effect& effect);
  bool crashes_at(WorkerPoint point);
  void draw_crash_targets(std::size_t count);

  Coverage& coverage() { return coverage_; }
  void count(Fault fault) { coverage_.count(fault); }
  std::uint64_t events() const { return events_; }
  // Of what happened, when and to whom: two programs that play a seed alike agree on it.
  std::uint64_t digest() const { return digest_; }
  // M6: a worker died of this job; at most two may, however often its gateway begins anew.
  void poisoned(const JobId& job, const Holder& holder);
  std::function<void(JobId, const Holder&)> on_poisoned;  // the room's

  bool tracing() const { return trace_lines_ > 0; }
  void trace(const std::string& who, const std::string& what);
  const std::deque<std::string>& trace_tail() const { return trace_; }
  void violation(const std::string& what);
  const std::string& violated() const { return violation_; }

  FaultRates rates;

 private:
  struct Entry {
    Instant when;
    std::uint64_t seq = 0;
    std::uint32_t slot = 0;
    bool operator<(const Entry& other) const {  // for a heap with the earliest on top
      return when != other.when ? other.when < when : other.seq < seq;
    }
  };
  void push(Instant when, Pending pending);
  void run(Pending& pending);
  void resume(Node& node);
  void act(const Pending& pending);
  void tell_broken(const StreamPtr& stream, std::size_t end, bool late);
  void forget_closed_streams();
  Duration latency();
  bool is_cut(const Node& from, const Node& to) const;
  bool crashes(std::size_t boundary);

  Instant now_;
  std::uint64_t seed_;
  Prng rng_;
  std::size_t trace_lines_;
  bool healed_ = false;
  Instant disturbed_until_;
  std::int64_t rate_base_ppm_ = 0;
  std::uint64_t next_seq_ = 0;
  std::uint64_t events_ = 0;
  std::uint64_t digest_ = 0;
  void note_event(const Node* node);
  std::vector<Entry> agenda_;  // heap
  std::vector<Pending> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::deque<std::unique_ptr<Node>> nodes_;
  std::vector<StreamPtr> streams_;
  std::size_t streams_checked_ = 64;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Instant> partitions_;  // both ways, lower index first
  std::map<std::pair<std::uint32_t, std::uint32_t>, Instant> one_way_;     // from, to
  struct CrashTarget {
    std::size_t boundary = 0;
    std::uint64_t countdown = 0;
  };
  std::vector<CrashTarget> crash_targets_;
  Coverage coverage_;
  std::map<JobId, int> poisoned_;
  std::deque<std::string> trace_;
  std::string violation_;
};

}  // namespace orch::sim
