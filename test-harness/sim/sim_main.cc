// sim --seed=N [--seeds=K] [--profile=smoke|swarm|soak] [--threads=T] [--minutes=M] [--demand] [--no-journal]
//     [--memory] [--trace[=LINES]] [--mutation=N] [--pool-mutation=N] [--mutant=N]
// Runs K scenarios from seed N on, at most M minutes. Exit 0 iff no rule was broken; else it prints the command that
// replays the first one that was, and what happened before. `--demand` also fails when a fault, an effect, an edge of a
// state table or a boundary was seen too rarely. `--mutation`, `--pool-mutation` and `--mutant` build a fault into a
// core or into the harness itself.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "sim/scenario.h"

namespace orch::sim {
namespace {

using Clock = std::chrono::steady_clock;

// What one run of the simulator in CI has to have gone through, whatever the seeds.
constexpr std::uint64_t kMedianEventsMin = 2000;
constexpr std::uint64_t kFaultsMin = 1000;
constexpr std::uint64_t kGapLooksMin = 100'000;
constexpr std::uint64_t kSparedMin = 100;
constexpr std::size_t kTraceLines = 160;

struct Arguments {
  ScenarioOptions options;
  std::uint64_t seeds = 1;
  std::uint64_t threads = 1;
  std::optional<std::uint64_t> minutes;
  bool demand = false;
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

bool take_profile(const std::string& value, Profile& out) {
  if (value == "smoke") {
    out = Profile::smoke;
  } else if (value == "swarm") {
    out = Profile::swarm;
  } else if (value == "soak") {
    out = Profile::soak;
  } else {
    return false;
  }
  return true;
}

bool take(const std::string& name, const std::string& value, Arguments& out) {
  const std::optional<std::uint64_t> n = number(value);
  if (name == "--profile") return take_profile(value, out.options.profile);
  if (name == "--trace" && value.empty()) {
    out.options.trace_lines = kTraceLines;
    return true;
  }
  if (name == "--no-journal" && value.empty()) {
    out.options.journal = false;
    return true;
  }
  if (name == "--memory" && value.empty()) return out.options.memory = true;
  if (name == "--demand" && value.empty()) return out.demand = true;
  if (!n) return false;
  if (name == "--trace" && *n > 0) {
    out.options.trace_lines = *n;
  } else if (name == "--seed") {
    out.options.seed = *n;
  } else if (name == "--seeds" && *n > 0) {
    out.seeds = *n;
  } else if (name == "--threads" && *n > 0 && *n <= 64) {
    out.threads = *n;
  } else if (name == "--minutes" && *n > 0) {
    out.minutes = n;
  } else if (name == "--mutation" && *n < gateway::kMutations) {
    out.options.mutation = static_cast<gateway::Mutation>(*n);
  } else if (name == "--pool-mutation" && *n < pool::kMutations) {
    out.options.pool_mutation = static_cast<pool::Mutation>(*n);
  } else if (name == "--mutant" && *n < kMutants) {
    out.options.mutant = static_cast<Mutant>(*n);
  } else {
    return false;
  }
  return true;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? std::string() : argument.substr(equals + 1);
    if (take(name, value, out)) continue;
    std::fprintf(stderr,
                 "sim: cannot read '%s'\nusage: sim --seed=N [--seeds=K] [--profile=smoke|swarm|soak] [--threads=T] "
                 "[--minutes=M] [--demand] [--no-journal] [--memory] [--trace]\n",
                 argument.c_str());
    return std::nullopt;
  }
  return out;
}

std::string replay_command(const ScenarioOptions& options) {
  std::string out = "sim --seed=" + std::to_string(options.seed);
  if (options.profile == Profile::smoke) out += " --profile=smoke";
  if (options.profile == Profile::soak) out += " --profile=soak";
  if (!options.journal) out += " --no-journal";
  if (options.memory) out += " --memory";
  if (options.mutation != gateway::Mutation::none)
    out += " --mutation=" + std::to_string(static_cast<int>(options.mutation));
  if (options.pool_mutation != pool::Mutation::none)
    out += " --pool-mutation=" + std::to_string(static_cast<int>(options.pool_mutation));
  if (options.mutant != Mutant::none) out += " --mutant=" + std::to_string(static_cast<int>(options.mutant));
  return out + " --trace";
}

// A check of a core that fails ends the process; the seed must be known then too.
thread_local std::uint64_t seed_under_way = 0;
void on_abort(int) {
  char text[96];
  const int length =
      std::snprintf(text, sizeof text, "\nVIOLATION in seed %llu: a check failed, see above\nreplay: sim --seed=%llu\n",
                    static_cast<unsigned long long>(seed_under_way), static_cast<unsigned long long>(seed_under_way));
  if (length > 0 && write(STDOUT_FILENO, text, static_cast<std::size_t>(length)) < 0) _exit(2);
  _exit(1);
}

// Everything that the seeds of all threads add up to.
class Tally {
 public:
  void add(const ScenarioOptions& options, const ScenarioResult& result) {
    const std::lock_guard lock(mutex_);
    if (!result.violation.empty()) {
      if (!failed_ || options.seed < failed_->seed) failed_ = options;
      return;
    }
    events_.push_back(result.events);
    digest_ += result.digest;
    coverage_.add(result.coverage);
    gaps_.add(result.gaps);
    poisons_.add(result.poisons);
    work_.submitted += result.work.submitted;
    work_.admitted += result.work.admitted;
    work_.refused += result.work.refused;
    work_.ended_well += result.work.ended_well;
    work_.ended_in_error += result.work.ended_in_error;
    work_.retried += result.work.retried;
    work_.preempted += result.work.preempted;
    work_.lost_with_gateway += result.work.lost_with_gateway;
    work_.taken_over += result.work.taken_over;
    for (const auto& [code, count] : result.work.errors) work_.errors[code] += count;
  }
  bool failed() const {
    const std::lock_guard lock(mutex_);
    return failed_.has_value();
  }

