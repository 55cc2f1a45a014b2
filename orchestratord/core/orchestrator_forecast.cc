// What the orchestrator predicts and promises: E1 to E5, Retry-After, and the record of how predictions came true.
#include <algorithm>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

// Jobs behind a newcomer that are asked whether it would make them late (E4). The nearest have the least time.
constexpr int kHarmScanMax = 64;

std::string in_ms(Duration duration) { return std::to_string(duration.ms()) + " ms"; }

}  // namespace

OnTimeRecord::Position Orchestrator::position_in_time(const Job& job) {
  const Forecast& forecast = job.forecast;
  return {job.lane.model, job.spec.priority, forecast.waits(), forecast.total(), forecast.left};
}

Orchestrator::DomainLoad Orchestrator::domain_load(const Lane& lane) const {
  DomainLoad load;
  const ModelStatus status = fleet_.status(lane);
  std::uint32_t held = 0;
  for (const auto& [key, lease] : leases_.all()) {
    const ReplicaView* replica = fleet_.find(lease.replica);
    if (replica == nullptr || !serves(*replica, lane)) continue;
    if (lease.live(now_)) held += lease.slots;
    load.busy += lease.in_use;
  }
  load.slots = held > 0 ? held : status.ready_slots;  // without a lease: what a first grant may bring
  if (status.standing != Standing::ready)
    load.until_ready = status.retry_in.value_or(Duration{}) + config_.limits.load_default;
  return load;
}

// Asked for while nothing was served alone.
SelfTestRates Orchestrator::self_test_rates(const Lane& lane) const {
  return times_.decode_rate(lane.model) > 0 ? SelfTestRates{} : fleet_.self_test(lane);
}

// E2. The prompt's bound is that of its bytes unless it was counted; measured tokens per byte come closer.
void Orchestrator::predict_service(Job& job, const DomainLoad& load) const {
  Forecast& forecast = job.forecast;
  const std::string& model = job.lane.model;
  forecast.prompt_tokens = times_.prompt_tokens(model, job.spec.prompt_bytes);
  forecast.output_tokens = times_.expected_output(model, job.spec.tenant, job.spec.max_tokens);
  const double slots = std::max<std::uint32_t>(load.slots, 1);
  const ServiceEstimate estimate = times_.estimate(
      {.model = model,
       .priority = job.spec.priority,
       .prompt_tokens = forecast.prompt_tokens,
       .output_tokens = forecast.output_tokens,
       .output_median = times_.output_quantile(model, job.spec.tenant, 0.5, job.spec.max_tokens).value_or(1),
       .output_least = times_.output_quantile(model, job.spec.tenant, 0.1, job.spec.max_tokens).value_or(1),
       .fill = std::min(1.0, (load.busy + 1) / slots),
       .self_test = self_test_rates(job.lane)});
  forecast.service = estimate.median;
  forecast.typical = estimate.typical;
  forecast.quick = estimate.quick;
  forecast.estimated = estimate.basis != Basis::served;
  forecast.by_default = estimate.basis == Basis::class_default;
}

// For placement: what the job would take on a replica of usual speed, by its batch fill.
std::array<Duration, 4> Orchestrator::service_by_fill(const Job& job, std::uint64_t cached_tokens) const {
  std::array<Duration, 4> out{};
  if (job.forecast.by_default) return out;
  const SelfTestRates self_test = self_test_rates(job.lane);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const ServiceQuery query{
        .model = job.lane.model,
        .priority = job.spec.priority,
        .prompt_tokens = job.forecast.prompt_tokens - std::min(cached_tokens, job.forecast.prompt_tokens),
        .output_tokens = job.forecast.output_tokens,
        .fill = (static_cast<double>(i) + 1) / 4,
        .self_test = self_test};
    out[i] = times_.estimate(query).median;
  }
  return out;
}

// Slots the tenant may count on: its class's share among the classes that wait, times its own share of the class.
double Orchestrator::own_slots(const Job& job, const DomainLoad& load) const {
  const Limits& limits = config_.limits;
  const bool interactive = job.spec.priority == Priority::interactive;
  const double weight = interactive ? limits.interactive_weight : limits.batch_weight;
  const double other = interactive ? limits.batch_weight : limits.interactive_weight;
  const bool contended = queue_.depth(job.lane.model, interactive ? Priority::batch : Priority::interactive) > 0;
  const double of_class = contended ? weight / (weight + other) : 1;
  return of_class * scheduler_.weight_share(flow_of(job), weight_of(job.spec.tenant)) *
         std::max<std::uint32_t>(load.slots, 1);
}

