#include "common/grammar/automaton.h"

#include <algorithm>
#include <utility>

#include "common/grammar/limits.h"

namespace orch::grammar {

namespace {

constexpr std::size_t kOpenKept = 4096;  // room for readings to look at that stays between two steps

std::uint64_t key_of(StateId state, std::uint32_t stack) { return (std::uint64_t{state} << 32) | stack; }

std::size_t spread(std::uint64_t key) {
  key *= 0x9E37'79B9'7F4A'7C15ULL;
  return static_cast<std::size_t>(key >> 20);
}

std::uint32_t saturating_add(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{a} + b, kNever - 1));
}

}  // namespace

Result<Automaton, GrammarError> Automaton::create(const Network& network, const ByteSet& usable) {
  ORCH_TRY(analysis, analyse(network, usable));
  PackedNetwork packed(network, analysis, usable);
  return Automaton(std::move(packed), std::move(analysis), usable);
}

Automaton::Automaton(PackedNetwork network, Analysis analysis, const ByteSet& usable)
    : network_(std::move(network)), analysis_(std::move(analysis)), usable_(usable) {
  split_bytes();
  forget();
}

// Two bytes are of one class when every edge reads both or none.
void Automaton::split_bytes() {
  std::array<bool, 257> border{};
  border[0] = true;
  for (const ByteEdge& edge : network_.all_bytes()) {
    border[edge.low] = true;
    border[std::size_t{edge.high} + 1] = true;
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

// Each allocation counts with what the allocator adds to it, and a table or vector that grows twice: it holds both for
// a moment.
std::size_t Automaton::state_bytes() const {
  constexpr std::size_t kAllocation = 16;
  constexpr std::size_t kTableCell = 3 * sizeof(void*);
  constexpr std::size_t kTableNode = sizeof(void*) + sizeof(std::pair<std::uint64_t, State>) + kAllocation;
  const std::size_t state = classes_ * sizeof(Step) + 2 * kAllocation + kTableNode + kTableCell;
  return kept_.capacity() * 2 * sizeof(Kept) + kept_.size() * state + readings_kept_ * sizeof(Reading) +
         stacks_.capacity() * 2 * sizeof(StackCell) + stack_ids_.size() * (kTableNode + kTableCell) +
         (closure_.seen.capacity() + closure_.open.capacity() + closure_.kept.capacity()) * sizeof(Reading) +
         closure_.stamps.capacity() * sizeof(std::uint32_t);
}

std::size_t Automaton::compiled_bytes() const {
  return sizeof(Automaton) + network_.byte_size() +
         (analysis_.depth.capacity() + analysis_.bytes.capacity()) * sizeof(std::uint32_t) +
         (analysis_.is_end.capacity() + analysis_.is_exit.capacity()) / 8;
}

void Automaton::keep_only(std::span<State> states) {
  const std::vector<Kept> kept = std::move(kept_);
  const std::vector<StackCell> stacks = std::move(stacks_);
  forget();
  std::unordered_map<StackId, StackId> moved{{kEmptyStack, kEmptyStack}};
  std::vector<StackId> way;
  const auto move_stack = [&](StackId stack) {
    for (; !moved.contains(stack); stack = stacks[stack].below) way.push_back(stack);
    StackId made = moved.at(stack);
    for (; !way.empty(); way.pop_back()) {
      made = intern(stacks[way.back()].back, made);
      moved.emplace(way.back(), made);
    }
    return made;
  };
  for (State& state : states) {
    if (state == kDead) continue;
    begin_closure();
    for (const Reading& reading : kept[state].readings) {
      closure_.kept.push_back({reading.state, move_stack(reading.stack)});
    }
    closure_.accepts = kept[state].accepts;
    state = keep_closure();
  }
  needed_bytes_ = state_bytes();
}

void Automaton::forget() {
  // By swap: what is forgotten gives its memory back.
  std::vector<StackCell>(1).swap(stacks_);
  decltype(stack_ids_)().swap(stack_ids_);
  std::vector<Kept>().swap(kept_);
  kept_.push_back({{}, std::make_unique<Step[]>(classes_), false, kNever});  // kDead, where every byte leads to it
  decltype(ids_)().swap(ids_);
  closure_ = Closure{};
  closure_.seen.resize(1024);
  closure_.stamps.resize(1024, 0);
  start_ = kUnknown;
  readings_kept_ = 0;
  needed_bytes_ = 0;
  is_full_ = false;
  ++times_forgotten_;
}

Automaton::State Automaton::start() {
  if (start_ != kUnknown) return start_;
  begin_closure();
  close_over({network_.start(), kEmptyStack});
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
  if (!usable_[byte]) return kept_[state].next[class_of_[byte]] = {kDead, 1};
  begin_closure();
  const auto readings = static_cast<std::uint32_t>(kept_[state].readings.size());
  for (const Reading& reading : kept_[state].readings) {
    for (const ByteEdge& edge : network_.bytes(reading.state)) {
      if (byte >= edge.low && byte <= edge.high) close_over({edge.target, reading.stack});
    }
  }
  const std::uint32_t cost = 1 + readings + closure_.steps;
  const State next = keep_closure();
  is_full_ = state_bytes() > needed_bytes_ + kAutomatonBytesMax;
  return kept_[state].next[class_of_[byte]] = {next, cost};
}

void Automaton::begin_closure() {
  if (++closure_.stamp == 0) {
    std::fill(closure_.stamps.begin(), closure_.stamps.end(), 0);
    closure_.stamp = 1;
  }
  closure_.used = 0;
  if (closure_.open.capacity() > kOpenKept) std::vector<Reading>().swap(closure_.open);
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
    if (found && (c.steps >= kClosureStepsMax || c.kept.size() >= kReadingsMax || c.open.size() > kOpenMax)) return;
    const Reading reading = c.open.back();
    c.open.pop_back();
    if (!can_end(reading.state, reading.stack) || !first_seen(reading)) continue;
    ++c.steps;
    expand(reading);
  }
}

void Automaton::expand(const Reading& reading) {
  Closure& c = closure_;
  const auto bytes = network_.bytes(reading.state);
  const auto calls = network_.calls(reading.state);
  const auto empties = network_.empties(reading.state);
  const bool reads = std::any_of(bytes.begin(), bytes.end(),
                                 [&](const ByteEdge& edge) { return can_end(edge.target, reading.stack); });
  if (reads) c.kept.push_back(reading);
  for (std::size_t i = calls.size(); i-- > 0;) {
    const PackedNetwork::Call& call = calls[i];
    const StackId stack = analysis_.is_end[call.target] ? reading.stack : push(call.target, reading.stack);
    if (stack != kUnknown) c.open.push_back({call.entry, stack});
  }
  for (std::size_t i = empties.size(); i-- > 0;) c.open.push_back({empties[i], reading.stack});
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
  return intern(back, below);
}

Automaton::StackId Automaton::intern(StateId back, StackId below) {
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
  const std::uint64_t hash = hash_of(c.kept, c.accepts);
  for (auto [at, end] = ids_.equal_range(hash); at != end; ++at) {
    const Kept& known = kept_[at->second];
    if (known.accepts == c.accepts && known.readings == c.kept) return at->second;
  }
  const auto state = static_cast<State>(kept_.size());
  Kept kept{{c.kept.begin(), c.kept.end()}, std::make_unique<Step[]>(classes_), c.accepts, c.accepts ? 0 : kNever};
  std::fill_n(kept.next.get(), classes_, Step{kUnknown, 0});
  for (const Reading& reading : kept.readings) kept.bytes_to_end = std::min(kept.bytes_to_end, bytes_to_end(reading));
  readings_kept_ += kept.readings.size();
  kept_.push_back(std::move(kept));
  ids_.emplace(hash, state);
  return state;
}

std::uint64_t Automaton::hash_of(const std::vector<Reading>& readings, bool accepts) const {
  std::uint64_t hash = accepts ? 1 : 2;
  for (const Reading& reading : readings) {
    hash = (hash ^ key_of(reading.state, reading.stack)) * 0x9E37'79B9'7F4A'7C15ULL;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace orch::grammar
