// A manager and its workers in virtual time, for tests of the core: each spawned worker is a real LeaseArbiter behind a
// script.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "pool-managerd/core/manager.h"
#include "worker/lease/lease_arbiter.h"

namespace orch::pool {

class SeededEntropy final : public EntropySource {
 public:
  explicit SeededEntropy(std::uint64_t seed) : prng_(seed) {}
  std::uint64_t next_u64() override { return prng_.next(); }

 private:
  Prng prng_;
};

inline constexpr char kDigest[] = "sha256:00";

inline Settings one_replica(std::uint32_t slots = 4) {
  Settings settings;
  settings.manager = ManagerId{Uuid{5, 5}};
  settings.boot = 3;
  settings.replicas.push_back({.replica_id = "p-0",
                               .pool_id = "p",
                               .engine = "native",
                               .model_name = "m",
                               .model_digest = kDigest,
                               .slots = slots});
  return settings;
}

inline Settings replicas(int count) {
  Settings settings = one_replica();
  settings.replicas[0].model_path = "/old";
  for (int i = 1; i < count; ++i) {
    settings.replicas.push_back(settings.replicas[0]);
    settings.replicas.back().replica_id = "p-" + std::to_string(i);
  }
  return settings;
}

inline Holder orch_at(std::uint64_t n, std::uint64_t boot = 1) { return {.orch = OrchId{Uuid{9, n}}, .boot = boot}; }

// What a worker does; changed by tests before or while it runs.
struct Script {
  bool spawns = true;
  bool loads = true;
  bool answers = true;  // GetInfo
  bool reports = true;
  bool obeys_term = true;
  std::string digest = kDigest;
  std::string model_name = "m";
  std::string engine = "native";
  std::string engine_version = "1";
  std::string numeric_class = "X";
  bool load_fails = false;
  std::string waits_for;  // while it does not load
  bool decodes = true;
  bool cancel_frees = true;
  bool counters_move = true;  // in its words
  bool tokens_grow = true;    // in its numbers
  bool self_check_answers = true;
  std::uint32_t slots = 4;
  std::uint32_t kv_page_tokens = 0;
};

struct FakeWorker {
  explicit FakeWorker(std::uint32_t slots, ManagerId manager, Incarnation inc)
      : arbiter({.slots = slots, .leases_max = 64, .attempts_max = 256}) {
    arbiter.bind(manager, inc);
  }
  worker::LeaseArbiter arbiter;
  bool controlled = false;
  std::uint64_t steps = 0;
  std::uint64_t waits = 0;
  bool waits_for_an_engine = false;  // looks at it before each report
  Duration step_longest;
  std::uint64_t tokens = 0;
  std::uint64_t kv_pages_total = 0;
  std::uint64_t kv_pages_used = 0;
};

class World {
 public:
  explicit World(Settings settings) : entropy(7), manager(std::move(settings), entropy) {}

  // Delivers the event and everything that follows from it at this instant.
  void step(const Event& event) {
    Effects out;
    manager.step(event, now, out);
    manager.check_invariants();
    for (Effect& effect : out) {
      log.push_back(effect);
      std::visit([&](const auto& each) { react(each); }, effect);
    }
    deliver();
  }
  // Lets time pass; workers report and holders repeat their bids every TTL/4, ticks come when they were asked for.
  void run(Duration duration) {
    const Instant end = now + duration;
    while (now < end) {
      const Instant beat = next_beat;
      now = std::min({end, std::max(manager.next_wakeup(), now + Duration{1}), beat});
      if (now >= beat) {
        next_beat = now + manager.settings().ttl / 4;
        for (auto& [inc, fake] : workers) {
          for (const auto& [link, holder] : holders) fake->arbiter.heartbeat(holder, now);
          report(inc);
        }
        for (const auto& [link, bids] : standing) update(link, bids);
      }
      step(Tick{});
    }
  }
  void start() { step(Tick{}); }

