// Every bound of the gateway's core, with its default. What an operator may set stands in Config; what is a property of
// the design stands in Limits. A bound is enforced where the bounded thing grows, and its refusal names it.
#pragma once

#include <cstdint>

#include "common/base/time.h"
#include "orchestratord/core/budget.h"
#include "orchestratord/core/model_lifecycle.h"
#include "orchestratord/core/tenants.h"

namespace orch::gateway {

// What a full queue does to a newcomer (DESIGN-RULES "Full queue", ORCH-3005).
enum class FullPolicy : std::uint8_t {
  reject,             // the newcomer is refused
  drop_lru,           // the newcomer's own tenant loses its oldest waiting job, never of a higher class
  shed_low_priority,  // a waiting job of a lower class is given up
};

struct QueueLimits {
  std::uint32_t capacity = 256;              // waiting jobs, all classes
  std::uint32_t interactive_capacity = 256;  // of them interactive
  std::uint32_t batch_capacity = 256;        // of them batch
  std::uint64_t bytes_max = 64ull << 20;     // content bytes of all waiting prompts
  FullPolicy interactive_full_policy = FullPolicy::reject;
  FullPolicy batch_full_policy = FullPolicy::drop_lru;
};

struct StreamLimits {
  Duration reconnect_grace = Duration::seconds(5);  // from the last reader's leaving to the cancel
  std::uint64_t buffer_bytes_max = 4u << 20;        // events kept per job, as EventLog counts them
  std::uint64_t replay_bytes = 16u << 10;           // of them at once to a reader that comes late (OC-JOB-1017)
  std::uint32_t readers_per_job_max = 8;
};

struct Limits {
  // Leases and links (L4, L5). A holder stops short of the worker's end by a tenth, for clocks that run apart.
  Duration lease_ttl_assumed = Duration::seconds(15);  // until the first grant tells
  Duration update_interval_min = Duration::milliseconds(20);
  std::uint32_t updates_remembered_max = 1024;  // sent HolderUpdates whose instants a grant may refer to, per link
  std::uint32_t managers_max = 1024;            // attached (1,000 can be configured) or recently detached
  std::uint32_t replicas_per_manager_max = 1024;
  std::uint32_t leases_max = 4096;
  Duration manager_forget = Duration::seconds(600);  // after detaching: its models turn from 503 to 404

  Duration operation_retry = Duration::seconds(5);  // until a manager is asked again to drain or to undrain

  // Attempts.
  std::uint32_t broken_retries_max = 1;          // dispatches that broke before their first token
  std::uint32_t migrations_max = 2;              // of one job (M5)
  std::uint32_t migrating_percent_max = 10;      // of the running slots, at least one (M5)
  std::uint32_t deaths_max = 2;                  // workers that died by themselves under one job (M6)
  Duration quarantine = Duration::seconds(600);  // of a prompt that took down so many (M6)
  std::uint32_t losses_max = 2;                  // workers lost to attempts of one job; the last one ends it (M6)
  Duration busy_pause_min = Duration::milliseconds(25);  // no dispatch on a lease after its worker refused one
  Duration busy_pause_max = Duration::seconds(1);
  std::uint32_t busy_in_a_row_max = 4;              // SLOT_BUSY; then no dispatch on the lease until its next grant
  Duration memory_patience = Duration::seconds(2);  // of a job without KV pages; then a replica is held for it
  bool warm_placement = true;                       // OC-CORE-1018
  Duration broken_pause = Duration::seconds(1);     // no dispatch on a lease after a stream to its worker broke
  Duration cancel_settle =
      Duration::seconds(5);  // a cancelled call that never reports its end holds its slot this long

  // Requests: from the head to the body's end. The shell waits a shorter time for a body (HttpLimits::body_timeout).
  Duration request_max = Duration::seconds(60);

  // Jobs.
  std::uint32_t admitting_max = 64;  // waiting for an exact token count
  Duration count_timeout = Duration::seconds(5);
  Duration queue_wait_max = Duration::seconds(600);   // without a deadline of its own
  Duration wall_max = Duration::seconds(1800);        // one dispatch (ORCH-3016)
  Duration first_token_max = Duration::seconds(180);  // prompt processing on a slow device
  Duration idle_max = Duration::seconds(60);          // between tokens
  std::uint32_t finished_max = 16'384;                // finished jobs kept for late readers
  std::uint64_t finished_bytes_max = 256ull << 20;    // of their buffered events
  Duration read_out_max = Duration::seconds(60);      // of a finished job that goes, by those who read it (J7)
  std::uint32_t read_out_jobs_max = 64;               // such jobs
  std::uint32_t placement_candidates_max = 16;        // kept in one explanation
  std::uint32_t scan_ahead_max = 32;                  // jobs looked at behind a head that fits no replica of its lane

  Duration drain_max = Duration::seconds(86400);

