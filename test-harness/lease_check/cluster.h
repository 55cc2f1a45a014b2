// Purpose: one pool manager, one worker with two slots and two orchestrators as a state that can be copied: the real
// LeaseBook, LeaseArbiter and LeaseTable, and between them messages that are delivered late, in any order that streams
// allow, or never. Every choice that time, the network or a crash could make is an action; `actions()` names those that
// are possible now. Pure; rules are checked inside `apply` and named by `violation()`.
//
// Files: cluster.cc what may happen; manager_side.cc, worker_side.cc, holder_side.cc what each then does; rules.cc what
// must hold; canonical.cc the text of a state; names.cc for people.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/lease_table.h"
#include "pool-managerd/core/lease_book.h"
#include "worker/lease/lease_arbiter.h"

namespace orch::check {

inline constexpr std::uint32_t kSlots = 2;
inline constexpr int kHolders = 2;
// One of them is far: what goes to and from it is late or lost, and it crashes. The other's messages take no time.
// Since the two are alike otherwise, each can be taken for the one that is slow.
inline constexpr int kFar = 0;
inline constexpr int kNear = 1;
inline constexpr int kDivisions = 3;
inline constexpr Duration kTtl{10};
inline constexpr Duration kTick{5};

// Faults built in to see that the check catches them.
enum class Fault : std::uint8_t {
  none,
  skip_the_ack,                // L2: a holder is told when the table is sent
  grant_while_it_runs,         // L6: what runs is not looked at
  free_on_a_timer,             // L6: an expired lease is taken for idle
  apply_older_tables,          // L2
  holder_counts_from_receipt,  // L4
  worker_ignores_the_end,      // L3
  one_id_two_holders,          // a lease id changes its holder
  orphans_run_on,              // L5
  successor_before_the_reap,   // L6
  adopt_and_grant_at_once,     // L8
  restart_forgets_what_runs,   // L8
  told_is_heard,               // L6: a holder is taken to know what it was sent
};
inline constexpr int kFaults = 13;
const char* fault_name(Fault fault);

enum class Kind : std::uint8_t {
  divide,       // the manager moves its leases to a division; `what` is the division
  close_lease,  // the holder gives its lease back
  renewal,      // one arrives; `what` is the holder, plus kHolders when it was sent a tick ago
  table_comes,  // a lease table reaches the worker
  late_table,   // one of a stream that is gone does
  report_comes,
  told,      // the grants and revocations under way reach their holder
  heard,     // its word that they came reaches the manager
  dispatch,  // the holder sends a job
  dispatch_comes,
  dispatch_lost,
  finish,  // a job ends
  control_breaks,
  attach_breaks,
  tick,  // half a TTL passes
  holder_crashes,
  worker_crashes,
  manager_crashes,
};

// Where a search begins.
enum class Start : std::uint8_t {
  empty,      // nobody has a lease
  shared,     // one slot each, the far one runs a job
  contended,  // the far one runs two jobs, and the next slot is decided for the near one
  overtaken,  // the far one has both slots, and the worker an older table still on its way
  returning,  // the near one runs two jobs, and the far one has not heard that its slot is gone
  restarted,  // one slot each, the far one runs a job, and the manager begins anew
};
inline constexpr int kStarts = 6;

// Of what happens without end: how much of it a run may have, so that the search goes deep instead.
struct Allowance {
  int faults = 2;
  int crashes = 1;  // of the faults
  int jobs = 3;
  int moves = 3;  // divisions and releases
  int ticks = 4;
};

struct Action {
  Kind kind;
  int what = 0;
};
std::string describe(const Action& action);

class Cluster {
 public:
  Cluster(Fault fault, Start start, const Allowance& allowance);

  std::vector<Action> actions() const;
  void apply(const Action& action);
  const std::string& violation() const { return violation_; }
  // Equal for states that no future can tell apart: times count from now, names and numbers by their order.
  std::string canonical() const;

