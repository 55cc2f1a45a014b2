// A million requests that never repeat a name: whatever they are, the core keeps to the limits it declares.
#include <gtest/gtest.h>
#include <malloc.h>

#include <deque>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

constexpr std::uint64_t kRequests = ORCH_FLOOD_REQUESTS;
constexpr std::uint64_t kFull = kRequests / 10 * 7;  // by then no table of a million requests grows any more
constexpr std::uint64_t kMiB = 1u << 20;

// In use, large pieces too, by the C library's count; 0 under a sanitizer, which has its own heap.
std::uint64_t heap_bytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Whatever is written is durable at once and nothing is kept here: what grows is the core.
struct Flood : Bench {
  using Bench::Bench;
  Effects step(const Event& event) override {
    std::deque<Event> due{event};
    for (; !due.empty(); due.pop_front()) {
      Effects some;
      core.step(due.front(), now, some);
      for (const Effect& effect : some) take(effect, due);
      if (++steps % 16'384 == 0) check();
    }
    return {};
  }
  void take(const Effect& effect, std::deque<Event>& due) {
    if (const auto* update = std::get_if<SendUpdate>(&effect)) last_seq = update->seq;
    if (const auto* write = std::get_if<JournalWrite>(&effect))
      due.emplace_back(JournalCommitted{write->ticket, write->ticket});
    if (const auto* dispatch = std::get_if<Dispatch>(&effect)) running.push_back(*dispatch);
    if (const auto* reply = std::get_if<AdmissionReply>(&effect))
      ++(std::holds_alternative<Admitted>(reply->result) ? admitted : refused);
    if (std::holds_alternative<NotedEnded>(effect)) ++ended;
  }
  void check() {
    EXPECT_EQ(core.check_invariants(), "");
    const Limits limits;
    EXPECT_LE(core.jobs().size(), QueueLimits{}.capacity + limits.admitting_max + kSlots + limits.finished_max);
    EXPECT_LE(core.streams().size(), core.jobs().size());
    EXPECT_LE(core.journal().under_way(), 16u);
  }
  void serve_one() {
    if (running.empty()) return;
    const Dispatch dispatch = std::move(running.front());
    running.pop_front();
    started(dispatch);
    token(dispatch, 0, "x");
    finished(dispatch, 1);
  }
  void renew() {
    grant(kSlots / 2, {1, 1}, "r1");
    grant(kSlots / 2, {1, 2}, "r2");
  }
  static constexpr std::uint32_t kSlots = 4;
  std::deque<Dispatch> running;
  std::uint64_t steps = 0;
  std::uint64_t admitted = 0;
  std::uint64_t refused = 0;
  std::uint64_t ended = 0;
};

// Half of them ask for a model that there is not; of the others a quarter makes its way by eviction, with a key and a
// long prompt of its own, and the rest finds the queue full.
JobSpec flooding(std::uint64_t n) {
  JobSpec spec = spec_of(n, n % 8 == 0 ? Priority::batch : Priority::interactive);
  const std::string name = std::to_string(n);
  spec.tenant = "tenant-" + name;
  spec.session = "session-" + name;
  if (n % 2 == 1) spec.model_ref = "model-" + name;
  if (n % 16 == 2) spec.deadline = ms(1);
  if (n % 16 == 4) spec.max_tokens = 100'000;
  if (n % 8 != 0) return spec;
  spec.idempotency = Idempotency{};
  for (unsigned i = 0; i < 8; ++i) spec.idempotency->key[i] = static_cast<std::uint8_t>(n >> (8 * i));
  if (n % 16 == 0) spec.idempotency.reset();
  auto payload = std::make_shared<JobPayload>();
  payload->prompt.text = name + std::string(4 * kPrefixChunkBytes, ' ');
  spec.payload = std::move(payload);
  return spec;
}

TEST(Flood, ORCH_3004_OC_CORE_1016_OC_TENANT_1002_a_million_requests_leave_tables_and_memory_within_the_limits) {
  Config config;
  config.journal.enabled = true;
  config.journal.idempotency_keys_max = 32'768;
  config.limits.finished_max = 1024;  // a job that is kept takes 4 KiB beside its answer
  Flood bench{config};
  std::vector<ReplicaView> replicas{ready_replica("r1"), ready_replica("r2")};
  for (ReplicaView& each : replicas) each.prefix_cache = true;
  bench.manager_up(replicas);
  std::uint64_t when_full = 0;
  for (std::uint64_t n = 1; n <= kRequests && !::testing::Test::HasFailure(); ++n) {
    bench.now = bench.now + Duration::microseconds(200);
    if (n % 25'000 == 1) bench.renew();
    if (bench.core.next_wakeup() <= bench.now) bench.step(Tick{});
    if (n % 16 == 0) bench.serve_one();
    bench.submit(flooding(n));
    if (n == kFull) when_full = heap_bytes();
  }
  const std::uint64_t at_end = heap_bytes();
  bench.check();
  const Orchestrator& core = bench.core;
  EXPECT_EQ(bench.admitted + bench.refused, kRequests) << "each is answered once";
  EXPECT_EQ(bench.admitted - bench.ended, core.queue().size() + core.in_flight()) << "and what was admitted ends once";
  EXPECT_GT(bench.refused, kRequests / 2);
  EXPECT_EQ(core.decisions().size(), std::min<std::uint64_t>(kRequests, DecisionLog::kJobsMax));
  EXPECT_EQ(core.tenants().names().size(), std::min<std::uint64_t>(kRequests, kTenantsMax));
  EXPECT_LE(core.shares().rows(bench.now).size(), 2 * kTenantsMax);
  RecordProperty("heap_bytes", std::to_string(at_end));
  RecordProperty("admitted", std::to_string(bench.admitted));
  if (kRequests < 1'000'000) return;
  EXPECT_EQ(core.keys().size(), config.journal.idempotency_keys_max) << "the flood reaches the limits";
  EXPECT_EQ(core.budgets().sessions(), config.budgets.sessions_max);
  EXPECT_EQ(core.prefixes().size(), PrefixIndex::kEntriesMax);
  EXPECT_LT(at_end, when_full + kMiB) << "3 bytes a request";
  EXPECT_LT(at_end, 96 * kMiB);
}

}  // namespace
}  // namespace orch::gateway
