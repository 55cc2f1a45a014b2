// What the journal means for jobs: nobody is told of a journaled job or of its end before the journal has it (J1),
// tokens follow in checkpoints (J3), a failing journal refuses newcomers and keeps ends back (J6), and a new life of
// the process takes over what the last one left (J4, J5).
#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// --- ruling 12 ---

bool Orchestrator::is_journaled(const JobSpec& spec) const {
  if (!config_.journal.enabled) return false;
  return spec.attachment != Attachment::attached || spec.idempotency || config_.journal.plain_openai;
}

Failure Orchestrator::journal_failure() const {
  Failure failure;
  failure.outcome = Outcome::JOURNAL_UNAVAILABLE;
  failure.message = "the journal cannot be written: " + journal_.reason();
  failure.retry_after = std::max(journal_.pause(), Duration::seconds(1));
  return failure;
}

// --- J5 ---

// True: the request is answered, or will be with the job it repeats.
bool Orchestrator::answered_by_key(const Submit& event) {
  const JobSpec& spec = event.spec;
  const auto refuse_it = [&](Outcome outcome, std::string message) {
    Failure failure;
    failure.outcome = outcome;
    failure.message = std::move(message);
    failure.field = "Idempotency-Key";
    if (outcome == Outcome::ADMISSION_REJECT) {
      failure.policy_label = "reject";
      failure.retry_after =
          std::clamp(keys_.next_expiry() - now_, Duration::seconds(1), config_.limits.retry_after_max);
    }
    refuse(event.request, spec, std::move(failure));
    return true;
  };
  if (!config_.journal.enabled)
    return refuse_it(Outcome::NOT_IMPLEMENTED, "Idempotency-Key needs the journal, which is switched off");
  const IdempotencyKeys::Entry* entry = keys_.find(spec.idempotency->key);
  if (entry == nullptr) {
    if (keys_.size() < config_.journal.idempotency_keys_max) return false;
    return refuse_it(Outcome::ADMISSION_REJECT,
                     "journal.idempotency_keys_max = " + std::to_string(config_.journal.idempotency_keys_max) +
                         " keys are kept already");
  }
  if (entry->body != spec.idempotency->body)
    return refuse_it(Outcome::CONFLICT, "this Idempotency-Key was used with another body");
  quotas_.release_place(spec.tenant, asking_);  // OC-ADMIT-1006
  const Job::Repeat repeat{event.request, event.reader, std::exchange(asking_, {})};
  const auto job = jobs_.find(entry->job);
  if (job != jobs_.end() && job->second.before_admission()) {
    if (job->second.repeats.size() >= config_.limits.repeats_max) {
      asking_ = repeat.quota;
      return refuse_it(Outcome::CONFLICT,
                       std::to_string(config_.limits.repeats_max) + " requests with this Idempotency-Key wait already");
    }
    job->second.repeats.push_back(repeat);
    if (repeat.reader && job->second.cancel_later == "disconnect") job->second.cancel_later.clear();  // it is back
    return true;
  }
  answer_repeat(repeat, spec.tenant, entry->job, entry->admitted);
  return true;
}

void Orchestrator::answer_repeat(Job::Repeat repeat, const std::string& tenant, JobId job,
                                 const StartedEvent& admitted) {
  const auto refuse_it = [&](Outcome outcome, std::string message) {
    quotas_.give_back(tenant, repeat.quota, now_);
    Failure failure;
    failure.outcome = outcome;
    failure.message = std::move(message);
    emit(AdmissionReply{repeat.request, std::move(failure)});
  };
  if (repeat.reader && !may_see(job, std::nullopt)) {
    if (was_dropped(job, tenant)) return refuse_it(Outcome::RESULT_DROPPED, dropped_message());  // OC-JOB-J7
    return refuse_it(Outcome::NOT_FOUND, "the result of this Idempotency-Key is no longer kept");
  }
  if (repeat.reader && !streams_.closed(job) && streams_.readers(job) >= config_.streams.readers_per_job_max)
    return refuse_it(Outcome::CONFLICT, "the task has too many readers already");
  emit(AdmissionReply{repeat.request, Admitted{job,
                                               admitted.queue_position,
                                               admitted.predicted_start,
                                               true,
                                               admitted.estimated,
                                               admitted.on_time_probability,
                                               {}}});
  if (repeat.reader) on(OpenStream{*repeat.reader, job, std::nullopt});
}

