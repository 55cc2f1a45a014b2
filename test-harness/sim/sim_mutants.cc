// sim_mutants [--jobs=N] [--only=NAME]
// A check that cannot fail is none: every fault built into a core or into the harness must break a rule in some seed of
// a bounded search. Prints which seed saw it and what it saw; exit 1 when one survives. Each fault has a process of its
// own, since some of them run into a check of a core, which aborts: that is seen too.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sim/mutation_names.h"
#include "sim/scenario.h"

namespace orch::sim {
namespace {

constexpr std::uint64_t kSeedsMax = 1500;

struct Candidate {
  std::string name;
  ScenarioOptions options;
};

std::vector<Candidate> candidates(const std::string& only) {
  std::vector<Candidate> out;
  const auto add = [&](Candidate candidate) {
    if (only.empty() || candidate.name.find(only) != std::string::npos) out.push_back(std::move(candidate));
  };
  for (std::uint8_t i = 1; i < gateway::kMutations; ++i) {
    ScenarioOptions options;
    options.mutation = static_cast<gateway::Mutation>(i);
    add({std::string("orchestratord ") + mutation_name(options.mutation), options});
  }
  for (std::uint8_t i = 1; i < pool::kMutations; ++i) {
    ScenarioOptions options;
    options.pool_mutation = static_cast<pool::Mutation>(i);
    add({std::string("pool-managerd ") + mutation_name(options.pool_mutation), options});
  }
  for (std::uint8_t i = 1; i < kMutants; ++i) {
    ScenarioOptions options;
    options.mutant = static_cast<Mutant>(i);
    add({std::string("harness ") + mutant_name(options.mutant), options});
  }
  return out;
}

// In a process of its own: 0 when it was seen.
int hunt(const Candidate& candidate) {
  ScenarioOptions options = candidate.options;
  for (options.seed = 1; options.seed <= kSeedsMax; ++options.seed) {
    const ScenarioResult result = run_scenario(options);
    if (result.violation.empty()) continue;
    std::printf("%-40s seed %4llu  %s\n", candidate.name.c_str(), static_cast<unsigned long long>(options.seed),
                result.violation.c_str());
    return 0;
  }
  std::printf("%-40s SURVIVED %llu seeds\n", candidate.name.c_str(), static_cast<unsigned long long>(kSeedsMax));
  return 1;
}

// Waits for one process; true when its fault was seen.
bool reap(std::vector<std::pair<pid_t, const Candidate*>>& running) {
  int status = 0;
  const pid_t pid = wait(&status);
  const auto it = std::find_if(running.begin(), running.end(), [&](const auto& each) { return each.first == pid; });
  if (it == running.end()) return false;
  const Candidate& candidate = *it->second;
  running.erase(it);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
    std::printf("%-40s           a check of a core stopped it\n", candidate.name.c_str());
    return true;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int run(std::size_t jobs, const std::string& only) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::vector<Candidate> all = candidates(only);
  std::vector<std::pair<pid_t, const Candidate*>> running;
  std::size_t seen = 0;
  for (const Candidate& candidate : all) {
    if (running.size() >= jobs) seen += reap(running) ? 1 : 0;
    const pid_t pid = fork();
    if (pid < 0) {
      std::perror("sim_mutants: fork");
      return 2;
    }
    if (pid == 0) {
      const int result = hunt(candidate);
      std::fflush(stdout);
      _exit(result);
    }
    running.emplace_back(pid, &candidate);
  }
  while (!running.empty()) seen += reap(running) ? 1 : 0;
  std::printf("%zu of %zu faults seen\n", seen, all.size());
  return seen == all.size() && !all.empty() ? 0 : 1;
}

}  // namespace
}  // namespace orch::sim

int main(int argc, char** argv) {
  std::size_t jobs = 2;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--jobs=", 0) == 0 && argument.size() == 8 && argument[7] >= '1' && argument[7] <= '9') {
      jobs = static_cast<std::size_t>(argument[7] - '0');
    } else if (argument.rfind("--only=", 0) == 0) {
      only = argument.substr(7);
    } else {
      std::fprintf(stderr, "usage: sim_mutants [--jobs=1..9] [--only=NAME]\n");
      return 64;
    }
  }
  return orch::sim::run(jobs, only);
}
