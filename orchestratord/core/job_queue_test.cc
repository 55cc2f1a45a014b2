// The queue against a naive model: a plain list, searched from front to back.
#include "orchestratord/core/job_queue.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using testing::job_id;

QueueEntry entry_of(std::uint64_t n, Priority priority, const std::string& tenant = "a", std::uint64_t bytes = 10,
                    const std::string& model = "m") {
  QueueEntry entry;
  entry.job = job_id(n);
  entry.seq = n;
  entry.lane.model = model;
  entry.priority = priority;
  entry.tenant = tenant;
  entry.bytes = bytes;
  return entry;
}

QueueLimits small(FullPolicy interactive, FullPolicy batch) {
  QueueLimits limits;
  limits.capacity = 4;
  limits.interactive_capacity = 3;
  limits.batch_capacity = 3;
  limits.bytes_max = 100;
  limits.interactive_full_policy = interactive;
  limits.batch_full_policy = batch;
  return limits;
}

TEST(JobQueue, ORCH3004_first_in_first_out_inside_a_class_and_tenant) {
  JobQueue queue{QueueLimits{}};
  for (std::uint64_t n = 1; n <= 3; ++n) queue.push(entry_of(n, Priority::interactive));
  queue.push(entry_of(4, Priority::batch));
  queue.push(entry_of(5, Priority::interactive, "b"));
  const Lane lane = entry_of(1, Priority::interactive).lane;
  EXPECT_EQ(queue.heads(lane, Priority::interactive, "a", 9), (std::vector{job_id(1), job_id(2), job_id(3)}));
  EXPECT_EQ(queue.ahead_of("m", Priority::interactive, "a", entry_of(3, Priority::interactive).key()).jobs, 2u);
  EXPECT_TRUE(queue.remove(job_id(1)));
  EXPECT_FALSE(queue.remove(job_id(1)));
  EXPECT_EQ(queue.ahead_of("m", Priority::interactive, "a", entry_of(3, Priority::interactive).key()).jobs, 1u);
  EXPECT_EQ(queue.ahead_of("m", Priority::interactive, "b", entry_of(5, Priority::interactive).key()).jobs, 0u);
}

TEST(JobQueue, E1_the_earliest_deadline_of_a_tenant_comes_first) {
  JobQueue queue{QueueLimits{}};
  QueueEntry urgent = entry_of(2, Priority::interactive);
  urgent.order_by = Instant{5};
  urgent.work = 70;
  queue.push(entry_of(1, Priority::interactive));
  queue.push(urgent);
  EXPECT_EQ(queue.heads(urgent.lane, Priority::interactive, "a", 9), (std::vector{job_id(2), job_id(1)}));
  EXPECT_EQ(queue.ahead_of("m", Priority::interactive, "a", entry_of(1, Priority::interactive).key()).work, 70u);
}

TEST(JobQueue, ORCH3005_reject_refuses_and_names_the_bound) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::reject)};
  for (std::uint64_t n = 1; n <= 3; ++n) queue.push(entry_of(n, Priority::interactive));
  const Room room = queue.room_for({Priority::interactive, "a", 10});
  EXPECT_EQ(room.kind, Room::Kind::none);
  EXPECT_STREQ(room.full, "queue.interactive_capacity");
  EXPECT_EQ(room.limit, 3u);
  EXPECT_EQ(queue.room_for({Priority::batch, "a", 10}).kind, Room::Kind::free);
  EXPECT_STREQ(queue.room_for({Priority::batch, "a", 71}).full, "queue.bytes_max");
}

TEST(JobQueue, ORCH3005_drop_lru_gives_up_the_oldest_of_the_same_tenant) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::drop_lru)};
  queue.push(entry_of(1, Priority::batch, "other"));
  queue.push(entry_of(2, Priority::batch, "own"));
  queue.push(entry_of(3, Priority::batch, "own"));
  const Room room = queue.room_for({Priority::batch, "own", 10});
  EXPECT_EQ(room.victims, (std::vector{job_id(2)}));
  EXPECT_FALSE(room.by_quota);
}

