#include "orchestratord/shell/journal_sqlite.h"

#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "orchestratord/shell/journal_codec.h"

namespace orch::gateway {
namespace {

constexpr std::int64_t kPageBytes = 4096;
constexpr int kRowsPerPortion = 256;
constexpr std::int64_t kKeysTidiedEveryMs = 10'000;

constexpr const char* kTables = R"(
CREATE TABLE job(
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  admitted_ms INTEGER NOT NULL,
  ended_ms INTEGER,
  admit BLOB NOT NULL,
  dispatch BLOB,
  terminal BLOB,
  aboard BLOB
);
CREATE TABLE token(
  job BLOB NOT NULL,
  first INTEGER NOT NULL,
  events BLOB NOT NULL,
  PRIMARY KEY(job, first)
) WITHOUT ROWID;
CREATE TABLE idempotency(
  key BLOB PRIMARY KEY,
  body BLOB NOT NULL,
  job BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  started BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency(created_ms);
CREATE TABLE probe(one INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL);
CREATE TABLE managers(one INTEGER PRIMARY KEY, leasing BLOB NOT NULL);
PRAGMA user_version = 3;
)";

void bind_value(sqlite3_stmt* statement, int at, std::string_view bytes) {
  sqlite3_bind_blob64(statement, at, bytes.data(), bytes.size(), SQLITE_STATIC);
}
void bind_value(sqlite3_stmt* statement, int at, std::int64_t value) { sqlite3_bind_int64(statement, at, value); }

std::string_view column(sqlite3_stmt* statement, int at) {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement, at));
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement, at))};
}

Duration age_at(std::int64_t now_ms, std::int64_t then_ms) {
  return Duration::milliseconds(std::max<std::int64_t>(now_ms - then_ms, 0));
}

template <std::size_t N>
std::string_view view(const std::array<std::uint8_t, N>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), N};
}

template <std::size_t N>
bool fill(std::array<std::uint8_t, N>& out, std::string_view bytes) {
  if (bytes.size() != N) return false;
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return true;
}

}  // namespace

struct JournalSqlite::Statements {
  ~Statements() {
    for (sqlite3_stmt* each : {admit, forget_tokens, key, dispatch, aboard, managers, refused_key, tokens, end, erase,
                               portion, old_keys, probe}) {
      sqlite3_finalize(each);
    }
  }
  sqlite3_stmt* admit = nullptr;
  sqlite3_stmt* forget_tokens = nullptr;
  sqlite3_stmt* key = nullptr;
  sqlite3_stmt* dispatch = nullptr;
  sqlite3_stmt* aboard = nullptr;
  sqlite3_stmt* managers = nullptr;
  sqlite3_stmt* refused_key = nullptr;
  sqlite3_stmt* tokens = nullptr;
  sqlite3_stmt* end = nullptr;
  sqlite3_stmt* erase = nullptr;
  sqlite3_stmt* portion = nullptr;
  sqlite3_stmt* old_keys = nullptr;
  sqlite3_stmt* probe = nullptr;
};

// --- opening ---

Result<std::unique_ptr<JournalSqlite>, JournalSqlite::NotOpened> JournalSqlite::open(Options options) {
  std::unique_ptr<JournalSqlite> journal(new JournalSqlite(std::move(options)));
  if (auto fault = journal->prepare()) {
    fault->message = "journal " + journal->options_.path + ": " + fault->message;
    return Err{std::move(*fault)};
  }
  return journal;
}

JournalSqlite::JournalSqlite(Options options) : options_(std::move(options)) {}

JournalSqlite::~JournalSqlite() {
  statements_.reset();
  sqlite3_close(db_);
}

