// Builders for tests of the journal's file: a directory of its own, one record of each kind, and what a reader of the
// file finds, in words.
#pragma once

#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/testing/temp_folder.h"
#include "orchestratord/core/journal_testing.h"
#include "orchestratord/shell/journal_sqlite.h"

namespace orch::gateway::testing {

class Directory : public orch::testing::TempFolder {
 public:
  std::string file() const { return path() + "/journal.db"; }
};

struct Clock {
  std::int64_t ms = 1'000'000;
};

inline JournalSqlite::Options options(const Directory& at, const Clock* clock = nullptr, const char* vfs = nullptr) {
  JournalSqlite::Options out;
  out.path = at.file();
  out.vfs = vfs;
  if (clock != nullptr) out.wall_ms = [clock] { return clock->ms; };
  return out;
}

inline JobSpec full_spec(std::uint64_t n) {
  JobSpec spec = spec_of(n, Priority::batch);
  spec.tenant = "acme";
  spec.session = "s";
  spec.deadline = ms(4000);
  spec.require_gpu = true;
  JobPayload payload;
  payload.prompt.messages = {{"system", "be kind"}, {"user", std::string("nul \0 inside", 12)}};
  payload.sampling = {.temperature = 0.7F, .top_k = 40, .top_p = 0.9F, .min_p = 0.05F, .seed = 0x7FFF'FFFF'FFFF'FFFF};
  payload.stop = {"END", "\n"};
  spec.payload = std::make_shared<const JobPayload>(std::move(payload));
  return spec;
}
inline AdmitRecord admit(std::uint64_t n) {
  return {full_spec(n), {"m", {}, true, false, {}}, "p1", "native", "1", {3, ms(120)}};
}
inline AdmitRecord keyed_admit(std::uint64_t n, std::uint8_t key) {
  AdmitRecord record = admit(n);
  record.spec.idempotency = Idempotency{};
  record.spec.idempotency->key[0] = key;
  return record;
}
inline DispatchRecord dispatch(std::uint64_t n) {
  return {job_id(n), 2, {"m", "sha256:a", "native", "1", "X", "cpu", "r1"}, "set"};
}
inline AboardRecord aboard(std::uint64_t n) { return {job_id(n), 3, 1, 1, true, {{0xB0, 1}}, "r2", {4, 5}}; }
inline ManagersRecord managers() { return {{{{{0xB0, 1}}, ms(15000)}, {{{0xB0, 2}}, ms(4000)}}}; }
inline TokensRecord tokens(std::uint64_t n, std::uint64_t first, std::uint64_t last) {
  TokensRecord record{job_id(n), {}};
  for (std::uint64_t id = first; id <= last; ++id) {
    const auto i = static_cast<std::uint32_t>(id - 2);
    record.events.push_back(
        std::make_shared<StreamEvent>(StreamEvent{id, TokenEvent{i, {100 + i}, "t" + std::to_string(i)}}));
  }
  return record;
}
inline EndRecord end_of(std::uint64_t n, std::uint64_t id) {
  return {job_id(n),
          std::make_shared<StreamEvent>(StreamEvent{id, EndEvent{FinishReason::length, 7, 5, true, ms(90)}})};
}
inline EndRecord error_of(std::uint64_t n, std::uint64_t id) {
  Failure failure;
  failure.outcome = Outcome::QUEUE_FULL_DROP_LRU;
  failure.message = "full";
  failure.retry_after = ms(700);
  return {job_id(n), std::make_shared<StreamEvent>(StreamEvent{id, ErrorEvent{failure}})};
}
inline JournalWrite write_of(std::vector<JournalRecord> records) {
  static std::uint64_t ticket = 0;
  return {JournalTicket{++ticket}, std::move(records)};
}

// Everything a life of the gateway writes: one transaction each.
inline std::vector<JournalWrite> life() {
  return {write_of({admit(1)}),
          write_of({admit(2), dispatch(1)}),
          write_of({tokens(1, 2, 4)}),
          write_of({tokens(1, 5, 6), aboard(1), end_of(1, 7)}),
          write_of({error_of(2, 2), admit(3)}),
          write_of({tokens(3, 2, 40), dispatch(3), aboard(3)}),
          write_of({EraseRecord{job_id(1)}, tokens(3, 30, 80)}),
          write_of({keyed_admit(4, 9), managers()}),
          write_of({ProbeRecord{}})};
}

inline std::string describe(const Recovered& recovered) {
  std::ostringstream out;
  for (const RecoveredJob& job : recovered.jobs) {
    out << job.admit.spec.id.value.lo << (job.admit.spec.payload ? "+prompt" : "");
    if (job.dispatch) out << " attempt " << job.dispatch->attempt << " on " << job.dispatch->served_by.replica_id;
    if (job.aboard) out << " aboard " << job.aboard->replica_id << " " << job.aboard->losses;
    out << " tokens";
    for (const auto& event : job.tokens) out << " " << event->id << std::get<TokenEvent>(event->body).text;
    if (job.terminal)
      out << (std::holds_alternative<EndEvent>(job.terminal->body) ? " end " : " error ") << job.terminal->id;
    out << "; ";
  }
  for (const RecoveredKey& key : recovered.keys)
    out << "key " << int{key.idempotency.key[0]} << " " << key.job.value.lo;
  for (const LeasingManager& each : recovered.managers)
    out << "; manager " << each.manager.value.lo << " " << each.ttl.ms();
  return out.str();
}

inline std::string recovered_from(const Directory& at, const Clock* clock = nullptr) {
  auto journal = JournalSqlite::open(options(at, clock));
  if (!journal.ok()) return "refused: " + journal.error().message;
  auto found = journal.value()->recover();
  return found.ok() ? describe(*found) : "refused: " + found.error();
}

}  // namespace orch::gateway::testing
