#include "sim/sim_worker.h"

#include <algorithm>
#include <utility>

#include "sim/script.h"

namespace orch::sim {
namespace {

constexpr std::uint32_t kPromptTokens = 7;  // of every job, template included

}  // namespace

SimWorker::SimWorker(World& world, WorkerSetup setup)
    : world_(world),
      node_(world.new_node("worker-" + std::to_string(setup.manager.value.lo) + "-" +
                           std::to_string(setup.manager.value.hi) + "-" + std::to_string(setup.inc.boot) + "." +
                           std::to_string(setup.inc.counter))),
      setup_(std::move(setup)),
      arbiter_({.slots = setup_.slots}),
      ready_at_(world.now() + setup_.load_time) {
  const bool bound = arbiter_.bind(setup_.manager, setup_.inc);
  if (!bound) world_.violation("a fresh arbiter refused to be bound");
  setup_.history->born(key(), setup_.replica_id, setup_.slots);
  node_.rearm = [this] { pump_stops(); };
  schedule_report();
}

// A process may die between any two things that it does for others.
bool SimWorker::dies_at(WorkerPoint point) {
  if (!world_.crashes_at(point)) return false;
  setup_.die();
  return true;
}

// --- the manager's side ---

void SimWorker::control_opened(const StreamPtr& stream, bool wants_table,
                               std::function<void(const pool::WorkerReport&)> report_to) {
  control_ = stream;
  report_ = std::move(report_to);
  if (!wants_table) return report();
  pool::WorkerReport first = report_now();
  first.table = arbiter_.table();
  world_.send(control_, 0, World::Copies::one, [to = report_, first] { to(first); });
}

void SimWorker::control_broken(const StreamPtr& stream) {
  if (control_ != stream) return;
  control_ = nullptr;
  watch_orphanhood();
}

void SimWorker::lifeline_lost() {
  lifeline_lost_ = true;
  watch_orphanhood();
}

// L8: the clock runs while there is neither a lifeline nor a control stream.
void SimWorker::watch_orphanhood() {
  if (!lifeline_lost_ || control_) return;
  orphan_since_ = world_.now();
  world_.on_node(node_, world_.now() + setup_.orphan_grace, [this, since = orphan_since_] {
    if (!control_ && orphan_since_ == since) setup_.die();
  });
}

void SimWorker::apply(const LeaseTable& table) {
  if (dies_at(WorkerPoint::before_apply)) return;
  const Instant now = local();
  const auto applied = arbiter_.apply(table, now);
  if (applied == worker::LeaseArbiter::Applied::malformed) world_.violation("the worker was sent a malformed table");
  if (applied == worker::LeaseArbiter::Applied::ok) {
    ttl_ = table.ttl;
    std::map<LeaseId, SeenLease> next;
    for (const LeaseEntry& entry : table.leases) {
      const auto known = seen_.find(entry.id);
      const bool extended = known == seen_.end() || entry.renewal_seq > known->second.entry.renewal_seq;
      SeenLease lease{entry, extended ? now + table.ttl : known->second.end};
      if (!extended) lease.entry.renewal_seq = known->second.entry.renewal_seq;
      next.emplace(entry.id, lease);
    }
    seen_ = std::move(next);
    std::vector<Instant> ends;
    ends.reserve(table.leases.size());
    for (const LeaseEntry& entry : table.leases) ends.push_back(seen_.at(entry.id).end);
    setup_.history->applied(key(), table, ends);
    if (world_.tracing()) {
      std::string text = "applies table " + std::to_string(table.version.counter);
      for (const LeaseEntry& entry : table.leases)
        text += ", lease " + std::to_string(entry.id.counter) + " " + std::to_string(entry.slots);
      for (const LeaseUse& use : arbiter_.uses())
        text += ", runs " + std::to_string(use.running) + " of lease " + std::to_string(use.id.counter);
      world_.trace(node_.name, text);
    }
  }
  pump_stops();
  if (dies_at(WorkerPoint::before_ack)) return;
  report();
}

void SimWorker::self_check(std::uint64_t id) {
  world_.on_node(node_, world_.now() + setup_.step * 3, [this, id] {
    if (stalled_ || lost_) return;
    ++steps_;
    ++tokens_out_;
    report(pool::SelfCheckOutcome{id, !setup_.fails_self_check, true, true, {}});
  });
}

void SimWorker::stall() {
  if (stalled_) return;
  world_.count(Fault::engine_fault);
  if (world_.tracing()) world_.trace(node_.name, "stops stepping");
  stalled_ = true;
}

void SimWorker::lose_device() {
  if (stalled_ || lost_) return;
  world_.count(Fault::device_lost);
  if (world_.tracing()) world_.trace(node_.name, "loses its device");
  lost_ = true;
  while (node_.alive && !calls_.empty()) end_call(calls_.begin()->first, Outcome::WORKER_RESET);
  world_.on_node(node_, world_.now() + world_.between({}, Duration::milliseconds(20)), [this] { setup_.exit_lost(); });
}

void SimWorker::drain(Duration deadline) {
  draining_ = true;
  arbiter_.begin_drain(local() + deadline);
  pump_stops();
}

pool::WorkerFacts SimWorker::facts() const {
  pool::WorkerFacts facts;
  facts.ready = world_.now() >= ready_at_ && !setup_.fails_to_load;
  facts.engine = "native";
  facts.engine_version = "sim";
  facts.model_name = setup_.model;
  facts.model_digest = setup_.digest;
  facts.numeric_class = "X";
  facts.accelerator = setup_.accelerator;
  facts.ctx_max = setup_.ctx_max;
  facts.slots = setup_.slots;
  facts.prefix_cache = true;
  facts.kv_page_tokens = setup_.kv.page_tokens;
  facts.template_fixed_bytes = 8;
  facts.template_per_message_bytes = 4;
  facts.token_bytes_expansion = 1;
  if (setup_.fails_to_load && world_.now() >= ready_at_) {
    facts.load_failure = worker::EngineFailure{Outcome::INTERNAL, "the disk gave nothing", {}};
  }
  return facts;
}

void SimWorker::report(std::optional<pool::SelfCheckOutcome> check) {
  if (!control_ || !report_) return;
  if (!check && !world_.healed() && world_.chance(world_.rates.lose_report)) {
    world_.disturb(world_.now());
    return world_.count(Fault::lost_report);
  }
  pool::WorkerReport out = report_now();
  out.self_check = std::move(check);
  world_.send(control_, 0, World::Copies::one, [to = report_, out] { to(out); });
}

pool::WorkerReport SimWorker::report_now() const {
  pool::WorkerReport out;
  out.inc = setup_.inc;
  out.version = arbiter_.version();
  out.uses = arbiter_.uses();
  out.slots = setup_.slots;
  out.steps_done = steps_;
  out.step_longest = setup_.step;
  out.tokens_out_total = tokens_out_;
  out.jobs_ended = arbiter_.jobs_ended();
  out.jobs_cut = arbiter_.jobs_cut();
  out.kv_pages_total = setup_.kv.pages_total;
  out.kv_pages_used = pages_used();
  out.drain_left = arbiter_.drain_left(local());
  return out;
}

// A job that grows takes the pages of others, which are fed again later: that is not played.
std::uint64_t SimWorker::pages_used() const {
  std::uint64_t used = 0;
  for (const auto& [id, call] : calls_) used += setup_.kv.pages_for(kPromptTokens + call.next + 1);
  return std::min(used, setup_.kv.pages_total);
}

void SimWorker::schedule_report() {
  world_.on_node(node_, world_.now() + Duration::seconds(3), [this] {
    report();
    schedule_report();
  });
}

// --- the holders' side ---

void SimWorker::hold_opened(const Holder& holder, const StreamPtr& stream) {
  holds_[holder] = stream;
  beat(holder);
}

void SimWorker::hold_broken(const Holder& holder, const StreamPtr& stream) {
  const auto it = holds_.find(holder);
  if (it == holds_.end() || it->second != stream) return;  // a newer one took its place
  holds_.erase(it);
  arbiter_.holder_broken(holder);
  pump_stops();
}

void SimWorker::beat(const Holder& holder) {
  heard_[holder] = local();
  arbiter_.heartbeat(holder, local());
  pump_stops();
}

// L3, read anew from the rules: what the arbiter admits must be admissible.
void SimWorker::check_admission(const gateway::Dispatch& dispatch, const Holder& holder, bool admitted) {
  if (!admitted) return;
  const auto fault = [&](const char* what) {
    world_.violation(node_.name + " admitted a dispatch " + what + " (job " + dispatch.dispatch.job.to_string() + ")");
  };
  const auto lease = seen_.find(dispatch.fence.lease);
  if (dispatch.fence.manager != setup_.manager || dispatch.fence.inc != setup_.inc)
    return fault("of another incarnation");
  if (lease == seen_.end()) return fault("under a lease it does not have");
  const LeaseEntry& entry = lease->second.entry;
  if (entry.secret != dispatch.fence.secret || entry.holder != holder) return fault("with a foreign secret or holder");
  if (local() >= lease->second.end) return fault("under an expired lease");
  const auto of_lease = std::count_if(calls_.begin(), calls_.end(),
                                      [&](const auto& call) { return call.second.fence.lease == entry.id; });
  if (of_lease >= entry.slots) return fault("beyond its lease's slots");
  if (calls_.size() >= setup_.slots) return fault("beyond its declared slots");
  if (attempts_.contains(dispatch.dispatch)) return fault("twice");
}

bool SimWorker::generate(const StreamPtr& stream, const gateway::Dispatch& dispatch, const Holder& holder,
                         CallAnswer reply) {
  const DispatchId id = dispatch.dispatch;
  const auto resumed = static_cast<std::uint32_t>(dispatch.resume_ids.size());
  for (std::uint32_t k = 0; k < resumed; ++k) {
    if (dispatch.resume_ids[k] != script_token(id.job, k))
      world_.violation("a job resumes behind ids it never had (M2)");
  }
  ActiveCall call{stream, dispatch.fence, holder, std::move(reply), resumed, script_length(id.job, dispatch.max_tokens),
                  0,      false,          local()};
  const auto refuse = [&](Outcome outcome) {
    setup_.history->refused(key(), id, outcome);
    if (world_.tracing())
      world_.trace(node_.name,
                   "refuses job " + std::to_string(id.job.value.lo) + ": " + std::string(outcome_row(outcome).code));
    if (dies_at(WorkerPoint::before_refusal)) return false;
    gateway::Failure failure;
    failure.outcome = outcome;
    answer(call, gateway::DispatchFailed{id, dispatch.fence, failure}, World::Copies::one);
    return false;
  };
  if (dies_at(WorkerPoint::before_admit)) return false;
  if (world_.chance(world_.healed() ? 0 : 30)) {
    world_.count(Fault::engine_fault);
    return refuse(Outcome::NO_PAGES);
  }
  if (setup_.kv.pages_for(kPromptTokens + resumed + 1) + pages_used() > setup_.kv.pages_total)
    return refuse(Outcome::NO_PAGES);
  const auto admitted = arbiter_.admit(dispatch.fence, holder, id, local(), dispatch.lease_slots);
  const bool runs = admitted.ok() || setup_.mutant == Mutant::worker_accepts_all;
  check_admission(dispatch, holder, runs);
  if (!runs) return refuse(admitted.error());
  attempts_.insert(id);
  setup_.history->used(key(), dispatch.fence.lease, holder, id, local());
  setup_.attempts->admitted(id, holder, world_.now());
  calls_.emplace(id, std::move(call));
  report();
  if (lost_) {
    end_call(id, Outcome::WORKER_RESET);
    return true;
  }
  world_.on_node(node_, world_.now() + setup_.step * 2, [this, id] {
    const auto it = calls_.find(id);
    if (it == calls_.end() || it->second.stopping || stalled_) return;
    if (dies_at(WorkerPoint::before_start)) return;
    answer(it->second,
           gateway::DispatchStarted{id, it->second.fence, kPromptTokens, script_cached(id.job, kPromptTokens)},
           World::Copies::repeatable);
    step(id);
  });
  pump_stops();
  return true;
}

void SimWorker::step(const DispatchId& id) {
  world_.on_node(node_, world_.now() + setup_.step, [this, id, began = world_.now()] {
    const auto it = calls_.find(id);
    if (it == calls_.end() || it->second.stopping || stalled_) return;
    setup_.attempts->stepped(id, it->second.holder, began);
    if (dies_at(WorkerPoint::before_token)) return;
    ActiveCall& call = it->second;
    if (script_is_poison(id.job) && !world_.healed() && call.next >= id.job.value.lo % 3) {
      world_.poisoned(id.job, call.holder);
      return id.job.value.lo % 2 == 0 ? lose_device() : setup_.die();
    }
    ++steps_;
    if (call.next == call.length) {
      gateway::DispatchFinished done;
      done.dispatch = id;
      done.fence = call.fence;
      done.prompt_tokens = kPromptTokens;
      done.completion_tokens = call.length;
      const ActiveCall last = call;
      end_call(id, std::nullopt);
      if (!node_.alive || dies_at(WorkerPoint::before_terminal)) return;
      answer(last, done, World::Copies::repeatable);
      return;
    }
    if (!world_.healed() && world_.chance(8)) {
      world_.count(Fault::engine_fault);
      return end_call(id, Outcome::NUMERIC_FAULT);
    }
    gateway::DispatchTokens tokens;
    tokens.dispatch = id;
    tokens.fence = call.fence;
    tokens.index = call.next;
    const std::uint32_t batch =
        std::min<std::uint32_t>(call.length - call.next, 1 + static_cast<std::uint32_t>(world_.rng().below(3) == 0));
    // Now and then a character is incomplete: its ids go ahead of its text. Where, depends on the job alone, so that an
    // attempt that goes on elsewhere makes the same events (J4, M2).
    for (std::uint32_t k = call.next; k < call.next + batch; ++k) {
      tokens.ids.push_back(script_token(id.job, k));
      if (script_holds_back(id.job, k) && k + 1 < call.length) {
        ++call.held_back;
      } else {
        for (std::uint32_t n = k - call.held_back; n <= k; ++n) tokens.text += script_text(id.job, n);
        call.held_back = 0;
      }
      tokens.text_ends.push_back(static_cast<std::uint32_t>(tokens.text.size()));
    }
    call.next += batch;
    tokens_out_ += batch;
    answer(call, tokens, World::Copies::repeatable);
    step(id);
  });
}

void SimWorker::answer(const ActiveCall& call, const gateway::Event& event, World::Copies copies) {
  world_.send(call.stream, 0, copies, [to = call.answer, event] { to(event); });
}

void SimWorker::end_call(DispatchId id, const std::optional<Outcome>& failure) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  const ActiveCall call = std::move(it->second);
  calls_.erase(it);
  setup_.history->released(key(), id);
  if (dies_at(WorkerPoint::before_slot_returned)) return;
  arbiter_.ended(id, failure ? worker::JobEnd::failed : worker::JobEnd::finished);
  report();
  if (!failure) return;
  gateway::Failure out;
  out.outcome = *failure;
  answer(call, gateway::DispatchFailed{id, call.fence, out, lost_}, World::Copies::one);
}