std::optional<JournalSqlite::NotOpened> JournalSqlite::prepare() {
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(options_.path.c_str(), &db_, flags, options_.vfs) != SQLITE_OK) return not_opened();
  sqlite3_extended_result_codes(db_, 1);
  // Exclusive locking keeps the WAL's index in memory and a second process out. FULL syncs the WAL at every commit.
  // What is deleted is overwritten, where that costs no further I/O.
  const std::string pages = std::to_string(std::max<std::int64_t>(
      static_cast<std::int64_t>(options_.bytes_max / static_cast<std::uint64_t>(kPageBytes)), 64));
  const std::string settings = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=" + std::to_string(kPageBytes) +
                               "; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=FAST;"
                               " PRAGMA wal_autocheckpoint=1000; PRAGMA journal_size_limit=16777216;"
                               " PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4096; PRAGMA max_page_count=" +
                               pages + ";";
  if (!run(settings.c_str())) return not_opened();
  const std::int64_t schema = number("PRAGMA user_version");
  if (schema < 0) return not_opened();
  if (schema != 0 && schema != kSchema) {  // OC-JOB-1013
    return NotOpened{"it has schema " + std::to_string(schema) + ", this version wants " + std::to_string(kSchema) +
                         ": start the version that wrote it, or move it away to start without what it holds",
                     schema};
  }
  if (schema == 0 && (!run("BEGIN IMMEDIATE") || !run(kTables) || !run("COMMIT"))) return not_opened();

  sqlite3_stmt* check = nullptr;
  if (sqlite3_prepare_v2(db_, "PRAGMA quick_check(1)", -1, &check, nullptr) != SQLITE_OK) return not_opened();
  const bool answered = sqlite3_step(check) == SQLITE_ROW;
  const std::string found(answered ? reinterpret_cast<const char*>(sqlite3_column_text(check, 0)) : "no answer");
  sqlite3_finalize(check);
  if (found != "ok") return NotOpened{"damaged (" + found + "); move it away to start without what it holds", {}};

  statements_ = std::make_unique<Statements>();
  Statements& s = *statements_;
  const std::pair<sqlite3_stmt**, const char*> all[] = {
      {&s.admit, "INSERT OR REPLACE INTO job(id, admitted_ms, admit) VALUES(?1, ?2, ?3)"},
      {&s.forget_tokens, "DELETE FROM token WHERE job = ?1"},
      {&s.key, "INSERT OR REPLACE INTO idempotency(key, body, job, created_ms, started) VALUES(?1, ?2, ?3, ?4, ?5)"},
      {&s.dispatch, "UPDATE job SET dispatch = ?2 WHERE id = ?1"},
      {&s.aboard, "UPDATE job SET aboard = ?2 WHERE id = ?1"},
      {&s.managers, "INSERT OR REPLACE INTO managers(one, leasing) VALUES(1, ?1)"},
      {&s.tokens, "INSERT OR REPLACE INTO token(job, first, events) VALUES(?1, ?2, ?3)"},
      {&s.end, "UPDATE job SET terminal = ?2, ended_ms = ?3 WHERE id = ?1"},
      {&s.erase, "DELETE FROM job WHERE id = ?1"},
      {&s.refused_key, "DELETE FROM idempotency WHERE key = ?1 AND job = ?2"},
      {&s.portion,
       "DELETE FROM token WHERE job = ?1 AND first IN (SELECT first FROM token WHERE job = ?1 ORDER BY first LIMIT "
       "?2)"},
      {&s.old_keys,
       "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE created_ms < ?1 LIMIT ?2)"},
      {&s.probe, "INSERT OR REPLACE INTO probe(one, at_ms) VALUES(1, ?1)"},
  };
  for (const auto& [statement, sql] : all) {
    if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, nullptr) != SQLITE_OK)
      return not_opened();
  }
  return std::nullopt;
}

JournalSqlite::NotOpened JournalSqlite::not_opened() const { return {error(), {}}; }

bool JournalSqlite::run(const char* sql) { return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK; }

std::int64_t JournalSqlite::number(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_, sql, -1, &statement, nullptr) != SQLITE_OK) return -1;
  const std::int64_t value = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
  sqlite3_finalize(statement);
  return value;
}

std::string JournalSqlite::error() const {
  if (db_ == nullptr) return "out of memory";
  return std::string(sqlite3_errmsg(db_)) + " (SQLite " + std::to_string(sqlite3_extended_errcode(db_)) + ")";
}

