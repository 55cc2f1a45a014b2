// One job from its submission until its result is forgotten.
//
//                    +-- refused (never a job)
//   Submit --> admitting [--> committing] --> waiting --> dispatching --> running --> concluding --> ended -->
//   forgotten
//                  |                           |  ^           |   |          |            ^           (result_ttl)
//                  |                           |  +-----------+   +----------|----------->|
//                  |                           +-----------------------------+----------->|
//                  +-- canceled before admission: refused                  one terminal event each
//
//   admitting    the prompt's exact token count is being asked for (ruling 13); most jobs skip it
//   committing   journaled jobs: its place in the queue is taken, its admission is not durable yet, nobody is told (J1)
//   waiting      in the job queue
//   dispatching  sent to a worker that has not answered yet; an internal outcome puts it back
//   running      the worker has admitted it; before its first token a broken stream puts it back once
//   concluding   its end is decided and its slot free. Journaled jobs stay here until the end is durable (J1, J6),
//   others
//                pass through; an evicted job whose newcomer could not be journaled goes back to waiting
//   ended        its one terminal event is in its stream
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/budget_ledger.h"
#include "orchestratord/core/fair_scheduler.h"
#include "orchestratord/core/forecast.h"
#include "orchestratord/core/job_queue.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/prefix_chain.h"
#include "orchestratord/core/quota_book.h"
#include "orchestratord/core/stream_event.h"

namespace orch::gateway {

enum class JobState : std::uint8_t { admitting, committing, waiting, dispatching, running, concluding, ended };

constexpr bool may_move(JobState from, JobState to) {
  switch (from) {
    case JobState::admitting:
      return to == JobState::waiting || to == JobState::committing;
    case JobState::committing:
      return to == JobState::waiting;
    case JobState::waiting:
      return to == JobState::dispatching || to == JobState::concluding;
    case JobState::dispatching:
      return to == JobState::running || to == JobState::waiting || to == JobState::concluding;
    case JobState::running:
      return to == JobState::waiting || to == JobState::concluding;
    case JobState::concluding:
      return to == JobState::waiting || to == JobState::ended;
    case JobState::ended:
      return false;
  }
  return false;
}

constexpr const char* job_state_name(JobState state) {
  switch (state) {
    case JobState::admitting:
      return "admitting";
    case JobState::committing:
      return "committing";
    case JobState::waiting:
      return "waiting";
    case JobState::dispatching:
      return "dispatching";
    case JobState::running:
      return "running";
    case JobState::concluding:
      return "concluding";
    case JobState::ended:
      return "ended";
  }
  return "?";
}

// What of a journaled job is durable, and what is not yet.
struct JournalProgress {
  bool wanted = false;              // ruling 12
  std::uint32_t dispatch_due = 0;   // the attempt whose record is missing; its stream is held. 0: none
  std::uint32_t dispatch_sent = 0;  // the attempt whose record is under way
  bool dispatch_stored = false;     // that of the attempt which chose replica_set is durable, so tokens may be
  std::vector<std::shared_ptr<const StreamEvent>> unsaved;  // token events that are not durable yet
  std::uint64_t unsaved_bytes = 0;
  std::uint64_t sent_upto = 0;   // event id up to which they are under way; 0: nothing is
  bool aboard_due = false;       // the record of the workers it was aboard is not what it was (M6)
  std::uint32_t boarding = 0;    // the attempt, not the first, that waits for that record; 0: none
  std::uint32_t boarded = 0;     // the attempt that may begin: its record is durable
  bool tokens_given_up = false;  // more were unsaved than may be; what follows is not kept
  bool end_sent = false;
};

// How a job ended, while the journal does not know it yet.
struct Conclusion {
  std::optional<Failure> failure;  // nullopt: `end`
  std::string cancel_reason;
  EndEvent end;
  Instant at;
  Duration held;  // a slot, by the attempt that was under way
};

struct Job {
  JobSpec spec;
  JobState state = JobState::admitting;
  Lane lane;
  std::uint64_t seq = 0;                // arrival order; kept when the job is put back, which makes it the head again
  std::uint64_t tokens_bound = 0;       // prompt and completion, upper bound or exact; 0: not known
  FlowId flow;                          // whose service it is (F1)
  QuotaHold quota;                      // what it holds of its tenant's quotas
  BudgetHold budget;                    // and of its session's and tenant's budgets
  Meter meter;                          // what it has reserved and been charged (F2)
  Instant order_by = Instant::never();  // E1: among its tenant's jobs; ends nothing