// E3. A free slot that nobody waits for is taken at once. `overtaken`: by jobs that are still to come, too.
Duration Orchestrator::start_behind(const Job& job, const DomainLoad& load, const LineKey& key, bool overtaken) const {
  const std::string& model = job.lane.model;
  const RankedLine::Sums ahead = queue_.ahead_of(model, job.spec.priority, job.spec.tenant, key);
  const bool free = load.busy < load.slots;
  if (ahead.jobs == 0 && free) return load.until_ready;
  Duration next;
  if (!free && expected_ends_.contains(model)) next = next_free_slot(model) - now_;
  const double slots = own_slots(job, load);
  const Duration work{static_cast<std::int64_t>(ahead.work)};
  const Duration left = overtaken ? job.order_by - now_ : Duration{};  // nobody is due before one that is due now
  return load.until_ready + next + overtaking_.wait(flow_of(job), left, work, slots, now_);
}

// Before the job is in the queue; `admitted_at`, `deadline_at` and `order_by` are set.
void Orchestrator::predict(Job& job) const {
  Forecast& forecast = job.forecast;
  const DomainLoad load = domain_load(job.lane);
  predict_service(job, load);
  forecast.start = start_behind(job, load, {job.order_by, next_seq_}, true);
  forecast.left = job.order_by - now_;
  if (!job.spec.deadline) return;
  forecast.left = std::min(*job.spec.deadline, config_.limits.deadline_max);
  if (!forecast.estimated) forecast.needed = forecast.typical <= forecast.left ? forecast.typical : forecast.quick;
  if (forecast.estimated && !forecast.by_default) forecast.needed = forecast.quick;
  forecast.latest_start = now_ + (forecast.left - forecast.needed);  // E5
  forecast.on_time = on_time_.probability(position_in_time(job));
}

// E4. Nothing is refused on the strength of a default; what a self-test measured refuses by half of its time.
std::optional<Failure> Orchestrator::deadline_failure(const Job& job) const {
  const Forecast& forecast = job.forecast;
  if (!job.spec.deadline || forecast.by_default) return std::nullopt;
  const auto unmet = [&](std::string message) {
    Failure failure = failure_for(Outcome::DEADLINE_UNMET, std::move(message), job);
    failure.field = "deadline_ms";
    return failure;
  };
  if (forecast.quick > *job.spec.deadline) {
    const char* what = forecast.estimated ? ") is shorter than half of what such a prompt took in the self-test, "
                                          : ") is shorter than the quickest tenth of such tasks takes, ";
    return unmet("deadline_ms (" + in_ms(*job.spec.deadline) + what + in_ms(forecast.quick));
  }
  const std::string& model = job.lane.model;
  if (forecast.estimated || queue_.size_of(model, job.spec.priority, job.spec.tenant) == 0) return std::nullopt;
  const DomainLoad load = domain_load(job.lane);
  const Duration delay{static_cast<std::int64_t>(static_cast<double>(forecast.service.ns) / own_slots(job, load))};
  LineKey key{job.order_by, next_seq_};
  for (int i = 0; i < kHarmScanMax; ++i) {
    const std::optional<RankedLine::Item> behind = queue_.after(model, job.spec.priority, job.spec.tenant, key);
    if (!behind) return std::nullopt;
    key = behind->key;
    const Job& other = jobs_.at(behind->job);
    if (!other.spec.deadline) continue;
    const Instant start = now_ + start_behind(other, load, key, false);
    if (start <= other.forecast.latest_start && start + delay > other.forecast.latest_start) {
      return unmet("deadline_ms (" + in_ms(*job.spec.deadline) + ") would make task " + behind->job.to_string() +
                   ", admitted before, miss its own");
    }
  }
  return std::nullopt;
}

// --- the decision log ---

void Orchestrator::log_admitted(const Job& job) {
  DecisionRecord& record = decisions_.open(job.spec.id);
  record.tenant = job.spec.tenant;
  record.session = job.spec.session;
  record.model = job.lane.model;
  record.priority = job.spec.priority;
  record.submitted_at = job.submitted_at;
  record.admitted = true;
  record.queue_position = job.started.queue_position;
  record.forecast = job.forecast;
  record.order_by = job.order_by;
  record.deadline_at = job.deadline_at;
}