std::int64_t JournalSqlite::now_ms() const {
  if (options_.wall_ms) return options_.wall_ms();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::uint64_t JournalSqlite::bytes() const {
  sqlite3_int64 pages = 0;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_, "PRAGMA page_count", -1, &statement, nullptr) == SQLITE_OK &&
      sqlite3_step(statement) == SQLITE_ROW) {
    pages = sqlite3_column_int64(statement, 0);
  }
  sqlite3_finalize(statement);
  return static_cast<std::uint64_t>(pages * kPageBytes);
}

// --- writing ---

bool JournalSqlite::step(sqlite3_stmt* statement) {
  const int code = sqlite3_step(statement);
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return code == SQLITE_DONE || code == SQLITE_ROW;
}

Result<JournalSqlite::Committed, JournalSqlite::Refused> JournalSqlite::commit(std::span<const JournalWrite> writes) {
  Committed done;
  bool good = run("BEGIN IMMEDIATE");
  for (const JournalWrite& write : writes) {
    for (const JournalRecord& record : write.records) {
      good = good && apply(record);
      ++done.records;
    }
  }
  good = good && tidy(now_ms()) && run("COMMIT");
  if (good) return done;
  Refused refused{error(), false};
  const int code = sqlite3_errcode(db_);
  refused.full = code == SQLITE_FULL || code == SQLITE_TOOBIG;
  if (sqlite3_get_autocommit(db_) == 0) run("ROLLBACK");
  return Err{std::move(refused)};
}

bool JournalSqlite::apply(const JournalRecord& record) {
  return std::visit([this](const auto& each) { return apply(each); }, record);
}

bool JournalSqlite::apply(const AdmitRecord& record) {
  const std::string id = journal_codec::encode_id(record.spec.id.value);
  const std::string admit = journal_codec::encode_admit(record);
  const std::int64_t now = now_ms();
  std::erase(leftovers_, id);
  bind_value(statements_->forget_tokens, 1, id);
  if (!step(statements_->forget_tokens)) return false;
  bind_value(statements_->admit, 1, id);
  bind_value(statements_->admit, 2, now);
  bind_value(statements_->admit, 3, admit);
  if (!step(statements_->admit)) return false;
  if (!record.spec.idempotency) return true;
  const std::string started = journal_codec::encode_started(record.started);
  bind_value(statements_->key, 1, view(record.spec.idempotency->key));
  bind_value(statements_->key, 2, view(record.spec.idempotency->body));
  bind_value(statements_->key, 3, id);
  bind_value(statements_->key, 4, now);
  bind_value(statements_->key, 5, started);
  return step(statements_->key);
}

bool JournalSqlite::apply(const DispatchRecord& record) {
  const std::string id = journal_codec::encode_id(record.job.value);
  const std::string dispatch = journal_codec::encode_dispatch(record);
  bind_value(statements_->dispatch, 1, id);
  bind_value(statements_->dispatch, 2, dispatch);
  return step(statements_->dispatch);
}

bool JournalSqlite::apply(const AboardRecord& record) {
  const std::string id = journal_codec::encode_id(record.job.value);
  const std::string aboard = journal_codec::encode_aboard(record);
  bind_value(statements_->aboard, 1, id);
  bind_value(statements_->aboard, 2, aboard);
  return step(statements_->aboard);
}

bool JournalSqlite::apply(const ManagersRecord& record) {
  const std::string leasing = journal_codec::encode_managers(record.managers);
  bind_value(statements_->managers, 1, leasing);
  return step(statements_->managers);
}

bool JournalSqlite::apply(const TokensRecord& record) {
  if (record.events.empty()) return true;
  const std::string id = journal_codec::encode_id(record.job.value);
  const std::string events = journal_codec::encode_tokens(record.events);
  bind_value(statements_->tokens, 1, id);
  bind_value(statements_->tokens, 2, static_cast<std::int64_t>(record.events.front()->id));
  bind_value(statements_->tokens, 3, events);
  return step(statements_->tokens);
}

bool JournalSqlite::apply(const EndRecord& record) {
  const std::string id = journal_codec::encode_id(record.job.value);
  const std::string terminal = journal_codec::encode_terminal(*record.terminal);
  bind_value(statements_->end, 1, id);
  bind_value(statements_->end, 2, terminal);
  bind_value(statements_->end, 3, now_ms());
  return step(statements_->end);
}

