#include "worker/shell/worker_state.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/runtime/clock.h"

namespace orch::worker {
namespace {

EngineFailure why(LeaseArbiter::StopReason reason) {
  using Reason = LeaseArbiter::StopReason;
  switch (reason) {
    case Reason::revoked:
      return {Outcome::WORKER_RESET, "the manager revoked the lease", {}};
    case Reason::holder_silent:
      return {Outcome::CANCELED, "no heartbeat of the lease's holder for a TTL", {}};
    case Reason::holder_broken:
      return {Outcome::CANCELED, "the stream of the lease's holder ended", {}};
    case Reason::drain_over:
      return {Outcome::POOL_UNREADY, "the drain deadline passed", {}};
  }
  return {Outcome::INTERNAL, "unknown reason to stop", {}};
}

}  // namespace

bool same_secret(std::string_view left, std::string_view right) {
  if (left.size() != right.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    difference |= static_cast<unsigned char>(left[i]) ^ static_cast<unsigned>(static_cast<unsigned char>(right[i]));
  }
  return difference == 0;
}

WorkerState::WorkerState(GenerationEngine& engine, Options options)
    : engine_(engine), options_(std::move(options)), arbiter_(LeaseArbiter::Options{.slots = engine.info().slots}) {}

Status<EngineFailure> WorkerState::open_control(std::string_view secret, ManagerId manager, Incarnation inc,
                                                std::shared_ptr<ControlLink> link) {
  if (!options_.control_secret || !same_secret(secret, *options_.control_secret)) {
    return Err{EngineFailure{Outcome::FORBIDDEN, "control_secret: not the one of the lifeline", "control_secret"}};
  }
  std::shared_ptr<ControlLink> old;
  {
    const std::lock_guard lock(mutex_);
    if (!arbiter_.bind(manager, inc)) {
      return Err{EngineFailure{Outcome::CONFLICT, "inc: this worker belongs to another manager or incarnation", "inc"}};
    }
    old = std::exchange(control_, std::move(link));
    next_report_ = {};
    woken_ = true;
  }
  changed_.notify_all();
  if (old) old->replaced();
  return Ok{};
}

void WorkerState::close_control(const ControlLink& link) {
  std::shared_ptr<ControlLink> gone;  // released outside the lock
  const std::lock_guard lock(mutex_);
  if (control_.get() == &link) gone = std::exchange(control_, nullptr);
  if (lifeline_lost_) woken_ = true;  // the orphan's clock starts
}

void WorkerState::apply(const LeaseTable& table) {
  const std::uint32_t slots = engine_.info().slots;
  std::vector<ToStop> stops;
  std::shared_ptr<ControlLink> link;
  {
    const std::lock_guard lock(mutex_);
    arbiter_.set_slots(slots);
    if (arbiter_.apply(table, runtime::now()) == LeaseArbiter::Applied::ok) ttl_ = table.ttl;
    stops = take_stops(runtime::now());
    link = control_;
    woken_ = true;
  }
  changed_.notify_all();
  stop(std::move(stops));
  if (link) link->report_due();  // also for a table that was not applied: the report says which one holds (L2)
}

void WorkerState::drain(Duration deadline) {
  {
    const std::lock_guard lock(mutex_);
    arbiter_.begin_drain(runtime::now() + deadline);
  }
  wake();
}

void WorkerState::self_check(std::uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    self_check_asked_ = id;
  }
  wake();
}

StateReport WorkerState::report() const {
  StateReport out;
  out.counters = engine_.counters();
  const std::lock_guard lock(mutex_);
  out.version = arbiter_.version();
  out.uses = arbiter_.uses();
  out.slots = arbiter_.slots();
  out.jobs_ended = arbiter_.jobs_ended();
  out.jobs_cut = arbiter_.jobs_cut();
  out.drain_left = arbiter_.drain_left(runtime::now());
  return out;
}

LeaseTable WorkerState::table() const {
  const std::lock_guard lock(mutex_);
  return arbiter_.table();
}

void WorkerState::lifeline_lost() {
  {
    const std::lock_guard lock(mutex_);
    lifeline_lost_ = true;
  }
  wake();
}

// L8: the clock runs while there is neither a lifeline nor a control stream.
bool WorkerState::became_orphan(Instant now) {
  if (!lifeline_lost_ || control_) {
    orphan_since_ = Instant::never();
    return false;
  }
  orphan_since_ = std::min(orphan_since_, now);
  if (now < orphan_since_ + options_.orphan_grace) return false;
  lifeline_lost_ = false;  // said once
  return true;
}

std::uint64_t WorkerState::open_hold(const Holder& holder, std::shared_ptr<HolderLink> link) {
  std::shared_ptr<HolderLink> old;
  std::uint64_t stream = 0;
  {
    const std::lock_guard lock(mutex_);
    stream = ++last_hold_;
    Hold& hold = holds_[holder];
    hold.stream = stream;
    old = std::exchange(hold.link, std::move(link));
  }
  if (old) old->replaced();
  return stream;
}

std::uint32_t WorkerState::heartbeat(const Holder& holder) {
  const std::lock_guard lock(mutex_);
  arbiter_.heartbeat(holder, runtime::now());
  return arbiter_.running_of(holder);
}

