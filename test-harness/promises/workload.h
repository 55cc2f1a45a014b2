// A fleet and its clients in virtual time around the gateway's real core, for tests that measure promises: replicas
// whose jobs take as long as their tokens and the batch make them, clients that arrive as a Poisson process and may
// come back when they were told to. One seed decides everything.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway::testing {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ull;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1.0p-53; }
  double exponential(double mean) { return -mean * std::log(uniform()); }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }
  double lognormal(double median, double sigma) { return median * std::exp(sigma * normal()); }

 private:
  std::uint64_t state_;
};

struct WorkloadPlan {
  std::uint64_t seed = 1;
  std::uint32_t replicas = 4;
  std::uint32_t slots = 8;  // of each
  double per_second = 10;   // arrivals
  double output_median = 100;
  double output_sigma = 0.5;
  std::uint32_t max_tokens = 400;
  double prompt_bytes_median = 800;
  double prefill_ms_per_token = 0.5;
  double decode_ms = 10;       // per token, alone
  double decode_ms_full = 20;  // per token, all slots of the replica busy
  double deadline_share = 1;   // of jobs that name one
  double deadline_s_low = 3;   // log-uniform between the two
  double deadline_s_high = 40;
  bool retries = false;  // the refused come back when they were told to
  std::uint32_t tenants = 1;
  std::uint32_t wave = 0;  // requests that come at once
  Duration wave_every = Duration::seconds(60);
  Config config;
};

struct WorkloadJob {
  std::string tenant;
  Instant submitted;
  Duration deadline;  // zero: none
  bool admitted = false;
  Admitted reply;
  std::optional<Failure> refusal;
  std::optional<NotedEnded> end;
  Instant ended_at;
  bool on_time() const { return end && !end->failure && (deadline.ns == 0 || end->total <= deadline); }
};

class Workload {
 public:
  explicit Workload(WorkloadPlan chosen) : plan(std::move(chosen)), core(plan.config), dice_(plan.seed) {
    std::vector<ReplicaView> views;
    for (std::uint32_t i = 0; i < plan.replicas; ++i) {
      ReplicaView view = ready_replica("r" + std::to_string(i));
      view.ctx_max = 100'000;
      view.slots = plan.slots;
      views.push_back(view);
    }
    step(ManagerUp{kLink, kManager, 1, views});
    for (std::uint32_t i = 0; i < plan.replicas; ++i) {
      LeaseGranted grant;
      grant.link = kLink;
      grant.lease = {1, i + 1};
      grant.replica_id = "r" + std::to_string(i);
      grant.inc = {1, 1};
      grant.slots = plan.slots;
      grant.secret = {1, static_cast<std::uint8_t>(i), 3};
      grant.update_seq = last_seq_;
      grant.ttl = Duration::seconds(10'000'000);
      grant.number = i + 1;
      step(grant);
    }
  }

  // Arrivals for this long, then until all is quiet.
  void run(Duration span) {
    const Instant end = now + span;
    schedule_arrival(end);
    if (plan.wave > 0) schedule_wave(end);
    while (!agenda_.empty() || core.queue().size() > 0) {
      const Instant wakeup = core.next_wakeup();
      if (agenda_.empty() || wakeup < agenda_.top().at) {
        now = std::max(now, wakeup);
        step(Tick{});
        continue;
      }
      const Item item = agenda_.top();
      agenda_.pop();
      now = std::max(now, item.at);
      item.act();
      if (after_event) after_event();
    }
  }
  // One request now; returns its number.
  std::size_t submit(const std::string& tenant, Duration deadline) {
    WorkloadJob job;
    job.tenant = tenant;
    job.submitted = now;
    job.deadline = deadline;
    jobs.push_back(job);
    send(jobs.size() - 1);
    return jobs.size() - 1;
  }