// --- J1: admission ---

// The victims' ends and the newcomer are one transaction, and nobody is told before it is durable (OC-QUEUE-1008).
void Orchestrator::commit_admission(Job& job, const Room& room) {
  const JobId id = job.spec.id;
  std::vector<JournalRecord> records;
  std::vector<JournalItem> items;
  for (const JobId victim_id : room.victims) {
    Job& victim = jobs_.at(victim_id);
    conclude(victim, {eviction_of(victim, job, room.by_quota), {}, {}, now_, {}});
    if (victim.journal.wanted) append_records(victim, records, items);
    std::erase_if(items, [&](const JournalItem& item) { return item.job == victim_id; });
    items.push_back({JournalItem::Kind::evict, victim_id, 0});
  }
  const std::uint32_t position = position_of(job);
  job.started = {position, job.forecast.start, job.forecast.estimated, job.forecast.on_time};
  job.move_to(JobState::committing);
  disarm(job);
  queue_.hold(job.queue_entry(weight_of(job.spec.tenant), 0));
  if (job.spec.idempotency) keys_.admitted(job.spec.idempotency->key, id, job.started);
  records.push_back(AdmitRecord{job.spec, job.lane, job.pool_id, job.engine, job.engine_version, job.started});
  items.push_back({JournalItem::Kind::admit, id, 0});
  journal_.erases.erase(id);  // the new record takes the place of what an older job of this id left
  journal_.refused_keys.erase(id);
  const JournalTicket ticket = journal_.begin(std::move(items), now_);
  emit(JournalWrite{ticket, std::move(records)});
  if (mutated(Mutation::ack_before_commit)) admit(job);
}

// An eviction that was not journaled has not happened.
void Orchestrator::take_back(Job& victim) {
  victim.conclusion.reset();
  victim.taken_back = true;
  victim.journal.end_sent = false;
  if (victim.journal.aboard_due) journal_.urgent.insert(victim.spec.id);
  victim.move_to(JobState::waiting);
  enqueue(victim);
  arm(victim);
  const bool left = victim.spec.attachment == Attachment::attached && streams_.readers(victim.spec.id) == 0;
  if (left && victim.cancel_later.empty()) victim.cancel_later = "disconnect";
  cancel_if_asked(victim);
}

// --- dispatch, tokens, end ---

// Whether tokens may have been seen decides what a restart does with the job (J4), so none is told before the record of
// the attempt is durable. The prompt takes longer than the disk: the record costs a stream no time.
void Orchestrator::hold_for_dispatch_record(Job& job) {
  job.journal.dispatch_due = job.attempt;
  job.journal.dispatch_stored = false;
  streams_.hold(job.spec.id);
  journal_.urgent.insert(job.spec.id);
}

void Orchestrator::note_token(Job& job) {
  JournalProgress& journal = job.journal;
  if (!job.spec.store || journal.tokens_given_up) return;
  std::shared_ptr<const StreamEvent> event = streams_.last_event(job.spec.id);
  journal.unsaved_bytes += event_bytes(*event);
  journal.unsaved.push_back(std::move(event));
  if (journal.unsaved_bytes > config_.limits.unsaved_bytes_max) {
    journal.unsaved.clear();
    journal.unsaved_bytes = 0;
    journal.tokens_given_up = true;  // a restart finds a gap and says so
    streams_.record_no_more(job.spec.id, *out_);
    return;
  }
  if (journal.unsaved.size() == 1) journal_.lazy.insert(job.spec.id);
  journal_.checkpoint_by(now_ + config_.limits.checkpoint_interval);
  const bool may_be_written = journal.dispatch_stored && journal.sent_upto == 0 && !journal_.failing();
  if (may_be_written && journal.unsaved.size() >= config_.limits.checkpoint_tokens) {
    journal_.urgent.insert(job.spec.id);
    settle_needed_ = true;
  }
  wakeup_ = std::min(wakeup_, journal_.next_change(now_));
}