TEST(JobQueue, ORCH3005_a_higher_class_is_never_a_victim) {
  JobQueue queue{small(FullPolicy::drop_lru, FullPolicy::drop_lru)};
  for (std::uint64_t n = 1; n <= 3; ++n) queue.push(entry_of(n, Priority::interactive));
  queue.push(entry_of(4, Priority::batch));
  EXPECT_EQ(queue.room_for({Priority::batch, "a", 10}).victims, (std::vector{job_id(4)}));
  // The interactive class is what is full: giving up a batch job would not help, so its own oldest goes.
  EXPECT_EQ(queue.room_for({Priority::interactive, "a", 10}).victims, (std::vector{job_id(1)}));
}

TEST(JobQueue, ORCH3005_nobody_is_evicted_in_vain) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::drop_lru)};
  queue.push(entry_of(1, Priority::batch, "a", 30));
  queue.push(entry_of(2, Priority::interactive, "a", 60));
  EXPECT_EQ(queue.room_for({Priority::batch, "a", 41}).kind, Room::Kind::none);  // even without job 1 it would not fit
  EXPECT_EQ(queue.room_for({Priority::batch, "a", 40}).victims, (std::vector{job_id(1)}));
}

TEST(JobQueue, ORCH3005_shed_low_priority_gives_up_the_newest_batch_job) {
  JobQueue queue{small(FullPolicy::shed_low_priority, FullPolicy::shed_low_priority)};
  queue.push(entry_of(1, Priority::interactive));
  for (std::uint64_t n = 2; n <= 4; ++n) queue.push(entry_of(n, Priority::batch));
  EXPECT_EQ(queue.room_for({Priority::interactive, "a", 10}).victims, (std::vector{job_id(4)}));
  EXPECT_EQ(queue.room_for({Priority::batch, "a", 10}).kind, Room::Kind::none);
}

// --- rule (a): quotas of a full queue ---

TEST(JobQueue, OC_QUEUE_1002_a_tenant_within_quota_gets_in_under_every_policy) {
  for (const FullPolicy policy : {FullPolicy::reject, FullPolicy::drop_lru, FullPolicy::shed_low_priority}) {
    JobQueue queue{small(policy, policy)};
    for (std::uint64_t n = 1; n <= 3; ++n) queue.push(entry_of(n, Priority::batch, "greedy"));
    const Room room = queue.room_for({Priority::batch, "modest", 10});
    EXPECT_EQ(room.kind, Room::Kind::after_eviction);
    EXPECT_TRUE(room.by_quota);
    EXPECT_EQ(room.victims, (std::vector{job_id(3)}));  // the newest
  }
}

TEST(JobQueue, OC_QUEUE_1001_quotas_are_shares_by_weight) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::reject)};
  const auto push = [&](std::uint64_t n, const char* tenant, std::uint32_t weight) {
    QueueEntry entry = entry_of(n, n == 4 ? Priority::batch : Priority::interactive, tenant);
    entry.weight = weight;
    queue.push(entry);
  };
  push(1, "heavy", 3);
  push(2, "light", 1);
  push(3, "light", 1);
  push(4, "heavy", 3);
  // Of 4 places heavy may have 3: light, which may have 1, gives up its newest.
  EXPECT_EQ(queue.room_for({Priority::interactive, "heavy", 10, 3}).victims, (std::vector{job_id(3)}));
  EXPECT_EQ(queue.room_for({Priority::interactive, "light", 10, 1}).kind, Room::Kind::none);
  queue.set_weight("light", 6);
  EXPECT_EQ(queue.room_for({Priority::interactive, "heavy", 10, 3}).kind, Room::Kind::none);
  EXPECT_EQ(queue.check_invariants(), "");
}

TEST(JobQueue, OC_QUEUE_1002_the_tenant_most_over_its_quota_pays_and_never_with_a_higher_class) {
  QueueLimits limits = small(FullPolicy::reject, FullPolicy::reject);
  limits.capacity = 5;
  JobQueue queue{limits};
  queue.push(entry_of(1, Priority::batch, "b"));
  queue.push(entry_of(2, Priority::batch, "b"));
  queue.push(entry_of(3, Priority::interactive, "a"));
  queue.push(entry_of(4, Priority::interactive, "a"));
  queue.push(entry_of(5, Priority::interactive, "a"));
  EXPECT_EQ(queue.room_for({Priority::interactive, "new", 10}).victims, (std::vector{job_id(5)}));
  EXPECT_EQ(queue.room_for({Priority::batch, "new", 10}).victims, (std::vector{job_id(2)}));
}