  const WorkloadPlan plan;
  Orchestrator core;
  Instant now{1'000'000'000};
  std::vector<WorkloadJob> jobs;
  std::function<void()> after_event;
  std::function<void(std::size_t job)> on_refused;
  double busy_seconds = 0;  // of slots

 private:
  struct Item {
    Instant at;
    std::uint64_t order = 0;
    std::function<void()> act;
    bool operator<(const Item& other) const { return at != other.at ? at > other.at : order > other.order; }
  };
  void at(Instant when, std::function<void()> act) { agenda_.push({when, next_order_++, std::move(act)}); }

  void schedule_arrival(Instant end) {
    const Instant when = now + Duration{static_cast<std::int64_t>(dice_.exponential(1e9 / plan.per_second))};
    if (when >= end) return;
    at(when, [this, end] {
      Duration deadline;
      if (dice_.uniform() < plan.deadline_share) {
        const double low = std::log(plan.deadline_s_low);
        const double high = std::log(plan.deadline_s_high);
        deadline = Duration{static_cast<std::int64_t>(1e9 * std::exp(low + (high - low) * dice_.uniform()))};
      }
      submit("t" + std::to_string(dice_.next() % plan.tenants), deadline);
      schedule_arrival(end);
    });
  }
  void schedule_wave(Instant end) {
    const Instant when = now + plan.wave_every;
    if (when >= end) return;
    at(when, [this, end] {
      for (std::uint32_t i = 0; i < plan.wave; ++i) submit("t" + std::to_string(i % plan.tenants), Duration{});
      schedule_wave(end);
    });
  }
  void send(std::size_t number) {
    WorkloadJob& job = jobs[number];
    JobSpec spec = spec_of(number + 1);
    spec.id = {{0xA1, (number + 1) * 0x9E3779B97F4A7C15ull}};
    numbers_[spec.id] = number;
    spec.tenant = job.tenant;
    spec.attachment = Attachment::detached;
    spec.max_tokens = plan.max_tokens;
    spec.prompt_bytes = static_cast<std::uint64_t>(std::max(1.0, dice_.lognormal(plan.prompt_bytes_median, 0.5)));
    if (job.deadline.ns > 0) spec.deadline = job.deadline;
    step(Submit{RequestId{number + 1}, std::move(spec), std::nullopt});
  }
  Effects step(const Event& event) {
    Effects out;
    core.step(event, now, out);
    for (const Effect& effect : out) {
      if (const auto* update = std::get_if<SendUpdate>(&effect)) last_seq_ = update->seq;
      if (const auto* reply = std::get_if<AdmissionReply>(&effect)) answered(*reply);
      if (const auto* dispatch = std::get_if<Dispatch>(&effect)) start(*dispatch);
      if (const auto* cancel = std::get_if<CancelDispatch>(&effect)) stop(cancel->dispatch);
      if (const auto* ended = std::get_if<NotedEnded>(&effect)) {
        WorkloadJob& job = jobs[numbers_.at(ended->job)];
        job.end = *ended;
        job.ended_at = now;
      }
    }
    return out;
  }
  void answered(const AdmissionReply& reply) {
    const std::size_t number = reply.request.value - 1;
    WorkloadJob& job = jobs[number];
    if (const auto* admitted = std::get_if<Admitted>(&reply.result)) {
      job.admitted = true;
      job.reply = *admitted;
      return;
    }
    job.refusal = std::get<Failure>(reply.result);
    if (on_refused) at(now, [this, number] { on_refused(number); });
    if (plan.retries && job.refusal->retry_after) {
      at(now + *job.refusal->retry_after,
         [this, tenant = job.tenant, deadline = job.deadline] { submit(tenant, deadline); });
    }
  }
  void start(const Dispatch& dispatch) {
    const std::size_t replica = dispatch.endpoint.empty() ? 0 : std::hash<std::string>{}(dispatch.endpoint);
    const std::uint32_t busy = ++busy_[replica];
    const double tokens = std::clamp(std::round(dice_.lognormal(plan.output_median, plan.output_sigma)), 2.0,
                                     static_cast<double>(dispatch.max_tokens));
    const double fill = static_cast<double>(busy) / plan.slots;
    const double per_token = plan.decode_ms + (plan.decode_ms_full - plan.decode_ms) * fill;
    const double prompt =
        std::max(1.0, std::round(static_cast<double>(core.find_job(dispatch.dispatch.job)->spec.prompt_bytes) / 4));
    const Duration first{
        static_cast<std::int64_t>(1e6 * (plan.prefill_ms_per_token * prompt + per_token) * dice_.lognormal(1, 0.05))};
    const Duration rest{static_cast<std::int64_t>(1e6 * per_token * (tokens - 1) * dice_.lognormal(1, 0.05))};
    running_[dispatch.dispatch] = {replica, now};
    const auto alive = [this, id = dispatch.dispatch] { return running_.contains(id); };
    at(now + first, [this, dispatch, alive] {
      if (alive()) step(DispatchTokens{dispatch.dispatch, dispatch.fence, 0, {1}, "a"});
    });
    at(now + first + rest, [this, dispatch, alive, tokens, prompt] {
      if (!alive()) return;
      free_slot(dispatch.dispatch);
      DispatchFinished finished;
      finished.dispatch = dispatch.dispatch;
      finished.fence = dispatch.fence;
      finished.prompt_tokens = static_cast<std::uint32_t>(prompt);
      finished.completion_tokens = static_cast<std::uint32_t>(tokens);
      step(finished);
    });
  }
  void stop(DispatchId id) {
    if (!running_.contains(id)) return;
    free_slot(id);
    at(now + Duration::milliseconds(10), [this, id] { step(DispatchBroken{id}); });  // within one step
  }
  void free_slot(DispatchId id) {
    const auto it = running_.find(id);
    --busy_[it->second.first];
    busy_seconds += static_cast<double>((now - it->second.second).ns) / 1e9;
    running_.erase(it);
  }

  Dice dice_;
  std::uint64_t last_seq_ = 0;
  std::uint64_t next_order_ = 0;
  std::priority_queue<Item> agenda_;
  std::map<JobId, std::size_t> numbers_;
  std::map<std::size_t, std::uint32_t> busy_;
  std::map<DispatchId, std::pair<std::size_t, Instant>> running_;
};

}  // namespace orch::gateway::testing