  // Journal (J1 to J7).
  Duration checkpoint_interval = Duration::milliseconds(250);  // of tokens, per gateway
  std::uint32_t checkpoint_tokens = 64;                        // of one job
  std::uint64_t unsaved_bytes_max = 1u << 20;                  // token events of one job that wait for the journal
  std::uint32_t journal_jobs_per_write = 256;
  Duration journal_retry_min = Duration::milliseconds(100);
  Duration journal_retry_max = Duration::seconds(5);
  Duration journal_stall = Duration::seconds(10);  // a write that is not answered by then makes the journal failing
  Duration journal_drain = Duration::seconds(2);   // after the drain's deadline, for terminals to commit
  Duration recovery_wait = Duration::seconds(60);  // a recovered job waits this long for a replica that may serve it
  std::uint32_t repeats_max = 16;                  // requests with one Idempotency-Key that wait for its admission

  // Estimates before anything was measured.
  Duration interactive_service_default = Duration::seconds(2);
  Duration batch_service_default = Duration::seconds(10);
  Duration load_default = Duration::seconds(5);
  Duration retry_after_max = Duration::seconds(3600);
  Duration budget_retry_max = Duration::seconds(86'400);

  Duration preempt_settle = Duration::milliseconds(250);  // from a hard preemption to the free slot, as expected
  Duration fair_interval = Duration::milliseconds(100);   // F4: between two reports of service on a link

  // E1: without a deadline a job is ordered as if it had this one.
  Duration interactive_order_default = Duration::seconds(60);
  Duration batch_order_default = Duration::seconds(600);
  Duration deadline_max = Duration::seconds(86400);

  Duration session_ttl = Duration::seconds(600);  // from its last use (ORCH-3021)

  // Weights between classes: weighted, never strict (ruling 2).
  std::uint32_t interactive_weight = 8;
  std::uint32_t batch_weight = 1;
};
static_assert(Limits{}.busy_pause_min < Limits{}.busy_pause_max);

// Faults switched on by the mutation tests alone, to prove that the simulator sees each of them.
enum class Mutation : std::uint8_t {
  none,
  skip_fence_check,           // tokens of a closed dispatch are accepted (L10)
  double_terminal,            // a job that ended says so twice
  forget_slot,                // a finished dispatch keeps its slot
  deliver_after_close,        // a token follows the terminal
  dispatch_on_expired_lease,  // the holder's end is not looked at (L4)
  holder_end_from_receipt,    // the holder counts its end from the grant's arrival (L4)
  lose_put_back,              // an internal outcome forgets the job
  ignore_queue_bound,         // a full queue takes one more
  skip_event_id,              // stream ids have a gap
  retry_after_token,          // a job that has shown a token runs again
  dispatch_beyond_slots,      // the lease's size is not looked at
  forget_charge,              // output tokens are not charged (F2)
  charge_twice,               // they are charged twice
  skip_lift,                  // a tenant that was idle keeps its low counter (F3)
  ack_before_commit,          // a job is admitted before the journal has it (J1)
  forget_end_record,          // its end is told and not journaled
  repeat_token_on_resume,     // the last shown token is shown again (M2)
  resume_one_short,           // the worker is given one id too few
  forget_quota_settle,        // a job that ended keeps what it had reserved
  ignore_quota,               // what a quota refuses is admitted
  forget_others_use,          // a quota that gateways share is each one's own
  forget_deaths,              // a restart forgets which workers were lost to a job (M6)
  forget_others_service,      // what other gateways have served is not counted (F4, F6)
  forget_others_refusals,     // a prompt that another gateway refuses is taken (M6)
  skip_recovered_fence,       // a recovered job is sent on while its last attempt may still run (M1)
  confuse_starts,             // other starts of gateways are taken for one (F4)
  skip_to_buffer,             // what a buffer has let go is left out (OC-JOB-1018)
};
inline constexpr std::uint8_t kMutations = 28;

// Ruling 12.
struct JournalConfig {
  bool enabled = false;       // OrchQueue tasks, detached jobs and whatever carries an Idempotency-Key
  bool plain_openai = false;  // plain OpenAI requests too
  Duration idempotency_ttl = Duration::seconds(86400);
  std::uint32_t idempotency_keys_max = 65'536;
};

// OC-PREEMPT-1001 to 1003.
enum class PreemptionMode : std::uint8_t {
  disabled,
  soft,  // interactive work takes the turn of waiting batch work
  hard,  // and the slot of dispatched batch work before its first token
};
struct Preemption {
  PreemptionMode mode = PreemptionMode::hard;
  std::uint32_t per_minute = 30;
  std::uint32_t per_job = 2;
};

struct Config {
  ModelStandings models;  // as the last life left them
  Preemption preemption;
  QueueLimits queue;
  StreamLimits streams;
  JournalConfig journal;
  TenantsConfig tenants;
  BudgetConfig budgets;
  Duration result_ttl = Duration::seconds(600);
  std::uint32_t managers = 1;  // that are to attach
  Limits limits;
  Mutation mutation = Mutation::none;
};

}  // namespace orch::gateway
