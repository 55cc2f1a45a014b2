#include "sim/world.h"

#include <algorithm>
#include <utility>

namespace orch::sim {
namespace {

constexpr std::int64_t kMillion = 1'000'000;
// Half of the relative rate error of two clocks (L4 allows a tenth); the other half lies between the runs.
constexpr std::int64_t kSpreadPpm = 49'000;

constexpr std::size_t kGatewayEffects = std::variant_size_v<gateway::EffectKinds>;
constexpr std::size_t kManagerEffects = std::variant_size_v<pool::EffectKinds>;
constexpr std::size_t kBoundaries = kGatewayEffects + kManagerEffects + kWorkerPoints;

}  // namespace

Instant NodeClock::local(Instant real_time) const {
  return {offset_ns + real_time.ns + real_time.ns / kMillion * rate_ppm};
}

Instant NodeClock::real(Instant local_time) const {
  if (local_time.is_never()) return local_time;
  const std::int64_t elapsed = local_time.ns - offset_ns;
  // local = real + floor(real / 1e6) * ppm; the slack of one step of the floor makes the answer never too early.
  return {static_cast<std::int64_t>(static_cast<double>(elapsed) / (1.0 + static_cast<double>(rate_ppm) / 1e6)) +
          2 * kMillion};
}

World::World(std::uint64_t seed, std::size_t trace_lines) : seed_(seed), rng_(seed), trace_lines_(trace_lines) {
  rate_base_ppm_ = rng_.between(-kSpreadPpm, kSpreadPpm);
}

World::~World() {
  for (const StreamPtr& stream : streams_) close(stream);
}

void World::close(const StreamPtr& stream) {
  stream->open = false;
  stream->on_broken = {};
}

// --- the agenda ---

void World::push(Instant when, Pending pending) {
  std::uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.push_back(std::move(pending));
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot] = std::move(pending);
  }
  agenda_.push_back({std::max(when, now_), next_seq_++, slot});
  std::push_heap(agenda_.begin(), agenda_.end());
}

bool World::run_until(Instant end) {
  while (violation_.empty() && !agenda_.empty() && agenda_.front().when <= end) {
    std::pop_heap(agenda_.begin(), agenda_.end());
    const Entry entry = agenda_.back();
    agenda_.pop_back();
    now_ = entry.when;
    Pending pending = std::move(slots_[entry.slot]);
    slots_[entry.slot] = {};
    free_slots_.push_back(entry.slot);
    run(pending);
  }
  if (violation_.empty()) now_ = std::max(now_, end);
  return violation_.empty();
}

void World::run(Pending& pending) {
  if (pending.node == nullptr) {
    note_event(nullptr);
    return pending.action();
  }
  Node& node = *pending.node;
  if (!node.alive || node.life != pending.life) return;
  if (node.paused_until > now_ || !node.held.empty()) {
    node.held.push_back(std::move(pending));
    if (node.held.size() == 1) at(node.paused_until, [this, &node] { resume(node); });
    return;
  }
  act(pending);
}

void World::act(const Pending& pending) {
  if (pending.stream) {
    if (!pending.stream->open) return;
    Node& node = *pending.node;
    if (node.last_from.size() <= pending.source) node.last_from.resize(pending.source + 1);
    Instant& before = node.last_from[pending.source];
    if (pending.sent < before) count(Fault::reorder);  // overtaken by a message of another stream, or a copy
    before = std::max(before, pending.sent);
  }
  note_event(pending.node);
  pending.action();
}

void World::note_event(const Node* node) {
  ++events_;
  const auto who = static_cast<std::uint64_t>(node == nullptr ? 0 : node->index + 1);
  digest_ = (digest_ ^ static_cast<std::uint64_t>(now_.ns) ^ (who << 48)) * 0x9E3779B97F4A7C15ull;
  digest_ ^= digest_ >> 29;
}

