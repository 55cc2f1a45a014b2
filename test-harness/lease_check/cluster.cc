// What may happen, and when. What it does at each party stands in the *_side files.
#include "lease_check/cluster.h"

#include <initializer_list>
#include <utility>

#include "common/base/check.h"

namespace orch::check {

Cluster::Cluster(Fault fault, Start start, const Allowance& allowance)
    : fault_(fault),
      manager_{Uuid{7, 7}},
      book_(inc_, kTtl, kSlots),
      arbiter_(new_arbiter()),
      parties_{new_party(), new_party()} {
  for (Party& party : parties_) party.updated = party.started = now_;
  begin(start);
  left_ = allowance;
}

void Cluster::begin(Start start) {
  const auto run = [&](std::initializer_list<Action> actions) {
    for (const Action& action : actions) apply(action);
  };
  const std::initializer_list<Action> settle{
      {Kind::table_comes}, {Kind::report_comes}, {Kind::told, kFar}, {Kind::heard, kFar}};
  const std::initializer_list<Action> job{{Kind::dispatch, kFar}, {Kind::dispatch_comes, kFar}, {Kind::report_comes}};
  switch (start) {
    case Start::empty:
      break;
    case Start::shared:
      run({{Kind::divide, 1}});
      run(settle);
      run(job);
      break;
    case Start::contended:
      run({{Kind::divide, 0}});
      run(settle);
      run(job);
      run(job);
      run({{Kind::divide, 1}});
      run(settle);
      break;
    case Start::overtaken:
      run({{Kind::divide, 0}, {Kind::control_breaks}});
      run(settle);
      break;
    case Start::returning:
      run({{Kind::divide, 1}});
      run(settle);
      run({{Kind::divide, 2}, {Kind::table_comes}, {Kind::report_comes}});
      run({{Kind::dispatch, kNear}, {Kind::dispatch, kNear}, {Kind::report_comes}});
      break;
    case Start::restarted:
      run({{Kind::divide, 1}});
      run(settle);
      run(job);
      run({{Kind::manager_crashes}, {Kind::table_comes}, {Kind::report_comes}});
      break;
  }
}

std::vector<Action> Cluster::actions() const {
  std::vector<Action> out;
  const auto add = [&](Kind kind, int what = 0) { out.push_back({kind, what}); };
  if (left_.moves > 0 && tables_.empty()) {
    for (int i = 0; i < kDivisions; ++i) add(Kind::divide, i);
  }
  if (!tables_.empty()) add(Kind::table_comes);
  if (late_) add(Kind::late_table);
  if (report_) add(Kind::report_comes);
  if (left_.faults > 0 && (!tables_.empty() || report_)) add(Kind::control_breaks);
  for (int i = 0; i < static_cast<int>(jobs_.size()); ++i) add(Kind::finish, i);
  if (left_.ticks > 0) add(Kind::tick);
  if (left_.crashes > 0 && left_.faults > 0) {
    add(Kind::worker_crashes);
    add(Kind::manager_crashes);
    add(Kind::holder_crashes, kFar);
  }
  for (int who = 0; who < kHolders; ++who) {
    const Party& party = parties_[static_cast<std::size_t>(who)];
    for (const int ticks : {0, 1}) {
      if (ticks > 0 && who != kFar) continue;
      const Instant sent = now_ - kTick * ticks;
      const bool news = sent > party.updated || party.attached_boot != party.boot || party.relinked;
      if (news && sent >= party.started) add(Kind::renewal, who + kHolders * ticks);
    }
    if (!party.told.empty()) add(Kind::told, who);
    if (party.heard) add(Kind::heard, who);
    if (left_.faults > 0 && (!party.told.empty() || party.heard)) add(Kind::attach_breaks, who);
    if (left_.moves > 0 && !open_lease(who).is_zero()) add(Kind::close_lease, who);
    if (left_.jobs > 0 && !party.dispatch && usable_lease(who)) add(Kind::dispatch, who);
    if (party.dispatch) {
      add(Kind::dispatch_comes, who);
      if (left_.faults > 0) add(Kind::dispatch_lost, who);
    }
  }
  return out;
}

void Cluster::spend(Kind kind) {
  switch (kind) {
    case Kind::divide:
    case Kind::close_lease:
      --left_.moves;
      break;
    case Kind::dispatch:
      --left_.jobs;
      break;
    case Kind::tick:
      --left_.ticks;
      break;
    case Kind::holder_crashes:
    case Kind::worker_crashes:
    case Kind::manager_crashes:
    case Kind::control_breaks:
    case Kind::attach_breaks:
    case Kind::dispatch_lost:
      --left_.faults;
      break;
    case Kind::renewal:
    case Kind::table_comes:
    case Kind::late_table:
    case Kind::report_comes:
    case Kind::told:
    case Kind::heard:
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
    case Kind::renewal:
      take_renewal(action.what % kHolders, now_ - kTick * (action.what / kHolders));
      break;
    case Kind::table_comes:
      take_table(std::exchange(tables_.front(), {}));
      tables_.pop_front();
      break;
    case Kind::late_table:
      take_late_table();
      break;
    case Kind::report_comes: {
      const Report report = *std::exchange(report_, std::nullopt);
      if (std::exchange(report_due_, false)) send_report();
      take_report(report);
      break;
    }
    case Kind::told:
      take_told(action.what);
      break;
    case Kind::heard:
      take_heard(action.what);
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
      break_control();
      break;
    case Kind::attach_breaks:
      break_link(action.what);
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
  say_heard(kFar);
  flush();  // what the near one has heard of may have made room
  check();
}

// What goes to and from the near orchestrator takes no time.
void Cluster::hear_near() {
  Party& party = parties_[kNear];
  do {
    if (!party.told.empty()) take_told(kNear);
    if (party.dispatch) take_job(kNear);
    say_heard(kNear);
    if (party.heard) take_heard(kNear);
  } while (!party.told.empty());
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

}  // namespace orch::check