void Orchestrator::stage_end(Job& job) { journal_.urgent.insert(job.spec.id); }

// --- writing ---

void Orchestrator::write_journal() {
  if (!config_.journal.enabled) return;
  if (journal_.note_stall(now_)) emit(NotedJournal{true, journal_.reason()});
  if (!journal_.may_write(now_)) return;
  const bool all = journal_.failing() || journal_.checkpoint_due(now_);
  if (!all && journal_.urgent.empty() && !leasing_.due()) return;
  std::set<JobId> jobs = std::exchange(journal_.urgent, {});
  if (all) {
    jobs.merge(std::exchange(journal_.lazy, {}));
    journal_.checkpoint_made();
  }
  write_jobs(jobs);
}

void Orchestrator::write_jobs(const std::set<JobId>& jobs) {
  std::vector<JournalRecord> records;
  std::vector<JournalItem> items;
  const auto flush = [&] {
    if (items.empty()) return;
    const JournalTicket ticket = journal_.begin(std::exchange(items, {}), now_);
    emit(JournalWrite{ticket, std::exchange(records, {})});
  };
  if (leasing_.due()) {
    records.emplace_back(leasing_.write());
    items.push_back({JournalItem::Kind::managers, {}, 0});
  }
  for (const JobId id : std::exchange(journal_.erases, {})) {
    const auto key = journal_.refused_keys.find(id);
    records.emplace_back(
        EraseRecord{id, key == journal_.refused_keys.end() ? std::nullopt : std::optional(key->second)});
    items.push_back({JournalItem::Kind::erase, id, 0});
    if (items.size() >= config_.limits.journal_jobs_per_write) flush();
  }
  for (const JobId id : jobs) {
    const auto job = jobs_.find(id);
    if (job == jobs_.end()) continue;
    append_records(job->second, records, items);
    if (items.size() >= config_.limits.journal_jobs_per_write) flush();
  }
  if (journal_.failing() && items.empty() && journal_.under_way() == 0) {  // is it well again?
    records.emplace_back(ProbeRecord{});
    items.push_back({JournalItem::Kind::probe, {}, 0});
  }
  flush();
}