// What arrived during the pause, in the order of arrival.
void World::resume(Node& node) {
  if (node.paused_until > now_) return at(node.paused_until, [this, &node] { resume(node); });
  const auto held = std::exchange(node.held, {});
  for (const Pending& pending : held) {
    if (node.alive && node.life == pending.life && violation_.empty()) act(pending);
  }
}

// --- processes ---

Node& World::new_node(std::string name) {
  auto node = std::make_unique<Node>();
  node->name = std::move(name);
  node->index = static_cast<std::uint32_t>(nodes_.size());
  node->clock.offset_ns = rng_.between(1, 1'000'000'000'000);
  node->clock.rate_ppm = rate_base_ppm_ + rng_.between(-kSpreadPpm, kSpreadPpm);
  nodes_.push_back(std::move(node));
  return *nodes_.back();
}

void World::crash(Node& node) {
  if (!node.alive) return;
  if (tracing()) trace(node.name, "dies");
  disturb(now_);
  node.alive = false;
  ++node.life;
  node.paused_until = {};
  node.held.clear();  // the next life does not wait for the pause of this one
  for (const StreamPtr& stream : std::vector(streams_)) {
    if (!stream->open || (stream->ends[0] != &node && stream->ends[1] != &node)) continue;
    break_stream(stream, stream->ends[0] == &node ? 0 : 1, Silence::possible);
  }
}

void World::draw_crash_targets(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    // Half of them before the first effect of their kind: many kinds come once in a run, if at all.
    crash_targets_.push_back({static_cast<std::size_t>(rng_.below(kBoundaries)),
                              rng_.below(2) == 0 ? 1 : 1 + rng_.below(1 + rng_.below(40))});
  }
}

bool World::crashes(std::size_t boundary) {
  if (healed_) return false;
  bool dies = rates.crash_at_effect > 0 && rng_.chance(rates.crash_at_effect, kMillion);
  for (CrashTarget& target : crash_targets_) {
    if (target.boundary == boundary && target.countdown > 0 && --target.countdown == 0) dies = true;
  }
  if (dies) count(Fault::crash_at_effect);
  return dies;
}

bool World::crashes_before(const gateway::Effect& effect) {
  coverage_.executed(effect);
  // So rare that a boundary chosen in advance is never one of these. Without a draw: other seeds stay as they are.
  const bool seldom = std::holds_alternative<gateway::ModelsSettled>(effect) ||
                      std::holds_alternative<gateway::OperateReplica>(effect) ||
                      std::holds_alternative<gateway::CutReader>(effect);
  const bool rare = seldom && !healed_ && rates.crash_at_effect > 0 && now_.ns % 2 == 0;
  if (rare) count(Fault::crash_at_effect);
  if (!rare && !crashes(effect.index())) return false;
  coverage_.died_before(effect);
  return true;
}

bool World::crashes_before(const pool::Effect& effect) {
  coverage_.executed(effect);
  if (!crashes(kGatewayEffects + effect.index())) return false;
  coverage_.died_before(effect);
  return true;
}

bool World::crashes_at(WorkerPoint point) {
  if (!crashes(kGatewayEffects + kManagerEffects + static_cast<std::size_t>(point))) return false;
  coverage_.died_at(point);
  return true;
}

void World::pause(Node& node, Duration length) {
  if (!node.alive || healed_) return;
  count(Fault::pause);
  node.paused_until = std::max(node.paused_until, now_ + length);
  disturb(node.paused_until);
  if (tracing()) trace(node.name, "pauses for " + std::to_string(length.ms()) + " ms");
}

