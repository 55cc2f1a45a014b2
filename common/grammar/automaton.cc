#include "common/grammar/automaton.h"

#include <algorithm>
#include <utility>

#include "common/grammar/limits.h"

namespace orch::grammar {

namespace {

std::uint64_t key_of(StateId state, std::uint32_t stack) { return (std::uint64_t{state} << 32) | stack; }

std::size_t spread(std::uint64_t key) {
  key *= 0x9E37'79B9'7F4A'7C15ULL;
  return static_cast<std::size_t>(key >> 20);
}

std::uint32_t saturating_add(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{a} + b, kNever - 1));
}

}  // namespace

Result<Automaton, GrammarError> Automaton::create(Network network, const ByteSet& usable) {
  ORCH_TRY(analysis, analyse(network, usable));
  drop_dead_edges(network, analysis, usable);
  return Automaton(std::move(network), std::move(analysis), usable);
}

Automaton::Automaton(Network network, Analysis analysis, const ByteSet& usable)
    : network_(std::move(network)), analysis_(std::move(analysis)), usable_(usable) {
  split_bytes();
  closure_.seen.resize(1024);
  closure_.stamps.resize(1024, 0);
  forget();
}

// Edges on no way to an end, so that what is left of a reading's edges leads somewhere, the depth of the stack apart.
void Automaton::drop_dead_edges(Network& network, const Analysis& analysis, const ByteSet& usable) {
  const auto is_dead = [&](StateId state) { return analysis.bytes[state] == kNever; };
  network.filter_edges(
      [&](const ByteEdge& edge) { return !is_dead(edge.target) && reads_any(edge, usable); },
      [&](const CallEdge& edge) { return !is_dead(edge.target) && !is_dead(network.rule(edge.rule).entry); });
}

// Two bytes are of one class when every edge reads both or none.
void Automaton::split_bytes() {
  std::array<bool, 257> border{};
  border[0] = true;
  for (const NetworkState& state : network_.states()) {
    for (const ByteEdge& edge : state.bytes) {
      border[edge.low] = true;
      border[std::size_t{edge.high} + 1] = true;
    }
  }
  std::uint16_t last = 0;
  bool fresh = true;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    fresh = fresh || border[byte];
    if (!usable_[byte]) continue;
    if (fresh) ++last;
    fresh = false;
    class_of_[byte] = last;
  }
  classes_ = std::size_t{last} + 1;
}

bool Automaton::is_full() const {
  return kept_.size() > states_needed_ + kAutomatonStatesMax || readings_kept_ > readings_needed_ + kReadingsKeptMax;
}

void Automaton::keep_these() {
  states_needed_ = kept_.size();
  readings_needed_ = readings_kept_;
}

void Automaton::forget() {
  stacks_.assign(1, StackCell{});
  stack_ids_.clear();
  kept_.assign(1, Kept{});
  next_.assign(classes_, {kDead, 0});
  ids_.clear();
  start_ = kUnknown;
  readings_kept_ = 0;
  states_needed_ = 0;
  readings_needed_ = 0;
  ++times_forgotten_;
}

Automaton::State Automaton::start() {
  if (start_ != kUnknown) return start_;
  begin_closure();
  close_over({network_.rule(0).entry, kEmptyStack});
  start_ = keep_closure();
  return start_;
}

Automaton::State Automaton::read(State state, std::string_view text) {
  for (const char byte : text) {
    if (state == kDead) break;
    state = step(state, static_cast<std::uint8_t>(byte));
  }
  return state;
}

Automaton::Step Automaton::make_step(State state, std::uint8_t byte) {
  const std::size_t slot = std::size_t{state} * classes_ + class_of_[byte];
  if (!usable_[byte]) return next_[slot] = {kDead, 1};
  begin_closure();
  const auto readings = static_cast<std::uint32_t>(kept_[state].readings.size());
  for (const Reading& reading : kept_[state].readings) {
    for (const ByteEdge& edge : network_.state(reading.state).bytes) {
      if (byte >= edge.low && byte <= edge.high) close_over({edge.target, reading.stack});
    }
  }
  const std::uint32_t cost = 1 + readings + closure_.steps;
  const State next = keep_closure();
  return next_[slot] = {next, cost};
}

void Automaton::begin_closure() {
  if (++closure_.stamp == 0) {
    std::fill(closure_.stamps.begin(), closure_.stamps.end(), 0);
    closure_.stamp = 1;
  }
  closure_.used = 0;
  closure_.kept.clear();
  closure_.accepts = false;
  closure_.steps = 0;
}

