// The client's side of the orchestrator: admission, streams, cancel, drain.
#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "orchestratord/core/admission.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

namespace {

const char* policy_label(FullPolicy policy) {  // ORCH-2007
  switch (policy) {
    case FullPolicy::reject:
      return "reject";
    case FullPolicy::drop_lru:
      return "drop-lru";
    case FullPolicy::shed_low_priority:
      return "shed-low-priority";
  }
  return "reject";
}

}  // namespace

// OC-ADMIT-1002: what its head has not been asked of rate and concurrency, schema, life cycle, context, tokens and
// budget, deadline, pool, queue. What the shell can judge by the request alone it has judged in between.
void Orchestrator::on(const Submit& event) {
  if (std::string tenant = tenants_.admit(event.spec.tenant); tenant != event.spec.tenant) {
    Submit renamed = event;
    renamed.spec.tenant = std::move(tenant);
    return on(renamed);
  }
  const JobSpec& spec = event.spec;
  const auto refuse_plainly = [&](Outcome outcome, std::string message, std::string field) {
    Failure failure;
    failure.outcome = outcome;
    failure.message = std::move(message);
    failure.field = std::move(field);
    refuse(event.request, spec, std::move(failure));
  };
  asking_ = reserved_by(event.request, spec.tenant);
  if (auto failure = begin_quota(spec.tenant, spec.idempotency ? &spec.idempotency->key : nullptr, asking_))
    return refuse(event.request, spec, std::move(*failure));
  if (spec.idempotency && answered_by_key(event)) return;
  if (drain_end_) {
    Failure failure;
    failure.outcome = Outcome::POOL_UNREADY;
    failure.message = "the service is shutting down";
    failure.retry_after = std::max(*drain_end_ - now_, Duration::seconds(1));
    return refuse(event.request, spec, std::move(failure));
  }
  if (const auto old = jobs_.find(spec.id); old != jobs_.end() && !old->second.being_read_out())
    return refuse_plainly(Outcome::CONFLICT, "a task with id " + spec.id.to_string() + " exists", "task_id");
  const auto call = calls_.lower_bound({spec.id, 0});
  if (call != calls_.end() && call->first.job == spec.id) {
    return refuse_plainly(Outcome::CONFLICT, "a task with id " + spec.id.to_string() + " existed and is being stopped",
                          "task_id");
  }
  if (spec.max_tokens == 0)
    return refuse_plainly(Outcome::INVALID_PARAMS, "max_tokens must be at least 1", "max_tokens");
  if (std::optional<Failure> failure = class_failure(spec)) return refuse(event.request, spec, std::move(*failure));
  const bool journaled = is_journaled(spec);
  if (journaled && journal_.failing()) return refuse(event.request, spec, journal_failure());  // J6

  std::string version;
  if (std::optional<Failure> failure = route_model(spec, version))
    return refuse(event.request, spec, std::move(*failure));
  LaneOrFailure model = check_model(spec, version, fleet_, config_.limits);
  if (!model.lane) return refuse(event.request, spec, std::move(model.failure));
  if (std::optional<Failure> failure = quarantined(spec, model.lane->model))
    return refuse(event.request, spec, std::move(*failure));
  const ReplicaView* primary = fleet_.find(*model.status.primary);
  ORCH_CHECK(primary != nullptr);
  const ContextCheck context = check_context(spec, *primary, model.status.ctx_max);
  if (context.verdict == Context::overflows) {
    Failure failure = context_overflow(spec, std::nullopt, model.status.ctx_max);
    failure.engine = primary->engine;
    failure.pool_id = primary->pool_id;
    return refuse(event.request, spec, std::move(failure));
  }

  Job job;
  job.spec = spec;
  job.lane = *model.lane;
  job.tokens_bound = context.tokens_bound;
  job.admission_request = event.request;
  job.first_reader = event.reader;
  job.journal.wanted = journaled;
  job.quota = std::exchange(asking_, {});
  job.submitted_at = now_;
  job.pool_id = primary->pool_id;
  job.engine = primary->engine;
  job.engine_version = primary->engine_version;
  results_.forget_dropped(spec.id);
  forget(spec.id);  // one that is read out makes room (J7)
  Job& stored = jobs_.emplace(spec.id, std::move(job)).first->second;
  if (spec.idempotency) {  // J5: from here on, so that a repeat finds a job that is still being counted
    keys_.add(spec.idempotency->key, {spec.idempotency->body, spec.id, {}, now_ + config_.journal.idempotency_ttl});
  }
  // Near the limit only an exact count decides, and only a ready replica can give one (ruling 13). Without it the
  // worker is the one that refuses.
  const bool can_count = context.verdict == Context::must_count && primary->state == ReplicaState::ready;
  if (!can_count) return finish_admission(stored);
  if (counting_.size() >= config_.limits.admitting_max) {
    Failure failure =
        failure_for(Outcome::ADMISSION_REJECT,
                    std::to_string(counting_.size()) + " requests already wait for a token count", stored);
    failure.policy_label = "reject";
    failure.retry_after = retry_after(stored);
    return refuse_admitting(stored, std::move(failure));
  }
  const RequestId request{next_count_++};
  counting_.emplace(request, spec.id);
  arm(stored);
  emit(CountTokens{request, primary->endpoint, spec.payload});
}