// Everything of the job that is not durable and not under way.
void Orchestrator::append_records(Job& job, std::vector<JournalRecord>& records, std::vector<JournalItem>& items) {
  const JobId id = job.spec.id;
  JournalProgress& journal = job.journal;
  bool dispatch_known = journal.dispatch_stored;
  if (journal.dispatch_due != 0 && journal.dispatch_sent != journal.dispatch_due) {
    dispatch_known = true;
    journal.dispatch_sent = journal.dispatch_due;
    DispatchRecord record{id, journal.dispatch_due, {}, job.replica_set};
    const auto call = calls_.find({id, journal.dispatch_due});
    const ReplicaView* replica = call == calls_.end() ? nullptr : fleet_.find(call->second.replica);
    if (replica != nullptr) {
      record.served_by = served_by(*replica);
    } else if (const auto told = streams_.served_by(id)) {
      record.served_by = *told;
    }
    records.emplace_back(std::move(record));
    items.push_back({JournalItem::Kind::dispatch, id, journal.dispatch_due});
  }
  if (job.live() && std::exchange(journal.aboard_due, false)) {
    AboardRecord record = aboard_of(job);
    items.push_back({JournalItem::Kind::aboard, id, record.open ? record.attempt : 0});
    records.emplace_back(std::move(record));
  }
  const bool concluding = job.state == JobState::concluding;
  // An end stands behind all its tokens: a write that is still under way may fail, and this one not.
  const bool ends_here = concluding && !journal.end_sent;
  // Tokens of which it is not known who computed them would be continued by anybody (M3).
  if (!journal.unsaved.empty() && (concluding || (journal.sent_upto == 0 && dispatch_known))) {
    TokensRecord record{id, {}};
    for (const auto& event : journal.unsaved) {
      if (ends_here || event->id > journal.sent_upto) record.events.push_back(event);
    }
    if (!record.events.empty()) {
      journal.sent_upto = record.events.back()->id;
      records.emplace_back(std::move(record));
      items.push_back({JournalItem::Kind::tokens, id, journal.sent_upto});
    }
  }
  if (ends_here) {
    journal.end_sent = true;
    auto terminal = std::make_shared<StreamEvent>();
    terminal->id = streams_.terminal_id(id, job.conclusion->failure.has_value());
    terminal->body = job.conclusion->end;
    if (job.conclusion->failure) terminal->body = ErrorEvent{*job.conclusion->failure};
    if (!mutated(Mutation::forget_end_record)) records.emplace_back(EndRecord{id, std::move(terminal)});
    items.push_back({JournalItem::Kind::end, id, 0});
  }
}

// --- answers ---

void Orchestrator::on(const JournalCommitted& event) {
  const bool was_failing = journal_.failing();
  const std::vector<JournalItem> items = journal_.answered(event.first, event.last);
  if (items.empty()) return;
  journal_.note_committed();
  if (was_failing) emit(NotedJournal{false, {}});
  for (const JournalItem& item : items) committed(item);
}

void Orchestrator::on(const JournalFailed& event) {
  const bool was_failing = journal_.failing();
  const std::vector<JournalItem> items = journal_.answered(event.first, event.last);
  if (items.empty()) return;
  journal_.note_failed(event.reason, now_);
  if (!was_failing) emit(NotedJournal{true, event.reason});
  // Newcomers first: their victims go back to a queue that has room for them.
  for (const JournalItem& item : items) {
    if (item.kind == JournalItem::Kind::admit) not_committed(item);
  }
  for (const JournalItem& item : items) {
    if (item.kind != JournalItem::Kind::admit) not_committed(item);
  }
}

void Orchestrator::committed(const JournalItem& item) {
  if (item.kind == JournalItem::Kind::erase) journal_.refused_keys.erase(item.job);
  if (item.kind == JournalItem::Kind::managers) leasing_.written(true);
  const auto it = jobs_.find(item.job);
  if (it == jobs_.end()) return;
  Job& job = it->second;
  JournalProgress& journal = job.journal;
  switch (item.kind) {
    case JournalItem::Kind::admit:
      if (job.state == JobState::committing) admit(job);
      return;
    case JournalItem::Kind::evict:
    case JournalItem::Kind::end:
      if (job.state == JobState::concluding) tell_end(job);
      return;
    case JournalItem::Kind::dispatch:
      if (journal.dispatch_due != item.mark) return;  // a later attempt waits for its own
      journal.dispatch_due = 0;
      journal.dispatch_stored = true;
      if (!journal.unsaved.empty() && journal.sent_upto == 0) {
        journal_.lazy.insert(item.job);
        journal_.checkpoint_by(now_ + config_.limits.checkpoint_interval);
      }
      streams_.release(job.spec.id, *out_);
      return;
    case JournalItem::Kind::tokens: {
      std::erase_if(journal.unsaved, [&](const auto& event) {
        if (event->id > item.mark) return false;
        journal.unsaved_bytes -= event_bytes(*event);
        return true;
      });
      if (journal.sent_upto <= item.mark) journal.sent_upto = 0;
      streams_.stored(item.job, item.mark, *out_);
      if (journal.unsaved.empty()) return;
      journal_.lazy.insert(job.spec.id);
      journal_.checkpoint_by(now_ + config_.limits.checkpoint_interval);
      return;
    }
    case JournalItem::Kind::aboard:
      if (item.mark == journal.boarding) journal.boarded = journal.boarding;
      return;
    case JournalItem::Kind::managers:
    case JournalItem::Kind::erase:
    case JournalItem::Kind::probe:
      return;
  }
}

