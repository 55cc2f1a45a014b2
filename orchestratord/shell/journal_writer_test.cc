// The thread that writes the journal: group commit, and that one bad write is nobody else's.
#include "orchestratord/shell/journal_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "orchestratord/shell/fault_vfs.h"
#include "orchestratord/shell/journal_file_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

struct Answers {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<JournalWriter::Answer> all;
  std::uint64_t upto = 0;

  JournalWriter::OnAnswer sink() {
    return [this](JournalWriter::Answer answer) {
      const std::lock_guard lock(mutex);
      upto = std::max(upto, answer.last.value);
      all.push_back(std::move(answer));
      changed.notify_all();
    };
  }
  void wait_for(std::uint64_t ticket) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return upto >= ticket; });
  }
};

TEST(JournalWriter, ruling12_what_piles_up_during_a_sync_is_one_commit) {
  FaultVfs disk;
  Directory at;
  auto journal = JournalSqlite::open(options(at, nullptr, FaultVfs::kName));
  ASSERT_TRUE(journal.ok());
  std::mutex mutex;
  std::condition_variable gate;
  bool open = false;
  bool inside = false;
  disk.on_sync = [&] {
    std::unique_lock lock(mutex);
    inside = true;
    gate.notify_all();
    gate.wait(lock, [&] { return open; });
  };
  Answers answers;
  {
    JournalWriter writer(std::move(journal).value(), answers.sink());
    writer.write({JournalTicket{1}, {admit(1)}});
    {
      std::unique_lock lock(mutex);
      gate.wait(lock, [&] { return inside; });
    }
    for (std::uint64_t n = 2; n <= 101; ++n) writer.write({JournalTicket{n}, {admit(n)}});
    {
      const std::lock_guard lock(mutex);
      open = true;
      gate.notify_all();
    }
    answers.wait_for(101);
  }
  disk.on_sync = nullptr;
  ASSERT_EQ(answers.all.size(), 2u);
  EXPECT_EQ(answers.all[1].first.value, 2u);
  EXPECT_EQ(answers.all[1].last.value, 101u);
  EXPECT_EQ(answers.all[1].records, 100u);
}

TEST(JournalWriter, a_write_that_is_too_large_does_not_take_the_others_along) {
  Directory at;
  JournalSqlite::Options small = options(at);
  small.bytes_max = 64 * 4096;
  auto journal = JournalSqlite::open(small);
  ASSERT_TRUE(journal.ok());
  AdmitRecord huge = admit(2);
  JobPayload payload;
  payload.prompt.text = std::string(400'000, 'x');
  huge.spec.payload = std::make_shared<const JobPayload>(std::move(payload));
  Answers answers;
  {
    JournalWriter writer(std::move(journal).value(), answers.sink());
    writer.write({JournalTicket{1}, {admit(1)}});
    writer.write({JournalTicket{2}, {huge}});
    writer.write({JournalTicket{3}, {admit(3)}});
    answers.wait_for(3);
  }
  for (const JournalWriter::Answer& answer : answers.all) {
    if (answer.first.value <= 2 && answer.last.value >= 2) {
      EXPECT_TRUE(answer.refused.has_value());
      EXPECT_EQ(answer.writes, 1u);
    } else {
      EXPECT_FALSE(answer.refused.has_value()) << *answer.refused;
    }
  }
}

TEST(JournalWriter, what_is_queued_is_committed_before_it_ends) {
  Directory at;
  auto journal = JournalSqlite::open(options(at));
  ASSERT_TRUE(journal.ok());
  Answers answers;
  {
    JournalWriter writer(std::move(journal).value(), answers.sink());
    for (std::uint64_t n = 1; n <= 50; ++n) writer.write({JournalTicket{n}, {admit(n)}});
  }
  EXPECT_EQ(answers.upto, 50u);
  EXPECT_NE(recovered_from(at).find("50+prompt"), std::string::npos);
}

}  // namespace
}  // namespace orch::gateway
