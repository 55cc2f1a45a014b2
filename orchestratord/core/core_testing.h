// Builders for tests of the gateway's core: one manager, one replica, one lease, spelled with what matters. Every step
// checks the core's invariants and that each Dispatch carries the fence of a lease that was granted.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway::testing {

inline Duration ms(std::int64_t value) { return Duration::milliseconds(value); }
inline JobId job_id(std::uint64_t n) { return {{0xA0, n}}; }
inline const ManagerId kManager{{0xB0, 1}};
inline constexpr LinkId kLink{1};

inline ReplicaView ready_replica(std::string id = "r1", std::string model = "m") {
  ReplicaView view;
  view.replica_id = std::move(id);
  view.pool_id = "p1";
  view.state = ReplicaState::ready;
  view.inc = {1, 1};
  view.endpoint = "unix:/" + view.replica_id;
  view.engine = "native";
  view.engine_version = "1";
  view.model_name = std::move(model);
  view.model_digest = "sha256:abc";
  view.numeric_class = "X";
  view.accelerator = "cpu";
  view.ctx_max = 1000;
  view.slots = 2;
  view.template_fixed_bytes = 10;
  view.template_per_message_bytes = 5;
  view.token_bytes_expansion = 1;
  view.was_ready = true;
  return view;
}

inline JobSpec spec_of(std::uint64_t n, Priority priority = Priority::interactive) {
  JobSpec spec;
  spec.id = job_id(n);
  spec.model_ref = "m";
  spec.priority = priority;
  spec.max_tokens = 10;
  spec.prompt_bytes = 20;
  spec.prompt_messages = 1;
  spec.payload = std::make_shared<JobPayload>();
  return spec;
}

class Bench {
 public:
  explicit Bench(const Config& config = {}) : core(config) {}
  virtual ~Bench() = default;
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // The effects of one event.
  virtual Effects step(const Event& event) {
    Effects out;
    core.step(event, now, out);
    const std::string fault = core.check_invariants();
    EXPECT_EQ(fault, "");
    for (const Effect& effect : out) {
      if (const auto* update = std::get_if<SendUpdate>(&effect)) last_seq = update->seq;
      if (const auto* dispatch = std::get_if<Dispatch>(&effect)) dispatches.push_back(*dispatch);
      if (const auto* ended = std::get_if<NotedEnded>(&effect)) ends.push_back(*ended);
    }
    return out;
  }
  // Time goes on; every wakeup on the way is served at its instant.
  Effects advance(Duration duration) {
    const Instant until = now + duration;
    Effects all;
    for (int guard = 0; core.next_wakeup() <= until && guard < 100000; ++guard) {
      now = std::max(now, core.next_wakeup());
      Effects some = step(Tick{});
      all.insert(all.end(), some.begin(), some.end());
    }
    now = until;
    Effects some = step(Tick{});
    all.insert(all.end(), some.begin(), some.end());
    return all;
  }
  Effects manager_up(std::vector<ReplicaView> replicas = {ready_replica()}, std::uint64_t boot = 1) {
    return step(ManagerUp{kLink, kManager, boot, std::move(replicas)});
  }
  Effects grant(std::uint32_t slots = 2, LeaseId lease = {1, 1}, const std::string& replica = "r1",
                Incarnation inc = {1, 1}) {
    LeaseGranted event;
    event.link = kLink;
    event.lease = lease;
    event.replica_id = replica;
    event.inc = inc;
    event.slots = slots;
    event.secret = {1, 2, 3};
    event.update_seq = last_seq;
    event.ttl = ms(15000);
    event.number = ++grants;
    return step(event);
  }
  void ready(std::uint32_t slots = 2) {
    manager_up();
    grant(slots);
  }
  Effects submit(JobSpec spec, std::optional<ReaderId> reader = std::nullopt) {
    return step(Submit{RequestId{++requests}, std::move(spec), reader});
  }
  // Of the next request; `submit_body` sends the rest of the last one.
  Effects head(const std::string& tenant = "default", const std::optional<Idempotency>& key = std::nullopt) {
    RequestHead event{RequestId{++requests}, tenant};
    if (key) event.key = key->key;
    return step(event);
  }
  Effects submit_body(JobSpec spec) { return step(Submit{RequestId{requests}, std::move(spec), std::nullopt}); }
  // The last dispatch, in 190 ms: 10 tokens, 100 ms to the first.
  void serve_measured() {
    const Dispatch last = dispatches.back();
    started(last);
    now = now + ms(100);
    token(last, 0, "a");
    now = now + ms(90);
    finished(last, 10);
  }
  Effects started(const Dispatch& d) { return step(DispatchStarted{d.dispatch, d.fence, 7, 0}); }
  Effects token(const Dispatch& d, std::uint32_t index, std::string text) {
    return step(DispatchTokens{d.dispatch, d.fence, index, {100 + index}, std::move(text)});
  }
  Effects finished(const Dispatch& d, std::uint32_t tokens) {
    DispatchFinished event;
    event.dispatch = d.dispatch;
    event.fence = d.fence;
    event.prompt_tokens = 7;
    event.completion_tokens = tokens;
    return step(event);
  }
  Effects failed(const Dispatch& d, Outcome outcome) {
    Failure failure;
    failure.outcome = outcome;
    return step(DispatchFailed{d.dispatch, d.fence, std::move(failure)});
  }