void World::suspend(const std::vector<Node*>& host, Duration length) {
  if (healed_) return;
  count(Fault::suspend);
  for (Node* node : host) {
    if (!node->alive) continue;
    if (tracing()) trace(node->name, "is suspended for " + std::to_string(length.ms()) + " ms");
    node->paused_until = std::max(node->paused_until, now_ + length);
    disturb(node->paused_until);
    // The clock that measured the sleep is no better than the fastest one allowed: the jump makes up the difference.
    const std::int64_t room_ppm = rate_base_ppm_ + kSpreadPpm - node->clock.rate_ppm;
    const Duration jump{rng_.between(0, length.ns / kMillion * room_ppm)};
    at(now_ + length, [this, node, life = node->life, jump] {
      if (healed_ || !node->alive || node->life != life || jump.ns == 0) return;
      count(Fault::clock_jump);
      node->clock.offset_ns += jump.ns;
      if (tracing()) trace(node->name, "wakes, its clock " + std::to_string(jump.ms()) + " ms ahead of before");
      if (node->rearm) on_node(*node, now_, node->rearm);
    });
  }
}

// --- the network ---

Duration World::latency() {
  if (!healed_ && chance(rates.delay)) {
    count(Fault::delay);
    const Duration late = between(Duration::milliseconds(20), Duration::milliseconds(4000));
    disturb(now_ + late);
    return late;
  }
  return between(Duration::microseconds(50), Duration::milliseconds(3));
}

bool World::is_cut(const Node& a, const Node& b) const {
  const auto both = partitions_.find(std::minmax(a.index, b.index));
  if (both != partitions_.end() && both->second > now_) return true;
  for (const auto& way : {std::pair(a.index, b.index), std::pair(b.index, a.index)}) {
    const auto cut = one_way_.find(way);
    if (cut != one_way_.end() && cut->second > now_) return true;  // a handshake needs both ways
  }
  return false;
}

void World::forget_closed_streams() {
  if (streams_.size() < streams_checked_) return;
  std::erase_if(streams_, [](const StreamPtr& old) { return !old->open && old.use_count() <= 1; });
  streams_checked_ = std::max<std::size_t>(64, 2 * streams_.size());
}

StreamPtr World::connect(Node& a, Node& b) {
  if (!a.alive || !b.alive || is_cut(a, b)) return nullptr;
  if (!healed_ && chance(rates.refuse)) {
    count(Fault::refuse);
    disturb(now_);
    return nullptr;
  }
  auto stream = std::make_shared<Stream>();
  stream->ends = {&a, &b};
  stream->lives = {a.life, b.life};
  forget_closed_streams();
  streams_.push_back(stream);
  return stream;
}

void World::send(const StreamPtr& stream, std::size_t to, Copies copies, Action action) {
  if (!stream || !stream->open) return;
  if (!healed_ && chance(rates.drop)) {
    count(Fault::drop);
    disturb(now_);
    break_stream(stream, 2, Silence::possible);
    return;
  }
  Node& target = *stream->ends[to];
  const Node& source = *stream->ends[1 - to];
  Instant arrival = std::max(stream->clear_at[to], now_ + latency());
  if (!one_way_.empty()) {
    const auto cut = one_way_.find({source.index, target.index});
    if (cut != one_way_.end() && cut->second > now_) arrival = std::max(arrival, cut->second + latency());
  }
  stream->clear_at[to] = arrival + Duration{1};
  if (copies == Copies::repeatable && !healed_ && chance(rates.duplicate)) {
    count(Fault::duplicate);
    push(arrival + between(Duration{1}, Duration::milliseconds(500)),
         Pending{action, &target, stream->lives[to], stream, source.index, now_, true});
  }
  push(arrival, Pending{std::move(action), &target, stream->lives[to], stream, source.index, now_, true});
}

void World::tell_broken(const StreamPtr& stream, std::size_t end, bool late) {
  if (!stream->on_broken[end]) return;
  const Duration delay = late ? between(Duration::milliseconds(500), Duration::seconds(20))
                              : between(Duration::microseconds(50), Duration::milliseconds(5));
  stream->told_at[end] = now_ + delay;
  if (late) disturb(now_ + delay);
  push(now_ + delay,
       Pending{std::move(stream->on_broken[end]), stream->ends[end], stream->lives[end], nullptr, 0, {}, true});
}

