#include "pool-managerd/core/replica.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace orch::pool {
namespace {

std::string milliseconds(Duration duration) { return std::to_string(duration.ms()) + " ms"; }

FailureClass class_of(const ProcessExited& event) {
  return event.signal != 0 ? FailureClass::killed_by_signal : class_of_exit(event.exit_code);
}

}  // namespace

Replica::Replica(const ReplicaSpec& spec, const Settings& settings, Serials& serials, ReplicaSets& sets,
                 EntropySource& entropy)
    : spec_(spec),
      settings_(settings),
      serials_(serials),
      sets_(sets),
      entropy_(entropy),
      schedule_(settings.restart) {}

void Replica::change_state(ReplicaState to, Effects& out) {
  if (state_ == to) return;
  ORCH_CHECK(may_change(state_, to));
  out.push_back(NotedState{.replica_id = spec_.replica_id, .from = state_, .to = to, .inc = inc()});
  if (state_ == ReplicaState::ready) sets_.left(spec_.replica_id);
  state_ = to;
}

// --- process ---

void Replica::spawn(Instant now, Effects& out) {
  ORCH_CHECK(!life_ && wanted_);
  const Incarnation inc{.boot = settings_.boot, .counter = ++serials_.inc};
  ORCH_CHECK(inc > last_inc_);
  last_inc_ = inc;
  life_.emplace(Life{.inc = inc,
                     .book = LeaseBook(inc, settings_.ttl, 0, settings_.mutation),
                     .spawned = now,
                     .last_heard = now,
                     .progressed = now,
                     .step_longest = {}});
  ++spawns_;
  start_at_ = Instant::never();
  schedule_.started();
  facts_.ready = false;
  facts_.load_progress = 0;
  facts_.load_failure.reset();
  if (last_report_) kv_saturated_before_ += last_report_->kv_saturated_total;
  last_report_.reset();
  kv_.pages_used = 0;
  job_times_.restarted();
  pid_ = 0;
  change_state(ReplicaState::starting, out);
  out.push_back(SpawnWorker{.replica_id = spec_.replica_id,
                            .inc = inc,
                            .pool_id = spec_.pool_id,
                            .model = {.path = spec_.model_path, .digest = spec_.model_digest},
                            .memory_sharers = spec_.memory_sharers});
}

void Replica::adopt(const WorkerFound& found, Instant now, Effects& out) {
  ORCH_CHECK(!life_ && state_ == ReplicaState::stopped && found.inc.boot < settings_.boot);
  last_inc_ = found.inc;
  life_.emplace(Life{.inc = found.inc,
                     .book = LeaseBook(found.inc, settings_.ttl, 0, settings_.mutation),
                     .spawned = now,
                     .started = true,
                     .adopting = true,
                     .last_heard = now,
                     .progressed = now,
                     .step_longest = {}});
  start_at_ = Instant::never();
  pid_ = found.pid;
  endpoint_ = found.endpoint;
  change_state(ReplicaState::starting, out);
  connect(now, out);
  out.push_back(QueryInfo{.inc = found.inc});
}

void Replica::on(const ProcessStarted& event, Instant now, Effects& out) {
  if (!is_current(event.inc)) return;
  life_->started = true;
  pid_ = event.pid;
  endpoint_ = event.endpoint;
  if (life_->ending) {  // it was to end before it had begun
    out.push_back(SignalWorker{.inc = event.inc, .signal = StopSignal::terminate});
    life_->kill_at = now + settings_.term_grace;
    return;
  }
  connect(now, out);
  life_->query_at = Instant::never();
  out.push_back(QueryInfo{.inc = event.inc});
}

void Replica::on(const SpawnFailed& event, Instant now, Effects& out) {
  if (!is_current(event.inc)) return;
  const bool was_ending = life_->ending;
  life_.reset();
  if (state_ == ReplicaState::draining) {
    end_drain(now, out);
  } else if (!was_ending) {
    fail(FailureClass::spawn_failed, "spawn: " + event.message, event.permanent ? Remedy::give_up : Remedy::retry, now,
         out);
  }
}

std::string Replica::exit_text(const ProcessExited& event) const {
  std::string text = event.signal != 0 ? "worker killed by signal " + std::to_string(event.signal)
                                       : "worker exited with code " + std::to_string(event.exit_code);
  if (!event.detail.empty()) text += ": " + event.detail;
  return text;
}