  RequestId admission_request;           // while admitting
  std::optional<ReaderId> first_reader;  // while admitting
  struct Repeat {
    RequestId request;
    std::optional<ReaderId> reader;
    QuotaHold quota = {};  // the request alone, which a refusal gives back (OC-ADMIT-1006)
  };
  std::vector<Repeat> repeats;  // with the same Idempotency-Key, while admitting or committing
  std::string cancel_later;     // why: asked for while its admission or its eviction was being committed; empty: not
  StartedEvent started;         // as told at admission
  JournalProgress journal;
  std::optional<Conclusion> conclusion;  // while concluding

  Instant submitted_at;
  Instant admitted_at;
  Instant deadline_at = Instant::never();
  Instant grace_end = Instant::never();  // no reader came back until then: canceled
  Instant dispatched_at;
  Duration held = {};  // by attempts that are over: no part of its waiting
  Instant first_dispatched_at = Instant::never();
  Instant progress_at;
  Instant first_token_at = Instant::never();
  Instant ended_at;
  Instant read_out_until = Instant::never();  // ended, and gone for all but those who read it (J7)
  bool recovered = false;                     // an earlier life of the process admitted it
  Instant hopeless_from;                      // recovered jobs: until then managers may still attach
  Instant timer_at = Instant::never();        // as armed in the orchestrator's timer set

  std::uint32_t attempt = 0;  // of the last dispatch; 0: none yet
  std::uint32_t broken_retries = 0;
  std::uint32_t migrations = 0;                   // attempts that went on behind shown tokens (M5)
  std::uint32_t losses = 0;                       // workers of which nobody said that they outlived its attempt
  std::uint64_t judged = 0;                       // version of the quarantine that its prompt was not found in
  std::uint32_t deaths = 0;                       // of them that died by themselves (M6)
  Instant lacks_memory_since = Instant::never();  // waiting: found slots, and no KV pages (OC-CORE-1017)
  std::optional<PrefixChain> prefix;              // of its prompt, once somebody asked
  std::uint32_t anywhere = 0;        // the attempt of an earlier life of which nobody knows where it ran (M1); 0: none
  bool taken_back = false;           // from an eviction that was not journaled: outside the queue's bounds
  bool verdict_due = false;          // a suspect's stream broke, and whether its worker died is not known yet
  bool computed = false;             // an attempt has begun to compute: the next one does it again (M7)
  std::uint64_t computed_again = 0;  // by the attempt under way, with what turns out to be cached
  std::uint32_t preemptions = 0;     // dispatches taken from it
  bool resumes = false;              // its last dispatch was taken from it, the next one is its resumption
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;
  std::uint32_t tokens_seen = 0;                 // ids accepted: before this attempt, then in it
  std::uint32_t token_events = 0;                // shown to the client, all attempts
  std::uint32_t events_in_attempt = 0;           // of them in this one
  std::uint32_t resumed_from = 0;                // ids this attempt continues behind
  std::vector<std::uint32_t> shown_ids;          // ids of the shown events; complete for engines that name their tokens
  std::string replica_set;                       // what the shown events depend on; empty: nothing can continue them
  std::vector<std::uint32_t> pending_ids;        // accepted, waiting for the text they complete
  std::vector<TokenLogProbs> pending_log_probs;  // of pending_ids, when asked for
  Forecast forecast;
  // Labels of where it was admitted for, then of where it was dispatched.
  std::string replica_id;
  std::string pool_id;
  std::string engine;
  std::string engine_version;

  bool being_read_out() const { return !read_out_until.is_never(); }
  // Admitted, and its end is not decided.
  bool live() const { return state == JobState::waiting || in_flight(); }
  // Not told of to anybody.
  bool before_admission() const { return state == JobState::admitting || state == JobState::committing; }
  bool in_flight() const { return state == JobState::dispatching || state == JobState::running; }
  DispatchId dispatch_id() const { return {spec.id, attempt}; }
  void move_to(JobState next) {
    ORCH_CHECK(may_move(state, next));
    state = next;
  }
  // `weight` is its tenant's, `work` what it is expected to be charged.
  QueueEntry queue_entry(std::uint32_t weight, std::uint64_t work) const {
    const bool victim = token_events == 0;  // OC-QUEUE-1007: it runs, between two attempts
    return {spec.id, seq, lane, spec.priority, spec.tenant, spec.prompt_bytes, order_by, work, weight, victim};
  }
};

}  // namespace orch::gateway