void Orchestrator::on(const TokensCounted& event) {
  const auto it = counting_.find(event.request);
  if (it == counting_.end()) return;
  Job& job = jobs_.at(it->second);
  counting_.erase(it);
  if (event.tokens) {
    const std::uint32_t ctx_max = fleet_.status(job.lane).ctx_max;
    job.tokens_bound = std::uint64_t{*event.tokens} + job.spec.max_tokens;
    if (job.tokens_bound > ctx_max && ctx_max > 0)
      return refuse_admitting(job, context_overflow(job.spec, *event.tokens, ctx_max));
  }
  finish_admission(job);
}

void Orchestrator::refuse(RequestId request, const JobSpec& spec, Failure failure) {
  quotas_.give_back(spec.tenant, asking_, now_);
  emit(NotedRefused{spec.id, spec.tenant, failure.engine, failure});
  log_refused(spec, failure);
  emit(AdmissionReply{request, std::move(failure)});
}

void Orchestrator::refuse_admitting(Job& job, Failure failure) {
  const JobId id = job.spec.id;
  if (job.spec.idempotency) keys_.refused(job.spec.idempotency->key, id);  // a refused request names no job
  for (Job::Repeat& repeat : job.repeats) {
    quotas_.give_back(job.spec.tenant, repeat.quota, now_);
    emit(AdmissionReply{repeat.request, failure});
  }
  quotas_.give_back(job.spec.tenant, job.quota, now_);
  budgets_.give_back(job.spec.tenant, job.budget);
  refuse(job.admission_request, job.spec, std::move(failure));
  std::erase_if(counting_, [&](const auto& entry) { return entry.second == id; });
  queue_.remove(id);
  forget(id);
}

void Orchestrator::finish_admission(Job& job) {
  const JobId id = job.spec.id;
  std::erase_if(counting_, [&](const auto& entry) { return entry.second == id; });
  if (job.journal.wanted && journal_.failing()) return refuse_admitting(job, journal_failure());  // J6
  if (std::optional<Failure> failure = reserve_tokens(job)) return refuse_admitting(job, std::move(*failure));
  if (std::optional<Failure> failure = reserve_budget(job)) return refuse_admitting(job, std::move(*failure));
  job.admitted_at = now_;
  if (job.spec.deadline && *job.spec.deadline < Instant::never() - now_) job.deadline_at = now_ + *job.spec.deadline;
  job.order_by = order_by(job);
  predict(job);
  if (std::optional<Failure> failure = deadline_failure(job)) return refuse_admitting(job, std::move(*failure));
  if (std::optional<Failure> failure = check_pool(job.lane, fleet_, config_.limits))
    return refuse_admitting(job, std::move(*failure));
  const std::optional<Room> room = make_room(job);
  if (!room) return;

  job.seq = next_seq_++;
  if (job.journal.wanted) return commit_admission(job, *room);
  for (const JobId victim : room->victims) evict(victim, job, room->by_quota);
  const std::uint32_t position = position_of(job);
  job.started = {position, job.forecast.start, job.forecast.estimated, job.forecast.on_time};
  admit(job);
}

// The job is one of ours from here on (J1: and durably so).
void Orchestrator::admit(Job& job) {
  const JobId id = job.spec.id;
  queue_.remove(id);
  job.move_to(JobState::waiting);
  enqueue(job);
  streams_.open(id);
  if (job.journal.wanted && job.spec.store) streams_.record(id, 1);  // `started` needs no journal

  const StartedEvent& started = job.started;
  emit(NotedAdmitted{id, job.spec.tenant, job.spec.priority, job.pool_id, job.engine, job.engine_version,
                     started.queue_position, started.predicted_start});
  emit(AdmissionReply{job.admission_request,
                      Admitted{id, started.queue_position, started.predicted_start, false, started.estimated,
                               started.on_time_probability, budgets_.left(budget_account(job.spec), now_)}});
  streams_.publish(id, started, *out_);  // ruling 4: at admission
  log_admitted(job);
  overtaking_.arrived(job.flow, job.order_by - now_, job.forecast.typical, now_);
  if (!job.spec.session.empty()) sessions_.used({job.spec.tenant, job.spec.session, job.lane.model}, now_);
  if (job.first_reader) {
    const auto opened = streams_.add_reader(*job.first_reader, id, std::nullopt, *out_);
    ORCH_CHECK(opened == StreamRegistry::Opened::live);
  }
  for (const Job::Repeat& repeat : std::exchange(job.repeats, {})) answer_repeat(repeat, job.spec.tenant, id, started);
  arm(job);
  cancel_if_asked(job);
}

