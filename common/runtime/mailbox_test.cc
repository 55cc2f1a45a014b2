#include "common/runtime/mailbox.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <thread>

namespace orch::runtime {
namespace {

TEST(Mailbox, wakes_once_per_empty_to_non_empty_change) {
  int wakes = 0;
  Mailbox<int> box(8, [&] { ++wakes; });
  EXPECT_EQ(box.push(1), Pushed::ok);
  EXPECT_EQ(box.push(2), Pushed::ok);
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(box.drain(), (std::vector<int>{1, 2}));
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(box.push(3), Pushed::ok);
  EXPECT_EQ(wakes, 2);
}

TEST(Mailbox, says_full_and_drops_nothing) {
  Mailbox<int> box(2, nullptr);
  EXPECT_EQ(box.push(1), Pushed::ok);
  EXPECT_EQ(box.push(2), Pushed::ok);
  EXPECT_EQ(box.push(3), Pushed::full);
  EXPECT_EQ(box.drain(), (std::vector<int>{1, 2}));
  EXPECT_EQ(box.push(4), Pushed::ok);
  EXPECT_EQ(box.drain(), (std::vector<int>{4}));
  EXPECT_TRUE(box.drain().empty());
}

// Run under TSan: the mailbox is the only door between threads.
TEST(Mailbox, every_message_of_every_producer_arrives_once_and_in_its_order) {
  constexpr std::uint32_t kProducers = 4;
  constexpr std::uint32_t kMessages = 20'000;
  struct Message {
    std::uint32_t producer = 0;
    std::uint32_t number = 0;
  };
  std::mutex mutex;
  std::condition_variable arrived;
  bool awake = false;
  Mailbox<Message> box(256, [&] {
    const std::lock_guard lock(mutex);
    awake = true;
    arrived.notify_one();
  });
  std::atomic<std::uint64_t> refused = 0;
  std::vector<std::thread> producers;
  for (std::uint32_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] {
      for (std::uint32_t number = 0; number < kMessages; ++number) {
        while (box.push({producer, number}) == Pushed::full) {
          ++refused;
          std::this_thread::yield();
        }
      }
    });
  }
  std::map<std::uint32_t, std::uint32_t> next;
  for (std::uint64_t seen = 0; seen < std::uint64_t{kProducers} * kMessages;) {
    {
      std::unique_lock lock(mutex);
      arrived.wait(lock, [&] { return awake; });
      awake = false;
    }
    for (const Message& message : box.drain()) {
      ASSERT_EQ(message.number, next[message.producer]++);
      ++seen;
    }
  }
  for (std::thread& producer : producers) producer.join();
  EXPECT_TRUE(box.drain().empty());
}

}  // namespace
}  // namespace orch::runtime