bool Automaton::first_seen(const Reading& reading) {
  Closure& c = closure_;
  if (c.used * 2 >= c.seen.size()) {
    std::vector<Reading> old;
    for (std::size_t i = 0; i < c.seen.size(); ++i) {
      if (c.stamps[i] == c.stamp) old.push_back(c.seen[i]);
    }
    c.seen.assign(c.seen.size() * 2, {});
    c.stamps.assign(c.seen.size(), 0);
    c.stamp = 1;
    c.used = 0;
    for (const Reading& each : old) first_seen(each);
  }
  const std::size_t mask = c.seen.size() - 1;
  std::size_t at = spread(key_of(reading.state, reading.stack)) & mask;
  while (c.stamps[at] == c.stamp) {
    if (c.seen[at] == reading) return false;
    at = (at + 1) & mask;
  }
  c.stamps[at] = c.stamp;
  c.seen[at] = reading;
  ++c.used;
  return true;
}

// Depth first, in the order of the edges. The limits cut only once something was found, so no state loses its last way.
void Automaton::close_over(const Reading& from) {
  Closure& c = closure_;
  c.open.assign(1, from);
  while (!c.open.empty()) {
    const bool found = c.accepts || !c.kept.empty();
    if (found && (c.steps >= kClosureStepsMax || c.kept.size() >= kReadingsMax)) return;
    const Reading reading = c.open.back();
    c.open.pop_back();
    if (!can_end(reading.state, reading.stack) || !first_seen(reading)) continue;
    ++c.steps;
    expand(reading);
  }
}

void Automaton::expand(const Reading& reading) {
  Closure& c = closure_;
  const NetworkState& state = network_.state(reading.state);
  const bool reads = std::any_of(state.bytes.begin(), state.bytes.end(),
                                 [&](const ByteEdge& edge) { return can_end(edge.target, reading.stack); });
  if (reads) c.kept.push_back(reading);
  for (std::size_t i = state.calls.size(); i-- > 0;) {
    const CallEdge& call = state.calls[i];
    const StackId stack = analysis_.is_end[call.target] ? reading.stack : push(call.target, reading.stack);
    if (stack != kUnknown) c.open.push_back({network_.rule(call.rule).entry, stack});
  }
  for (std::size_t i = state.empties.size(); i-- > 0;) c.open.push_back({state.empties[i], reading.stack});
  if (!analysis_.is_exit[reading.state]) return;
  if (reading.stack == kEmptyStack) {
    c.accepts = true;
  } else {
    c.open.push_back({stacks_[reading.stack].back, stacks_[reading.stack].below});
  }
}

// kUnknown: too deep, or what is behind the return would be.
Automaton::StackId Automaton::push(StateId back, StackId below) {
  if (stacks_[below].depth >= kStackDepthMax || !can_end(back, below)) return kUnknown;
  const auto [found, is_new] = stack_ids_.try_emplace(key_of(back, below), static_cast<StackId>(stacks_.size()));
  if (is_new) {
    stacks_.push_back(
        {back, below, stacks_[below].depth + 1, saturating_add(analysis_.bytes[back], stacks_[below].bytes_to_end)});
  }
  return found->second;
}

bool Automaton::can_end(StateId state, StackId stack) const {
  const std::uint32_t depth = analysis_.depth[state];
  return depth != kNever && stacks_[stack].depth + depth <= kStackDepthMax;
}

std::uint32_t Automaton::bytes_to_end(const Reading& reading) const {
  return saturating_add(analysis_.bytes[reading.state], stacks_[reading.stack].bytes_to_end);
}

Automaton::State Automaton::keep_closure() {
  Closure& c = closure_;
  if (c.kept.empty() && !c.accepts) return kDead;
  const auto [found, is_new] = ids_.try_emplace({c.kept, c.accepts}, static_cast<State>(kept_.size()));
  if (!is_new) return found->second;
  Kept kept{c.kept, c.accepts, c.accepts ? 0 : kNever};
  for (const Reading& reading : kept.readings) kept.bytes_to_end = std::min(kept.bytes_to_end, bytes_to_end(reading));
  readings_kept_ += kept.readings.size();
  kept_.push_back(std::move(kept));
  next_.resize(next_.size() + classes_, {kUnknown, 0});
  return found->second;
}

}  // namespace orch::grammar