void Replica::on(const ProcessExited& event, Instant now, Effects& out) {
  if (!is_current(event.inc)) return;
  const bool was_ending = life_->ending;
  const bool forgiven = life_->forgiven;
  const bool finished = state_ == ReplicaState::draining && event.signal == 0 && event.exit_code == 0;
  const FailureClass failure = was_ending || finished ? life_->failure : class_of(event);
  last_end_ = ProcessEnd{.inc = event.inc, .failure = failure};
  // The inc is reaped: every slot of it is free, whatever any table says (L6). The next life has its own book.
  life_.reset();
  pid_ = 0;
  const bool permanent = event.signal == 0 && is_permanent_exit(event.exit_code);
  if (state_ == ReplicaState::draining) {
    if (!was_ending && !finished) {  // nobody asked it to end
      last_failure_ = failure;
      last_error_ = exit_text(event);
    }
    return end_drain(now, out);
  }
  if (!was_ending) {
    fail(failure, exit_text(event), permanent ? Remedy::give_up : Remedy::retry, now, out);
    return;
  }
  // A load failure that the worker reported before it left is judged by the exit code.
  if (!forgiven && last_failure_ == FailureClass::load_failed && permanent && state_ == ReplicaState::backoff) {
    start_at_ = Instant::never();
    change_state(ReplicaState::failed, out);
  }
}

void Replica::end_process(Instant term_at, Instant now, Effects& out) {
  if (!life_ || life_->ending) return;
  life_->ending = true;
  life_->query_at = life_->connect_at = life_->check_deadline = Instant::never();
  if (!life_->started) return;  // continues with ProcessStarted
  life_->term_at = term_at;
  tick(now, out);
}

void Replica::kill(Effects& out) {
  if (!life_) return;
  life_->ending = true;
  life_->term_at = life_->kill_at = Instant::never();
  life_->query_at = life_->connect_at = life_->check_deadline = Instant::never();
  out.push_back(SignalWorker{.inc = life_->inc, .signal = StopSignal::kill});
}

void Replica::fail(FailureClass failure, std::string message, Remedy remedy, Instant now, Effects& out) {
  ++failures_;
  if (life_) life_->failure = failure;
  last_failure_ = failure;
  last_error_ = std::move(message);
  const RestartSchedule::Next next = schedule_.failed(now, entropy_.next_u64());
  const bool permanent = remedy == Remedy::give_up;
  start_at_ = permanent ? Instant::never() : next.at;
  out.push_back(NotedFailure{.replica_id = spec_.replica_id,
                             .inc = inc(),
                             .failure = failure,
                             .message = last_error_,
                             .in_a_row = schedule_.in_a_row(),
                             .permanent = permanent,
                             .breaker_open = !permanent && next.breaker_open,
                             .retry_in = permanent ? Duration{} : next.at - now});
  if (state_ != ReplicaState::draining)
    change_state(permanent || next.breaker_open ? ReplicaState::failed : ReplicaState::backoff, out);
}

// --- Control stream and readiness ---

void Replica::connect(Instant now, Effects& out) {
  life_->controlled = true;
  life_->connect_at = Instant::never();
  out.push_back(ConnectWorker{.inc = life_->inc, .wants_table = life_->adopting});
  flush_table(now, out);
}

void Replica::on(const ControlBroken& event, Instant now, Effects&) {
  if (!is_current(event.inc)) return;
  life_->controlled = false;
  life_->book.connection_lost();
  if (!life_->ending) life_->connect_at = now + settings_.health.reconnect_delay;
}

void Replica::on(const InfoFailed& event, Instant now, Effects&) {
  if (!is_current(event.inc) || life_->ending) return;
  life_->query_at = now + settings_.health.info_poll;
}

void Replica::on(const InfoArrived& event, Instant now, Effects& out) {
  if (!is_current(event.inc) || life_->ending) return;
  take_facts(event.facts);
  if (state_ == ReplicaState::starting) change_state(ReplicaState::preloading, out);
  if (facts_.load_failure) {
    std::string text = "load: " + facts_.load_failure->message;
    fail(FailureClass::load_failed, std::move(text), Remedy::retry, now, out);
    end_process(now + settings_.health.exit_settle, now, out);
    return;
  }
  if (!facts_.ready) {
    life_->query_at = now + settings_.health.info_poll;
    return;
  }
  advance_readiness(now, out);
}

