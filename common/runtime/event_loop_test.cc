#include "common/runtime/event_loop.h"

#include <gtest/gtest.h>

#include <thread>

namespace orch::runtime {
namespace {

TEST(EventLoop, a_timer_fires_once_at_its_instant) {
  EventLoop loop;
  int fired = 0;
  const Instant due = now() + Duration::milliseconds(20);
  LoopTimer timer(loop, [&] {
    ++fired;
    EXPECT_GE(now(), due);
    loop.stop();
  });
  timer.set(due);
  loop.run();
  EXPECT_EQ(fired, 1);
  EXPECT_TRUE(timer.at().is_never());
}

TEST(EventLoop, an_instant_in_the_past_fires_and_an_earlier_one_replaces_a_later_one) {
  EventLoop loop;
  LoopTimer timer(loop, [&] { loop.stop(); });
  timer.set(now() + Duration::seconds(3600));
  timer.set(Instant{0});
  loop.run();
}

TEST(EventLoop, a_timer_moved_later_does_not_fire_early_and_a_disarmed_one_not_at_all) {
  EventLoop loop;
  const Instant late = now() + Duration::milliseconds(40);
  LoopTimer disarmed(loop, [] { FAIL(); });
  disarmed.set(now() + Duration::milliseconds(5));
  disarmed.set(Instant::never());
  LoopTimer timer(loop, [&] {
    EXPECT_GE(now(), late);
    loop.stop();
  });
  timer.set(now() + Duration::milliseconds(5));
  timer.set(late);
  loop.run();
}

TEST(EventLoop, a_mailbox_hands_over_what_piled_up_in_one_batch) {
  EventLoop loop;
  std::vector<std::size_t> batches;
  LoopMailbox<int> mailbox(loop, 64, [&](std::vector<int>& batch) {
    batches.push_back(batch.size());
    loop.stop();
  });
  for (int i = 0; i < 10; ++i) ASSERT_EQ(mailbox.push(i), Pushed::ok);
  loop.run();
  EXPECT_EQ(batches, (std::vector<std::size_t>{10}));
}

// Under TSan: pushes from other threads reach the loop's thread, and the last one is never lost.
TEST(EventLoop, pushes_from_threads_all_arrive) {
  EventLoop loop;
  constexpr int kEach = 5'000;
  int seen = 0;
  LoopMailbox<int> mailbox(loop, 1 << 16, [&](std::vector<int>& batch) {
    seen += static_cast<int>(batch.size());
    if (seen == 2 * kEach) loop.stop();
  });
  const auto produce = [&] {
    for (int i = 0; i < kEach; ++i) ASSERT_EQ(mailbox.push(i), Pushed::ok);
  };
  std::thread first(produce);
  std::thread second(produce);
  loop.run();
  first.join();
  second.join();
  EXPECT_EQ(seen, 2 * kEach);
}

TEST(EventLoop, a_push_after_the_mailbox_is_gone_reaches_nobody) {
  EventLoop loop;
  std::function<Pushed(int)> sender;
  {
    LoopMailbox<int> mailbox(loop, 4, [](std::vector<int>&) { FAIL(); });
    sender = mailbox.sender();
    EXPECT_EQ(sender(1), Pushed::ok);
  }
  loop.post([&] { loop.stop(); });
  loop.run();
}

}  // namespace
}  // namespace orch::runtime
