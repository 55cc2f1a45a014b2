#include "lease_check/cluster.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "common/base/check.h"

namespace orch::check {
namespace {

constexpr std::array<std::array<std::uint32_t, kHolders>, 3> kDivisions{{{2, 0}, {1, 1}, {0, 2}}};
constexpr std::size_t kToldMax = 1;

Secret secret_of(LeaseId id) {
  Secret out{};
  out[0] = static_cast<std::uint8_t>(id.counter);
  out[1] = static_cast<std::uint8_t>(id.boot);
  return out;
}

gateway::Mutation mutation_of(Fault fault) {
  return fault == Fault::holder_counts_from_receipt ? gateway::Mutation::holder_end_from_receipt
                                                    : gateway::Mutation::none;
}

}  // namespace

const char* fault_name(Fault fault) {
  static constexpr std::array<const char*, kFaults> kNames{"none",
                                                           "skip_the_ack",
                                                           "grant_while_it_runs",
                                                           "free_on_a_timer",
                                                           "apply_older_tables",
                                                           "holder_counts_from_receipt",
                                                           "worker_ignores_the_end",
                                                           "one_id_two_holders",
                                                           "orphans_run_on",
                                                           "successor_before_the_reap",
                                                           "adopt_and_grant_at_once",
                                                           "restart_forgets_what_runs"};
  return kNames[static_cast<std::size_t>(fault)];
}

std::string describe(const Action& action) {
  static constexpr std::array<const char*, 17> kNames{
      "divide",        "close_lease", "renewal",        "table_comes",    "late_table",     "report_comes",
      "told",          "dispatch",    "dispatch_comes", "dispatch_lost",  "finish",         "control_breaks",
      "attach_breaks", "tick",        "holder_crashes", "worker_crashes", "manager_crashes"};
  return std::string(kNames[static_cast<std::size_t>(action.kind)]) + " " + std::to_string(action.what);
}

Cluster::Cluster(Fault fault, Start start)
    : fault_(fault),
      manager_{Uuid{7, 7}},
      book_(inc_, kTtl, kSlots),
      arbiter_(new_arbiter()),
      parties_{Party(mutation_of(fault)), Party(mutation_of(fault))} {
  for (Party& party : parties_) party.updated = party.started = now_;
  begin(start);
  faults_left_ = 2;
  crashes_left_ = 1;
  jobs_left_ = 3;
  moves_left_ = 3;
  ticks_left_ = 4;
}

void Cluster::begin(Start start) {
  const auto run = [&](std::initializer_list<Action> actions) {
    for (const Action& action : actions) apply(action);
  };
  const std::initializer_list<Action> settle{{Kind::table_comes}, {Kind::report_comes}, {Kind::told, kFar}};
  const std::initializer_list<Action> job{{Kind::dispatch, kFar}, {Kind::dispatch_comes, kFar}, {Kind::report_comes}};
  if (start == Start::shared) {
    run({{Kind::divide, 1}});
    run(settle);
    run(job);
  } else if (start == Start::contended) {
    run({{Kind::divide, 0}});
    run(settle);
    run(job);
    run(job);
    run({{Kind::divide, 1}});
    run(settle);
  } else if (start == Start::overtaken) {
    run({{Kind::divide, 0}, {Kind::control_breaks}});
    run(settle);
  }
}

worker::LeaseArbiter Cluster::new_arbiter() const {
  worker::LeaseArbiter out({.slots = kSlots, .leases_max = 8, .attempts_max = 8});
  out.bind(manager_, inc_);
  return out;
}

void Cluster::violate(const std::string& text) {
  if (violation_.empty()) violation_ = text;
}

Holder Cluster::holder(int who) const {
  return {OrchId{Uuid{0, static_cast<std::uint64_t>(who)}}, parties_[static_cast<std::size_t>(who)].boot};
}

LeaseId Cluster::open_lease(int who) const {
  const Party& party = parties_[static_cast<std::size_t>(who)];
  for (const auto& [id, lease] : book_.leases()) {
    if (!lease.closed && lease.holder.orch == holder(who).orch && lease.holder.boot == party.attached_boot) return id;
  }
  return {};
}

std::optional<LeaseId> Cluster::usable_lease(int who) const {
  for (const auto& [lease_key, lease] : parties_[static_cast<std::size_t>(who)].leases.all()) {
    if (lease.usable(now_)) return lease_key.lease;
  }
  return std::nullopt;
}

std::vector<Action> Cluster::actions() const {
  std::vector<Action> out;
  const auto add = [&](Kind kind, int what = 0) { out.push_back({kind, what}); };
  if (moves_left_ > 0 && tables_.empty()) {
    for (int i = 0; i < static_cast<int>(kDivisions.size()); ++i) add(Kind::divide, i);
  }
  if (!tables_.empty()) add(Kind::table_comes);
  if (late_) add(Kind::late_table);
  if (report_) add(Kind::report_comes);
  if (faults_left_ > 0 && (!tables_.empty() || report_)) add(Kind::control_breaks);
  for (int i = 0; i < static_cast<int>(jobs_.size()); ++i) add(Kind::finish, i);
  if (ticks_left_ > 0) add(Kind::tick);
  if (crashes_left_ > 0 && faults_left_ > 0) {
    add(Kind::worker_crashes);
    add(Kind::manager_crashes);
    add(Kind::holder_crashes, kFar);
  }
  for (int who = 0; who < kHolders; ++who) {
    const Party& party = parties_[static_cast<std::size_t>(who)];
    for (const int ticks : {0, 1}) {
      if (ticks > 0 && who != kFar) continue;
      const Instant sent = now_ - kTick * ticks;
      const bool news = sent > party.updated || party.attached_boot != party.boot;
      if (news && sent >= party.started) add(Kind::renewal, who + kHolders * ticks);
    }
    if (!party.told.empty()) {
      add(Kind::told, who);
      if (faults_left_ > 0) add(Kind::attach_breaks, who);
    }
    if (moves_left_ > 0 && !open_lease(who).is_zero()) add(Kind::close_lease, who);
    if (jobs_left_ > 0 && !party.dispatch && usable_lease(who)) add(Kind::dispatch, who);
    if (party.dispatch) {
      add(Kind::dispatch_comes, who);
      if (faults_left_ > 0) add(Kind::dispatch_lost, who);
    }
  }
  return out;
}

void Cluster::spend(Kind kind) {
  switch (kind) {
    case Kind::divide:
    case Kind::close_lease:
      --moves_left_;
      break;
    case Kind::dispatch:
      --jobs_left_;
      break;
    case Kind::tick:
      --ticks_left_;
      break;
    case Kind::holder_crashes:
    case Kind::worker_crashes:
    case Kind::manager_crashes:
      --faults_left_;
      break;
    case Kind::control_breaks:
    case Kind::attach_breaks:
    case Kind::dispatch_lost:
      --faults_left_;
      break;
    case Kind::renewal:
    case Kind::table_comes:
    case Kind::late_table:
    case Kind::report_comes:
    case Kind::told:
    case Kind::dispatch_comes:
    case Kind::finish:
      break;
  }
}

void Cluster::apply(const Action& action) {
  Party& party = parties_[static_cast<std::size_t>(action.what) % kHolders];
  spend(action.kind);
  switch (action.kind) {
    case Kind::divide:
      divide(action.what);
      break;
    case Kind::close_lease:
      close(open_lease(action.what), false);
      break;
    case Kind::renewal: {
      const int who = action.what % kHolders;
      party.attached_boot = party.boot;
      party.updated = now_ - kTick * (action.what / kHolders);
      std::vector<LeaseId> older;  // L7
      for (const auto& [id, lease] : book_.leases()) {
        if (lease.holder.orch == holder(who).orch && lease.holder.boot < party.boot && !lease.stop) older.push_back(id);
      }
      for (const LeaseId id : older) close(id, true);
      if (const LeaseId id = open_lease(who); !id.is_zero())
        book_.renew(id, {.link = {1}, .update_seq = static_cast<std::uint64_t>(party.updated.ns)});
      break;
    }
    case Kind::table_comes:
      take_table(std::exchange(tables_.front(), {}));
      tables_.pop_front();
      break;
    case Kind::late_table: {
      LeaseTable table = *std::exchange(late_, std::nullopt);
      const bool older = table.version <= arbiter_.version();
      if (fault_ == Fault::apply_older_tables) {
        table.version = arbiter_.version();
        ++table.version.counter;
      }
      const TableVersion before = arbiter_.version();
      take_table(table);
      if (older && arbiter_.version() != before) violate("L2: an older table was applied");
      break;
    }
    case Kind::report_comes: {
      const Report report = *std::exchange(report_, std::nullopt);
      if (std::exchange(report_due_, false)) send_report();
      take_report(report);
      break;
    }
    case Kind::told:
      take_told(action.what);
      break;
    case Kind::dispatch:
      send_job(action.what);
      break;
    case Kind::dispatch_comes:
      take_job(action.what);
      break;
    case Kind::dispatch_lost:
      party.leases.return_slot(key(party.dispatch->fence.lease));
      party.dispatch.reset();
      break;
    case Kind::finish:
      end_job(static_cast<std::size_t>(action.what));
      break;
    case Kind::control_breaks:
      if (!tables_.empty()) late_ = tables_.front();
      tables_.clear();
      report_.reset();
      report_due_ = false;
      book_.connection_lost();
      break;
    case Kind::attach_breaks:
      party.told.clear();
      break;
    case Kind::tick:
      tick();
      break;
    case Kind::holder_crashes:
      crash_holder(action.what);
      break;
    case Kind::worker_crashes:
      crash_worker();
      break;
    case Kind::manager_crashes:
      crash_manager();
      break;
  }
  flush();
  hear_near();
  check();
}

// What goes to and from the near orchestrator takes no time.
void Cluster::hear_near() {
  Party& party = parties_[kNear];
  while (!party.told.empty()) take_told(kNear);
  if (party.dispatch) take_job(kNear);
}

// The manager sends a table as soon as it may.
void Cluster::flush() {
  if (!book_.wants_table(now_)) return;
  next_table_ += 10;  // room for the fault that takes an older table for a newer one
  const TableVersion version{boot_, next_table_};
  tables_.clear();  // sent again: the stream has one table at a time
  tables_.push_back(book_.issue(version, now_));
  const bool at_once = fault_ == Fault::skip_the_ack || (fault_ == Fault::adopt_and_grant_at_once && boot_ > 1);
  if (at_once) tell(book_.on_report(version, arbiter_.uses(), now_));
}

void Cluster::tell(const std::vector<pool::LeaseBook::Announcement>& announcements) {
  for (const auto& each : announcements) {
    if (each.slots > applied_most_[each.lease])
      violate("L2: a holder is told of slots that its worker has not applied");
    said_[each.lease] = each.slots;
    Party& party = parties_[static_cast<std::size_t>(each.holder.orch.value.lo)];
    if (each.holder.boot != party.attached_boot || party.attached_boot != party.boot) continue;
    if (party.told.size() >= kToldMax) party.told.pop_front();  // the link breaks and comes back
    party.told.push_back({.lease = each.lease,
                          .slots = each.slots,
                          .secret = each.secret,
                          .sent_at = static_cast<std::int64_t>(each.renewal.update_seq),
                          .revoked = false,
                          .inc = inc_});
  }
}

void Cluster::close(LeaseId id, bool stop) {
  const Holder owner = book_.find(id)->holder;
  book_.close(id, stop);
  said_.erase(id);
  Party& party = parties_[static_cast<std::size_t>(owner.orch.value.lo)];
  if (owner.boot == party.boot && party.told.size() < kToldMax)
    party.told.push_back(Told{.lease = id, .revoked = true});
}

// Any division whose sum fits, whoever wants what.
void Cluster::divide(int what) {
  const auto& shares = kDivisions[static_cast<std::size_t>(what)];
  std::uint32_t sum = 0;
  for (int who = 0; who < kHolders; ++who) {
    const bool attached = parties_[static_cast<std::size_t>(who)].attached_boot != 0;
    sum += attached ? shares[static_cast<std::size_t>(who)] : 0;
  }
  for (const auto& [id, lease] : book_.leases()) {
    sum += lease.closed || id == open_lease(0) || id == open_lease(1) ? 0 : lease.slots;  // of nobody attached
  }
  if (sum > kSlots) return;
  for (int pass = 0; pass < 2; ++pass) {  // shrink before growth
    for (int who = 0; who < kHolders; ++who) {
      const LeaseId id = open_lease(who);
      const std::uint32_t share = shares[static_cast<std::size_t>(who)];
      if (id.is_zero()) continue;
      if ((share < book_.find(id)->slots) == (pass == 0)) book_.resize(id, share);
    }
  }
  for (int who = 0; who < kHolders; ++who) {
    const std::uint32_t share = shares[static_cast<std::size_t>(who)];
    const Party& party = parties_[static_cast<std::size_t>(who)];
    if (share == 0 || !open_lease(who).is_zero() || party.attached_boot != party.boot) continue;
    if (book_.leases().size() >= 3) continue;  // one closed beside the open ones: bounds the check, not the protocol
    if (fault_ == Fault::one_id_two_holders && book_.find({boot_, 1}) == nullptr) next_lease_ = 1;
    const LeaseId fresh{boot_, next_lease_++};
    const auto [owner, is_new] = owner_.emplace(fresh, static_cast<std::uint64_t>(who));
    if (!is_new && owner->second != static_cast<std::uint64_t>(who)) violate("a lease id changes its holder");
    book_.open(fresh, holder(who), secret_of(fresh), share,
               {.link = {1}, .update_seq = static_cast<std::uint64_t>(party.updated.ns)});
  }
}

void Cluster::take_report(const Report& report) {
  std::vector<LeaseUse> uses = report.uses;
  std::erase_if(uses, [&](const LeaseUse& use) {
    const pool::Lease* lease = book_.find(use.id);
    if (fault_ == Fault::grant_while_it_runs) return true;
    if (fault_ == Fault::free_on_a_timer) return lease == nullptr || lease->closed;
    return fault_ == Fault::restart_forgets_what_runs && lease == nullptr;
  });
  tell(book_.on_report(report.version, uses, now_));
}

void Cluster::take_table(LeaseTable table) {
  const auto applied = arbiter_.apply(table, now_);
  send_report();  // also of a table that was not applied
  if (applied != worker::LeaseArbiter::Applied::ok) return;
  for (const LeaseEntry& entry : table.leases) applied_most_[entry.id] = std::max(applied_most_[entry.id], entry.slots);
  stop_jobs();
}

void Cluster::stop_jobs() {
  for (const auto& stop : arbiter_.jobs_to_stop(now_)) {
    for (Job& job : jobs_) job.stopping = job.stopping || job.id == stop.dispatch;
  }
}

void Cluster::take_told(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  const Told told = party.told.front();
  party.told.pop_front();
  if (told.revoked) return party.leases.close(key(told.lease));
  gateway::LeaseGranted grant;
  grant.lease = told.lease;
  grant.replica_id = "r";
  grant.inc = told.inc;
  grant.slots = told.slots;
  grant.secret = told.secret;
  grant.ttl = kTtl;
  party.leases.apply(key(told.lease), grant, "unix:/w", Instant{told.sent_at}, now_);
}

void Cluster::send_job(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  const gateway::LeaseKey lease_key = key(*usable_lease(who));
  const gateway::HeldLease& lease = *party.leases.find(lease_key);
  party.dispatch = Job{.id = {JobId{Uuid{1, next_job_++}}, 1},
                       .fence = {manager_, lease.inc, lease_key.lease, lease.secret},
                       .holder = holder(who)};
  party.leases.take_slot(lease_key);
}

void Cluster::take_job(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  const Job job = *std::exchange(party.dispatch, std::nullopt);
  const std::optional<Instant> end = end_at_worker(job.fence.lease);
  const Instant seen = fault_ == Fault::worker_ignores_the_end ? Instant{} : now_;
  const auto admitted = arbiter_.admit(job.fence, job.holder, job.id, seen);
  if (!admitted.ok()) return party.leases.return_slot(key(job.fence.lease));
  if (job.fence.inc != inc_ || !end || now_ >= *end) violate("L3: a dispatch was admitted without a live lease");
  jobs_.push_back(job);
  send_report();
}

// One report is under way at a time; what happens meanwhile goes with the next.
void Cluster::send_report() {
  if (report_) {
    report_due_ = true;
  } else {
    report_ = Report{arbiter_.version(), arbiter_.uses()};
  }
}

void Cluster::end_job(std::size_t index) {
  const Job job = jobs_[index];
  jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(index));
  arbiter_.ended(job.id);
  send_report();
  Party& party = parties_[static_cast<std::size_t>(job.holder.orch.value.lo)];
  if (job.holder.boot == party.boot) party.leases.return_slot(key(job.fence.lease));
}

