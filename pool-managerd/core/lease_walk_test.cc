// Every short sequence and many long random ones of what can happen to leases between one manager, one worker and two
// orchestrators, with tables and reports delivered late, in every order that streams allow.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "common/base/prng.h"
#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

constexpr std::uint32_t kSlots = 2;

class Walk {
 public:
  static constexpr int kActions = 13;

  Walk() : world_(one_replica(kSlots)) {
    world_.script.slots = kSlots;
    world_.start();
    inc_ = world_.inc();
    world_.hold_tables = true;
    world_.reports_after_apply = false;
    world_.ends_stopped_jobs = false;
    attach(1, 1);
    attach(2, 1);
  }

  void act(int action) {
    switch (action) {
      case 0:
        return bid(1, 0, 0);
      case 1:
        return bid(1, 0, 2);
      case 2:
        return bid(2, 0, 2);
      case 3:
        return release(1);
      case 4:
        return world_.release_one_table();
      case 5:
        return capture();
      case 6:
        return deliver_report();
      case 7:
        return dispatch(1);
      case 8:
        return dispatch(2);
      case 9:
        return finish();
      case 10:
        return reconnect();
      case 11:
        return attach(1, boot_[1] + 1);
      case 12:
        return attach(2, boot_[2]);  // a second link of the same start
      default:
        FAIL();
    }
  }

  // Never two owners of a slot: what holders were told of and the worker admits, and what runs beyond it, fits into the
  // worker, whatever was delivered.
  void check() {
    const worker::LeaseArbiter& arbiter = world_.workers.at(inc_)->arbiter;
    std::map<LeaseId, std::uint32_t> used;
    for (const auto& [link, grants] : world_.grants) {
      for (const auto& [id, grant] : grants) {
        const auto allowed = allowed_.find(id);
        if (allowed != allowed_.end()) used[id] = std::max(used[id], std::min(allowed->second, grant.slots));
      }
    }
    for (const LeaseUse& use : arbiter.uses()) used[use.id] = std::max(used[use.id], use.running);
    std::uint32_t sum = 0;
    for (const auto& [id, slots] : used) sum += slots;
    ASSERT_LE(sum, kSlots);
    ASSERT_FALSE(slot_busy_) << "a dispatch within a granted lease found no slot";
  }

 private:
  void attach(std::uint64_t who, std::uint64_t boot) {
    boot_[who] = boot;
    link_[who] = ++last_link_;
    world_.holders[link_[who]] = orch_at(who, boot);
    world_.attach(link_[who], orch_at(who, boot));
  }
  void bid(std::uint64_t who, std::uint32_t running, std::uint32_t waiting) {
    world_.update(link_[who], {{.pool_id = "p", .running = running, .waiting = waiting}});
    note_tables();
  }
  void release(std::uint64_t who) {
    auto& grants = world_.grants[link_[who]];
    if (grants.empty()) return;
    const LeaseId lease = grants.begin()->first;
    grants.erase(grants.begin());
    world_.update(link_[who], {}, {lease});
  }
  void capture() { reports_.push_back(world_.report_of(inc_)); }
  void deliver_report() {
    if (reports_.empty()) return;
    const WorkerReport report = reports_.front();
    reports_.pop_front();
    world_.step(report);
  }
  void dispatch(std::uint64_t who) {
    auto& grants = world_.grants[link_[who]];
    if (grants.empty()) return;
    // A holder dispatches what it believes to have; it may be stale, never busy by somebody else's fault.
    const SendGrant& grant = grants.rbegin()->second;
    std::uint32_t mine = 0;
    for (const LeaseUse& use : world_.workers.at(inc_)->arbiter.uses()) mine += use.id == grant.lease ? use.running : 0;
    const auto allowed = allowed_.find(grant.lease);
    const std::uint32_t at_worker = allowed == allowed_.end() ? 0 : allowed->second;
    if (mine >= grant.slots) return;  // an honest holder
    const auto status = world_.dispatch(link_[who], ++last_job_);
    if (status.ok()) {
      jobs_.push_back(last_job_);
    } else if (status.error() == Outcome::SLOT_BUSY && mine < at_worker) {
      slot_busy_ = true;
    }
  }
  void finish() {
    if (jobs_.empty()) return;
    world_.finish(jobs_.front());
    jobs_.pop_front();
  }
  void reconnect() {
    // What was on the old stream is lost; the worker may or may not have applied it.
    world_.held_tables.clear();
    reports_.clear();
    world_.step(ControlBroken{.inc = inc_});
    world_.now = world_.now + Duration::milliseconds(200);
    world_.step(Tick{});
  }

 public:
  // The worker's own table, as the arbiter keeps it: rebuilt from the tables that it applied.
  void note_tables() {
    for (const SendTable& each : world_.sent<SendTable>()) tables_[each.table.version] = each.table;
    const auto applied = tables_.find(world_.workers.at(inc_)->arbiter.version());
    allowed_.clear();
    if (applied == tables_.end()) return;
    for (const LeaseEntry& entry : applied->second.leases) allowed_[entry.id] = entry.stop ? 0 : entry.slots;
  }

 private:
  World world_;
  Incarnation inc_;
  std::map<std::uint64_t, std::uint64_t> boot_;
  std::map<std::uint64_t, std::uint64_t> link_;
  std::uint64_t last_link_ = 0;
  std::uint64_t last_job_ = 0;
  std::deque<std::uint64_t> jobs_;
  std::deque<WorkerReport> reports_;
  std::map<TableVersion, LeaseTable> tables_;
  std::map<LeaseId, std::uint32_t> allowed_;
  bool slot_busy_ = false;
};

// True when the walk held.
bool holds(const std::vector<int>& actions) {
  Walk walk;
  for (const int action : actions) {
    walk.act(action);
    walk.note_tables();
    walk.check();
    if (::testing::Test::HasFatalFailure()) {
      std::string text;
      for (const int each : actions) text += std::to_string(each) + " ";
      ADD_FAILURE() << "walk: " << text;
      return false;
    }
  }
  return true;
}

TEST(LeaseWalk, L2_L6_L7_never_two_owners_in_every_sequence_of_three_after_a_running_start) {
  // A start in which both hold, one runs, and a table is on its way.
  const std::vector<int> start{1, 4, 5, 6, 7, 2, 4, 5, 6};
  for (int code = 0; code < Walk::kActions * Walk::kActions * Walk::kActions; ++code) {
    std::vector<int> actions = start;
    for (int rest = code, i = 0; i < 3; ++i, rest /= Walk::kActions) actions.push_back(rest % Walk::kActions);
    if (!holds(actions)) return;
  }
}

TEST(LeaseWalk, L2_L6_L7_never_two_owners_in_long_random_sequences) {
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    Prng prng(seed);
    std::vector<int> actions;
    for (int i = 0; i < 40; ++i) actions.push_back(static_cast<int>(prng.below(Walk::kActions)));
    if (!holds(actions)) return;
  }
}

}  // namespace
}  // namespace orch::pool