void WorkerState::close_hold(const Holder& holder, std::uint64_t stream) {
  std::vector<ToStop> stops;
  std::shared_ptr<HolderLink> link;  // released outside the lock
  {
    const std::lock_guard lock(mutex_);
    const auto newest = holds_.find(holder);
    if (newest == holds_.end() || newest->second.stream != stream) return;
    link = std::move(newest->second.link);
    holds_.erase(newest);
    arbiter_.holder_broken(holder);
    stops = take_stops(runtime::now());
  }
  stop(std::move(stops));
}

Status<Outcome> WorkerState::admit(const Fence& fence, const Holder& holder, const DispatchId& id,
                                   std::uint32_t lease_slots, std::shared_ptr<RunningJob> job) {
  std::shared_ptr<ControlLink> link;
  {
    const std::lock_guard lock(mutex_);
    if (refusing_ || !options_.control_secret) return Err{Outcome::STALE_LEASE};
    if (auto admitted = arbiter_.admit(fence, holder, id, runtime::now(), lease_slots); !admitted.ok()) return admitted;
    jobs_.emplace(id, std::move(job));
    link = control_;
    woken_ = true;
  }
  changed_.notify_all();
  if (link) link->report_due();  // the manager sees that a grant was used (S4)
  return Ok{};
}

void WorkerState::ended(const DispatchId& id, JobEnd how) {
  std::shared_ptr<ControlLink> link;
  std::shared_ptr<RunningJob> job;  // released outside the lock
  {
    const std::lock_guard lock(mutex_);
    arbiter_.ended(id, how);
    if (const auto found = jobs_.find(id); found != jobs_.end()) {
      job = std::move(found->second);
      jobs_.erase(found);
    }
    link = control_;
  }
  if (link) link->report_due();
}

void WorkerState::stop_all(const EngineFailure& why) {
  std::vector<ToStop> stops;
  {
    const std::lock_guard lock(mutex_);
    refusing_ = true;
    for (const auto& [id, job] : jobs_) stops.push_back({job, why});
  }
  stop(std::move(stops));
}

bool WorkerState::idle() const {
  const std::lock_guard lock(mutex_);
  return jobs_.empty();
}

std::vector<WorkerState::ToStop> WorkerState::take_stops(Instant now) {
  std::vector<ToStop> out;
  for (const LeaseArbiter::Stop& stop : arbiter_.jobs_to_stop(now)) {
    if (const auto job = jobs_.find(stop.dispatch); job != jobs_.end()) out.push_back({job->second, why(stop.reason)});
  }
  return out;
}

void WorkerState::stop(std::vector<ToStop> stops) {
  for (ToStop& entry : stops) entry.job->stop(std::move(entry.why));
}

Duration WorkerState::report_every() const { return ttl_ / 3; }

Instant WorkerState::next_wakeup(Instant now) const {
  Instant next = arbiter_.next_wakeup();
  if (control_) next = std::min(next, next_report_);
  if (self_check_) next = std::min(next, now + SelfCheck::kPollEvery);
  if (!orphan_since_.is_never()) next = std::min(next, orphan_since_ + options_.orphan_grace);
  return next;
}

void WorkerState::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void WorkerState::run_timer() {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    const Instant now = runtime::now();
    const Instant next = next_wakeup(now);
    if (next > now) {
      // The condition's clock stops in suspend and ours does not, so no wait is longer than a second.
      const Duration wait = std::min(next.is_never() ? Duration::seconds(1) : next - now, Duration::seconds(1));
      changed_.wait_for(lock, std::chrono::nanoseconds(wait.ns), [this] { return woken_ || closed_; });
    }
    woken_ = false;
    if (!closed_) tick(lock);
  }
  std::unique_ptr<SelfCheck> unfinished = std::move(self_check_);
  lock.unlock();
}

void WorkerState::tick(std::unique_lock<std::mutex>& lock) {
  const Instant now = runtime::now();
  std::vector<ToStop> stops = take_stops(now);
  const std::shared_ptr<ControlLink> link = control_;
  const bool due = link && now >= next_report_;
  const bool orphaned = became_orphan(now);
  if (due) next_report_ = now + report_every();
  if (self_check_asked_ && !self_check_) {
    self_check_ = std::make_unique<SelfCheck>(engine_, *self_check_asked_, now, options_.self_check_limit,
                                              [weak = weak_from_this()] {
                                                // A probe lives for as long as the engine keeps it.
                                                if (const auto state = weak.lock()) state->wake();
                                              });
    self_check_asked_.reset();
  }
  SelfCheck* const check = self_check_.get();  // this thread alone makes and ends it
  lock.unlock();

  stop(std::move(stops));
  if (orphaned && options_.on_orphaned) options_.on_orphaned();
  const std::uint32_t slots = engine_.info().slots;
  if (due) link->report_due();
  const auto verdict = check ? check->advance(now) : std::nullopt;
  if (verdict && link) link->self_checked(*verdict);

  lock.lock();
  arbiter_.set_slots(slots);
  if (verdict) self_check_.reset();
  if (self_check_asked_) woken_ = true;
}

void WorkerState::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace orch::worker