bool JournalSqlite::apply(const EraseRecord& record) {
  std::string id = journal_codec::encode_id(record.job.value);
  bind_value(statements_->erase, 1, id);
  if (!step(statements_->erase)) return false;
  if (record.key) {
    bind_value(statements_->refused_key, 1, view(*record.key));
    bind_value(statements_->refused_key, 2, id);
    if (!step(statements_->refused_key)) return false;
  }
  if (std::find(leftovers_.begin(), leftovers_.end(), id) == leftovers_.end()) leftovers_.push_back(std::move(id));
  return true;
}

bool JournalSqlite::apply(const ProbeRecord&) {
  bind_value(statements_->probe, 1, now_ms());
  return step(statements_->probe);
}

// A portion of what nobody needs any more. If the transaction fails the rows stay, and so do the leftovers that name
// them; the next start finds rows without a job by itself.
bool JournalSqlite::tidy(std::int64_t now) {
  int left = kRowsPerPortion;
  while (left > 0 && !leftovers_.empty()) {
    bind_value(statements_->portion, 1, leftovers_.front());
    bind_value(statements_->portion, 2, std::int64_t{left});
    if (!step(statements_->portion)) return false;
    const int removed = sqlite3_changes(db_);
    if (removed < left) leftovers_.pop_front();
    left -= std::max(removed, 1);
  }
  if (now - keys_tidied_ms_ < kKeysTidiedEveryMs && now >= keys_tidied_ms_) return true;
  keys_tidied_ms_ = now;
  bind_value(statements_->old_keys, 1, now - options_.idempotency_ttl.ms());
  bind_value(statements_->old_keys, 2, std::int64_t{kRowsPerPortion});
  return step(statements_->old_keys);
}

// --- recovery ---

std::optional<std::string> JournalSqlite::remove_expired(std::int64_t now) {
  const std::string old = std::to_string(now - options_.result_ttl.ms());
  if (!run(("DELETE FROM job WHERE ended_ms < " + old).c_str())) return error();
  sqlite3_stmt* orphans = nullptr;
  const char* sql = "SELECT DISTINCT job FROM token WHERE job NOT IN (SELECT id FROM job)";
  if (sqlite3_prepare_v2(db_, sql, -1, &orphans, nullptr) != SQLITE_OK) return error();
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(orphans)) == SQLITE_ROW) leftovers_.emplace_back(column(orphans, 0));
  sqlite3_finalize(orphans);
  return code == SQLITE_DONE ? std::nullopt : std::optional(error());
}

// The events without a gap from id 2 on; parts may overlap.
std::optional<std::string> JournalSqlite::read_tokens(RecoveredJob& job) {
  sqlite3_stmt* rows = nullptr;
  if (sqlite3_prepare_v2(db_, "SELECT events FROM token WHERE job = ?1 ORDER BY first", -1, &rows, nullptr) !=
      SQLITE_OK)
    return error();
  const std::string id = journal_codec::encode_id(job.admit.spec.id.value);
  bind_value(rows, 1, id);
  std::optional<std::string> fault;
  journal_codec::TokenEvents part;
  int code = SQLITE_DONE;
  while (!fault && (code = sqlite3_step(rows)) == SQLITE_ROW) {
    part.clear();
    if (!journal_codec::decode_tokens(column(rows, 0), part))
      fault = "the tokens of task " + job.admit.spec.id.to_string() + " do not decode";
    for (auto& event : part) {
      if (event->id == job.tokens.size() + 2) job.tokens.push_back(std::move(event));
    }
  }
  if (!fault && code != SQLITE_DONE) fault = error();  // a page that cannot be read is not the end of the rows
  sqlite3_finalize(rows);
  return fault;
}