// Gate order (ORCH-3049): identity and digest, load, then the self-check over the Control stream.
bool Replica::identity_holds(Instant now, Effects& out) {
  std::string message;
  FailureClass failure = FailureClass::identity_mismatch;
  if (facts_.engine != spec_.engine) {
    message = "identity: worker says engine '" + facts_.engine + "', configured is '" + spec_.engine + "'";
  } else if (facts_.model_name != spec_.model_name) {
    message = "identity: worker serves model '" + facts_.model_name + "', configured is '" + spec_.model_name + "'";
  } else if (!spec_.model_digest.empty() && facts_.model_digest != spec_.model_digest) {
    failure = FailureClass::digest_mismatch;
    message = "digest: the model is " +
              (facts_.model_digest.empty() ? std::string("of unknown digest") : facts_.model_digest) +
              ", configured is " + spec_.model_digest;
  } else {
    return true;
  }
  // A worker that an earlier boot started may have had another configuration: the next one has this one.
  const bool adopted = life_->inc.boot < settings_.boot;
  fail(failure, std::move(message), adopted ? Remedy::retry : Remedy::give_up, now, out);
  end_process(now, now, out);
  return false;
}

// A worker says little of itself before its model is loaded; what its last life said holds until then (OC-POOL-3045).
void Replica::take_facts(const WorkerFacts& facts) {
  if (facts.ready || facts_.ctx_max == 0) {
    facts_ = facts;
  } else {
    facts_.ready = false;
    facts_.load_progress = facts.load_progress;
    facts_.load_failure = facts.load_failure;
  }
  if (!facts.ready && !facts.waits_for.empty()) last_error_ = "load: " + facts.waits_for;  // OC-POOL-3003
  life_->informed = facts.ready;
}

// OC-POOL-3046, ORCH-3046: versions are never mixed in a set. Tried again later: the others may come to this one's
// version, and a rolling restart brings them there.
bool Replica::set_holds(Instant now, Effects& out) {
  const SetKey* others = sets_.others(spec_.replica_id, {spec_.pool_id, spec_.generation});
  const std::string differs = others == nullptr ? std::string() : difference(set_key_of(facts_), *others);
  if (differs.empty()) return true;
  fail(FailureClass::set_mismatch, "set: " + differs + "; a rolling restart moves the whole pool", Remedy::retry, now,
       out);
  end_process(now, now, out);
  return false;
}

void Replica::advance_readiness(Instant now, Effects& out) {
  if (state_ != ReplicaState::preloading || !facts_.ready || life_->check_id != 0) return;
  if (!identity_holds(now, out) || !set_holds(now, out)) return;
  if (!life_->heard || !life_->controlled || life_->adopting) return;  // goes on with the first report
  if (life_->proven) return become_ready(now, out);
  life_->check_id = ++serials_.self_check;
  life_->check_deadline = now + settings_.health.self_check_limit;
  life_->tokens_before_check = last_report_->tokens_out_total;
  out.push_back(SendSelfCheck{.inc = life_->inc, .id = life_->check_id});
}

void Replica::judge_self_check(const WorkerReport& report, Instant now, Effects& out) {
  const SelfCheckOutcome& result = *report.self_check;
  const auto failed = [&](FailureClass failure, std::string_view gate) {
    std::string message = "self-check " + std::string(gate);
    if (!result.detail.empty()) message += ": " + result.detail;
    fail(failure, std::move(message), Remedy::retry, now, out);
    end_process(now, now, out);
  };
  if (!result.decoded) return failed(FailureClass::decode_failed, "decode: no token was decoded");
  if (!result.cancel_freed)
    return failed(FailureClass::cancel_kept_slot, "cancel: the canceled generation kept its slot");
  // The worker's word and the numbers it reports must agree.
  if (!result.counters_moved || report.tokens_out_total <= life_->tokens_before_check) {
    return failed(FailureClass::counters_stuck, "counters: tokens_out_total did not move");
  }
  become_ready(now, out);
}

void Replica::become_ready(Instant now, Effects& out) {
  if (!set_holds(now, out)) return;  // another one may have become ready since
  sets_.joined(spec_.replica_id, {spec_.pool_id, spec_.generation}, set_key_of(facts_));
  life_->check_deadline = Instant::never();
  life_->progressed = now;
  was_ready_ = true;
  schedule_.ready(now);
  last_failure_ = FailureClass::none;
  last_error_.clear();
  not_replaced_.clear();
  change_state(ReplicaState::ready, out);
}