 private:
  struct Told {
    LeaseId lease;
    std::uint32_t slots = 0;
    Secret secret{};
    std::int64_t sent_at = 0;  // the renewal it counts from
    std::uint64_t number = 0;  // of the grants on the link
    bool revoked = false;
    Incarnation inc = {};
  };
  struct Heard {
    std::uint64_t number = 0;
    std::vector<LeaseUse> beyond;
    bool operator==(const Heard&) const = default;
  };
  struct Report {
    TableVersion version;
    std::vector<LeaseUse> uses;
  };
  struct Job {
    DispatchId id;
    Fence fence;
    Holder holder;
    std::uint32_t slots = 0;  // of the lease, as known when it was sent
    bool stopping = false;
  };
  struct Party {  // an orchestrator
    explicit Party(gateway::Mutation mutation) : leases(gateway::Limits{}, mutation) {}
    gateway::LeaseTable leases;
    std::uint64_t boot = 1;
    Instant started;
    Instant updated;             // of the last one that arrived
    std::vector<Told> told;      // on its way, one a lease: with the later word the earlier has come too
    std::optional<Heard> heard;  // on its way back
    Heard heard_last;            // as sent last on this link
    std::uint64_t seen = 0;      // number of the last grant that came
    std::uint64_t sent = 0;      // and of the last one sent
    std::uint64_t link = 1;
    bool relinked = false;            // no update on this link yet
    std::optional<Job> dispatch;      // on its way
    std::uint64_t attached_boot = 1;  // as the manager knows it
    Instant died = Instant::never();  // its start before this one
  };

  Holder holder(int who) const;
  LeaseId open_lease(int who) const;
  gateway::LeaseKey key(LeaseId id) const { return {manager_, id}; }
  void begin(Start start);
  void spend(Kind kind);
  void flush();
  void hear_near();
  void take_renewal(int who, Instant sent);
  pool::Renewal renewal_of(const Party& party) const;
  void tell(const std::vector<pool::LeaseBook::Announcement>& announcements);
  void send(int who, const Told& told);
  void say_heard(int who);
  void take_heard(int who);
  void break_link(int who);
  void close(LeaseId id, bool stop);
  void divide(int what);
  void take_report(const Report& report);
  void take_table(const LeaseTable& table);
  void take_late_table();
  void break_control();
  void take_told(int who);
  void take_word(int who, const Told& told);
  void send_job(int who);
  void take_job(int who);
  void send_report();
  void end_job(std::size_t index);
  void stop_jobs();
  void tick();
  void crash_holder(int who);
  void crash_worker();
  void crash_manager();
  void check();
  void check_ends();
  void check_slots();
  void check_refusal(LeaseId id);
  std::uint32_t claim(LeaseId id) const;
  void violate(const std::string& text);
  std::optional<LeaseId> usable_lease(int who) const;
  std::optional<Instant> end_at_worker(LeaseId id) const;
  worker::LeaseArbiter new_arbiter() const;
  Party new_party() const;
  gateway::Mutation mutation() const;

  Fault fault_;
  ManagerId manager_;
  Instant now_{1000};
  std::uint64_t boot_ = 1;
  std::uint64_t next_lease_ = 1;
  std::uint64_t next_table_ = 1;
  std::uint64_t next_job_ = 1;
  Incarnation inc_{1, 1};
  pool::LeaseBook book_;
  worker::LeaseArbiter arbiter_;
  std::deque<LeaseTable> tables_;   // on the Control stream
  std::optional<LeaseTable> late_;  // left over from a stream that broke
  std::optional<Report> report_;
  bool report_due_ = false;
  std::vector<Job> jobs_;  // running at the worker
  std::array<Party, kHolders> parties_;
  std::map<LeaseId, std::uint32_t> applied_most_;  // the most slots a worker has ever applied for it
  std::map<LeaseId, std::uint32_t> said_;          // what its holder was sent last
  std::map<LeaseId, std::uint64_t> owner_;         // who it belongs to
  std::uint32_t ghosts_ = 0;                       // jobs of a life that was taken for reaped and was not
  Allowance left_;
  std::string violation_;
};

}  // namespace orch::check