void Cluster::tick() {
  now_ = now_ + kTick;
  // A job that is to stop ends within one step, which is shorter.
  for (std::size_t i = jobs_.size(); i-- > 0;) {
    if (jobs_[i].stopping) end_job(i);
  }
  for (int who = 0; who < kHolders; ++who) arbiter_.heartbeat(holder(who), now_);
  if (fault_ != Fault::orphans_run_on) stop_jobs();
  for (const Job& job : jobs_) {
    const Party& party = parties_[static_cast<std::size_t>(job.holder.orch.value.lo)];
    if (job.holder.boot < party.boot && now_ >= party.died + kTtl + kTick) violate("L5: work outlives its holder");
  }
  for (const LeaseId id : book_.expired(now_)) close(id, false);
  for (Party& party : parties_) party.leases.remove_dead(now_);
}

void Cluster::crash_holder(int who) {
  Party& party = parties_[static_cast<std::size_t>(who)];
  party.leases = gateway::LeaseTable(gateway::Limits{}, mutation_of(fault_));
  party.told.clear();
  party.died = party.started = now_;
  ++party.boot;
  if (party.dispatch) party.dispatch.reset();
}

// The manager learns of it by the reap: nothing of that life runs any more (L6).
void Cluster::crash_worker() {
  if (fault_ == Fault::successor_before_the_reap) ghosts_ = static_cast<std::uint32_t>(jobs_.size());
  while (!jobs_.empty()) end_job(0);
  ++inc_.counter;
  book_ = pool::LeaseBook(inc_, kTtl, kSlots);
  arbiter_ = new_arbiter();
  applied_most_.clear();
  said_.clear();
  tables_.clear();
  late_.reset();
  report_.reset();
  report_due_ = false;
}