TEST(JobQueue, OC_QUEUE_1001_bytes_have_quotas_too) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::reject)};
  queue.push(entry_of(1, Priority::batch, "greedy", 40));
  queue.push(entry_of(2, Priority::batch, "greedy", 30));
  queue.push(entry_of(3, Priority::batch, "greedy", 25));
  EXPECT_EQ(queue.room_for({Priority::interactive, "new", 50}).victims, (std::vector{job_id(3), job_id(2)}));
  EXPECT_EQ(queue.room_for({Priority::interactive, "new", 51}).kind, Room::Kind::none);  // beyond its own share
}

// --- against the model ---

struct Model {
  QueueLimits limits;
  std::vector<QueueEntry> jobs;  // by arrival

  std::size_t count(Priority priority) const {
    return static_cast<std::size_t>(
        std::count_if(jobs.begin(), jobs.end(), [&](const QueueEntry& e) { return e.priority == priority; }));
  }
  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const QueueEntry& e : jobs) sum += e.bytes;
    return sum;
  }
  std::size_t of_class(Priority priority) const {
    return priority == Priority::interactive ? limits.interactive_capacity : limits.batch_capacity;
  }
  bool fits(Priority priority, std::uint64_t more) const {
    return jobs.size() < limits.capacity && count(priority) < of_class(priority) && bytes() + more <= limits.bytes_max;
  }
  // What a tenant uses of the bound that is hit first, and that bound; in the words of the rules.
  struct Measure {
    double capacity;
    std::function<double(const QueueEntry&)> amount;  // 0: not counted by this bound
  };
  Measure measure(Priority priority) const {
    if (count(priority) >= of_class(priority))
      return {static_cast<double>(of_class(priority)),
              [priority](const QueueEntry& e) { return e.priority == priority ? 1.0 : 0.0; }};
    if (jobs.size() >= limits.capacity)
      return {static_cast<double>(limits.capacity), [](const QueueEntry&) { return 1.0; }};
    return {static_cast<double>(limits.bytes_max), [](const QueueEntry& e) { return static_cast<double>(e.bytes); }};
  }
  double used(const Measure& by, const std::string& tenant) const {
    double sum = 0;
    for (const QueueEntry& e : jobs) sum += e.tenant == tenant ? by.amount(e) : 0;
    return sum;
  }
  // max(1, capacity * w / sum w) over the tenants that use any, the newcomer's included.
  double quota(const Measure& by, const std::string& tenant, const QueueEntry& newcomer) const {
    std::map<std::string, double> weights{{newcomer.tenant, newcomer.weight}};
    for (const QueueEntry& e : jobs) {
      if (by.amount(e) > 0) weights[e.tenant] = e.weight;
    }
    double sum = 0;
    for (const auto& [name, weight] : weights) sum += weight;
    return std::max(1.0, by.capacity * weights.at(tenant) / sum);
  }
  void erase(JobId id) {
    std::erase_if(jobs, [&](const QueueEntry& e) { return e.job == id; });
  }
};