std::vector<LeaseBook::Announcement> Replica::on(const WorkerReport& event, Instant now, Effects& out) {
  if (!is_current(event.inc) || !life_->controlled) return {};
  Life& life = *life_;
  life.heard = true;
  life.last_heard = now;
  // A worker's reports may declare nothing until its model is loaded; its facts then say it first.
  const std::uint32_t declared = std::min(event.slots > 0 ? event.slots
                                          : life.informed ? facts_.slots
                                                          : 0,
                                          spec_.slots);
  if (declared != life.book.declared()) life.book.set_declared(declared);
  job_times_.passed(life.book.running(), event.jobs_ended, now);
  if (life.adopting) {
    if (!event.table) return {};  // of the stream before
    life.adopting = false;
    life.proven = !event.table->leases.empty() || !event.uses.empty();
    life.book.adopt(*event.table, event.uses, now);
    if (event.drain_left && state_ != ReplicaState::draining) go_on_draining(*event.drain_left, now, out);
    if (state_ == ReplicaState::draining) close_adopted();
  }
  auto announcements = life.book.on_report(event.version, event.uses, now);
  // OC-POOL-3044: an engine elsewhere that takes long is no fault of the adapter, whose own time budgets end the wait.
  const bool got_on = event.steps_done != life.steps_done || event.waits_done != life.waits_done;
  if (got_on || life.book.running() == 0) life.progressed = now;
  life.steps_done = event.steps_done;
  life.waits_done = event.waits_done;
  life.step_longest = std::max(life.step_longest, event.step_longest);
  last_report_ = event;
  take_memory(event);
  if (life.ending) return announcements;
  if (state_ == ReplicaState::draining) jobs_cut_ = static_cast<std::uint32_t>(event.jobs_cut);
  if (state_ == ReplicaState::preloading) {
    if (event.self_check && event.self_check->id == life.check_id && life.check_id != 0) {
      judge_self_check(event, now, out);
    } else {
      advance_readiness(now, out);
    }
  }
  return announcements;
}

// Nothing is told before the model is loaded: then what its last life said of its size holds.
void Replica::take_memory(const WorkerReport& report) {
  ++reports_;
  if (report.kv_pages_total > 0) kv_.pages_total = report.kv_pages_total;
  kv_.pages_used = std::min(report.kv_pages_used, kv_.pages_total);
}

// --- time ---

Instant Replica::stall_deadline() const {
  const Duration patience = std::max(settings_.health.stall_floor, life_->step_longest * settings_.health.stall_factor);
  return life_->progressed + patience;
}

void Replica::check_limits(Instant now, Effects& out) {
  Life& life = *life_;
  const HealthPolicy& health = settings_.health;
  const bool answered = life.heard && state_ != ReplicaState::starting;
  const auto fail_and_kill = [&](FailureClass failure, std::string message) {
    fail(failure, std::move(message), Remedy::retry, now, out);
    kill(out);
  };
  if (life.adopting && now >= life.spawned + health.adopt_limit) {
    return fail_and_kill(FailureClass::not_adopted, "adopt: no table within " + milliseconds(health.adopt_limit));
  }
  if (!answered && now >= life.spawned + health.start_limit) {
    return fail_and_kill(FailureClass::start_timeout, "start: no answer within " + milliseconds(health.start_limit));
  }
  if (life.heard && now >= life.last_heard + settings_.ttl) {
    return fail_and_kill(FailureClass::silent, "silent: no report for " + milliseconds(settings_.ttl));
  }
  if (life.check_id == 0 && state_ == ReplicaState::preloading && now >= life.spawned + health.load_limit) {
    return fail_and_kill(FailureClass::load_timeout, "load: not done within " + milliseconds(health.load_limit));
  }
  if (now >= life.check_deadline) {
    return fail_and_kill(FailureClass::self_check_timeout,
                         "self-check: no answer within " + milliseconds(health.self_check_limit));
  }
  if (life.book.running() > 0 && now >= stall_deadline()) {
    return fail_and_kill(FailureClass::stalled, "stalled: " + std::to_string(life.book.running()) +
                                                    " running, nothing got done for " +
                                                    milliseconds(now - life.progressed));
  }
}

