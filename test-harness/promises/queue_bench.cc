// Nanoseconds per operation of the queue and the fair scheduler, and how they grow with the jobs that wait:
//   queue_bench [jobs=10000] [tenants=1000]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "orchestratord/core/fair_scheduler.h"
#include "orchestratord/core/job_queue.h"

namespace orch::gateway {
namespace {

std::uint64_t state = 1;
std::uint64_t roll() {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return state >> 33;
}

template <typename Run>
double ns_per(std::size_t times, Run&& run) {
  const std::clock_t begin = std::clock();  // of this process: neighbours do not count
  for (std::size_t i = 0; i < times; ++i) run(i);
  const std::clock_t end = std::clock();
  return static_cast<double>(end - begin) * 1e9 / CLOCKS_PER_SEC / static_cast<double>(times);
}

QueueEntry entry_of(std::uint64_t n, std::size_t tenants) {
  QueueEntry entry;
  entry.job = {{0xBE, n}};
  entry.seq = n;
  entry.lane.model = "smollm2-135m-instruct";
  entry.priority = n % 3 == 0 ? Priority::batch : Priority::interactive;
  entry.tenant = "tenant-" + std::to_string(roll() % tenants);
  entry.bytes = 500;
  entry.order_by = Instant{static_cast<std::int64_t>(roll() % 1'000'000)};
  entry.work = 100;
  return entry;
}

void run(std::size_t jobs, std::size_t tenants) {
  QueueLimits limits;
  limits.capacity = limits.interactive_capacity = limits.batch_capacity = static_cast<std::uint32_t>(jobs);
  limits.bytes_max = ~0ull;
  JobQueue queue{limits};
  FairScheduler scheduler{8, 1};
  std::vector<QueueEntry> entries;
  for (std::uint64_t n = 1; n <= jobs; ++n) entries.push_back(entry_of(n, tenants));
  for (const QueueEntry& entry : entries) {
    queue.push(entry);
    scheduler.waits({entry.lane.model, entry.priority, entry.tenant}, 1);
  }
  constexpr std::size_t kTimes = 20'000;
  const auto pick = [&](std::size_t i) -> const QueueEntry& { return entries[i * 7919 % entries.size()]; };
  std::uint64_t sink = 0;
  const double turn = ns_per(kTimes, [&](std::size_t i) {
    const QueueEntry& entry = pick(i);
    queue.remove(entry.job);
    queue.push(entry);
  });
  const double rank = ns_per(kTimes, [&](std::size_t i) {
    const QueueEntry& entry = pick(i);
    sink += queue.ahead_of(entry.lane.model, entry.priority, entry.tenant, entry.key()).jobs;
  });
  const double room = ns_per(
      kTimes, [&](std::size_t i) { sink += queue.room_for({pick(i).priority, "newcomer", 500, 1}).victims.size(); });
  const double next = ns_per(kTimes, [&](std::size_t) {
    scheduler.in_order("smollm2-135m-instruct", Priority::interactive, [&](const std::string& tenant) {
      sink += tenant.size();
      return true;
    });
  });
  const double life = ns_per(kTimes, [&](std::size_t i) {  // one job: dispatch, prompt, ten batches of tokens, end
    const QueueEntry& entry = pick(i);
    const FlowId flow{entry.lane.model, entry.priority, entry.tenant};
    Meter meter;
    scheduler.leaves(flow);
    scheduler.dispatched(flow, {100, 50, 100}, meter);
    scheduler.delivered_input(flow, 100, meter);
    for (int t = 0; t < 10; ++t) scheduler.delivered_output(flow, 4, meter);
    scheduler.closed(flow, meter);
    scheduler.waits(flow, 1);
  });
  std::printf(
      "%8zu jobs %5zu tenants: remove+push %6.0f  rank %5.0f  room in a full queue %6.0f  next tenant %4.0f  a job's "
      "15 charges %6.0f ns%s\n",
      jobs, tenants, turn, rank, room, next, life, sink == 0 ? " " : "");
}

}  // namespace
}  // namespace orch::gateway

int main(int argc, char** argv) {
  const auto number = [&](int index, std::size_t fallback) {
    return argc > index ? static_cast<std::size_t>(std::strtoull(argv[index], nullptr, 10)) : fallback;
  };
  const std::size_t jobs = number(1, 10'000);
  const std::size_t tenants = number(2, 1000);
  for (const std::size_t n : {jobs / 100, jobs / 10, jobs}) orch::gateway::run(n < 1 ? 1 : n, tenants);
  return 0;
}