// The call's stream is gone: decoding stops within one step.
void SimWorker::call_broken(const DispatchId& id, const StreamPtr& stream) {
  const auto it = calls_.find(id);
  if (it == calls_.end() || it->second.stream != stream || setup_.mutant == Mutant::worker_ignores_cancel) return;
  it->second.stopping = true;
  world_.on_node(node_, world_.now() + world_.between({}, setup_.step), [this, id] { stop_call(id, std::nullopt); });
}

// A stalled engine lets go of nothing.
void SimWorker::stop_call(const DispatchId& id, const std::optional<Outcome>& failure) {
  if (!stalled_) end_call(id, failure);
}

void SimWorker::pump_stops() {
  for (const auto& stop : arbiter_.jobs_to_stop(local())) {
    if (setup_.mutant == Mutant::worker_keeps_orphans) continue;
    const auto it = calls_.find(stop.dispatch);
    if (it == calls_.end()) continue;
    it->second.stopping = true;
    const Outcome why =
        stop.reason == worker::LeaseArbiter::StopReason::drain_over ? Outcome::POOL_UNREADY : Outcome::CANCELED;
    world_.on_node(node_, world_.now() + world_.between({}, setup_.step),
                   [this, id = stop.dispatch, why] { stop_call(id, why); });
  }
  const Instant next = arbiter_.next_wakeup();
  if (next.is_never() || next == stop_timer_) return;
  stop_timer_ = next;
  world_.on_node(node_, node_.clock.real(next), [this, next] {
    if (stop_timer_ == next) stop_timer_ = Instant::never();
    pump_stops();
  });
}

// --- for the checks ---

std::optional<Instant> SimWorker::lease_end(LeaseId lease) const {
  const auto it = seen_.find(lease);
  if (it == seen_.end()) return std::nullopt;
  return node_.clock.real(it->second.end);
}

std::size_t SimWorker::overdue_calls() const {
  if (stalled_) return 0;
  const Duration slack = setup_.step * 2 + Duration::seconds(1);
  return static_cast<std::size_t>(std::count_if(calls_.begin(), calls_.end(), [&](const auto& entry) {
    const ActiveCall& call = entry.second;
    const Instant told = call.stream ? call.stream->told_at[1] : Instant::never();
    if (!told.is_never() && told + slack < world_.now()) return true;
    const auto heard = heard_.find(call.holder);
    const Instant last = heard == heard_.end() ? call.admitted : std::max(call.admitted, heard->second);
    return last + ttl_ + slack < local();
  }));
}

std::size_t SimWorker::running_of(const Holder& holder) const {
  return static_cast<std::size_t>(
      std::count_if(calls_.begin(), calls_.end(), [&](const auto& call) { return call.second.holder == holder; }));
}

}  // namespace orch::sim