// The first start of each replica waits for nobody; restarts of one host come one after another.
Instant Replica::next_start() const { return spawns_ == 0 ? start_at_ : std::max(start_at_, serials_.next_restart); }

void Replica::tick(Instant now, Effects& out) {
  if (!life_) {
    if (!wanted_ || now < next_start()) return;
    if (spawns_ > 0) serials_.next_restart = now + settings_.restart.host_interval;
    spawn(now, out);
    return;
  }
  schedule_.pass_time(now);
  Life& life = *life_;
  if (now >= life.term_at) {
    life.term_at = Instant::never();
    life.kill_at = now + settings_.term_grace;
    out.push_back(SignalWorker{.inc = life.inc, .signal = StopSignal::terminate});
  }
  if (now >= life.kill_at) kill(out);
  if (life.ending) return;
  if (life.started && now >= life.connect_at) connect(now, out);
  if (now >= life.query_at) {
    life.query_at = Instant::never();
    out.push_back(QueryInfo{.inc = life.inc});
  }
  check_limits(now, out);
  check_drain(now, out);
}

void Replica::flush_table(Instant now, Effects& out) {
  if (!life_ || life_->ending || !life_->started || !life_->controlled || life_->adopting) return;
  if (!life_->book.wants_table(now)) return;
  const TableVersion version{.boot = settings_.boot, .counter = ++serials_.table};
  out.push_back(SendTable{.inc = life_->inc, .table = life_->book.issue(version, now)});
}

Instant Replica::next_wakeup() const {
  if (!life_) return wanted_ ? next_start() : Instant::never();
  const Life& life = *life_;
  Instant next = std::min({life.term_at, life.kill_at});
  if (life.ending) return next;
  next = std::min({next, life.connect_at, life.query_at, life.check_deadline});
  if (life.adopting) next = std::min(next, life.spawned + settings_.health.adopt_limit);
  if (!life.heard || state_ == ReplicaState::starting)
    next = std::min(next, life.spawned + settings_.health.start_limit);
  if (life.heard) next = std::min(next, life.last_heard + settings_.ttl);
  if (life.check_id == 0 && state_ == ReplicaState::preloading)
    next = std::min(next, life.spawned + settings_.health.load_limit);
  if (life.book.running() > 0) next = std::min(next, stall_deadline());
  next = std::min(next, schedule_.clears_at());
  if (state_ == ReplicaState::draining) next = std::min(next, drain_until_ + settings_.health.drain_settle);
  if (life.controlled) next = std::min(next, life.book.next_wakeup());
  return next;
}

void Replica::forgive_silence(Instant now) {
  if (life_) life_->last_heard = std::max(life_->last_heard, now);
}

ReplicaView Replica::view(Instant now) const {
  ReplicaView view;
  view.replica_id = spec_.replica_id;
  view.pool_id = spec_.pool_id;
  view.engine = spec_.engine;
  view.model_name = spec_.model_name;
  view.state = state_;
  view.inc = inc();
  view.endpoint = endpoint_;
  view.facts = facts_;
  view.kv = kv_;
  view.kv.page_tokens = facts_.kv_page_tokens;
  view.kv_saturated_total = kv_saturated_before_ + (last_report_ ? last_report_->kv_saturated_total : 0);
  view.last_error = last_error_ + (last_error_.empty() || not_replaced_.empty() ? "" : "; ") + not_replaced_;
  const bool only_stays = last_failure_ == FailureClass::none && !not_replaced_.empty();
  view.last_failure = only_stays ? FailureClass::not_replaced : last_failure_;
  view.last_end = last_end_;
  view.restarts = spawns_ > 0 ? spawns_ - 1 : 0;
  view.was_ready = was_ready_;
  view.slots = life_ ? life_->book.declared() : 0;
  view.running = life_ ? life_->book.running() : 0;
  const bool waits = state_ == ReplicaState::backoff || state_ == ReplicaState::failed;
  if (waits && !start_at_.is_never()) view.retry_in = std::max(start_at_ - now, Duration{});
  view.breaker = schedule_.breaker();
  view.pid = pid_;
  view.routable = state_ == ReplicaState::ready && now < life_->last_heard + settings_.ttl;
  return view;
}

}  // namespace orch::pool