void Orchestrator::not_committed(const JournalItem& item) {
  if (item.kind == JournalItem::Kind::managers) leasing_.written(false);
  const auto it = jobs_.find(item.job);
  if (it == jobs_.end()) {
    if (item.kind == JournalItem::Kind::erase) journal_.erases.insert(item.job);
    return;
  }
  Job& job = it->second;
  switch (item.kind) {
    case JournalItem::Kind::admit:
      if (job.state != JobState::committing) return;
      if (job.spec.idempotency) journal_.refused_keys[item.job] = job.spec.idempotency->key;
      refuse_admitting(job, journal_failure());
      journal_.erases.insert(item.job);  // the disk may have both all the same
      return;
    case JournalItem::Kind::evict:
      if (job.state == JobState::concluding) take_back(job);
      return;
    case JournalItem::Kind::end:
      job.journal.end_sent = false;
      journal_.urgent.insert(item.job);
      return;
    case JournalItem::Kind::dispatch:
      if (job.journal.dispatch_sent == item.mark) job.journal.dispatch_sent = 0;
      journal_.urgent.insert(item.job);
      return;
    case JournalItem::Kind::tokens:
      job.journal.sent_upto = 0;
      journal_.lazy.insert(item.job);
      return;
    case JournalItem::Kind::aboard:
      note_aboard(job);
      return;
    case JournalItem::Kind::managers:
    case JournalItem::Kind::erase:
    case JournalItem::Kind::probe:
      return;
  }
}

// --- J4 ---

void Orchestrator::on(const Recovered& event) {
  ORCH_CHECK(jobs_.empty());
  const std::size_t keys_max = config_.journal.idempotency_keys_max;
  for (const RecoveredKey& key : event.keys) {
    if (key.age >= config_.journal.idempotency_ttl || keys_.size() >= keys_max) continue;
    keys_.add(key.idempotency.key, {key.idempotency.body, key.job, key.admitted,
                                    now_ + config_.journal.idempotency_ttl - std::max(key.age, Duration{})});
  }
  leasing_.found(event.managers);
  earlier_.left(event.managers, config_.limits.lease_ttl_assumed, now_);
  for (const RecoveredJob& job : event.jobs) recover(job);
  recovery_over_ = now_ + config_.limits.recovery_wait;
}

