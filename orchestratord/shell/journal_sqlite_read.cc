// The journal read while it is written: what readers of a task are given of it (OC-JOB-1018).
#include <sqlite3.h>

#include <functional>
#include <utility>

#include "orchestratord/core/event_log.h"
#include "orchestratord/shell/journal_codec.h"
#include "orchestratord/shell/journal_sqlite.h"

namespace orch::gateway {
namespace {

// One row of table token: events with consecutive ids.
struct Part {
  std::uint64_t first = 0;
  journal_codec::TokenEvents events;
};

// The rows that `sql` finds for ?1 and ?2, in its order, until `visit` says false. What went wrong; nullopt: nothing.
std::optional<std::string> each_part(sqlite3* db, const char* sql, const std::string& id, std::uint64_t bound,
                                     const std::function<bool(const Part&)>& visit) {
  sqlite3_stmt* rows = nullptr;
  if (sqlite3_prepare_v2(db, sql, -1, &rows, nullptr) != SQLITE_OK) return sqlite3_errmsg(db);
  sqlite3_bind_blob64(rows, 1, id.data(), id.size(), SQLITE_STATIC);
  sqlite3_bind_int64(rows, 2, static_cast<std::int64_t>(bound));
  std::optional<std::string> fault;
  bool more = true;
  while (more && !fault) {
    const int code = sqlite3_step(rows);
    if (code == SQLITE_DONE) break;
    if (code != SQLITE_ROW) {
      fault = sqlite3_errmsg(db);
      break;
    }
    Part part;
    part.first = static_cast<std::uint64_t>(sqlite3_column_int64(rows, 0));
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(rows, 1));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(rows, 1));
    if (journal_codec::decode_tokens({bytes, size}, part.events)) {
      more = visit(part);
    } else {
      fault = "its tokens from event " + std::to_string(part.first) + " on do not decode";
    }
  }
  sqlite3_finalize(rows);
  return fault;
}

}  // namespace

// Parts may overlap, where a write that failed was made again: the first event is in the last of those that begin no
// later than it, or in one before. The portion ends with the parts behind that one, and the next may find more.
Result<JournalSqlite::Portion, std::string> JournalSqlite::read(const ReadJournal& wanted) {
  const std::string id = journal_codec::encode_id(wanted.job.value);
  Portion out;
  std::uint64_t next = wanted.from;
  std::uint64_t bytes = 0;
  const auto take = [&](const Part& part) {  // false: that is all
    for (const auto& event : part.events) {
      if (event->id != next) continue;
      const std::uint64_t cost = EventLog::cost(*event);
      if (next > wanted.upto || (!out.empty() && bytes + cost > wanted.bytes)) return false;
      out.push_back(event);
      bytes += cost;
      ++next;
    }
    return next <= wanted.upto;
  };
  std::uint64_t begun = 0;
  bool more = true;
  const char* before = "SELECT first, events FROM token WHERE job = ?1 AND first <= ?2 ORDER BY first DESC";
  auto fault = each_part(db_, before, id, wanted.from, [&](const Part& part) {
    more = take(part);
    begun = part.first;
    return out.empty();
  });
  if (!fault && more && !out.empty()) {
    const char* behind = "SELECT first, events FROM token WHERE job = ?1 AND first > ?2 ORDER BY first";
    fault = each_part(db_, behind, id, begun, [&](const Part& part) { return part.first <= next && take(part); });
  }
  if (!fault && out.empty()) fault = "it has no event " + std::to_string(wanted.from);
  if (fault) return Err{"task " + wanted.job.to_string() + ": " + *fault};
  return out;
}

}  // namespace orch::gateway
