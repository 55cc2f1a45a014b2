// What admission promises, measured against what came true: calibration of on_time_probability, Retry-After, goodput.
// The numbers are printed; the bounds are those of the specification.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "promises/workload.h"

namespace orch::gateway {
namespace {

using namespace testing;

double share(std::size_t part, std::size_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Capacity of a plan in jobs per second, measured: arrivals far above it, nobody refused for a deadline.
double capacity_of(WorkloadPlan plan) {
  plan.per_second = 1000;
  plan.deadline_share = 0;
  Workload load(plan);
  load.run(Duration::seconds(60));
  std::size_t done = 0;
  for (const WorkloadJob& job : load.jobs) {
    if (job.end && !job.end->failure && job.ended_at < Instant{60'000'000'000}) ++done;
  }
  return static_cast<double>(done) / 59;
}

// OC-ADMIT-1003
TEST(Promises, ORCH3081_of_the_jobs_told_eighty_percent_seventy_to_ninety_make_it) {
  std::array<std::size_t, 10> told{};
  std::array<std::size_t, 10> made{};
  double capacity = 0;
  for (const double offered : {0.7, 0.95, 1.2}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      WorkloadPlan plan;
      plan.seed = seed;
      if (capacity == 0) capacity = capacity_of(plan);
      plan.per_second = capacity * offered;
      Workload load(plan);
      load.run(Duration::seconds(400));
      std::size_t skipped = 0;
      std::vector<double> ratios;
      for (const WorkloadJob& job : load.jobs) {
        if (job.end && !job.end->failure && !job.reply.estimated && job.reply.predicted_start > ms(100))
          ratios.push_back(job.end->queued.ms_double() / job.reply.predicted_start.ms_double());
      }
      std::sort(ratios.begin(), ratios.end());
      if (!ratios.empty())
        std::printf("offered %.2fx: %zu jobs predicted to wait, actual / predicted start p10 %.2f p50 %.2f p90 %.2f\n",
                    offered, ratios.size(), ratios[ratios.size() / 10], ratios[ratios.size() / 2],
                    ratios[ratios.size() * 9 / 10]);
      for (const WorkloadJob& job : load.jobs) {
        if (!job.admitted || !job.reply.on_time_probability || job.reply.estimated) continue;
        if (++skipped <= 256) continue;  // until the record is full
        const auto bucket = std::min<std::size_t>(static_cast<std::size_t>(*job.reply.on_time_probability * 10), 9);
        ++told[bucket];
        if (job.on_time()) ++made[bucket];
      }
    }
  }
  std::printf("capacity %.1f jobs/s\n", capacity);
  for (std::size_t i = 0; i < told.size(); ++i)
    std::printf("told %.1f..%.1f: %6zu jobs, on time %5.1f %%\n", static_cast<double>(i) / 10,
                static_cast<double>(i + 1) / 10, told[i], 100 * share(made[i], told[i]));
  const std::size_t around = told[7] + told[8];
  ASSERT_GE(around, 200u);
  const double true_share = share(made[7] + made[8], around);
  EXPECT_GE(true_share, 0.70);
  EXPECT_LE(true_share, 0.90);
}

TEST(Promises, goodput_at_three_times_the_load_stays_near_the_peak) {
  double capacity = 0;
  std::map<double, double> goodput;
  for (const double offered : {0.8, 1.0, 1.5, 3.0, 10.0}) {
    WorkloadPlan plan;
    plan.deadline_s_low = 10;
    plan.deadline_s_high = 60;
    plan.config.queue.capacity = 64;
    if (capacity == 0) capacity = capacity_of(plan);
    plan.per_second = capacity * offered;
    Workload load(plan);
    constexpr std::int64_t kSeconds = 300;
    load.run(Duration::seconds(kSeconds));
    std::size_t good = 0;
    std::size_t refused = 0;
    std::size_t unmet = 0;
    std::size_t late = 0;
    for (const WorkloadJob& job : load.jobs) {
      if (job.submitted < Instant{} + Duration::seconds(61)) continue;  // warm-up
      if (job.on_time()) ++good;
      if (job.refusal) ++refused;
      if (job.end && job.end->failure) ++(job.end->failure->outcome == Outcome::DEADLINE_UNMET ? unmet : late);
    }
    goodput[offered] = static_cast<double>(good) / (kSeconds - 60);
    std::printf("offered %4.1fx: goodput %5.1f jobs/s, refused %zu, ended waiting %zu, ended running %zu\n", offered,
                goodput[offered], refused, unmet, late);
  }
  double peak = 0;
  for (const auto& [offered, good] : goodput) peak = std::max(peak, good);
  std::printf("goodput at 3x / peak: %.1f %%\n", 100 * goodput.at(3.0) / peak);
  EXPECT_GE(goodput.at(3.0), 0.95 * peak);
}

// What a refused client was told against the first instant at which its request would have been let in: the one at
// which a place came free for it, those refused before it having gone first. The line of the refused is kept here,
// apart from the core, from the queue's length alone. Refusals before `from` are not judged: no drain has been seen
// yet.
struct RetryErrors {
  std::vector<double> errors;  // |told - true| / told, told >= 1 s
  std::size_t refused = 0;
  double at(double q) const {
    return errors.empty() ? 0 : errors[static_cast<std::size_t>(q * static_cast<double>(errors.size() - 1))];
  }
};

RetryErrors retry_errors(Workload& load, Instant from, Duration span) {
  struct Waiter {
    Instant refused;
    Duration told;
  };
  RetryErrors out;
  std::vector<Waiter> line;
  std::size_t first = 0;
  std::size_t waiting = 0;
  std::uint64_t departed = 0;
  const auto settle = [&](std::uint64_t places) {
    for (; places > 0 && first < line.size(); --places, ++first) {
      const Waiter& waiter = line[first];
      if (waiter.told < Duration::seconds(1) || waiter.refused < from) continue;
      const double truth = (load.now - waiter.refused).ms_double();
      out.errors.push_back(std::abs(waiter.told.ms_double() - truth) / waiter.told.ms_double());
    }
  };
  load.on_refused = [&](std::size_t job) {
    ++out.refused;
    line.push_back({load.now, *load.jobs[job].refusal->retry_after});
  };
  load.after_event = [&] {
    // Departures: dispatches and ends of waiting jobs, as the queue's shrinking shows them.
    const std::size_t now_waiting = load.core.queue().size();
    if (now_waiting < waiting) {
      departed += waiting - now_waiting;
      settle(waiting - now_waiting);
    }
    if (now_waiting == 0) settle(line.size());
    waiting = now_waiting;
  };
  load.run(span);
  std::sort(out.errors.begin(), out.errors.end());
  return out;
}

TEST(Promises, OC_ADMIT_1001_retry_after_is_right_to_a_quarter) {
  RetryErrors all;
  for (const std::uint32_t wave : {120u, 240u, 480u}) {
    RetryErrors of_wave;
    for (std::uint64_t seed = 1; seed <= 2; ++seed) {
      WorkloadPlan plan;
      plan.seed = seed;
      plan.deadline_share = 0;
      plan.per_second = 9;  // two thirds of the capacity: the rate is known when a wave comes
      plan.config.queue.capacity = 64;
      plan.wave = wave;
      plan.wave_every = Duration::seconds(wave / 3);
      plan.retries = true;
      Workload load(plan);
      const RetryErrors errors = retry_errors(load, load.now + Duration::seconds(wave / 2), Duration::seconds(600));
      of_wave.refused += errors.refused;
      of_wave.errors.insert(of_wave.errors.end(), errors.errors.begin(), errors.errors.end());
    }
    std::sort(of_wave.errors.begin(), of_wave.errors.end());
    std::printf("waves of %u: error p50 %.1f %%, p90 %.1f %%\n", wave, 100 * of_wave.at(0.5), 100 * of_wave.at(0.9));
    all.refused += of_wave.refused;
    all.errors.insert(all.errors.end(), of_wave.errors.begin(), of_wave.errors.end());
  }
  std::sort(all.errors.begin(), all.errors.end());
  std::printf("Retry-After: %zu refused, %zu told 1 s or more, error p50 %.1f %%, p90 %.1f %%, p99 %.1f %%\n",
              all.refused, all.errors.size(), 100 * all.at(0.5), 100 * all.at(0.9), 100 * all.at(0.99));
  ASSERT_GE(all.errors.size(), 500u);
  EXPECT_LE(all.at(0.9), 0.25);
}

}  // namespace
}  // namespace orch::gateway
