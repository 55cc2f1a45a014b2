// One job from its submission until its result is forgotten.
//
//                    +-- refused (never a job)
//   Submit --> admitting --> waiting --> dispatching --> running --> ended --> forgotten (result_ttl)
//                  |          |  ^           |   |          |          ^
//                  |          |  +-----------+   +----------|--------->|   one terminal event each
//                  |          +-----------------------------+--------->|
//                  +-- canceled before admission: refused
//
//   admitting    the prompt's exact token count is being asked for (ruling 13); most jobs skip it
//   waiting      in the job queue
//   dispatching  sent to a worker that has not answered yet; an internal outcome puts it back
//   running      the worker has admitted it; before its first token a broken stream puts it back once
//   ended        its one terminal event is in its stream
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/job_queue.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/placement.h"

namespace orch::gateway {

enum class JobState : std::uint8_t { admitting, waiting, dispatching, running, ended };

constexpr bool may_move(JobState from, JobState to) {
  switch (from) {
    case JobState::admitting:
      return to == JobState::waiting;
    case JobState::waiting:
      return to == JobState::dispatching || to == JobState::ended;
    case JobState::dispatching:
      return to == JobState::running || to == JobState::waiting || to == JobState::ended;
    case JobState::running:
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
    case JobState::waiting:
      return "waiting";
    case JobState::dispatching:
      return "dispatching";
    case JobState::running:
      return "running";
    case JobState::ended:
      return "ended";
  }
  return "?";
}

struct Job {
  JobSpec spec;
  JobState state = JobState::admitting;
  Lane lane;
  std::uint64_t seq = 0;           // arrival order; kept when the job is put back, which makes it the head again
  std::uint64_t tokens_bound = 0;  // prompt and completion, upper bound or exact; 0: not known
  double charge = 0;               // what its class was charged for the dispatch under way

  RequestId admission_request;           // while admitting
  std::optional<ReaderId> first_reader;  // while admitting

  Instant submitted_at;
  Instant admitted_at;
  Instant deadline_at = Instant::never();
  Instant grace_end = Instant::never();  // no reader came back until then: canceled
  Instant dispatched_at;
  Instant first_dispatched_at = Instant::never();
  Instant progress_at;
  Instant first_token_at = Instant::never();
  Instant ended_at;
  Instant timer_at = Instant::never();  // as armed in the orchestrator's timer set

  std::uint32_t attempt = 0;  // of the last dispatch; 0: none yet
  std::uint32_t internal_retries = 0;
  std::uint32_t broken_retries = 0;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t tokens_seen = 0;           // ids accepted in this attempt
  std::uint32_t token_events = 0;          // shown to the client, all attempts
  std::vector<std::uint32_t> pending_ids;  // accepted, waiting for the text they complete
  PlacementDecision placement;             // of the last dispatch
  // Labels of where it was admitted for, then of where it was dispatched.
  std::string replica_id;
  std::string pool_id;
  std::string engine;
  std::string engine_version;

  // Admitted and not yet ended.
  bool live() const { return state != JobState::ended && state != JobState::admitting; }
  bool in_flight() const { return state == JobState::dispatching || state == JobState::running; }
  DispatchId dispatch_id() const { return {spec.id, attempt}; }
  void move_to(JobState next) {
    ORCH_CHECK(may_move(state, next));
    state = next;
  }
  QueueEntry queue_entry() const { return {spec.id, seq, lane, spec.priority, spec.tenant, spec.prompt_bytes}; }
};

}  // namespace orch::gateway
