#include "common/grammar/analysis.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <queue>
#include <string>
#include <utility>

#include "common/grammar/limits.h"

namespace orch::grammar {

namespace {

struct Incoming {
  StateId from = 0;
  RuleId rule = 0;  // of a call
  bool is_call = false;
  std::uint32_t cost = 0;  // bytes read by the edge
};

// Every edge once, seen from its end, and every call once, seen from the called rule's entry.
struct Backward {
  std::vector<std::vector<Incoming>> into;                        // by target state
  std::vector<std::vector<std::pair<StateId, StateId>>> callers;  // by rule: (from, target)
};

Backward reverse(const Network& network, const ByteSet& usable) {
  Backward out;
  out.into.resize(network.states().size());
  out.callers.resize(network.rules().size());
  for (StateId from = 0; from < network.states().size(); ++from) {
    const NetworkState& state = network.state(from);
    for (const StateId to : state.empties) out.into[to].push_back({from, 0, false, 0});
    for (const ByteEdge& edge : state.bytes) {
      if (reads_any(edge, usable)) out.into[edge.target].push_back({from, 0, false, 1});
    }
    for (const CallEdge& edge : state.calls) {
      out.into[edge.target].push_back({from, edge.rule, true, 0});
      out.callers[edge.rule].emplace_back(from, edge.target);
    }
  }
  return out;
}

// Shortest ways by Dijkstra's order, where a call costs what the shortest text of its rule does (Knuth 1977). `combine`
// joins the cost of the called rule and of what follows it.
std::vector<std::uint32_t> shortest(
    const Network& network, const Backward& backward, bool count_bytes,
    const std::function<std::uint32_t(std::uint32_t, std::uint32_t, StateId)>& combine) {
  std::vector<std::uint32_t> best(network.states().size(), kNever);
  std::vector<bool> done(network.states().size(), false);
  std::vector<std::vector<RuleId>> entry_of(network.states().size());
  for (RuleId rule = 0; rule < network.rules().size(); ++rule) entry_of[network.rule(rule).entry].push_back(rule);
  using Item = std::pair<std::uint32_t, StateId>;
  std::priority_queue<Item, std::vector<Item>, std::greater<>> open;
  const auto offer = [&](StateId state, std::uint32_t cost) {
    if (cost >= best[state]) return;
    best[state] = cost;
    open.emplace(cost, state);
  };
  for (const Rule& rule : network.rules()) offer(rule.exit, 0);
  while (!open.empty()) {
    const StateId state = open.top().second;
    open.pop();
    if (done[state]) continue;
    done[state] = true;
    for (const Incoming& edge : backward.into[state]) {
      if (!edge.is_call) {
        offer(edge.from, best[state] + (count_bytes ? edge.cost : 0));
      } else if (const StateId entry = network.rule(edge.rule).entry; done[entry]) {
        offer(edge.from, combine(best[entry], best[state], state));
      }
    }
    for (const RuleId rule : entry_of[state]) {
      for (const auto& [from, target] : backward.callers[rule]) {
        if (done[target]) offer(from, combine(best[state], best[target], target));
      }
    }
  }
  return best;
}

// States from which the exit of their rule is reached by empty edges alone.
std::vector<bool> ends(const Network& network, const Backward& backward) {
  std::vector<bool> out(network.states().size(), false);
  std::vector<StateId> open;
  for (const Rule& rule : network.rules()) {
    const NetworkState& exit = network.state(rule.exit);
    if (!exit.empties.empty() || !exit.bytes.empty() || !exit.calls.empty()) continue;
    out[rule.exit] = true;
    open.push_back(rule.exit);
  }
  while (!open.empty()) {
    const StateId state = open.back();
    open.pop_back();
    for (const Incoming& edge : backward.into[state]) {
      const NetworkState& from = network.state(edge.from);
      // Another way out of it may read something, so it must have this one alone.
      const bool alone = from.empties.size() == 1 && from.bytes.empty() && from.calls.empty();
      if (edge.is_call || edge.cost > 0 || !alone || out[edge.from]) continue;
      out[edge.from] = true;
      open.push_back(edge.from);
    }
  }
  return out;
}

// Rules that a rule can call before it has read a byte.
std::vector<RuleId> called_first(const Network& network, RuleId rule, const std::vector<std::uint32_t>& bytes,
                                 std::vector<std::uint32_t>& seen) {
  std::vector<RuleId> out;
  std::vector<StateId> open{network.rule(rule).entry};
  seen[open.back()] = rule;
  const auto visit = [&](StateId state) {
    if (seen[state] == rule) return;
    seen[state] = rule;
    open.push_back(state);
  };
  while (!open.empty()) {
    const NetworkState& state = network.state(open.back());
    open.pop_back();
    for (const StateId next : state.empties) visit(next);
    for (const CallEdge& call : state.calls) {
      out.push_back(call.rule);
      if (bytes[network.rule(call.rule).entry] == 0) visit(call.target);
    }
  }
  return out;
}

// A rule that can call itself before it has read a byte would call for ever.
bool calls_itself_first(const Network& network, const std::vector<std::uint32_t>& bytes) {
  const std::size_t rules = network.rules().size();
  std::vector<std::vector<RuleId>> first(rules);
  std::vector<std::uint32_t> incoming(rules, 0);
  std::vector<std::uint32_t> seen(network.states().size(), kNever);
  for (RuleId rule = 0; rule < rules; ++rule) {
    first[rule] = called_first(network, rule, bytes, seen);
    for (const RuleId called : first[rule]) ++incoming[called];
  }
  std::vector<RuleId> open;
  for (RuleId rule = 0; rule < rules; ++rule) {
    if (incoming[rule] == 0) open.push_back(rule);
  }
  std::size_t sorted = 0;
  for (; !open.empty(); ++sorted) {
    const RuleId rule = open.back();
    open.pop_back();
    for (const RuleId called : first[rule]) {
      if (--incoming[called] == 0) open.push_back(called);
    }
  }
  return sorted < rules;
}

}  // namespace

Result<Analysis, GrammarError> analyse(const Network& network, const ByteSet& usable) {
  if (network.over_limit()) {
    return Err{GrammarError{"", "the constraint is too large: at most " + std::to_string(kStatesMax) + " states, " +
                                    std::to_string(kEdgesMax) + " edges and " + std::to_string(kRulesMax) + " rules"}};
  }
  const Backward backward = reverse(network, usable);
  Analysis out;
  out.is_end = ends(network, backward);
  out.is_exit.resize(network.states().size(), false);
  for (const Rule& rule : network.rules()) out.is_exit[rule.exit] = true;
  out.bytes = shortest(network, backward, true, [](std::uint32_t called, std::uint32_t rest, StateId) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{called} + rest, kNever - 1));
  });
  out.depth = shortest(network, backward, false, [&](std::uint32_t called, std::uint32_t rest, StateId target) {
    return std::max(out.is_end[target] ? called : called + 1, rest);
  });
  const StateId start = network.rule(0).entry;
  if (calls_itself_first(network, out.bytes)) {
    return Err{GrammarError{"", "a rule calls itself before anything is read (left recursion)"}};
  }
  if (out.bytes[start] == kNever) return Err{GrammarError{"", "no finite text satisfies the constraint"}};
  if (out.depth[start] > kStackDepthMax) {
    return Err{GrammarError{"", "the shortest text nests " + std::to_string(out.depth[start]) + " rules; at most " +
                                    std::to_string(kStackDepthMax)}};
  }
  return out;
}

}  // namespace orch::grammar