Result<Recovered, std::string> JournalSqlite::recover() {
  const std::int64_t now = now_ms();
  if (auto fault = remove_expired(now)) return Err{std::move(*fault)};
  Recovered out;
  std::optional<std::string> fault;
  sqlite3_stmt* rows = nullptr;
  const char* jobs = "SELECT id, admitted_ms, ended_ms, admit, dispatch, terminal, aboard FROM job ORDER BY seq";
  if (sqlite3_prepare_v2(db_, jobs, -1, &rows, nullptr) != SQLITE_OK) return Err{error()};
  int code = SQLITE_DONE;
  while (!fault && (code = sqlite3_step(rows)) == SQLITE_ROW) {
    RecoveredJob job;
    auto admit = journal_codec::decode_admit(column(rows, 3));
    const auto id = journal_codec::decode_id(column(rows, 0));
    if (!admit || !id || admit->spec.id.value != *id) {
      fault = "row " + std::to_string(out.jobs.size()) + " of table job does not decode";
      break;
    }
    job.admit = std::move(*admit);
    job.age = age_at(now, sqlite3_column_int64(rows, 1));
    if (sqlite3_column_type(rows, 4) != SQLITE_NULL) {
      job.dispatch = journal_codec::decode_dispatch(column(rows, 4), job.admit.spec.id);
      if (!job.dispatch) fault = "the dispatch of task " + job.admit.spec.id.to_string() + " does not decode";
    }
    if (sqlite3_column_type(rows, 5) != SQLITE_NULL) {
      job.terminal = journal_codec::decode_terminal(column(rows, 5));
      job.ended_age = age_at(now, sqlite3_column_int64(rows, 2));
      if (job.terminal == nullptr) fault = "the end of task " + job.admit.spec.id.to_string() + " does not decode";
    }
    if (sqlite3_column_type(rows, 6) != SQLITE_NULL) {
      job.aboard = journal_codec::decode_aboard(column(rows, 6), job.admit.spec.id);
      if (!job.aboard) fault = "the attempts of task " + job.admit.spec.id.to_string() + " do not decode";
    }
    if (!fault) fault = read_tokens(job);
    out.jobs.push_back(std::move(job));
  }
  if (!fault && code != SQLITE_DONE) fault = error();
  sqlite3_finalize(rows);
  if (fault) return Err{std::move(*fault)};

  if ((fault = read_keys(out, now))) return Err{std::move(*fault)};
  if ((fault = read_managers(out))) return Err{std::move(*fault)};
  return out;
}

std::optional<std::string> JournalSqlite::read_keys(Recovered& out, std::int64_t now) {
  const std::string keys = "SELECT key, body, job, created_ms, started FROM idempotency WHERE created_ms >= " +
                           std::to_string(now - options_.idempotency_ttl.ms()) + " ORDER BY created_ms";
  sqlite3_stmt* rows = nullptr;
  if (sqlite3_prepare_v2(db_, keys.c_str(), -1, &rows, nullptr) != SQLITE_OK) return error();
  std::optional<std::string> fault;
  int code = SQLITE_DONE;
  while (!fault && (code = sqlite3_step(rows)) == SQLITE_ROW) {
    RecoveredKey key;
    const auto job = journal_codec::decode_id(column(rows, 2));
    const auto started = journal_codec::decode_started(column(rows, 4));
    if (!job || !started || !fill(key.idempotency.key, column(rows, 0)) ||
        !fill(key.idempotency.body, column(rows, 1))) {
      fault = "a row of table idempotency does not decode";
      break;
    }
    key.job = {*job};
    key.admitted = *started;
    key.age = age_at(now, sqlite3_column_int64(rows, 3));
    out.keys.push_back(key);
  }
  if (!fault && code != SQLITE_DONE) fault = error();
  sqlite3_finalize(rows);
  return fault;
}

std::optional<std::string> JournalSqlite::read_managers(Recovered& out) {
  sqlite3_stmt* rows = nullptr;
  if (sqlite3_prepare_v2(db_, "SELECT leasing FROM managers", -1, &rows, nullptr) != SQLITE_OK) return error();
  std::optional<std::string> fault;
  int code = SQLITE_DONE;
  while (!fault && (code = sqlite3_step(rows)) == SQLITE_ROW) {
    auto managers = journal_codec::decode_managers(column(rows, 0));
    if (managers) out.managers = std::move(*managers);
    if (!managers) fault = "the row of table managers does not decode";
  }
  if (!fault && code != SQLITE_DONE) fault = error();
  sqlite3_finalize(rows);
  return fault;
}

}  // namespace orch::gateway