void World::break_stream(const StreamPtr& stream, std::size_t by, Silence silence) {
  if (!stream || !stream->open) return;
  stream->open = false;
  std::size_t late = 2;
  if (!healed_ && silence == Silence::possible && chance(rates.half_open)) {
    count(Fault::half_open);
    late = by < 2 ? 1 - by : static_cast<std::size_t>(rng_.below(2));
  }
  for (std::size_t end = 0; end < 2; ++end) {
    if (end != by) tell_broken(stream, end, end == late);
  }
  stream->on_broken = {};  // each end is told once
}

void World::partition(Node& a, Node& b, Duration length) {
  if (healed_) return;
  count(Fault::partition);
  partitions_[std::minmax(a.index, b.index)] = now_ + length;
  disturb(now_ + length);
  if (tracing()) trace(a.name, "is cut off from " + b.name + " for " + std::to_string(length.ms()) + " ms");
  for (const StreamPtr& stream : std::vector(streams_)) {
    if (!stream->open) continue;
    const bool between_them =
        (stream->ends[0] == &a && stream->ends[1] == &b) || (stream->ends[0] == &b && stream->ends[1] == &a);
    if (between_them) break_stream(stream, 2, Silence::possible);
  }
}

void World::partition_one_way(Node& a, Node& b, Duration length) {
  if (healed_) return;
  count(Fault::one_way);
  one_way_[{a.index, b.index}] = now_ + length;
  disturb(now_ + length);
  if (tracing()) trace(a.name, "is not heard by " + b.name + " for " + std::to_string(length.ms()) + " ms");
  for (const StreamPtr& stream : std::vector(streams_)) {
    if (!stream->open) continue;
    const std::size_t to = stream->ends[1] == &b && stream->ends[0] == &a   ? 1
                           : stream->ends[0] == &b && stream->ends[1] == &a ? 0
                                                                            : 2;
    if (to == 2) continue;
    stream->clear_at[to] = std::max(stream->clear_at[to], now_ + length);  // behind what is being sent again
    if (rng_.below(2) == 0) continue;
    at(now_ + Duration{rng_.between(0, length.ns)}, [this, stream] {  // one end gives up
      if (!healed_) break_stream(stream, 2, Silence::possible);
    });
  }
}

void World::heal() {
  healed_ = true;
  if (!disturbed_until_.is_never()) disturbed_until_ = std::min(disturbed_until_, now_);
  partitions_.clear();
  one_way_.clear();
  for (const auto& node : nodes_) {
    if (node->paused_until <= now_) continue;
    node->paused_until = now_;
    if (!node->held.empty()) at(now_, [this, held = node.get()] { resume(*held); });
  }
  for (const StreamPtr& stream : streams_) stream->clear_at = {};
  std::sort(agenda_.begin(), agenda_.end(), [](const Entry& a, const Entry& b) { return b < a; });  // earliest first
  Instant at = now_;
  for (Entry& entry : agenda_) {
    if (slots_[entry.slot].network) entry.when = std::min(entry.when, at = at + Duration::microseconds(1));
  }
  std::make_heap(agenda_.begin(), agenda_.end());
}

void World::trace(const std::string& who, const std::string& what) {
  if (!tracing()) return;
  std::string time = std::to_string(now_.ns / 1000);
  time.insert(0, time.size() < 10 ? 10 - time.size() : 0, ' ');
  trace_.push_back(time + " us  " + who + ": " + what);
  if (trace_.size() > trace_lines_) trace_.pop_front();
}

void World::poisoned(const JobId& job, const Holder& holder) {
  if (tracing()) trace("a worker", "dies of job " + std::to_string(job.value.lo));
  if (++poisoned_[job] > 2) violation("job " + job.to_string() + " takes down a third worker (M6)");
  if (on_poisoned) on_poisoned(job, holder);
}

void World::violation(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ = what;
  trace("VIOLATION", what);
}

}  // namespace orch::sim
