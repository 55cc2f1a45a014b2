// The journal's file against what disks do: a cut at every write, torn writes, lost syncs, a full or read-only disk,
// damage. Judge: the same writes applied to a model (journal_testing.h). J1, J4, J7, OC-JOB-1013.
#include "orchestratord/shell/journal_sqlite.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>

#include "orchestratord/core/journal_testing.h"
#include "orchestratord/shell/fault_vfs.h"
#include "orchestratord/shell/journal_codec.h"
#include "orchestratord/shell/journal_writer.h"

namespace orch::gateway {
namespace {

using namespace testing;

class Directory {
 public:
  Directory() {
    std::string name = (std::filesystem::temp_directory_path() / "journal.XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  const std::string& path() const { return path_; }
  std::string file() const { return path_ + "/journal.db"; }

 private:
  std::string path_;
};

struct Clock {
  std::int64_t ms = 1'000'000;
};

JournalSqlite::Options options(const Directory& at, const Clock* clock = nullptr, const char* vfs = nullptr) {
  JournalSqlite::Options out;
  out.path = at.file();
  out.vfs = vfs;
  if (clock != nullptr) out.wall_ms = [clock] { return clock->ms; };
  return out;
}

JobSpec full_spec(std::uint64_t n) {
  JobSpec spec = spec_of(n, Priority::batch);
  spec.tenant = "acme";
  spec.session = "s";
  spec.deadline = ms(4000);
  spec.require_gpu = true;
  JobPayload payload;
  payload.prompt.messages = {{"system", "be kind"}, {"user", std::string("nul \0 inside", 12)}};
  payload.sampling = {0.7F, 40, 0.9F, 0.05F, 0x7FFF'FFFF'FFFF'FFFF};
  payload.stop = {"END", "\n"};
  spec.payload = std::make_shared<const JobPayload>(std::move(payload));
  return spec;
}
AdmitRecord admit(std::uint64_t n) {
  return {full_spec(n), {"m", {}, true, false, {}}, "p1", "native", "1", {3, ms(120)}};
}
AdmitRecord keyed_admit(std::uint64_t n, std::uint8_t key) {
  AdmitRecord record = admit(n);
  record.spec.idempotency = Idempotency{};
  record.spec.idempotency->key[0] = key;
  return record;
}
DispatchRecord dispatch(std::uint64_t n) {
  return {job_id(n), 2, {"m", "sha256:a", "native", "1", "X", "cpu", "r1"}, "set"};
}
TokensRecord tokens(std::uint64_t n, std::uint64_t first, std::uint64_t last) {
  TokensRecord record{job_id(n), {}};
  for (std::uint64_t id = first; id <= last; ++id) {
    const auto i = static_cast<std::uint32_t>(id - 2);
    record.events.push_back(
        std::make_shared<StreamEvent>(StreamEvent{id, TokenEvent{i, {100 + i}, "t" + std::to_string(i)}}));
  }
  return record;
}
EndRecord end_of(std::uint64_t n, std::uint64_t id) {
  return {job_id(n),
          std::make_shared<StreamEvent>(StreamEvent{id, EndEvent{FinishReason::length, 7, 5, true, ms(90)}})};
}
EndRecord error_of(std::uint64_t n, std::uint64_t id) {
  Failure failure;
  failure.outcome = Outcome::QUEUE_FULL_DROP_LRU;
  failure.message = "full";
  failure.retry_after = ms(700);
  return {job_id(n), std::make_shared<StreamEvent>(StreamEvent{id, ErrorEvent{failure}})};
}
JournalWrite write_of(std::vector<JournalRecord> records) {
  static std::uint64_t ticket = 0;
  return {JournalTicket{++ticket}, std::move(records)};
}

// Everything a life of the gateway writes: one transaction each.
std::vector<JournalWrite> life() {
  return {write_of({admit(1)}),
          write_of({admit(2), dispatch(1)}),
          write_of({tokens(1, 2, 4)}),
          write_of({tokens(1, 5, 6), end_of(1, 7)}),
          write_of({error_of(2, 2), admit(3)}),
          write_of({tokens(3, 2, 40), dispatch(3)}),
          write_of({EraseRecord{job_id(1)}, tokens(3, 30, 80)}),
          write_of({keyed_admit(4, 9)}),
          write_of({ProbeRecord{}})};
}

std::string describe(const Recovered& recovered) {
  std::ostringstream out;
  for (const RecoveredJob& job : recovered.jobs) {
    out << job.admit.spec.id.value.lo << (job.admit.spec.payload ? "+prompt" : "");
    if (job.dispatch) out << " attempt " << job.dispatch->attempt << " on " << job.dispatch->served_by.replica_id;
    out << " tokens";
    for (const auto& event : job.tokens) out << " " << event->id << std::get<TokenEvent>(event->body).text;
    if (job.terminal)
      out << (std::holds_alternative<EndEvent>(job.terminal->body) ? " end " : " error ") << job.terminal->id;
    out << "; ";
  }
  for (const RecoveredKey& key : recovered.keys)
    out << "key " << int{key.idempotency.key[0]} << " " << key.job.value.lo;
  return out.str();
}

std::string recovered_from(const Directory& at, const Clock* clock = nullptr) {
  auto journal = JournalSqlite::open(options(at, clock));
  if (!journal.ok()) return "refused: " + journal.error();
  auto found = journal.value()->recover();
  return found.ok() ? describe(*found) : "refused: " + found.error();
}

TEST(JournalSqlite, J4_what_is_committed_is_there_after_a_restart) {
  Directory at;
  JournalModel model;
  {
    auto journal = JournalSqlite::open(options(at));
    ASSERT_TRUE(journal.ok()) << journal.error();
    for (const JournalWrite& write : life()) {
      model.apply(write, {});
      ASSERT_TRUE(journal.value()->commit({&write, 1}).ok());
    }
  }
  EXPECT_EQ(recovered_from(at), describe(model.recover({})));
  EXPECT_NE(recovered_from(at).find("3+prompt attempt 2 on r1 tokens 2t0"), std::string::npos);
}

TEST(JournalSqlite, J4_every_field_survives) {
  Directory at;
  auto journal = JournalSqlite::open(options(at));
  ASSERT_TRUE(journal.ok());
  const JournalWrite write = write_of({admit(1), dispatch(1), tokens(1, 2, 3), error_of(1, 4)});
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
  EXPECT_EQ(std::get<TokenEvent>(job.tokens.at(1)->body).ids, std::vector<std::uint32_t>{101});
  const auto& failure = std::get<ErrorEvent>(job.terminal->body).failure;
  EXPECT_EQ(failure.outcome, Outcome::QUEUE_FULL_DROP_LRU);
  EXPECT_EQ(failure.retry_after, ms(700));
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
  const std::string newer = with([](const Directory& at) {
    sqlite3* db = nullptr;
    sqlite3_open(at.file().c_str(), &db);
    sqlite3_exec(db, "PRAGMA user_version = 99", nullptr, nullptr, nullptr);
    sqlite3_close(db);
  });
  EXPECT_NE(newer.find("newer version (schema 99)"), std::string::npos) << newer;
  FaultVfs disk;
  disk.refuse_open = true;
  Directory at;
  const auto refused = JournalSqlite::open(options(at, nullptr, FaultVfs::kName));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().find(at.file()), std::string::npos) << "it names the file";
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

// --- codec ---

TEST(JournalCodec, what_is_cut_short_or_random_is_refused) {
  const std::string whole[] = {journal_codec::encode_admit(admit(1)), journal_codec::encode_dispatch(dispatch(1)),
                               journal_codec::encode_tokens(tokens(1, 2, 5).events),
                               journal_codec::encode_terminal(*error_of(1, 3).terminal),
                               journal_codec::encode_started({3, ms(1)})};
  const auto decodes = [](std::size_t kind, std::string_view bytes) {
    journal_codec::TokenEvents events;
    switch (kind) {
      case 0:
        return journal_codec::decode_admit(bytes).has_value();
      case 1:
        return journal_codec::decode_dispatch(bytes, job_id(1)).has_value();
      case 2:
        return journal_codec::decode_tokens(bytes, events);
      case 3:
        return journal_codec::decode_terminal(bytes) != nullptr;
      default:
        return journal_codec::decode_started(bytes).has_value();
    }
  };
  for (std::size_t kind = 0; kind < 5; ++kind) {
    EXPECT_TRUE(decodes(kind, whole[kind]));
    for (std::size_t size = 0; size < whole[kind].size(); ++size)
      EXPECT_FALSE(decodes(kind, std::string_view(whole[kind]).substr(0, size))) << kind << " " << size;
    EXPECT_FALSE(decodes(kind, whole[kind] + "x"));
    for (std::size_t at = 0; at < whole[kind].size(); ++at) {  // no byte may hurt
      std::string spoiled = whole[kind];
      spoiled[at] = static_cast<char>(spoiled[at] ^ 0xFF);
      decodes(kind, spoiled);
    }
  }
}

// --- the writer ---

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