  Orchestrator core;
  Instant now{1'000'000'000};
  std::uint64_t last_seq = 0;
  std::uint64_t requests = 0;
  std::uint64_t grants = 0;
  std::vector<Dispatch> dispatches;  // all so far
  std::vector<NotedEnded> ends;
};

template <typename T>
std::vector<T> all_of(const Effects& effects) {
  std::vector<T> out;
  for (const Effect& effect : effects) {
    if (const T* typed = std::get_if<T>(&effect)) out.push_back(*typed);
  }
  return out;
}

inline Effects operator+(Effects a, const Effects& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Refusal of the one AdmissionReply in `effects`; nullopt: admitted.
inline std::optional<Failure> refusal(const Effects& effects) {
  const auto replies = all_of<AdmissionReply>(effects);
  EXPECT_EQ(replies.size(), 1u);
  if (replies.empty()) return Failure{};
  if (const auto* failure = std::get_if<Failure>(&replies[0].result)) return *failure;
  return std::nullopt;
}

inline Failure refused(Bench& bench, JobSpec spec) {
  return refusal(bench.submit(std::move(spec))).value_or(Failure{});
}

// Of the one HeadReply in `effects`; nullopt: let in.
inline std::optional<Failure> head_refusal(const Effects& effects) {
  const auto replies = all_of<HeadReply>(effects);
  EXPECT_EQ(replies.size(), 1u);
  return replies.empty() ? Failure{} : replies[0].failure;
}

inline std::string code(const std::optional<Failure>& failure) {
  return failure ? std::string(outcome_row(failure->outcome).code) : "none";
}

// What `reader` was shown, in words: "1 started, 2 token a, 3 end".
inline std::string shown(const Effects& effects, ReaderId reader) {
  std::string out;
  const auto add = [&](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
  for (const Effect& effect : effects) {
    if (const auto* opened = std::get_if<StreamOpened>(&effect); opened != nullptr && opened->reader == reader)
      add("opened");
    if (const auto* closed = std::get_if<StreamClosed>(&effect); closed != nullptr && closed->reader == reader)
      add("closed");
    if (const auto* refused = std::get_if<StreamRefused>(&effect); refused != nullptr && refused->reader == reader) {
      add("refused " + std::string(outcome_row(refused->failure.outcome).code));
    }
    if (const auto* cut = std::get_if<CutReader>(&effect); cut != nullptr && cut->reader == reader) add("cut");
    const auto* deliver = std::get_if<Deliver>(&effect);
    if (deliver == nullptr || deliver->reader != reader) continue;
    const StreamEvent& event = *deliver->event;
    const std::string id = std::to_string(event.id) + " ";
    if (std::holds_alternative<StartedEvent>(event.body)) add(id + "started");
    if (const auto* token = std::get_if<TokenEvent>(&event.body)) add(id + "token " + token->text);
    if (std::holds_alternative<EndEvent>(event.body)) add(id + "end");
    if (const auto* error = std::get_if<ErrorEvent>(&event.body))
      add(id + std::string(outcome_row(error->failure.outcome).code));
  }
  return out;
}

// A Bench for long runs: the invariants, which walk every job, are checked at each 64th step.
struct LongBench : Bench {
  using Bench::Bench;
  Effects step(const Event& event) override {
    if (++steps % 64 == 0) return Bench::step(event);
    Effects out;
    core.step(event, now, out);
    for (const Effect& effect : out) {
      if (const auto* update = std::get_if<SendUpdate>(&effect)) last_seq = update->seq;
      if (const auto* dispatch = std::get_if<Dispatch>(&effect)) dispatches.push_back(*dispatch);
      if (const auto* ended = std::get_if<NotedEnded>(&effect)) ends.push_back(*ended);
    }
    return out;
  }
  std::uint64_t steps = 0;
};

}  // namespace orch::gateway::testing