  void attach(std::uint64_t link, Holder holder) { step(AttachOpened{{link}, holder, {}}); }
  void detach(std::uint64_t link) {
    standing.erase(link);
    step(AttachClosed{.link = {link}});
  }
  // Sends an update that renews everything granted on that link; repeated by run().
  void bid(std::uint64_t link, std::vector<Bid> bids) {
    standing[link] = bids;
    update(link, std::move(bids));
  }
  void update(std::uint64_t link, std::vector<Bid> bids, std::vector<LeaseId> release = {}) {
    HolderUpdate event{
        .link = {link}, .seq = ++seq[link], .bids = std::move(bids), .renew = {}, .release = std::move(release)};
    const auto [last_grant, heard_at] = heard[link];  // at once: grants take no time here
    event.grants_seen = last_grant;
    event.grant_age = now - heard_at;
    for (const auto& [id, grant] : grants[link]) {
      event.renew.push_back(id);
      for (const LeaseUse& use :
           workers.contains(grant.inc) ? workers.at(grant.inc)->arbiter.uses() : std::vector<LeaseUse>()) {
        if (use.id == id && use.running > grant.slots) event.beyond.push_back(use);
      }
    }
    step(event);
  }

  // The living worker of a replica; none: {}.
  Incarnation inc_of(const std::string& replica_id) const {
    for (const auto& [each, worker] : workers) {
      if (replica_of.contains(each) && replica_of.at(each) == replica_id) return each;
    }
    return {};
  }
  ReplicaView view_of(const std::string& replica_id) {
    for (const ReplicaView& each : manager.replicas(now)) {
      if (each.replica_id == replica_id) return each;
    }
    return {};
  }
  Operation start(OperationKind kind, Duration deadline = Duration::seconds(10), std::optional<ModelFile> model = {}) {
    step(StartOperation{.request = {1},
                        .kind = kind,
                        .pool_id = "p",
                        .replica_id = {},
                        .deadline = deadline,
                        .model = std::move(model)});
    return last<OperationReply>().operation.value_or(Operation{});
  }
  Operation operation(const Operation& known) { return manager.operation(known.id).value_or(Operation{}); }

  FakeWorker& worker() {
    EXPECT_EQ(workers.size(), 1u);
    return *workers.begin()->second;
  }
  Incarnation inc() { return workers.begin()->first; }
  ReplicaView view(std::size_t index = 0) { return manager.replicas(now).at(index); }

  void report(Incarnation inc) {
    FakeWorker& fake = *workers.at(inc);
    if (!fake.controlled || !script_of(inc).reports) return;
    if (fake.waits_for_an_engine) ++fake.waits;
    pending.emplace_back(report_of(inc));
  }
  WorkerReport report_of(Incarnation inc) {
    FakeWorker& fake = *workers.at(inc);
    return {.inc = inc,
            .version = fake.arbiter.version(),
            .uses = fake.arbiter.uses(),
            .slots = fake.arbiter.slots(),
            .steps_done = fake.steps,
            .waits_done = fake.waits,
            .step_longest = fake.step_longest,
            .tokens_out_total = fake.tokens,
            .kv_pages_used = fake.kv_pages_used,
            .kv_pages_total = fake.kv_pages_total,
            .jobs_ended = fake.arbiter.jobs_ended(),
            .jobs_cut = fake.arbiter.jobs_cut(),
            .self_check = std::nullopt,
            .table = {},
            .drain_left = fake.arbiter.drain_left(now)};
  }
  // Starts a job under the lease that `link` was granted last; the worker decides.
  Status<Outcome> dispatch(std::uint64_t link, std::uint64_t job) {
    EXPECT_FALSE(grants[link].empty());
    const SendGrant& grant = grants[link].rbegin()->second;
    const Fence fence{
        .manager = manager.settings().manager, .inc = grant.inc, .lease = grant.lease, .secret = grant.secret};
    return workers.at(grant.inc)->arbiter.admit(fence, holders.at(link), {.job = JobId{Uuid{1, job}}, .attempt = 1},
                                                now);
  }
  void finish(std::uint64_t job) {
    for (auto& [inc, fake] : workers) {
      fake->arbiter.ended({.job = JobId{Uuid{1, job}}, .attempt = 1}, worker::JobEnd::finished);
    }
  }
  void die(Incarnation inc, int signal, int code = 0) {
    workers.erase(inc);
    step(ProcessExited{.inc = inc, .exit_code = code, .signal = signal, .detail = {}});
  }
  void expect_state(ReplicaState state) { EXPECT_EQ(to_string(view().state), to_string(state)) << view().last_error; }
  template <typename T>
  std::vector<T> sent() const {
    std::vector<T> out;
    for (const Effect& effect : log) {
      if (const T* found = std::get_if<T>(&effect)) out.push_back(*found);
    }
    return out;
  }
  template <typename T>
  T last() const {
    const std::vector<T> all = sent<T>();
    if (!all.empty()) return all.back();
    ADD_FAILURE() << "no such effect";
    return T{};
  }
  std::uint32_t granted(std::uint64_t link) {
    std::uint32_t sum = 0;
    for (const auto& [id, grant] : grants[link]) sum += grant.slots;
    return sum;
  }

