#include "sim/world.h"

#include <algorithm>
#include <utility>

namespace orch::sim {
namespace {

constexpr std::size_t kTraceLines = 160;
constexpr std::int64_t kMillion = 1'000'000;

}  // namespace

const char* fault_name(Fault fault) {
  switch (fault) {
    case Fault::drop:
      return "drop";
    case Fault::half_open:
      return "half_open";
    case Fault::delay:
      return "delay";
    case Fault::duplicate:
      return "duplicate";
    case Fault::reorder:
      return "reorder";
    case Fault::partition:
      return "partition";
    case Fault::pause:
      return "pause";
    case Fault::crash_worker:
      return "crash_worker";
    case Fault::crash_manager:
      return "crash_manager";
    case Fault::crash_orchestrator:
      return "crash_orchestrator";
    case Fault::refuse:
      return "refuse";
    case Fault::drain:
      return "drain";
  }
  return "?";
}

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

World::World(std::uint64_t seed, bool tracing) : rng_(seed), tracing_(tracing) {}

World::~World() {
  for (const StreamPtr& stream : streams_) close(stream);
}

void World::close(const StreamPtr& stream) {
  stream->open = false;
  stream->on_broken = {};
}

void World::at(Instant when, Action action) {
  agenda_.push({std::max(when, now_), next_seq_++, std::make_shared<Action>(std::move(action))});
}

void World::on_node(Node& node, Instant when, Action action) { deliver(node, node.life, when, std::move(action)); }

void World::deliver(Node& node, std::uint64_t life, Instant when, Action action) {
  at(when, [this, &node, life, action = std::move(action)] { run_on(node, life, action); });
}

void World::run_on(Node& node, std::uint64_t life, const Action& action) {
  if (!node.alive || node.life != life) return;
  if (node.paused_until > now_ || !node.held.empty()) {
    node.held.emplace_back(life, action);
    if (node.held.size() == 1) at(node.paused_until, [this, &node] { resume(node); });
    return;
  }
  action();
}

// What arrived during the pause, in the order of arrival.
void World::resume(Node& node) {
  if (node.paused_until > now_) return at(node.paused_until, [this, &node] { resume(node); });
  const auto held = std::exchange(node.held, {});
  for (const auto& [life, action] : held) {
    if (node.alive && node.life == life) action();
  }
}

bool World::run_until(Instant end) {
  while (violation_.empty() && !agenda_.empty() && agenda_.top().when <= end) {
    const Entry entry = agenda_.top();
    agenda_.pop();
    now_ = entry.when;
    ++events_;
    (*entry.action)();
  }
  if (violation_.empty()) now_ = std::max(now_, end);
  return violation_.empty();
}

Node& World::new_node(std::string name) {
  auto node = std::make_unique<Node>();
  node->name = std::move(name);
  node->clock.offset_ns = rng_.between(1, 1'000'000'000'000);
  node->clock.rate_ppm = rng_.between(-40'000, 40'000);
  nodes_.push_back(std::move(node));
  return *nodes_.back();
}

void World::crash(Node& node) {
  if (!node.alive) return;
  if (tracing_) trace(node.name, "dies");
  node.alive = false;
  ++node.life;
  node.paused_until = {};
  for (const StreamPtr& stream : std::vector(streams_)) {
    if (!stream->open || (stream->ends[0] != &node && stream->ends[1] != &node)) continue;
    break_stream(stream, stream->ends[0] == &node ? 0 : 1, Silence::possible);
  }
}

void World::pause(Node& node, Duration length) {
  if (!node.alive || healed_) return;
  count(Fault::pause);
  node.paused_until = std::max(node.paused_until, now_ + length);
  if (tracing_) trace(node.name, "pauses for " + std::to_string(length.ms()) + " ms");
}

Duration World::latency() {
  if (!healed_ && chance(rates.delay)) {
    count(Fault::delay);
    return between(Duration::milliseconds(20), Duration::milliseconds(4000));
  }
  return between(Duration::microseconds(50), Duration::milliseconds(3));
}

StreamPtr World::connect(Node& a, Node& b) {
  if (!a.alive || !b.alive) return nullptr;
  const auto cut = partitions_.find(std::minmax(a.name, b.name));
  if (cut != partitions_.end() && cut->second > now_) return nullptr;
  if (!healed_ && chance(rates.refuse)) {
    count(Fault::refuse);
    return nullptr;
  }
  auto stream = std::make_shared<Stream>();
  stream->ends = {&a, &b};
  stream->lives = {a.life, b.life};
  if (streams_.size() >= 64)
    std::erase_if(streams_, [](const StreamPtr& old) { return !old->open && old.use_count() <= 1; });
  streams_.push_back(stream);
  return stream;
}

void World::send(const StreamPtr& stream, std::size_t to, Copies copies, Action action) {
  if (!stream || !stream->open) return;
  if (!healed_ && chance(rates.drop)) {
    count(Fault::drop);
    break_stream(stream, 2, Silence::possible);
    return;
  }
  Node& target = *stream->ends[to];
  const Node* source = stream->ends[1 - to];
  const Instant sent = now_;
  const Instant arrival = std::max(stream->clear_at[to], now_ + latency());
  stream->clear_at[to] = arrival + Duration{1};
  const auto arrive = [this, stream, &target, source, sent, action = std::move(action)] {
    if (!stream->open) return;
    Instant& before = last_sent_[{source, &target}];
    if (sent < before) count(Fault::reorder);  // overtaken by a message of another stream
    before = std::max(before, sent);
    action();
  };
  deliver(target, stream->lives[to], arrival, arrive);
  if (copies == Copies::repeatable && !healed_ && chance(rates.duplicate)) {
    count(Fault::duplicate);
    deliver(target, stream->lives[to], arrival + between(Duration{1}, Duration::milliseconds(500)), arrive);
  }
}

void World::tell_broken(const StreamPtr& stream, std::size_t end, bool late) {
  if (!stream->on_broken[end]) return;
  const Duration delay = late ? between(Duration::milliseconds(500), Duration::seconds(20))
                              : between(Duration::microseconds(50), Duration::milliseconds(5));
  stream->told_at[end] = now_ + delay;
  deliver(*stream->ends[end], stream->lives[end], now_ + delay, stream->on_broken[end]);
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
  partitions_[std::minmax(a.name, b.name)] = now_ + length;
  if (tracing_) trace(a.name, "is cut off from " + b.name + " for " + std::to_string(length.ms()) + " ms");
  for (const StreamPtr& stream : std::vector(streams_)) {
    if (!stream->open) continue;
    const bool between_them =
        (stream->ends[0] == &a && stream->ends[1] == &b) || (stream->ends[0] == &b && stream->ends[1] == &a);
    if (between_them) break_stream(stream, 2, Silence::possible);
  }
}

void World::heal() {
  healed_ = true;
  partitions_.clear();
}

void World::trace(const std::string& who, const std::string& what) {
  if (!tracing_) return;
  std::string time = std::to_string(now_.ns / 1000);
  time.insert(0, time.size() < 10 ? 10 - time.size() : 0, ' ');
  trace_.push_back(time + " us  " + who + ": " + what);
  if (trace_.size() > kTraceLines) trace_.pop_front();
}

void World::violation(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ = what;
  trace("VIOLATION", what);
}

}  // namespace orch::sim
