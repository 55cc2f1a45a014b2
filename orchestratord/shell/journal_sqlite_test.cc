// The journal's file against what disks do: a cut at every write, torn writes, lost syncs, a full or read-only disk,
// damage. Judge: the same writes applied to a model (journal_testing.h). J1, J4, J7, OC-JOB-1013.
#include "orchestratord/shell/journal_sqlite.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "orchestratord/shell/fault_vfs.h"
#include "orchestratord/shell/journal_codec.h"
#include "orchestratord/shell/journal_file_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

TEST(JournalSqlite, J4_what_is_committed_is_there_after_a_restart) {
  Directory at;
  JournalModel model;
  {
    auto journal = JournalSqlite::open(options(at));
    ASSERT_TRUE(journal.ok()) << journal.error().message;
    for (const JournalWrite& write : life()) {
      model.apply(write, {});
      ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
    }
  }
  EXPECT_EQ(recovered_from(at), describe(model.recover({})));
  EXPECT_NE(recovered_from(at).find("3+prompt attempt 2 on r1 aboard r2 1 tokens 2t0"), std::string::npos);
  EXPECT_NE(recovered_from(at).find("; manager 1 15000; manager 2 4000"), std::string::npos);
}

TEST(JournalSqlite, J4_every_field_survives) {
  Directory at;
  auto journal = JournalSqlite::open(options(at));
  ASSERT_TRUE(journal.ok());
  const JournalWrite write = write_of({admit(1), dispatch(1), aboard(1), tokens(1, 2, 3), error_of(1, 4)});
  ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
  auto found = journal.value()->recover();
  ASSERT_TRUE(found.ok());
  const RecoveredJob& job = found->jobs.at(0);
  EXPECT_EQ(journal_codec::encode_admit(job.admit), journal_codec::encode_admit(admit(1)));
  EXPECT_EQ(job.admit.spec.payload->prompt.messages[1].content, full_spec(1).payload->prompt.messages[1].content);
  EXPECT_EQ(job.admit.spec.payload->sampling.seed, 0x7FFF'FFFF'FFFF'FFFFu);
  EXPECT_EQ(job.admit.spec.deadline, ms(4000));
  EXPECT_EQ(job.admit.started.predicted_start, ms(120));
  EXPECT_EQ(job.dispatch->replica_set, "set");
  ASSERT_TRUE(job.aboard.has_value());
  EXPECT_EQ(journal_codec::encode_aboard(*job.aboard), journal_codec::encode_aboard(aboard(1)));
  EXPECT_EQ(job.aboard->deaths, 1u);
  EXPECT_EQ(job.aboard->inc, (Incarnation{4, 5}));
  EXPECT_EQ(std::get<TokenEvent>(job.tokens.at(1)->body).ids, std::vector<std::uint32_t>{101});
  const auto& failure = std::get<ErrorEvent>(job.terminal->body).failure;
  EXPECT_EQ(failure.outcome, Outcome::QUEUE_FULL_DROP_LRU);
  EXPECT_EQ(failure.retry_after, ms(700));
}

std::string portion(const Result<JournalSqlite::Portion, std::string>& found) {
  if (!found.ok()) return "refused: " + found.error();
  std::string out;
  for (const auto& event : *found) out += std::to_string(event->id) + std::get<TokenEvent>(event->body).text + " ";
  return out;
}

// Parts of a write that failed and was made again lie over each other.
TEST(JournalSqlite, OC_JOB_1018_any_portion_of_a_task_is_read_while_it_is_written) {
  Directory at;
  auto journal = JournalSqlite::open(options(at));
  ASSERT_TRUE(journal.ok());
  const auto commit = [&](std::vector<JournalRecord> records) {
    const JournalWrite write = write_of(std::move(records));
    ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
  };
  commit({admit(1), tokens(1, 2, 6)});
  commit({tokens(1, 7, 9), admit(2), tokens(2, 2, 30)});
  commit({tokens(1, 4, 12), tokens(1, 13, 13)});
  const auto read = [&](std::uint64_t from, std::uint64_t upto, std::uint64_t bytes) {
    return portion(journal.value()->read({ReaderId{1}, job_id(1), from, upto, bytes}));
  };
  for (std::uint64_t from = 2; from <= 13; ++from) {
    for (std::uint64_t upto = from; upto <= 13; ++upto) {
      std::string expected;
      for (std::uint64_t id = from; id <= upto; ++id)
        expected += std::to_string(id) + "t" + std::to_string(id - 2) + " ";
      std::string found;
      for (std::uint64_t next = from; next <= upto;) {
        const std::string some = read(next, upto, 1000);
        ASSERT_EQ(some.find("refused"), std::string::npos) << some;
        next += static_cast<std::uint64_t>(std::count(some.begin(), some.end(), ' '));
        found += some;
      }
      EXPECT_EQ(found, expected) << from << " " << upto;
    }
    EXPECT_EQ(read(from, 13, 1), std::to_string(from) + "t" + std::to_string(from - 2) + " ") << "one at least";
  }
  EXPECT_EQ(read(10, 40, 1000), "10t8 11t9 12t10 13t11 ") << "what there is";
  EXPECT_EQ(read(3, 13, 20), "3t1 4t2 ") << "of seven bytes each";
  EXPECT_EQ(read(14, 20, 1000), "refused: task " + job_id(1).to_string() + ": it has no event 14");
  commit({EraseRecord{job_id(1)}});
  EXPECT_NE(read(2, 13, 1000).find("refused"), std::string::npos);
}

TEST(JournalSqlite, OC_JOB_1018_a_part_that_is_damaged_is_an_error_and_no_end) {
  Directory at;
  auto journal = JournalSqlite::open(options(at));
  ASSERT_TRUE(journal.ok());
  const JournalWrite write = write_of({admit(1), tokens(1, 2, 6)});
  ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
  journal.value().reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(at.file().c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, "UPDATE token SET events = x'00'", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  journal = JournalSqlite::open(options(at));
  ASSERT_TRUE(journal.ok());
  const auto found = journal.value()->read({ReaderId{1}, job_id(1), 2, 6, 1000});
  EXPECT_NE(portion(found).find("do not decode"), std::string::npos) << portion(found);
}

// Power is cut at the n-th write, sync or truncation, for every n, and the disk keeps none, all or a torn part of what
// was not synced. What was acknowledged is there; the one transaction under way is there whole or not at all.
TEST(JournalSqlite, J1_a_cut_at_every_write_loses_nothing_that_was_acknowledged) {
  int cuts = 0;
  for (int cut_at = 1;; ++cut_at) {
    FaultVfs disk;
    disk.cut_at = cut_at;
    Directory at;
    std::vector<std::string> states;  // after each number of commits
    JournalModel model;
    states.push_back(describe(model.recover({})));
    std::size_t acknowledged = 0;
    {
      auto journal = JournalSqlite::open(options(at, nullptr, FaultVfs::kName));
      bool alive = journal.ok();
      for (const JournalWrite& write : life()) {
        model.apply(write, {});
        states.push_back(describe(model.recover({})));
        alive = alive && journal.value()->commit({&write, 1}).ok();
        if (alive) ++acknowledged;
      }
    }  // closing copies the log into the database: cuts happen there too
    const bool cut = disk.operations >= cut_at;
    for (const FaultVfs::Kept kept : {FaultVfs::Kept::nothing, FaultVfs::Kept::everything, FaultVfs::Kept::a_part}) {
      for (std::uint64_t seed = 1; seed <= (kept == FaultVfs::Kept::a_part ? 3u : 1u); ++seed) {
        Directory left;
        disk.leave_behind(left.path(), kept, seed * 1000 + static_cast<std::uint64_t>(cut_at));
        const std::string found = recovered_from(left);
        const bool whole =
            found == states[acknowledged] || (acknowledged + 1 < states.size() && found == states[acknowledged + 1]);
        ASSERT_TRUE(whole) << "cut at operation " << cut_at << ", kept " << int(kept) << ", seed " << seed << ", "
                           << acknowledged << " acknowledged, found: " << found;
        ++cuts;
      }
    }
    if (!cut) break;
  }
  std::printf("%d images of a cut disk\n", cuts);
  EXPECT_GT(cuts, 200);
}

// The guard above can fail: a disk that lies about syncs loses acknowledged transactions.
TEST(JournalSqlite, J1_without_its_syncs_the_cut_test_is_red) {
  FaultVfs disk;
  Directory at;
  auto journal = JournalSqlite::open(options(at, nullptr, FaultVfs::kName));
  ASSERT_TRUE(journal.ok());
  const JournalWrite write = write_of({admit(1)});
  ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
  disk.files.at("journal.db-wal").synced.clear();
  Directory left;
  disk.leave_behind(left.path(), FaultVfs::Kept::nothing, 1);
  EXPECT_EQ(recovered_from(left).find("1+prompt"), std::string::npos);
}

// Any single operation fails: full, unwritable, not synced. The commit says so, nothing of it stays, and the next one
// works.
TEST(JournalSqlite, J6_one_failed_operation_fails_one_commit_and_nothing_else) {
  for (const int failure : {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, SQLITE_READONLY}) {
    int refused = 0;
    for (int n = 1; n <= 60; ++n) {
      FaultVfs disk;
      Directory at;
      JournalModel model;
      {
        auto journal = JournalSqlite::open(options(at, nullptr, FaultVfs::kName));
        ASSERT_TRUE(journal.ok());
        disk.failure = failure;
        disk.fail_at = disk.operations + n;
        for (const JournalWrite& write : life()) {
          for (int attempt = 0;; ++attempt) {
            ASSERT_LT(attempt, 3) << "it stays broken";
            if (journal.value()->commit({&write, 1}).ok()) break;
            ++refused;
          }
          model.apply(write, {});
        }
        disk.fail_at = -1;
      }
      Directory left;
      disk.leave_behind(left.path(), FaultVfs::Kept::nothing, 1);
      ASSERT_EQ(recovered_from(left), describe(model.recover({}))) << failure << " at " << n;
    }
    EXPECT_GT(refused, 5) << failure;
  }
}

TEST(JournalSqlite, J6_a_full_file_says_so_and_works_again_when_something_is_erased) {
  Directory at;
  JournalSqlite::Options small = options(at);
  small.bytes_max = 64 * 4096;
  auto journal = JournalSqlite::open(small);
  ASSERT_TRUE(journal.ok());
  const auto big = [](std::uint64_t n) {
    AdmitRecord record = admit(n);
    JobPayload payload;
    payload.prompt.text = std::string(40'000, 'x');
    record.spec.payload = std::make_shared<const JobPayload>(std::move(payload));
    return write_of({record});
  };
  std::uint64_t n = 1;
  for (;; ++n) {
    ASSERT_LT(n, 20u);
    const JournalWrite write = big(n);
    const auto result = journal.value()->commit({&write, 1});
    if (result.ok()) continue;
    EXPECT_TRUE(result.error().full);
    EXPECT_NE(result.error().reason.find("full"), std::string::npos) << result.error().reason;
    break;
  }
  EXPECT_LE(std::filesystem::file_size(at.file()), 64u * 4096);
  const JournalWrite room = write_of({EraseRecord{job_id(1)}});
  ASSERT_TRUE(journal.value()->commit({&room, 1}).ok());
  const JournalWrite again = big(n);
  EXPECT_TRUE(journal.value()->commit({&again, 1}).ok());
}

TEST(JournalSqlite, J6_a_disk_that_turned_read_only_refuses_and_is_well_again_later) {
  FaultVfs disk;
  Directory at;
  auto journal = JournalSqlite::open(options(at, nullptr, FaultVfs::kName));
  ASSERT_TRUE(journal.ok());
  disk.failure = SQLITE_READONLY;
  disk.refuse_all = true;
  const JournalWrite write = write_of({admit(1)});
  for (int i = 0; i < 3; ++i) {
    const auto refused = journal.value()->commit({&write, 1});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().reason.find("readonly"), std::string::npos) << refused.error().reason;
  }
  disk.refuse_all = false;
  EXPECT_TRUE(journal.value()->commit({&write, 1}).ok());
}

TEST(JournalSqlite, OC_JOB_1013_what_cannot_be_read_stops_the_start) {
  const auto with = [](const std::function<void(const Directory&)>& spoil) {
    Directory at;
    {
      auto journal = JournalSqlite::open(options(at));
      const std::vector<JournalWrite> writes = life();
      EXPECT_TRUE(journal.value()->commit(writes).ok());
    }
    spoil(at);
    return recovered_from(at);
  };
  EXPECT_NE(with([](const Directory&) {}).substr(0, 7), "refused");
  EXPECT_EQ(with([](const Directory& at) {
              std::ofstream(at.file()) << "this is no database, and it is long enough";
            }).substr(0, 7),
            "refused");
  for (const std::size_t page : {0u, 1u, 2u, 3u}) {  // torn pages of the database itself
    const std::string found = with([page](const Directory& at) {
      std::fstream file(at.file(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(page * 4096));
      file << std::string(4096, '\x5A');
    });
    EXPECT_EQ(found.substr(0, 7), "refused") << page;
  }
  FaultVfs disk;
  disk.refuse_open = true;
  Directory at;
  const auto refused = JournalSqlite::open(options(at, nullptr, FaultVfs::kName));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find(at.file()), std::string::npos) << "it names the file";
  EXPECT_FALSE(refused.error().schema.has_value());
}

TEST(JournalSqlite, OC_JOB_1013_another_schema_is_refused_with_what_to_do_and_left_as_it_is) {
  const auto bytes_of = [](const Directory& at) {
    std::ifstream file(at.file(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  for (const std::int64_t schema : {JournalSqlite::kSchema - 1, JournalSqlite::kSchema + 1}) {
    Directory at;
    {
      auto journal = JournalSqlite::open(options(at));
      ASSERT_TRUE(journal.ok());
      const std::vector<JournalWrite> writes = life();
      ASSERT_TRUE(journal.value()->commit(writes).ok());
    }
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(at.file().c_str(), &db), SQLITE_OK);
    const std::string change = "PRAGMA user_version = " + std::to_string(schema);
    ASSERT_EQ(sqlite3_exec(db, change.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
    const std::string before = bytes_of(at);
    for (int start = 0; start < 2; ++start) {
      const auto refused = JournalSqlite::open(options(at));
      ASSERT_FALSE(refused.ok()) << schema;
      EXPECT_EQ(refused.error().schema, schema);
      const std::string found = "has schema " + std::to_string(schema);
      const std::string wanted = "wants " + std::to_string(JournalSqlite::kSchema);
      for (const std::string& part : {at.file(), found, wanted, std::string("move it away")})
        EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
      EXPECT_EQ(bytes_of(at), before) << schema;
    }
  }
}

TEST(JournalSqlite, a_second_process_cannot_open_it) {
  Directory at;
  auto first = JournalSqlite::open(options(at));
  ASSERT_TRUE(first.ok());
  const JournalWrite write = write_of({ProbeRecord{}});
  ASSERT_TRUE(first.value()->commit({&write, 1}).ok());
  EXPECT_FALSE(JournalSqlite::open(options(at)).ok());
}

TEST(JournalSqlite, J7_what_expired_while_nobody_ran_is_gone) {
  Directory at;
  Clock clock;
  {
    auto journal = JournalSqlite::open(options(at, &clock));
    const JournalWrite write = write_of({keyed_admit(1, 1), tokens(1, 2, 80), end_of(1, 81), admit(2)});
    ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
  }
  clock.ms += 599'000;
  EXPECT_NE(recovered_from(at, &clock).find("1+prompt"), std::string::npos);
  clock.ms += 2'000;
  EXPECT_EQ(recovered_from(at, &clock), "2+prompt tokens; key 1 1");
  clock.ms += 86'400'000;
  EXPECT_EQ(recovered_from(at, &clock), "2+prompt tokens; ");
}

TEST(JournalSqlite, J7_erased_tokens_are_removed_in_portions) {
  Directory at;
  auto journal = JournalSqlite::open(options(at));
  JournalWrite write = write_of({admit(1)});
  for (std::uint64_t id = 2; id < 602; ++id) write.records.push_back(tokens(1, id, id));
  write.records.push_back(EraseRecord{job_id(1)});
  ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
  int portions = 1;
  while (journal.value()->has_leftovers()) {
    ASSERT_TRUE(journal.value()->commit({}).ok());
    ASSERT_LT(++portions, 10);
  }
  EXPECT_EQ(portions, 3);
}

TEST(JournalSqlite, J5_a_key_outlives_its_job_unless_the_job_was_refused) {
  for (const bool refused : {false, true}) {
    Directory at;
    auto journal = JournalSqlite::open(options(at));
    EraseRecord erase{job_id(1)};
    if (refused) erase.key = keyed_admit(1, 7).spec.idempotency->key;
    const JournalWrite write = write_of({keyed_admit(1, 7), keyed_admit(2, 8), erase});
    ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
    auto found = journal.value()->recover();
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found->keys.size(), refused ? 1u : 2u);
    EXPECT_EQ(found->jobs.size(), 1u);
  }
}

TEST(JournalSqlite, J7_without_store_no_content_reaches_the_file) {
  Directory at;
  {
    auto journal = JournalSqlite::open(options(at));
    AdmitRecord record = admit(1);
    record.spec.store = false;
    const JournalWrite write = write_of({record});
    ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
  }
  std::stringstream bytes;
  bytes << std::ifstream(at.file(), std::ios::binary).rdbuf();
  EXPECT_EQ(bytes.str().find("be kind"), std::string::npos);
  EXPECT_EQ(recovered_from(at), "1 tokens; ");
}

}  // namespace
}  // namespace orch::gateway
