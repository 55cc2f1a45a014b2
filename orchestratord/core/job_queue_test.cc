// The queue against a naive model: a plain list, searched from front to back.
#include "orchestratord/core/job_queue.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <vector>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using testing::job_id;

QueueEntry entry_of(std::uint64_t n, Priority priority, const std::string& tenant = "a", std::uint64_t bytes = 10,
                    const std::string& model = "m") {
  return {job_id(n), n, {model, {}, false, false}, priority, tenant, bytes};
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

TEST(JobQueue, ORCH3004_first_in_first_out_inside_a_class_and_lane) {
  JobQueue queue{QueueLimits{}};
  for (std::uint64_t n = 1; n <= 3; ++n) queue.push(entry_of(n, Priority::interactive));
  queue.push(entry_of(4, Priority::batch));
  EXPECT_EQ(queue.heads(entry_of(1, Priority::interactive).lane, Priority::interactive, 9),
            (std::vector{job_id(1), job_id(2), job_id(3)}));
  EXPECT_EQ(queue.ahead_of("m", Priority::interactive, 3), 2u);
  EXPECT_TRUE(queue.remove(job_id(1)));
  EXPECT_FALSE(queue.remove(job_id(1)));
  EXPECT_EQ(queue.ahead_of("m", Priority::interactive, 3), 1u);
}

TEST(JobQueue, ORCH3005_reject_refuses_and_names_the_bound) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::reject)};
  for (std::uint64_t n = 1; n <= 3; ++n) queue.push(entry_of(n, Priority::interactive));
  const Room room = queue.room_for(Priority::interactive, "a", 10);
  EXPECT_EQ(room.kind, Room::Kind::none);
  EXPECT_STREQ(room.full, "queue.interactive_capacity");
  EXPECT_EQ(room.limit, 3u);
  EXPECT_EQ(queue.room_for(Priority::batch, "a", 10).kind, Room::Kind::free);
  EXPECT_STREQ(queue.room_for(Priority::batch, "a", 71).full, "queue.bytes_max");
}

TEST(JobQueue, ORCH3005_drop_lru_gives_up_the_oldest_of_the_same_tenant) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::drop_lru)};
  queue.push(entry_of(1, Priority::batch, "other"));
  queue.push(entry_of(2, Priority::batch, "own"));
  queue.push(entry_of(3, Priority::batch, "own"));
  EXPECT_EQ(queue.room_for(Priority::batch, "own", 10).victims, (std::vector{job_id(2)}));
  EXPECT_EQ(queue.room_for(Priority::batch, "stranger", 10).kind, Room::Kind::none);
}

TEST(JobQueue, ORCH3005_a_higher_class_is_never_a_victim) {
  JobQueue queue{small(FullPolicy::drop_lru, FullPolicy::drop_lru)};
  for (std::uint64_t n = 1; n <= 3; ++n) queue.push(entry_of(n, Priority::interactive));
  queue.push(entry_of(4, Priority::batch));
  EXPECT_EQ(queue.room_for(Priority::batch, "a", 10).victims, (std::vector{job_id(4)}));
  // The interactive class is what is full: giving up a batch job would not help, so its own oldest goes.
  EXPECT_EQ(queue.room_for(Priority::interactive, "a", 10).victims, (std::vector{job_id(1)}));
}

TEST(JobQueue, ORCH3005_nobody_is_evicted_in_vain) {
  JobQueue queue{small(FullPolicy::reject, FullPolicy::drop_lru)};
  queue.push(entry_of(1, Priority::batch, "a", 30));
  queue.push(entry_of(2, Priority::interactive, "a", 60));
  EXPECT_EQ(queue.room_for(Priority::batch, "a", 41).kind, Room::Kind::none);  // even without job 1 it would not fit
  EXPECT_EQ(queue.room_for(Priority::batch, "a", 40).victims, (std::vector{job_id(1)}));
}

TEST(JobQueue, ORCH3005_shed_low_priority_gives_up_the_newest_batch_job) {
  JobQueue queue{small(FullPolicy::shed_low_priority, FullPolicy::shed_low_priority)};
  queue.push(entry_of(1, Priority::interactive));
  for (std::uint64_t n = 2; n <= 4; ++n) queue.push(entry_of(n, Priority::batch));
  EXPECT_EQ(queue.room_for(Priority::interactive, "z", 10).victims, (std::vector{job_id(4)}));
  EXPECT_EQ(queue.room_for(Priority::batch, "z", 10).kind, Room::Kind::none);
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
  bool fits(Priority priority, std::uint64_t more) const {
    const std::size_t of_class =
        priority == Priority::interactive ? limits.interactive_capacity : limits.batch_capacity;
    return jobs.size() < limits.capacity && count(priority) < of_class && bytes() + more <= limits.bytes_max;
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
      } else if (what == 1 && !model.jobs.empty()) {  // dispatch the head of a class, and put it back at times
        const QueueEntry head = model.jobs.front();
        RC_ASSERT(queue.heads(head.lane, head.priority, 1) == std::vector{head.job});
        RC_ASSERT(queue.remove(head.job));
        if (roll / 8 % 2 == 0) {
          queue.push(head);
        } else {
          model.erase(head.job);
        }
      } else {
        const QueueEntry entry =
            entry_of(next++, roll / 8 % 2 == 0 ? Priority::interactive : Priority::batch,
                     roll / 16 % 2 == 0 ? "a" : "b", roll / 32 % 60, roll / 2048 % 2 == 0 ? "m" : "n");
        const Room room = queue.room_for(entry.priority, entry.tenant, entry.bytes);
        const bool fits = model.fits(entry.priority, entry.bytes);
        RC_ASSERT((room.kind == Room::Kind::free) == fits);
        if (room.kind == Room::Kind::none) continue;
        for (const JobId victim : room.victims) {
          const auto it =
              std::find_if(model.jobs.begin(), model.jobs.end(), [&](const QueueEntry& e) { return e.job == victim; });
          RC_ASSERT(it != model.jobs.end());
          RC_ASSERT(it->priority >= entry.priority);
          if (policy == FullPolicy::drop_lru) RC_ASSERT(it->tenant == entry.tenant);
          RC_ASSERT(!model.fits(entry.priority, entry.bytes));  // the one before was not enough
          RC_ASSERT(queue.remove(victim));
          model.erase(victim);
        }
        RC_ASSERT(model.fits(entry.priority, entry.bytes));
        queue.push(entry);
        model.jobs.push_back(entry);
      }
      RC_ASSERT(queue.check_invariants().empty());
      RC_ASSERT(queue.size() == model.jobs.size());
      RC_ASSERT(queue.bytes() == model.bytes());
      for (const QueueEntry& each : model.jobs) {
        const auto ahead = std::count_if(model.jobs.begin(), model.jobs.end(), [&](const QueueEntry& e) {
          return e.seq < each.seq && e.priority == each.priority && e.lane.model == each.lane.model;
        });
        RC_ASSERT(queue.ahead_of(each.lane.model, each.priority, each.seq) == static_cast<std::size_t>(ahead));
      }
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace orch::gateway