void Orchestrator::log_refused(const JobSpec& spec, const Failure& failure) {
  const DecisionRecord* known = decisions_.find(spec.id);  // of another task: it stays
  if (known != nullptr && (failure.outcome == Outcome::CONFLICT || known->tenant != spec.tenant)) return;
  DecisionRecord& record = decisions_.open(spec.id);
  record.tenant = spec.tenant;
  record.session = spec.session;
  record.model = spec.model_ref;
  record.priority = spec.priority;
  record.submitted_at = now_;
  record.ended_at = now_;
  record.failure = failure;
}

// --- the queue's shadow ---

void Orchestrator::note_left_queue(const Job& job) {
  drains_.left({job.spec.tenant, job.spec.priority}, queue_.size_of(job.spec.tenant, job.spec.priority) > 0, now_);
}

void Orchestrator::note_dispatched(Job& job, const HeldLease& lease, const ReplicaView& replica) {
  const double slots = std::max({lease.slots, replica.slots, 1u});
  job.forecast.fill = std::min(1.0, lease.in_use / slots);  // its own slot is taken already
  job.forecast.expected_end = now_ + job.forecast.service;
  expected_ends_[job.lane.model].emplace(job.forecast.expected_end, job.dispatch_id());
}

void Orchestrator::forget_expected_end(const std::string& model, Instant expected_end, DispatchId dispatch) {
  const auto ends = expected_ends_.find(model);
  if (ends == expected_ends_.end()) return;
  ends->second.erase({expected_end, dispatch});
  if (ends->second.empty()) expected_ends_.erase(ends);
}

// --- what came true ---

void Orchestrator::note_served(const Job& job, const DispatchFinished& event,
                               const std::optional<ReplicaKey>& replica) {
  ServiceSample sample;
  sample.model = job.lane.model;
  sample.tenant = job.spec.tenant;
  sample.priority = job.spec.priority;
  sample.prompt_bytes = job.spec.prompt_bytes;
  sample.prompt_tokens = event.prompt_tokens;
  sample.cached_tokens = job.cached_prompt_tokens;
  sample.output_tokens = event.completion_tokens;
  sample.fill = job.forecast.fill;
  sample.held = now_ - job.dispatched_at;
  if (!job.first_token_at.is_never() && job.first_token_at >= job.dispatched_at) {
    sample.to_first_token = job.first_token_at - job.dispatched_at;
  }
  // The replica's own speed: against what a job with this very output was to take.
  const ServiceQuery same{.model = sample.model,
                          .priority = sample.priority,
                          .prompt_tokens = sample.prompt_tokens - std::min(sample.cached_tokens, sample.prompt_tokens),
                          .output_tokens = sample.output_tokens,
                          .fill = sample.fill};
  const ServiceEstimate expected = times_.estimate(same);
  if (replica && expected.basis == Basis::served && expected.median.ns > 0)
    speeds_.observe(*replica, static_cast<double>(sample.held.ns) / static_cast<double>(expected.median.ns));
  times_.served(sample, now_);
}

// Which jobs tell how good predictions are: those that ended by themselves tell it exactly; those that were cut short
// tell that they would have taken longer.
void Orchestrator::note_outcome(const Job& job, const Conclusion& conclusion) {
  if (DecisionRecord* record = decisions_.find(job.spec.id)) {
    record->ended_at = conclusion.at;
    record->failure = conclusion.failure;
  }
  if (job.forecast.estimated) return;
  const OnTimeRecord::Result result{conclusion.at - job.admitted_at, conclusion.failure.has_value(),
                                    job.spec.deadline.has_value()};
  on_time_.observe(position_in_time(job), result, now_);
}

// OC-ADMIT-1001.
Duration Orchestrator::retry_after(const Job& job) const {
  const std::uint32_t excess =
      queue_.excess({job.spec.priority, job.spec.tenant, job.spec.prompt_bytes, weight_of(job.spec.tenant)});
  const DomainLoad load = domain_load(job.lane);
  const Duration service = times_.service(job.lane.model, job.spec.priority);
  const Duration unmeasured{static_cast<std::int64_t>(static_cast<double>(service.ns) / own_slots(job, load))};
  return drains_.retry_after({job.spec.tenant, job.spec.priority}, excess, unmeasured, job.spec.id.value.lo, now_);
}

}  // namespace orch::gateway