void Orchestrator::cancel_if_asked(Job& job) {
  if (job.cancel_later.empty()) return;
  const std::string reason = std::exchange(job.cancel_later, {});
  cancel(job, reason, reason == "disconnect" ? "the client left" : "canceled by the caller");
}

// Who must go for the newcomer; nullopt: nobody may, and it is refused.
std::optional<Room> Orchestrator::make_room(Job& job) {
  Room room = queue_.room_for({job.spec.priority, job.spec.tenant, job.spec.prompt_bytes, weight_of(job.spec.tenant)});
  if (room.kind == Room::Kind::none && mutated(Mutation::ignore_queue_bound)) room.kind = Room::Kind::free;
  if (room.kind != Room::Kind::none) return room;
  drains_.refused({job.spec.tenant, job.spec.priority}, now_);
  Failure failure =
      failure_for(Outcome::ADMISSION_REJECT,
                  std::string("the queue is full: ") + room.full + " = " + std::to_string(room.limit), job);
  failure.policy_label = policy_label(queue_.policy(job.spec.priority));
  failure.retry_after = retry_after(job);
  refuse_admitting(job, std::move(failure));
  return std::nullopt;
}

Failure Orchestrator::eviction_of(const Job& victim, const Job& newcomer, bool by_quota) {
  const FullPolicy policy = queue_.policy(newcomer.spec.priority);
  drains_.refused({victim.spec.tenant, victim.spec.priority}, now_);
  const bool dropped = policy == FullPolicy::drop_lru && !by_quota;
  const Outcome outcome = dropped ? Outcome::QUEUE_FULL_DROP_LRU : Outcome::ADMISSION_REJECT;
  Failure failure = failure_for(outcome,
                                by_quota ? "the queue is full and the tenant holds more than its share of it"
                                         : "the queue is full and a newer job took this one's place",
                                victim);
  failure.policy_label = policy_label(policy);
  failure.retry_after = retry_after(victim);
  return failure;
}

void Orchestrator::evict(JobId victim_id, const Job& newcomer, bool by_quota) {
  Job& victim = jobs_.at(victim_id);
  fail(victim, {eviction_of(victim, newcomer, by_quota), {}});
}

void Orchestrator::enqueue(Job& job) {
  job.flow = flow_of(job);
  latest_flows_[job.spec.tenant] = job.flow;
  job.order_by = order_by(job);
  if (job.forecast.service.ns <= 0) predict_service(job, domain_load(job.lane));  // a recovered job
  queue_.push(job.queue_entry(weight_of(job.spec.tenant),
                              static_cast<std::uint64_t>(std::max<std::int64_t>(job.forecast.service.ns, 1))));
  scheduler_.waits(job.flow, weight_of(job.spec.tenant));
  unjudged_ = unjudged_ || job.judged != quarantine_.version();
  drains_.waits({job.spec.tenant, job.spec.priority}, now_);
  ++load_version_;
}

void Orchestrator::unqueue(Job& job) {
  if (job.state != JobState::waiting || !queue_.remove(job.spec.id)) return;
  scheduler_.leaves(job.flow);
  note_left_queue(job);
  ++load_version_;
}

// E1: for order only.
Instant Orchestrator::order_by(const Job& job) const {
  const Limits& limits = config_.limits;
  const bool interactive = job.spec.priority == Priority::interactive;
  return std::min(job.deadline_at,
                  job.admitted_at + (interactive ? limits.interactive_order_default : limits.batch_order_default));
}

FlowId Orchestrator::flow_of(const Job& job) const { return {job.lane.model, job.spec.priority, job.spec.tenant}; }

// F2: the prompt, four bytes a token, and what it is expected to write.
ExpectedWork Orchestrator::expected_work(const Job& job) const {
  ExpectedWork work;
  work.input = 1 + job.spec.prompt_bytes / 4;
  work.output_max = job.spec.max_tokens;
  work.output = times_.expected_output(job.lane.model, job.spec.tenant, job.spec.max_tokens);
  work.resumed = job.shown_ids.size();
  return work;
}