  // Once the threads have ended.
  const std::optional<ScenarioOptions>& failure() const { return failed_; }
  void print(const Arguments& arguments, double seconds);
  bool meets_demand() const;

 private:
  std::uint64_t median() const {
    std::vector<std::uint64_t> sorted = events_;
    std::sort(sorted.begin(), sorted.end());
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }

  mutable std::mutex mutex_;
  std::optional<ScenarioOptions> failed_;
  std::vector<std::uint64_t> events_;  // by seed
  std::uint64_t digest_ = 0;           // of all seeds, whatever their order
  Coverage coverage_;
  GapTotals gaps_;
  PoisonTotals poisons_;
  WorkloadTotals work_;
};

unsigned long long show(std::uint64_t value) { return value; }

// Of all threads: what the machine was asked for, however many others it serves.
double cpu_seconds() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 1;
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return std::max(0.001, seconds(usage.ru_utime) + seconds(usage.ru_stime));
}

void print_counts(const char* title, const std::vector<Coverage::Count>& counts) {
  std::printf("%s:", title);
  for (const auto& [name, count] : counts) std::printf(" %s %llu,", name.c_str(), show(count));
  std::printf("\n");
}

void Tally::print(const Arguments& arguments, double seconds) {
  std::uint64_t events = 0;
  for (const std::uint64_t each : events_) events += each;
  const auto seeds = static_cast<double>(events_.size());
  std::printf("%llu seeds from %llu on %llu threads, no violation; %llu events, median %llu per seed, digest %016llx\n",
              show(events_.size()), show(arguments.options.seed), show(arguments.threads), show(events), show(median()),
              show(digest_));
  std::printf("%.1f s, %.0f seeds/s; %.0f seeds and %.0f events per second of CPU time\n", seconds, seeds / seconds,
              seeds / cpu_seconds(), static_cast<double>(events) / cpu_seconds());
  std::printf(
      "jobs: %llu submitted, %llu admitted, %llu refused, %llu ended well, %llu in error, %llu put back, %llu "
      "preempted, %llu lost with their gateway, %llu outlived it\n",
      show(work_.submitted), show(work_.admitted), show(work_.refused), show(work_.ended_well),
      show(work_.ended_in_error), show(work_.retried), show(work_.preempted), show(work_.lost_with_gateway),
      show(work_.taken_over));
  std::printf(
      "tenants of all gateways compared (F6): %llu times in %llu contests, widest %.2f of the bound until a first "
      "disturbance, later %.2f; counters at most %lld ms old\n",
      show(gaps_.looks), show(gaps_.contests), gaps_.widest, gaps_.widest_later,
      static_cast<long long>(gaps_.oldest.ms()));
  const auto part = [&](Duration of) {
    return 100 * static_cast<double>(of.ns) / static_cast<double>(std::max<std::int64_t>(gaps_.contended.ns, 1));
  };
  std::printf(
      "of %.0f s in which such tenants waited %.1f %% were judged before a first disturbance, %.1f %% behind one\n",
      static_cast<double>(gaps_.contended.ns) / 1e9, part(gaps_.judged), part(gaps_.judged_later));
  std::printf(
      "poison prompts (M6): %llu, at several gateways %llu, most workers lost to one %llu, jobs that another's "
      "word spared %llu\n",
      show(poisons_.prompts), show(poisons_.at_several), show(poisons_.workers_max), show(poisons_.refused));
  std::printf("outcomes:");
  for (const auto& [code, count] : work_.errors) std::printf(" %s %llu,", code.c_str(), show(count));
  std::printf("\n");
  print_counts("faults", coverage_.faults());
  print_counts("edges", coverage_.edges());
  print_counts("effects", coverage_.effects());
  print_counts("died before", coverage_.boundaries());
}

bool Tally::meets_demand() const {
  bool met = true;
  const auto demand = [&](const std::string& name, std::uint64_t count, std::uint64_t least) {
    if (count >= least) return;
    std::printf("TOO FEW: %s %llu, demanded are %llu\n", name.c_str(), show(count), show(least));
    met = false;
  };
  demand("events per seed (median)", median(), kMedianEventsMin);
  demand("job that another gateway's refusal spared", poisons_.refused, kSparedMin);
  demand("comparison of tenants over all gateways", gaps_.looks, kGapLooksMin);
  for (const auto& [name, count] : coverage_.faults()) demand("fault " + name, count, kFaultsMin);
  for (const auto& [name, count] : coverage_.edges()) demand("edge " + name, count, 1);
  for (const auto& [name, count] : coverage_.effects()) demand("effect " + name, count, 1);
  for (const auto& [name, count] : coverage_.boundaries()) demand("death before " + name, count, 1);
  return met;
}

void run_seeds(const Arguments& arguments, Clock::time_point end, std::atomic<std::uint64_t>& next, Tally& tally) {
  while (!tally.failed() && Clock::now() < end) {
    const std::uint64_t i = next++;
    if (i >= arguments.seeds) return;
    ScenarioOptions options = arguments.options;
    options.seed += i;
    seed_under_way = options.seed;
    const ScenarioResult result = run_scenario(options);
    tally.add(options, result);
    if (arguments.options.trace_lines > 0 && result.violation.empty()) {
      for (const std::string& line : result.trace) std::printf("%s\n", line.c_str());
    }
  }
}

int run(const Arguments& arguments) {
  std::signal(SIGABRT, on_abort);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Tally tally;
  std::atomic<std::uint64_t> next{0};
  const auto began = Clock::now();
  const auto end = arguments.minutes ? began + std::chrono::minutes(*arguments.minutes) : Clock::time_point::max();
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i < arguments.threads; ++i)
    threads.emplace_back([&] { run_seeds(arguments, end, next, tally); });
  run_seeds(arguments, end, next, tally);
  for (std::thread& thread : threads) thread.join();
  if (std::optional<ScenarioOptions> options = tally.failure()) {
    options->trace_lines = std::max(options->trace_lines, kTraceLines);
    const ScenarioResult result = run_scenario(*options);
    for (const std::string& line : result.trace) std::printf("%s\n", line.c_str());
    std::printf("\nVIOLATION in seed %llu: %s\nreplay: %s\n", show(options->seed), result.violation.c_str(),
                replay_command(*options).c_str());
    return 1;
  }
  tally.print(arguments, std::chrono::duration<double>(Clock::now() - began).count());
  return arguments.demand && !tally.meets_demand() ? 1 : 0;
}

}  // namespace
}  // namespace orch::sim

int main(int argc, char** argv) {
  const auto arguments = orch::sim::parse(argc, argv);
  return arguments ? orch::sim::run(*arguments) : 64;
}
