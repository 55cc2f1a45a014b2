// Purpose: the journal's file: an SQLite database in WAL mode, every commit synced before it is reported (J1, ruling
// 12). Threads: one at a time. Ownership: holds the database exclusively until destroyed. Errors: text for people; a
// write that failed has been rolled back. A damaged file is an error, never an empty journal.
//
// Bounds: bytes_max of the file; finished jobs until the core erases them, expired keys and leftover token rows are
// removed in small portions beside the commits (J7).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"

struct sqlite3;
struct sqlite3_stmt;

namespace orch::gateway {

class JournalSqlite {
 public:
  static constexpr std::int64_t kSchema = 3;

  struct Options {
    std::string path;
    std::uint64_t bytes_max = 1ull << 30;
    Duration result_ttl = Duration::seconds(600);
    Duration idempotency_ttl = Duration::seconds(86400);
    std::function<std::int64_t()> wall_ms;  // Unix milliseconds; empty: the system's
    const char* vfs = nullptr;              // SQLite's name of it; null: the default
  };
  struct Refused {
    std::string reason;
    bool full = false;  // for want of room: a smaller write may succeed
  };
  struct Committed {
    std::size_t records = 0;
  };

  struct NotOpened {
    std::string message;                 // names the file and what to do
    std::optional<std::int64_t> schema;  // the file's, when it is another one
  };

  static Result<std::unique_ptr<JournalSqlite>, NotOpened> open(Options options);
  ~JournalSqlite();
  JournalSqlite(const JournalSqlite&) = delete;
  JournalSqlite& operator=(const JournalSqlite&) = delete;

  // What earlier lives left, as far as it has not expired.
  Result<Recovered, std::string> recover();
  // All of the writes in one synced transaction, or none.
  Result<Committed, Refused> commit(std::span<const JournalWrite> writes);
  // Of a job that is neither erased nor replaced; never empty.
  using Portion = std::vector<std::shared_ptr<const StreamEvent>>;
  Result<Portion, std::string> read(const ReadJournal& wanted);
  // Rows that wait for removal; commit({}) removes a portion.
  bool has_leftovers() const { return !leftovers_.empty(); }
  std::uint64_t bytes() const;

 private:
  explicit JournalSqlite(Options options);
  std::optional<NotOpened> prepare();
  NotOpened not_opened() const;
  bool run(const char* sql);
  std::int64_t number(const char* sql);
  std::string error() const;
  bool step(sqlite3_stmt* statement);
  bool apply(const JournalRecord& record);
  bool apply(const AdmitRecord& record);
  bool apply(const DispatchRecord& record);
  bool apply(const TokensRecord& record);
  bool apply(const AboardRecord& record);
  bool apply(const ManagersRecord& record);
  bool apply(const EndRecord& record);
  bool apply(const EraseRecord& record);
  bool apply(const ProbeRecord& record);
  bool tidy(std::int64_t now_ms);
  std::optional<std::string> read_tokens(RecoveredJob& job);
  std::optional<std::string> read_keys(Recovered& out, std::int64_t now_ms);
  std::optional<std::string> read_managers(Recovered& out);
  std::optional<std::string> remove_expired(std::int64_t now_ms);
  std::int64_t now_ms() const;

  struct Statements;
  const Options options_;
  sqlite3* db_ = nullptr;
  std::unique_ptr<Statements> statements_;
  std::deque<std::string> leftovers_;  // ids of erased jobs whose token rows are not all removed
  std::int64_t keys_tidied_ms_ = 0;
};

}  // namespace orch::gateway