TEST(JobQueue, ORCH3004_ORCH3005_agrees_with_a_plain_list) {
  const bool holds = rc::check([] {
    const auto script =
        *rc::gen::container<std::vector<std::uint32_t>>(150, rc::gen::inRange<std::uint32_t>(0, 1u << 30));
    const auto policy = static_cast<FullPolicy>(script[0] % 3);
    Model model{small(policy, policy), {}};
    JobQueue queue{model.limits};
    std::uint64_t next = 1;
    for (const std::uint32_t roll : script) {
      const std::uint32_t what = roll % 8;
      if (what == 0 && !model.jobs.empty()) {  // cancel any
        const JobId id = model.jobs[roll / 8 % model.jobs.size()].job;
        RC_ASSERT(queue.remove(id));
        model.erase(id);
      } else if (what == 1 && !model.jobs.empty()) {  // dispatch a head, and put it back at times
        const QueueEntry head = model.jobs.front();
        RC_ASSERT(queue.heads(head.lane, head.priority, head.tenant, 1) == std::vector{head.job});
        RC_ASSERT(queue.remove(head.job));
        if (roll / 8 % 2 == 0) {
          queue.push(head);
        } else {
          model.erase(head.job);
        }
      } else {
        const std::uint32_t who = roll / 16 % 4;
        QueueEntry entry =
            entry_of(next++, roll / 8 % 2 == 0 ? Priority::interactive : Priority::batch,
                     std::string(1, static_cast<char>('a' + who)), roll / 64 % 60, roll / 4096 % 2 == 0 ? "m" : "n");
        entry.weight = who + 1;
        entry.work = roll % 100;
        const Newcomer newcomer{entry.priority, entry.tenant, entry.bytes, entry.weight};
        const Room room = queue.room_for(newcomer);
        const bool fits = model.fits(entry.priority, entry.bytes);
        RC_ASSERT((room.kind == Room::Kind::free) == fits);
        if (!fits) {  // a tenant within its quota is refused only when nobody over theirs has a job to give
          const Model::Measure by = model.measure(entry.priority);
          const bool within = model.used(by, entry.tenant) + by.amount(entry) <= model.quota(by, entry.tenant, entry);
          bool payer = false;
          for (const QueueEntry& e : model.jobs) {
            payer = payer || (e.priority >= entry.priority && by.amount(e) > 0 &&
                              model.used(by, e.tenant) > model.quota(by, e.tenant, entry));
          }
          const bool one_bound = entry.bytes + model.bytes() <= model.limits.bytes_max;
          if (within && payer && one_bound) RC_ASSERT(room.by_quota && room.kind == Room::Kind::after_eviction);
          if (room.by_quota) RC_ASSERT(within);
        }
        if (room.kind == Room::Kind::none) continue;
        for (const JobId victim : room.victims) {
          const auto it =
              std::find_if(model.jobs.begin(), model.jobs.end(), [&](const QueueEntry& e) { return e.job == victim; });
          RC_ASSERT(it != model.jobs.end());
          RC_ASSERT(it->priority >= entry.priority);
          RC_ASSERT(!model.fits(entry.priority, entry.bytes));  // the one before was not enough
          if (room.by_quota) {
            const Model::Measure by = model.measure(entry.priority);
            RC_ASSERT(it->tenant != entry.tenant);
            RC_ASSERT(model.used(by, it->tenant) > model.quota(by, it->tenant, entry));
            for (const QueueEntry& other : model.jobs) {  // nobody who could pay is further over
              const bool could = other.priority >= entry.priority && by.amount(other) > 0;
              if (could && other.tenant != it->tenant &&
                  model.used(by, other.tenant) > model.quota(by, other.tenant, entry))
                RC_ASSERT(model.used(by, other.tenant) / other.weight <= model.used(by, it->tenant) / it->weight);
              if (could && other.tenant == it->tenant) RC_ASSERT(other.seq <= it->seq);
            }
          } else if (policy == FullPolicy::drop_lru) {
            RC_ASSERT(it->tenant == entry.tenant);
          } else {
            RC_ASSERT(policy == FullPolicy::shed_low_priority && it->priority > entry.priority);
          }
          RC_ASSERT(queue.remove(victim));
          model.erase(victim);
        }
        RC_ASSERT(model.fits(entry.priority, entry.bytes));
        queue.push(entry);
        model.jobs.push_back(entry);
      }
      RC_ASSERT(queue.check_invariants() == std::string());
      RC_ASSERT(queue.size() == model.jobs.size());
      RC_ASSERT(queue.bytes() == model.bytes());
      for (const QueueEntry& each : model.jobs) {
        std::size_t jobs = 0;
        std::uint64_t work = 0;
        for (const QueueEntry& e : model.jobs) {
          const bool ahead = e.seq < each.seq && e.priority == each.priority && e.lane.model == each.lane.model &&
                             e.tenant == each.tenant;
          jobs += ahead ? 1 : 0;
          work += ahead ? e.work : 0;
        }
        const RankedLine::Sums sums = queue.ahead_of(each.lane.model, each.priority, each.tenant, each.key());
        RC_ASSERT(sums.jobs == jobs);
        RC_ASSERT(sums.work == work);
      }
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace orch::gateway
