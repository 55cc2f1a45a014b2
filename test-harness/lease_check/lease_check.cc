// Visits, breadth first, every state of the lease protocol that can be reached from each start in so many steps that
// the bound on states is not passed, and says how many there are. Then, with less allowed to happen, every state there
// is: that search must come to its end.
//
//   lease_check            exit 0: no rule is broken anywhere
//   lease_check --faults   exit 0: each fault that can be built in breaks a rule; the shortest way is printed
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <unordered_set>
#include <vector>

#include "lease_check/cluster.h"

namespace orch::check {
namespace {

constexpr std::size_t kStatesMax = 160'000;  // of one start
// So little that every way can be gone to its end: one fault, which may be a crash, one job and one division or
// release, in no time.
constexpr Allowance kWhole{.faults = 1, .crashes = 1, .jobs = 1, .moves = 1, .ticks = 0};
constexpr std::size_t kWholeStatesMax = 400'000;  // of one start; reaching it is a failure

struct Visited {
  std::uint32_t parent;
  Action action;
};

// Two independent 64-bit hashes: at a million states a collision has a probability below 1e-26.
struct Key {
  std::uint64_t a, b;
  bool operator==(const Key&) const = default;
};
struct KeyHash {
  std::size_t operator()(const Key& key) const { return static_cast<std::size_t>(key.a); }
};

Key key_of(const std::string& text) {
  std::uint64_t a = 0xcbf29ce484222325ull;
  std::uint64_t b = 0x9e3779b97f4a7c15ull;
  for (const char each : text) {
    const auto byte = static_cast<unsigned char>(each);
    a = (a ^ byte) * 0x100000001b3ull;
    b = (b + byte + 1) * 0xff51afd7ed558ccdull;
    b ^= b >> 29;
  }
  return {a, b};
}

struct Outcome {
  std::size_t states = 0;
  std::size_t transitions = 0;
  std::size_t depth = 0;   // up to which nothing was left out
  bool exhausted = false;  // nothing is left to visit
  std::string violation;
  std::vector<std::string> way;
};

Outcome explore(Fault fault, Start start, const Allowance& allowance = {}, std::size_t states_max = kStatesMax) {
  Outcome out;
  std::vector<Visited> visited{{0, {Kind::tick, 0}}};
  std::unordered_set<Key, KeyHash> seen;
  struct Entry {
    Cluster cluster;
    std::uint32_t index;
    std::size_t depth;
  };
  std::deque<Entry> frontier;
  frontier.push_back({Cluster(fault, start, allowance), 0, 0});
  seen.insert(key_of(frontier.front().cluster.canonical()));
  while (!frontier.empty()) {
    const Entry entry = std::move(frontier.front());
    frontier.pop_front();
    out.depth = entry.depth;
    for (const Action& action : entry.cluster.actions()) {
      Cluster next = entry.cluster;
      next.apply(action);
      ++out.transitions;
      if (!next.violation().empty()) {
        out.violation = next.violation();
        out.way.push_back(describe(action));
        for (std::uint32_t at = entry.index; at != 0; at = visited[at].parent)
          out.way.push_back(describe(visited[at].action));
        std::reverse(out.way.begin(), out.way.end());
        out.states = visited.size();
        return out;
      }
      if (!seen.insert(key_of(next.canonical())).second) continue;
      if (visited.size() >= states_max) {
        out.states = visited.size();
        return out;
      }
      visited.push_back({entry.index, action});
      frontier.push_back({std::move(next), static_cast<std::uint32_t>(visited.size() - 1), entry.depth + 1});
    }
  }
  out.states = visited.size();
  out.exhausted = true;
  return out;
}

void print_way(const std::vector<std::string>& way) {
  for (const std::string& step : way) std::printf("  %s\n", step.c_str());
}

constexpr std::array<const char*, kStarts> kNames{"empty",     "shared",    "contended",
                                                  "overtaken", "returning", "restarted"};

bool holds(const char* name, const Outcome& out) {
  std::printf("%-10s %zu states, %zu transitions, %s depth %zu\n", name, out.states, out.transitions,
              out.exhausted ? "exhausted at" : "complete to", out.depth);
  if (out.violation.empty()) return true;
  std::printf("violation: %s\n", out.violation.c_str());
  print_way(out.way);
  return false;
}

int run_clean() {
  const auto begin = std::chrono::steady_clock::now();
  std::size_t states = 0;
  bool broken = false;
  for (std::size_t start = 0; start < kStarts; ++start) {
    const Outcome out = explore(Fault::none, static_cast<Start>(start));
    states += out.states;
    if (!holds(kNames[start], out)) broken = true;
  }
  std::printf("faults %d, crashes %d, jobs %d, moves %d, ticks %d at most:\n", kWhole.faults, kWhole.crashes,
              kWhole.jobs, kWhole.moves, kWhole.ticks);
  for (std::size_t start = 0; start < kStarts; ++start) {
    const Outcome out = explore(Fault::none, static_cast<Start>(start), kWhole, kWholeStatesMax);
    states += out.states;
    if (!holds(kNames[start], out)) broken = true;
    if (out.exhausted || !out.violation.empty()) continue;
    broken = true;
    std::printf("the search did not come to its end\n");
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%zu states in %.1f s\n", states, seconds);
  return broken ? 1 : 0;
}

int run_faults() {
  int missed = 0;
  for (int i = 1; i < kFaults; ++i) {
    const auto fault = static_cast<Fault>(i);
    Outcome out;
    std::size_t states = 0;
    for (int start = kStarts - 1; start >= 0 && out.violation.empty(); --start) {
      out = explore(fault, static_cast<Start>(start));
      states += out.states;
    }
    if (out.violation.empty()) ++missed;
    std::printf("%-28s %s after %zu states: %s\n", fault_name(fault), out.violation.empty() ? "MISSED" : "caught",
                states, out.violation.c_str());
    print_way(out.way);
  }
  return missed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace orch::check

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  return argc > 1 && std::strcmp(argv[1], "--faults") == 0 ? orch::check::run_faults() : orch::check::run_clean();
}
