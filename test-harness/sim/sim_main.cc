// sim --seed=N [--seeds=K] [--profile=smoke|swarm] [--trace] [--mutation=N] [--mutant=N]
// Runs K scenarios from seed N on. Exit 0 iff no rule was broken; else it prints the command that replays the first one
// that was, and what happened before. `--mutation` and `--mutant` build a fault into a core or into the harness itself.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "sim/scenario.h"

namespace orch::sim {
namespace {

struct Arguments {
  ScenarioOptions options;
  std::uint64_t seeds = 1;
};

std::optional<std::uint64_t> number(const std::string& text) {
  if (text.empty() || text.size() > 19) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? std::string() : argument.substr(equals + 1);
    const std::optional<std::uint64_t> n = number(value);
    if (name == "--seed" && n) {
      out.options.seed = *n;
    } else if (name == "--seeds" && n && *n > 0) {
      out.seeds = *n;
    } else if (name == "--profile" && value == "smoke") {
      out.options.profile = Profile::smoke;
    } else if (name == "--profile" && value == "swarm") {
      out.options.profile = Profile::swarm;
    } else if (name == "--trace" && equals == std::string::npos) {
      out.options.tracing = true;
    } else if (name == "--mutation" && n && *n < gateway::kMutations) {
      out.options.mutation = static_cast<gateway::Mutation>(*n);
    } else if (name == "--mutant" && n && *n < kMutants) {
      out.options.mutant = static_cast<Mutant>(*n);
    } else {
      std::fprintf(stderr, "sim: cannot read '%s'\nusage: sim --seed=N [--seeds=K] [--profile=smoke|swarm] [--trace]\n",
                   argument.c_str());
      return std::nullopt;
    }
  }
  return out;
}

std::string replay_command(const ScenarioOptions& options) {
  std::string out = "sim --seed=" + std::to_string(options.seed);
  if (options.profile == Profile::smoke) out += " --profile=smoke";
  if (options.mutation != gateway::Mutation::none)
    out += " --mutation=" + std::to_string(static_cast<int>(options.mutation));
  if (options.mutant != Mutant::none) out += " --mutant=" + std::to_string(static_cast<int>(options.mutant));
  return out + " --trace";
}

void print_trace(const ScenarioResult& result) {
  for (const std::string& line : result.trace) std::printf("%s\n", line.c_str());
}

int run(const Arguments& arguments) {
  FaultCounts faults{};
  WorkloadTotals work;
  std::uint64_t events = 0;
  const auto began = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < arguments.seeds; ++i) {
    ScenarioOptions options = arguments.options;
    options.seed = arguments.options.seed + i;
    const ScenarioResult result = run_scenario(options);
    events += result.events;
    for (std::size_t kind = 0; kind < kFaults; ++kind) faults[kind] += result.faults[kind];
    work.submitted += result.work.submitted;
    work.admitted += result.work.admitted;
    work.refused += result.work.refused;
    work.ended_well += result.work.ended_well;
    work.ended_in_error += result.work.ended_in_error;
    work.retried += result.work.retried;
    work.lost_with_gateway += result.work.lost_with_gateway;
    for (const auto& [code, count] : result.work.errors) work.errors[code] += count;
    if (result.violation.empty()) {
      if (arguments.options.tracing) print_trace(result);
      continue;
    }
    options.tracing = true;
    print_trace(run_scenario(options));
    std::printf("\nVIOLATION in seed %llu: %s\nreplay: %s\n", static_cast<unsigned long long>(options.seed),
                result.violation.c_str(), replay_command(options).c_str());
    return 1;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const auto show = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf("%llu seeds from %llu, %llu events (%llu per seed), %.1f s, no violation\n", show(arguments.seeds),
              show(arguments.options.seed), show(events), show(events / arguments.seeds), seconds);
  std::printf(
      "jobs: %llu submitted, %llu admitted, %llu refused, %llu ended well, %llu in error, %llu put back, %llu lost "
      "with their gateway\n",
      show(work.submitted), show(work.admitted), show(work.refused), show(work.ended_well), show(work.ended_in_error),
      show(work.retried), show(work.lost_with_gateway));
  std::printf("outcomes:");
  for (const auto& [code, count] : work.errors) std::printf(" %s %llu", code.c_str(), show(count));
  std::printf("\nfaults:");
  for (std::size_t kind = 0; kind < kFaults; ++kind)
    std::printf(" %s %llu", fault_name(static_cast<Fault>(kind)), show(faults[kind]));
  std::printf("\n");
  return 0;
}

}  // namespace
}  // namespace orch::sim

int main(int argc, char** argv) {
  const auto arguments = orch::sim::parse(argc, argv);
  return arguments ? orch::sim::run(*arguments) : 64;
}
