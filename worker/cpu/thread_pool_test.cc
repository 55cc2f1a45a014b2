// The compute threads: every index runs, run() and barrier() order what was written before them, and sleeping threads
// wake. The data below is plain on purpose: the thread sanitizer judges the pool by it.
#include "worker/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace orch::worker::cpu {
namespace {

constexpr std::uint32_t kPhases = 5;

struct Board {
  explicit Board(ThreadPool& compute_threads) : pool(compute_threads), cells(compute_threads.size()) {}

  ThreadPool& pool;
  std::vector<std::uint64_t> cells;  // one per thread, written by its owner, read by its neighbour a phase later
  std::uint64_t wrong = 0;           // written by index 0 only
};

// Each phase: write the own cell, meet, check the right neighbour's, meet.
void rounds(void* context, std::uint32_t index) {
  Board& board = *static_cast<Board*>(context);
  const auto size = board.pool.size();
  std::uint64_t wrong = 0;
  for (std::uint64_t phase = 1; phase <= kPhases; ++phase) {
    board.cells[index] = phase * 100 + index;
    board.pool.barrier();
    const std::uint32_t neighbour = (index + 1) % size;
    if (board.cells[neighbour] != phase * 100 + neighbour) ++wrong;
    board.pool.barrier();
  }
  if (index == 0) board.wrong += wrong;
}

TEST(ThreadPool, barriers_order_plain_writes_of_all_threads) {
  for (const std::uint32_t threads : {1U, 2U, 3U, 4U}) {
    ThreadPool pool(threads);
    Board board(pool);
    for (int i = 0; i < 300; ++i) pool.run(rounds, &board);
    EXPECT_EQ(board.wrong, 0U);
    for (std::uint32_t i = 0; i < threads; ++i) EXPECT_EQ(board.cells[i], kPhases * 100 + i);
  }
}

TEST(ThreadPool, run_hands_over_what_was_written_before_it_and_returns_what_was_written_in_it) {
  ThreadPool pool(3);
  struct Job {
    std::uint64_t input = 0;
    std::array<std::uint64_t, 3> output{};
  } job;
  for (std::uint64_t i = 1; i <= 500; ++i) {
    job.input = i;
    pool.run(
        [](void* context, std::uint32_t index) {
          Job& mine = *static_cast<Job*>(context);
          mine.output[index] = mine.input * (index + 1);
        },
        &job);
    ASSERT_EQ(job.output, (std::array<std::uint64_t, 3>{i, 2 * i, 3 * i}));
  }
}

// Longer than the pool spins: the others sleep, and the last to arrive has to wake them.
TEST(ThreadPool, threads_that_fell_asleep_are_woken) {
  ThreadPool pool(3);
  struct Work {
    ThreadPool& pool;
    std::array<std::uint64_t, 3> sums{};
  } work{pool, {}};
  for (int round = 0; round < 12; ++round) {
    pool.run(
        [](void* context, std::uint32_t index) {
          Work& mine = *static_cast<Work*>(context);
          for (std::uint32_t late = 0; late < 3; ++late) {
            if (index == late) {
              std::uint64_t sum = 0;
              for (std::uint64_t i = 0; i < 200'000; ++i) sum += i ^ (sum << 1);
              mine.sums[index] += sum | 1;
            }
            mine.pool.barrier();
          }
        },
        &work);
  }
  for (const std::uint64_t sum : work.sums) EXPECT_NE(sum, 0U);
}

TEST(ThreadPool, pools_end_whether_or_not_they_ever_ran) {
  for (int i = 0; i < 40; ++i) {
    ThreadPool idle(4);
    ThreadPool busy(2);
    std::array<std::uint32_t, 2> seen{};
    busy.run([](void* context,
                std::uint32_t index) { (*static_cast<std::array<std::uint32_t, 2>*>(context))[index] = index + 1; },
             &seen);
    EXPECT_EQ(seen, (std::array<std::uint32_t, 2>{1, 2}));
  }
}

}  // namespace
}  // namespace orch::worker::cpu