  SeededEntropy entropy;
  Manager manager;
  Script script;                          // of every worker
  std::map<std::string, Script> scripts;  // by replica id, in its place
  Instant now{1'000'000'000};
  Instant next_beat{1'000'000'000};
  std::map<Incarnation, std::unique_ptr<FakeWorker>> workers;
  std::map<Incarnation, std::string> replica_of;
  std::vector<Event> pending;
  std::vector<Effect> log;
  std::map<std::uint64_t, std::map<LeaseId, SendGrant>> grants;      // by link
  std::map<std::uint64_t, std::pair<std::uint64_t, Instant>> heard;  // by link: number of the last grant, and when
  std::map<std::uint64_t, Holder> holders;
  std::map<std::uint64_t, std::uint64_t> seq;
  std::map<std::uint64_t, std::vector<Bid>> standing;
  std::vector<SendRevoke> revokes;
  bool hold_tables = false;  // tables reach workers only by release_tables()
  std::vector<SendTable> held_tables;
  bool reports_after_apply = true;
  bool ends_stopped_jobs = true;

  void release_tables() {
    for (const SendTable& each : std::exchange(held_tables, {})) apply(each);
    deliver();
  }
  void release_one_table() {
    if (held_tables.empty()) return;
    const SendTable first = held_tables.front();
    held_tables.erase(held_tables.begin());
    apply(first);
    deliver();
  }

 private:
  void deliver() {
    while (!pending.empty()) {
      const Event event = pending.front();
      pending.erase(pending.begin());
      Effects out;
      manager.step(event, now, out);
      manager.check_invariants();
      for (Effect& effect : out) {
        log.push_back(effect);
        std::visit([&](const auto& each) { react(each); }, effect);
      }
    }
  }
  void apply(const SendTable& effect) {
    const auto found = workers.find(effect.inc);
    if (found == workers.end()) return;
    std::uint32_t sum = 0;
    for (const LeaseEntry& entry : effect.table.leases) sum += entry.slots;
    EXPECT_LE(sum, found->second->arbiter.slots());
    EXPECT_EQ(found->second->arbiter.apply(effect.table, now), worker::LeaseArbiter::Applied::ok);
    for (const auto& stop : found->second->arbiter.jobs_to_stop(now)) {
      if (ends_stopped_jobs) found->second->arbiter.ended(stop.dispatch, worker::JobEnd::failed);
    }
    if (reports_after_apply) report(effect.inc);
  }

  const Script& script_of(Incarnation inc) const {
    const auto id = replica_of.find(inc);
    const auto found = id == replica_of.end() ? scripts.end() : scripts.find(id->second);
    return found == scripts.end() ? script : found->second;
  }

  void react(const SpawnWorker& effect) {
    replica_of[effect.inc] = effect.replica_id;
    if (!script_of(effect.inc).spawns) {
      pending.emplace_back(SpawnFailed{.inc = effect.inc, .message = "no such program", .permanent = false});
      return;
    }
    workers[effect.inc] =
        std::make_unique<FakeWorker>(script_of(effect.inc).slots, manager.settings().manager, effect.inc);
    pending.emplace_back(ProcessStarted{.inc = effect.inc, .pid = 100, .endpoint = "unix:/w"});
  }
  void react(const SignalWorker& effect) {
    if (effect.signal == StopSignal::terminate && !script_of(effect.inc).obeys_term) return;
    if (workers.erase(effect.inc) == 0) return;
    const bool killed = effect.signal == StopSignal::kill;
    pending.emplace_back(ProcessExited{.inc = effect.inc, .exit_code = 0, .signal = killed ? 9 : 0, .detail = {}});
  }
  void react(const ConnectWorker& effect) {
    if (workers.contains(effect.inc)) workers.at(effect.inc)->controlled = true;
  }
  void react(const QueryInfo& effect) {
    if (!workers.contains(effect.inc)) return;
    const Script& says = script_of(effect.inc);
    if (!says.answers) {
      pending.emplace_back(InfoFailed{.inc = effect.inc});
      return;
    }
    WorkerFacts facts;
    facts.ready = says.loads && !says.load_fails;
    facts.engine = says.engine;
    if (!facts.ready) facts.waits_for = says.waits_for;
    if (facts.ready) {  // what is known only behind a load
      facts.engine_version = says.engine_version;
      facts.numeric_class = says.numeric_class;
      facts.ctx_max = 4096;
    }
    facts.model_name = says.model_name;
    facts.model_digest = says.digest;
    facts.slots = says.slots;
    facts.kv_page_tokens = says.kv_page_tokens;
    if (says.load_fails)
      facts.load_failure = worker::EngineFailure{.outcome = Outcome::INTERNAL, .message = "bad tensor", .field = {}};
    pending.emplace_back(InfoArrived{.inc = effect.inc, .facts = facts});
  }
  void react(const SendTable& effect) {
    if (hold_tables) {
      held_tables.push_back(effect);
    } else {
      apply(effect);
    }
  }
  void react(const SendSelfCheck& effect) {
    FakeWorker& fake = *workers.at(effect.inc);
    const Script& does = script_of(effect.inc);
    if (!does.self_check_answers) return;
    if (does.tokens_grow) fake.tokens += 1;
    WorkerReport event = report_of(effect.inc);
    event.self_check = SelfCheckOutcome{.id = effect.id,
                                        .decoded = does.decodes,
                                        .cancel_freed = does.cancel_frees,
                                        .counters_moved = does.counters_move,
                                        .detail = "scripted"};
    pending.emplace_back(event);
  }
  void react(const SendDrain&) {}
  void react(const AttachWelcome&) {}
  void react(const AttachRefused&) {}
  void react(const ReplicaChanged&) {}
  void react(const ReplicaLoaded&) {}
  void react(const SendGrant& effect) {
    // L2, checked at every grant: the worker has the lease, and at least that size.
    grants[effect.link.value][effect.lease] = effect;
    heard[effect.link.value] = {effect.number, now};
    ASSERT_TRUE(workers.contains(effect.inc));
    EXPECT_EQ(effect.inc, manager.book_of(effect.replica_id)->inc());
  }
  void react(const SendRevoke& effect) {
    revokes.push_back(effect);
    grants[effect.link.value].erase(effect.lease);
  }
  void react(const SendOthers&) {}
  void react(const SendGateways&) {}
  void react(const SendEarlierOver&) {}
  void react(const ReplicaGone&) {}
  void react(const OperationReply&) {}
  void react(const OperationEnded&) {}
  void react(const NotedDrain&) {}
  void react(const ShutdownComplete&) {}
  void react(const NotedState&) {}
  void react(const NotedFailure&) {}
};

}  // namespace orch::pool
