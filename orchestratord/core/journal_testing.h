// A gateway's core with a journal made of values, for tests: writes wait until the test commits or fails them, and what
// is committed survives the core.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/event_log.h"

namespace orch::gateway::testing {

// What JournalWrites leave behind, by the rules of journal_records.h.
class JournalModel {
 public:
  void apply(const JournalWrite& write, Instant now) {
    for (const JournalRecord& record : write.records) {
      std::visit([&](const auto& each) { take(each, now); }, record);
    }
  }
  Recovered recover(Instant now) const {
    Recovered out;
    std::vector<const Row*> rows;
    for (const auto& [id, row] : jobs_) rows.push_back(&row);
    std::sort(rows.begin(), rows.end(), [](const Row* a, const Row* b) { return a->seq < b->seq; });
    for (const Row* row : rows) {
      RecoveredJob job = row->job;
      job.age = now - row->admitted;
      job.ended_age = now - row->ended;
      for (const auto& [id, event] : row->tokens) {
        if (id == job.tokens.size() + 2) job.tokens.push_back(event);
      }
      out.jobs.push_back(std::move(job));
    }
    out.managers = managers_;
    for (const auto& [key, entry] : keys_) {
      RecoveredKey each = entry.first;
      each.age = now - entry.second;
      out.keys.push_back(each);
    }
    return out;
  }
  // What of it is there; some of it, where that is more than the bytes that were asked for.
  JournalRead read(const ReadJournal& wanted) const {
    JournalRead out{wanted.reader, {}};
    const auto row = jobs_.find(wanted.job);
    if (row == jobs_.end()) return out;
    std::uint64_t bytes = 0;
    for (std::uint64_t id = wanted.from; id <= wanted.upto && row->second.tokens.contains(id); ++id) {
      const auto& event = row->second.tokens.at(id);
      bytes += EventLog::cost(*event);
      if (!out.events.empty() && bytes > wanted.bytes) break;
      out.events.push_back(event);
    }
    return out;
  }
  bool has(JobId id) const { return jobs_.contains(id); }
  const RecoveredJob& job(JobId id) const { return jobs_.at(id).job; }
  std::size_t tokens(JobId id) const { return jobs_.at(id).tokens.size(); }
  std::size_t size() const { return jobs_.size(); }

 private:
  struct Row {
    RecoveredJob job;
    std::map<std::uint64_t, std::shared_ptr<const StreamEvent>> tokens;
    std::uint64_t seq = 0;
    Instant admitted;
    Instant ended;
  };
  void take(const AdmitRecord& record, Instant now) {
    Row row;
    row.job.admit = record;
    if (!record.spec.store) row.job.admit.spec.payload.reset();
    row.job.admit.spec.idempotency.reset();
    row.seq = ++seq_;
    row.admitted = now;
    jobs_[record.spec.id] = std::move(row);
    if (record.spec.idempotency) {
      RecoveredKey key{*record.spec.idempotency, record.spec.id, record.started, {}};
      keys_[record.spec.idempotency->key] = {key, now};
    }
  }
  void take(const DispatchRecord& record, Instant) {
    if (const auto row = jobs_.find(record.job); row != jobs_.end()) row->second.job.dispatch = record;
  }
  void take(const TokensRecord& record, Instant) {
    const auto row = jobs_.find(record.job);
    if (row == jobs_.end()) return;
    for (const auto& event : record.events) row->second.tokens[event->id] = event;
  }
  void take(const AboardRecord& record, Instant) {
    if (const auto row = jobs_.find(record.job); row != jobs_.end()) row->second.job.aboard = record;
  }
  void take(const ManagersRecord& record, Instant) { managers_ = record.managers; }
  void take(const EndRecord& record, Instant now) {
    const auto row = jobs_.find(record.job);
    if (row == jobs_.end()) return;
    row->second.job.terminal = record.terminal;
    row->second.ended = now;
  }
  void take(const EraseRecord& record, Instant) {
    jobs_.erase(record.job);
    if (record.key && keys_.contains(*record.key) && keys_.at(*record.key).first.job == record.job)
      keys_.erase(*record.key);
  }
  void take(const ProbeRecord&, Instant) {}

  std::map<JobId, Row> jobs_;
  std::map<std::array<std::uint8_t, 32>, std::pair<RecoveredKey, Instant>> keys_;
  std::vector<LeasingManager> managers_;
  std::uint64_t seq_ = 0;
};

inline Config journaled(Config config = {}) {
  config.journal.enabled = true;
  return config;
}

class JournalBench : public Bench {
 public:
  explicit JournalBench(const Config& config = journaled()) : Bench(config) {}
  // A later life of the gateway over what `before` made durable.
  JournalBench(const JournalBench& before, Duration later, const Config& config = journaled())
      : Bench(config), disk(before.disk) {
    now = before.now + later;
    recovery = JournalBench::step(disk.recover(now));
  }

  Effects step(const Event& event) override {
    Effects out = Bench::step(event);
    for (const Effect& effect : out) {
      if (const auto* write = std::get_if<JournalWrite>(&effect)) {
        writes.push_back(*write);
        ++written;
      }
    }
    return out;
  }
  Effects commit() {
    Effects all;
    while (!writes.empty()) {
      const Effects some = commit_one();
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }
  Effects refuse(const std::string& reason = "disk full") {
    Effects all;
    for (std::size_t n = writes.size(); n > 0; --n) {
      const JournalWrite write = std::move(writes.front());
      writes.pop_front();
      Effects some = step(JournalFailed{write.ticket, write.ticket, reason});
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }
  // Answers the oldest write alone.
  Effects commit_one() {
    const JournalWrite write = std::move(writes.front());
    writes.pop_front();
    disk.apply(write, now);
    return step(JournalCommitted{write.ticket, write.ticket});
  }
  void ready(std::uint32_t slots = 2) {
    Bench::ready(slots);
    over("r1");
    commit();
  }
  // The manager's word that nothing of an earlier life is left there.
  Effects over(const std::string& replica, Incarnation inc = {1, 1}) { return step(EarlierOver{kLink, replica, inc}); }
  Effects open(std::uint64_t reader, std::uint64_t job, std::optional<std::uint64_t> last = std::nullopt) {
    return step(OpenStream{ReaderId{reader}, job_id(job), last});
  }
  // Admitted, dispatched and allowed to tell tokens.
  Dispatch running(std::uint64_t n) {
    submit(spec_of(n));
    commit();
    commit();
    return dispatches.back();
  }

  JournalModel disk;
  std::deque<JournalWrite> writes;  // not answered yet
  std::size_t written = 0;
  Effects recovery;
};

inline std::string outcome_code(const std::optional<Failure>& failure) {
  return failure ? std::string(outcome_row(failure->outcome).code) : "none";
}
inline JobSpec attached(std::uint64_t n) {
  JobSpec spec = spec_of(n);
  spec.attachment = Attachment::attached;
  return spec;
}
inline JobSpec keyed(std::uint64_t n, std::uint8_t key, std::uint8_t body) {
  JobSpec spec = spec_of(n);
  spec.idempotency = Idempotency{};
  spec.idempotency->key[0] = key;
  spec.idempotency->body[0] = body;
  return spec;
}
inline std::vector<Admitted> admissions(const Effects& effects) {
  std::vector<Admitted> out;
  for (const AdmissionReply& reply : all_of<AdmissionReply>(effects)) {
    if (const auto* admitted = std::get_if<Admitted>(&reply.result)) out.push_back(*admitted);
  }
  return out;
}

}  // namespace orch::gateway::testing
