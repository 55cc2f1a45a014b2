// A check that cannot fail is none: every fault built into the gateway's core or into the harness must break a rule in
// some seed of a bounded search. Prints which seed saw it and what it saw; exit 1 when one survives.
#include <cstdio>
#include <string>

#include "sim/scenario.h"

namespace orch::sim {
namespace {

constexpr std::uint64_t kSeedsMax = 150;

const char* mutation_name(gateway::Mutation mutation) {
  using gateway::Mutation;
  switch (mutation) {
    case Mutation::none:
      return "none";
    case Mutation::skip_fence_check:
      return "skip_fence_check";
    case Mutation::double_terminal:
      return "double_terminal";
    case Mutation::forget_slot:
      return "forget_slot";
    case Mutation::deliver_after_close:
      return "deliver_after_close";
    case Mutation::dispatch_on_expired_lease:
      return "dispatch_on_expired_lease";
    case Mutation::holder_end_from_receipt:
      return "holder_end_from_receipt";
    case Mutation::lose_put_back:
      return "lose_put_back";
    case Mutation::ignore_queue_bound:
      return "ignore_queue_bound";
    case Mutation::skip_event_id:
      return "skip_event_id";
    case Mutation::retry_after_token:
      return "retry_after_token";
    case Mutation::dispatch_beyond_slots:
      return "dispatch_beyond_slots";
  }
  return "?";
}

bool seen(ScenarioOptions options, const std::string& name) {
  for (options.seed = 1; options.seed <= kSeedsMax; ++options.seed) {
    const ScenarioResult result = run_scenario(options);
    if (result.violation.empty()) continue;
    std::printf("%-28s seed %3llu  %s\n", name.c_str(), static_cast<unsigned long long>(options.seed),
                result.violation.c_str());
    return true;
  }
  std::printf("%-28s SURVIVED %llu seeds\n", name.c_str(), static_cast<unsigned long long>(kSeedsMax));
  return false;
}

int run() {
  bool all = true;
  for (std::uint8_t i = 1; i < gateway::kMutations; ++i) {
    ScenarioOptions options;
    options.mutation = static_cast<gateway::Mutation>(i);
    all = seen(options, std::string("core ") + mutation_name(options.mutation)) && all;
  }
  for (std::uint8_t i = 1; i < kMutants; ++i) {
    ScenarioOptions options;
    options.mutant = static_cast<Mutant>(i);
    all = seen(options, std::string("harness ") + mutant_name(options.mutant)) && all;
  }
  return all ? 0 : 1;
}

}  // namespace
}  // namespace orch::sim

int main() { return orch::sim::run(); }