void Orchestrator::recover(const RecoveredJob& found) {
  const JobId id = found.admit.spec.id;
  if (jobs_.contains(id)) return;
  Job& job = jobs_[id];
  job.spec = found.admit.spec;
  job.lane = found.admit.lane;
  job.pool_id = found.admit.pool_id;
  job.engine = found.admit.engine;
  job.engine_version = found.admit.engine_version;
  job.started = found.admit.started;
  job.recovered = true;
  job.journal.wanted = true;
  job.admitted_at = now_ - std::max(found.age, Duration{});
  job.submitted_at = job.admitted_at;
  job.held = now_ - job.admitted_at;  // OC-CORE-1022: what it waited for then was not its turn
  job.hopeless_from = now_ + config_.limits.recovery_wait;
  job.seq = next_seq_++;
  job.state = JobState::waiting;
  if (job.spec.deadline && *job.spec.deadline < Instant::never() - now_)
    job.deadline_at = job.admitted_at + *job.spec.deadline;

  std::vector<std::shared_ptr<const StreamEvent>> events;
  events.push_back(std::make_shared<StreamEvent>(StreamEvent{1, job.started}));
  events.insert(events.end(), found.tokens.begin(), found.tokens.end());
  for (const auto& event : found.tokens) {
    const auto* token = std::get_if<TokenEvent>(&event->body);
    if (token == nullptr) continue;
    job.shown_ids.insert(job.shown_ids.end(), token->ids.begin(), token->ids.end());
    ++job.token_events;
  }
  job.tokens_seen = static_cast<std::uint32_t>(job.shown_ids.size());
  std::shared_ptr<const ServedBy> served_by;
  if (found.dispatch) {
    served_by = std::make_shared<ServedBy>(found.dispatch->served_by);
    job.attempt = found.dispatch->attempt;
    job.journal.dispatch_stored = true;
    job.replica_set = found.dispatch->replica_set;
    job.replica_id = served_by->replica_id;
  }
  if (found.terminal) {
    // Tokens before it were given up: readers behind them are refused, and none is shown a gap. Of a job that was not
    // to be stored there are none.
    const bool whole = !job.spec.store || std::holds_alternative<ErrorEvent>(found.terminal->body) ||
                       found.terminal->id == events.size() + 1;
    if (!whole) events.clear();
    events.push_back(found.terminal);
    streams_.restore(id, events, std::move(served_by), found.terminal->id);
    job.state = JobState::ended;
    job.ended_at = now_ - std::max(found.ended_age, Duration{});
    restore_quarantine(job, *found.terminal);
    job.spec.payload.reset();
    results_.add(id, {job.spec.tenant, job.ended_at, streams_.bytes(id), false});
    arm(job);
    restore_budget(job, found.terminal.get());
    emit(NotedRecovered{id, NotedRecovered::Way::replayed});
    return;
  }
  restore_budget(job, nullptr);
  // Besides started, a job tells at most one event per token and one for what is held back to the end.
  const std::uint64_t tail_end = std::uint64_t{job.spec.max_tokens} + 3;
  streams_.restore(id, events, std::move(served_by), found.dispatch ? tail_end : 0);
  if (job.spec.store) streams_.record(id, events.back()->id);
  const auto end_in = [&](Outcome outcome, std::string message, const std::string& cancel_reason) {
    emit(NotedRecovered{id, NotedRecovered::Way::reset});
    fail(job, {failure_for(outcome, std::move(message), job), cancel_reason});
  };
  if (job.spec.attachment == Attachment::attached)
    return end_in(Outcome::CANCELED, "the client's connection ended with the service", "disconnect");
  const bool continuable = job.spec.payload != nullptr && !job.replica_set.empty();
  if (found.dispatch ? !continuable : job.spec.payload == nullptr)
    return end_in(Outcome::WORKER_RESET, "the service restarted while the task ran", {});
  if (!restore_aboard(job, found.aboard)) return end_in(Outcome::WORKER_RESET, "its worker was lost", {});
  if (found.dispatch) job.lane.exact = job.replica_set;
  quotas_.assume(job.spec.tenant, tenants_, job.quota, now_);
  enqueue(job);
  arm(job);
  emit(NotedRecovered{id, found.dispatch ? NotedRecovered::Way::resumed : NotedRecovered::Way::run_again});
}

std::string Orchestrator::check_journal() const {
  std::size_t journaled = 0;
  for (const auto& [id, job] : jobs_) {
    if (job.journal.wanted) ++journaled;
    if (job.journal.unsaved_bytes > config_.limits.unsaved_bytes_max) return "too many unsaved bytes";
    if (job.state == JobState::committing && !job.journal.wanted) return "a plain job waits for the journal";
    if (job.live() && job.token_events > 0 && job.journal.dispatch_due == 0 && streams_.held(id))
      return "a stream is held back for a record that nobody waits for";
  }
  if (journal_.under_way() > 5 * journaled + journal_.erases.size() + 16) return "too many journal writes under way";
  if (keys_.size() > config_.journal.idempotency_keys_max) return "too many idempotency keys";
  return {};
}

}  // namespace orch::gateway
