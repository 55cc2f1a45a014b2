// The core's side of the journal: which writes are under way, whether the journal works, what must be written again,
// and which Idempotency-Key names which job (J1, J3, J5, J6). What the writes mean for a job is the orchestrator's
// business (orchestrator_journal.cc); how they become durable is the shell's.
//
// Health: a failed write, or one that is not answered within journal_stall, makes the journal failing; the next
// committed one makes it well. While it fails nothing is written but one attempt per pause, the pause doubling.
// Threads: owned by the core's loop. Bounds: writes under way <= 5 per journaled job and one per pause; keys <=
// idempotency_keys_max, each for idempotency_ttl.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/journal_records.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

// What one write stands for, to be acted on when it is answered.
struct JournalItem {
  enum class Kind : std::uint8_t { admit, evict, dispatch, tokens, aboard, managers, end, erase, probe };
  Kind kind = Kind::probe;
  JobId job;
  std::uint64_t mark = 0;  // dispatch: the attempt; tokens: the last event id; aboard: the attempt that waits for it
};

class Journal {
 public:
  explicit Journal(const Limits& limits) : limits_(limits) {}

  // A new write; its records follow in a JournalWrite of the returned ticket.
  JournalTicket begin(std::vector<JournalItem> items, Instant now);
  // Items of the answered writes, oldest first. Unknown tickets give nothing.
  std::vector<JournalItem> answered(JournalTicket first, JournalTicket last);
  std::size_t under_way() const { return writes_.size(); }

  bool failing() const { return failing_; }
  const std::string& reason() const { return reason_; }
  Duration pause() const { return pause_; }  // until the next attempt, at most
  void note_committed();
  void note_failed(const std::string& reason, Instant now);
  // True: a write is overdue, and the journal counts as failing from now on.
  bool note_stall(Instant now);
  // Whether anything may be written now: it works, or the pause is over and nothing is under way.
  bool may_write(Instant now) const;

  // Jobs with something to write: at once, or with the next checkpoint.
  std::set<JobId> urgent;
  std::set<JobId> lazy;
  std::set<JobId> erases;
  // Of them, admissions that failed: their keys name nothing either.
  std::map<JobId, std::array<std::uint8_t, 32>> refused_keys;
  void checkpoint_by(Instant at) { checkpoint_at_ = std::min(checkpoint_at_, at); }
  bool checkpoint_due(Instant now) const { return checkpoint_at_ <= now; }
  void checkpoint_made() { checkpoint_at_ = Instant::never(); }

  Instant next_change(Instant now) const;

 private:
  struct Write {
    Instant begun;
    std::vector<JournalItem> items;
  };
  const Limits limits_;
  std::map<JournalTicket, Write> writes_;
  std::uint64_t next_ticket_ = 1;
  Instant checkpoint_at_ = Instant::never();
  Instant retry_at_;
  Duration pause_;
  bool failing_ = false;
  std::string reason_;
};

// Idempotency keys and the jobs they name. An entry outlives the job's result.
class IdempotencyKeys {
 public:
  using Digest = std::array<std::uint8_t, 32>;
  struct Entry {
    Digest body{};
    JobId job;
    StartedEvent admitted;
    Instant expires;
  };

  const Entry* find(const Digest& key) const;
  std::size_t size() const { return entries_.size(); }
  void add(const Digest& key, const Entry& entry);
  // The place it was told of; nothing when the key has expired meanwhile.
  void admitted(const Digest& key, JobId job, const StartedEvent& started);
  void refused(const Digest& key, JobId job);
  void expire(Instant now);
  Instant next_expiry() const;

 private:
  void drop(const Digest& key);

  std::map<Digest, Entry> entries_;
  std::set<std::pair<Instant, Digest>> by_expiry_;
};

}  // namespace orch::gateway
