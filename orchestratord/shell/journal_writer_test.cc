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
    JournalWriter writer(std::move(journal).value(), answers.sink(), nullptr);
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
    JournalWriter writer(std::move(journal).value(), answers.sink(), nullptr);
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
    JournalWriter writer(std::move(journal).value(), answers.sink(), nullptr);
    for (std::uint64_t n = 1; n <= 50; ++n) writer.write({JournalTicket{n}, {admit(n)}});
  }
  EXPECT_EQ(answers.upto, 50u);
  EXPECT_NE(recovered_from(at).find("50+prompt"), std::string::npos);
}

// While a commit is under way too: what was committed before it is there.
TEST(JournalWriter, OC_JOB_1018_what_a_reader_wants_is_read_between_commits) {
  Directory at;
  auto journal = JournalSqlite::open(options(at));
  ASSERT_TRUE(journal.ok());
  Answers answers;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<JournalWriter::Found> found;
  const auto on_found = [&](JournalWriter::Found each) {
    const std::lock_guard lock(mutex);
    found.push_back(std::move(each));
    changed.notify_all();
  };
  const auto wait_found = [&](std::size_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return found.size() >= count; });
  };
  JournalWriter writer(std::move(journal).value(), answers.sink(), on_found);
  writer.write({JournalTicket{1}, {admit(1), tokens(1, 2, 9)}});
  answers.wait_for(1);
  writer.read({ReaderId{7}, job_id(1), 3, 5, 1000});
  wait_found(1);
  for (std::uint64_t n = 0; n < 20; ++n) writer.read({ReaderId{20 + n}, job_id(n == 0 ? 2 : 1), 2, 9, 1});
  wait_found(21);
  EXPECT_EQ(found[0].portion.reader, ReaderId{7});
  ASSERT_EQ(found[0].portion.events.size(), 3u);
  EXPECT_EQ(found[0].portion.events[0]->id, 3u);
  EXPECT_FALSE(found[0].fault);
  EXPECT_EQ(found[1].portion.reader, ReaderId{20});
  EXPECT_TRUE(found[1].portion.events.empty());
  EXPECT_TRUE(found[1].fault) << "a task that the journal does not know";
  for (std::size_t n = 2; n < 21; ++n) EXPECT_EQ(found[n].portion.events.size(), 1u);
}

}  // namespace
}  // namespace orch::gateway
