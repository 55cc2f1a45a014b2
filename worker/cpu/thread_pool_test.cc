// The compute threads: every unit runs once, a phase sees all that the phases before it wrote, and sleeping threads
// wake. The data below is plain on purpose: the thread sanitizer judges the pool by it.
#include "worker/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace orch::worker::cpu {
namespace {

// Phase p > 0 sums its left and right neighbours of phase p - 1; odd phases have fewer units, every fourth has none.
struct Board {
  static constexpr std::uint32_t kPhases = 9;
  static constexpr std::uint32_t kCells = 24;

  std::array<std::array<std::uint64_t, kCells>, kPhases> cells{};
  std::array<std::array<std::uint32_t, kCells>, kPhases> runs{};
  std::uint64_t input = 0;

  static std::uint32_t units(void*, std::uint32_t phase) {
    if (phase % 4 == 3) return 0;
    return phase % 2 == 0 ? kCells : 5;
  }
  static void unit(void* context, std::uint32_t phase, std::uint32_t unit, std::uint32_t) {
    Board& board = *static_cast<Board*>(context);
    ++board.runs[phase][unit];
    std::uint64_t sum = board.input + unit;
    for (std::uint32_t before = 0; before < phase; ++before) {
      for (std::uint32_t i = 0; i < units(context, before); ++i) sum = sum * 31 + board.cells[before][i];
    }
    board.cells[phase][unit] = sum;
  }
  void run(ThreadPool& pool) { pool.run({this, kPhases, &Board::units, &Board::unit}); }
};

TEST(ThreadPool, every_unit_runs_once_and_sees_all_phases_before_it) {
  for (const std::uint32_t threads : {1U, 2U, 3U, 5U}) {
    ThreadPool pool(threads);
    ThreadPool alone(1);
    Board board;
    Board expected;
    for (std::uint32_t round = 1; round <= 150; ++round) {
      board.input = expected.input = round;
      board.run(pool);
      expected.run(alone);
      ASSERT_EQ(board.cells, expected.cells) << threads << " threads, round " << round;
    }
    for (std::uint32_t phase = 0; phase < Board::kPhases; ++phase) {
      for (std::uint32_t unit = 0; unit < Board::units(nullptr, phase); ++unit)
        EXPECT_EQ(board.runs[phase][unit], 150U);
    }
  }
}

TEST(ThreadPool, a_thread_is_named_by_an_index_below_the_size) {
  ThreadPool pool(4);
  std::vector<std::uint32_t> threads(1000, ~0U);
  pool.run({&threads, 1, [](void*, std::uint32_t) { return 1000U; },
            [](void* context, std::uint32_t, std::uint32_t unit, std::uint32_t thread) {
              (*static_cast<std::vector<std::uint32_t>*>(context))[unit] = thread;
            }});
  for (const std::uint32_t thread : threads) EXPECT_LT(thread, pool.size());
}

// Longer than the pool spins: the others sleep, and whoever ends the phase has to wake them.
TEST(ThreadPool, threads_that_fell_asleep_are_woken) {
  ThreadPool pool(3);
  std::array<std::uint64_t, 30> sums{};
  for (int round = 0; round < 3; ++round) {
    pool.run({&sums, 30, [](void*, std::uint32_t phase) { return phase % 2 == 0 ? 1U : 3U; },
              [](void* context, std::uint32_t phase, std::uint32_t unit, std::uint32_t) {
                std::uint64_t sum = 0;
                for (std::uint64_t i = 0; i < (phase % 2 == 0 ? 100'000 : 10); ++i) sum += i ^ (sum << 1);
                if (unit == 0) (*static_cast<std::array<std::uint64_t, 30>*>(context))[phase] += sum | 1;
              }});
  }
  for (const std::uint64_t sum : sums) EXPECT_NE(sum, 0U);
}

TEST(ThreadPool, work_without_units_or_phases_returns) {
  ThreadPool pool(3);
  Board board;
  pool.run({&board, 0, &Board::units, &Board::unit});
  pool.run({&board, 7, [](void*, std::uint32_t) { return 0U; }, &Board::unit});
  EXPECT_EQ(board.runs[0][0], 0U);
}

TEST(ThreadPool, pools_end_whether_or_not_they_ever_ran) {
  for (int i = 0; i < 40; ++i) {
    ThreadPool idle(4);
    ThreadPool busy(2);
    Board board;
    board.run(busy);
    EXPECT_EQ(board.runs[0][0], 1U);
  }
}

}  // namespace
}  // namespace orch::worker::cpu