void Orchestrator::on(const OpenStream& event) {
  const bool known = may_see(event.job, event.tenant);  // a stranger is told what a guess would be
  const auto opened = known ? streams_.add_reader(event.reader, event.job, event.last_event_id, *out_)
                            : StreamRegistry::Opened::unknown_job;
  Failure failure;
  switch (opened) {
    case StreamRegistry::Opened::live: {
      Job& job = jobs_.at(event.job);
      job.grace_end = Instant::never();
      arm(job);
      return;
    }
    case StreamRegistry::Opened::replaying:
      return;
    case StreamRegistry::Opened::replayed_whole:  // OC-JOB-J7
      results_.note_read(event.job);
      return;
    case StreamRegistry::Opened::unknown_job:
      failure = missing_task(event);
      break;
    case StreamRegistry::Opened::too_many_readers:
      failure.outcome = Outcome::ADMISSION_REJECT;
      failure.message = "the task has " + std::to_string(config_.streams.readers_per_job_max) + " readers already";
      failure.policy_label = "reject";
      failure.retry_after = times_.service(jobs_.at(event.job).lane.model, jobs_.at(event.job).spec.priority);
      break;
    case StreamRegistry::Opened::gone:
      failure.outcome = Outcome::SLOW_CONSUMER;
      failure.message = "events before id " + std::to_string(streams_.first_kept(event.job)) + " are no longer kept";
      failure.field = "Last-Event-ID";
      break;
    case StreamRegistry::Opened::beyond:
      failure.outcome = Outcome::INVALID_PARAMS;
      failure.message = "Last-Event-ID is beyond the last event, " + std::to_string(streams_.last_id(event.job));
      failure.field = "Last-Event-ID";
      break;
    case StreamRegistry::Opened::reader_exists:
      failure.outcome = Outcome::INTERNAL;
      failure.message = "this reader is open already";
      break;
  }
  emit(StreamRefused{event.reader, std::move(failure)});
}

// True: the reader was one of this job's. The job goes on for as long as another request with its key has one.
bool Orchestrator::left_before_admission(Job& job, ReaderId reader) {
  const bool was_first = job.first_reader == reader;
  const auto left = std::erase_if(job.repeats, [&](const Job::Repeat& repeat) { return repeat.reader == reader; });
  if (!was_first && left == 0) return false;
  if (was_first) job.first_reader.reset();
  const bool another = job.first_reader || std::any_of(job.repeats.begin(), job.repeats.end(),
                                                       [](const Job::Repeat& repeat) { return repeat.reader; });
  if (another || job.spec.attachment != Attachment::attached) return true;
  if (job.state == JobState::committing) {
    if (job.cancel_later.empty()) job.cancel_later = "disconnect";
  } else {
    refuse_admitting(job, failure_for(Outcome::CANCELED, "the client left", job));
  }
  return true;
}

void Orchestrator::on(const ReaderGone& event) {
  const std::optional<JobId> id = streams_.remove_reader(event.reader);
  if (!id) {
    if (event.overflowed) return;        // it was cut with its stream
    for (auto& [job_id, job] : jobs_) {  // its job may still be being admitted
      if (job.before_admission() && left_before_admission(job, event.reader)) return;
    }
    return;
  }
  Job& job = jobs_.at(*id);
  if (streams_.readers(*id) > 0) return;
  if (job.being_read_out()) return read_out(*id);
  if (job.state == JobState::concluding && job.spec.attachment == Attachment::task)  // if its end is taken back
    job.grace_end = now_ + config_.streams.reconnect_grace;
  if (!job.live()) return;
  switch (job.spec.attachment) {
    case Attachment::detached:
      return;
    case Attachment::attached:
      if (event.overflowed) {
        fail(job, {failure_for(Outcome::SLOW_CONSUMER, "the reader fell behind its connection's buffer", job), {}});
      } else {
        cancel(job, "disconnect", "the client left");
      }
      return;
    case Attachment::task:
      job.grace_end = now_ + config_.streams.reconnect_grace;
      arm(job);
      return;
  }
}

// Ruling 3: canceled jobs end in `error` CANCELED; an unknown id is 404; a repeated cancel is like the first.
void Orchestrator::on(const CancelJob& event) {
  const bool known = may_see(event.job, event.tenant);
  emit(CancelReply{event.request, known || was_dropped(event.job, event.tenant)});
  if (!known) return;
  Job& job = jobs_.at(event.job);
  if (job.state == JobState::admitting)
    return refuse_admitting(job, failure_for(Outcome::CANCELED, "canceled by the caller", job));
  const bool committing = job.state == JobState::committing || job.state == JobState::concluding;
  if (committing && job.cancel_later.empty()) job.cancel_later = "client";
  if (job.live()) cancel(job, "client", "canceled by the caller");
}

void Orchestrator::cancel(Job& job, const std::string& reason, std::string message) {
  fail(job, {failure_for(Outcome::CANCELED, std::move(message), job), reason});
}

void Orchestrator::on(const Tick&) {}

void Orchestrator::on(const DrainBegin& event) {
  if (drain_end_) return;
  drain_end_ = now_ + std::clamp(event.deadline, Duration{}, config_.limits.drain_max);
}

}  // namespace orch::gateway