// L8: the next boot asks the worker for its table.
void Cluster::crash_manager() {
  ++boot_;
  next_lease_ = 1;
  // It asks over a new stream, and the worker reads no older one after that.
  tables_.clear();
  late_.reset();
  report_.reset();
  report_due_ = false;
  for (Party& party : parties_) {
    party.told.clear();
    party.started = now_;     // the links are new
    party.attached_boot = 0;  // until its first update
  }
  const bool forgets = fault_ == Fault::restart_forgets_what_runs;
  const bool bare = arbiter_.version().is_zero();  // nothing was ever applied
  book_ = pool::LeaseBook(inc_, kTtl, kSlots);
  if (!forgets && !bare) book_.adopt(arbiter_.table(), arbiter_.uses(), now_);
}

void Cluster::check() {
  book_.check_invariants();
  if (arbiter_.running() > kSlots) violate("more runs than is declared");
  for (const Party& party : parties_) {
    for (const auto& [lease_key, lease] : party.leases.all()) {
      if (!lease.live(now_) || lease.inc != inc_) continue;
      // L4: the holder's end is never later than the worker's; a lease that left the table admits nothing there.
      const std::optional<Instant> end = end_at_worker(lease_key.lease);
      if (end && lease.end > *end) violate("L4: a holder believes in its lease longer than the worker");
    }
  }
  // What may run in sum: what does, and what was granted last and the worker would admit.
  std::map<LeaseId, std::uint32_t> used;
  for (const LeaseUse& use : arbiter_.uses()) used[use.id] = use.running;
  for (const LeaseEntry& entry : arbiter_.table().leases) {
    if (entry.stop || now_ >= *end_at_worker(entry.id)) continue;
    const auto known = said_.find(entry.id);
    if (known != said_.end()) used[entry.id] = std::max(used[entry.id], std::min(known->second, entry.slots));
  }
  std::uint32_t sum = ghosts_;
  for (const auto& [id, count] : used) sum += count;
  if (sum > kSlots) violate("L6: a slot has two owners");
}

}  // namespace orch::check
