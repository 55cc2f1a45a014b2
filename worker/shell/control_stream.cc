#include "worker/shell/control_stream.h"

#include <algorithm>
#include <utility>

#include "worker/shell/wire.h"

namespace orch::worker {
namespace {

constexpr std::size_t kVerdictsMax = 8;

v1::ControlReport to_message(const StateReport& report, const std::optional<SelfCheckVerdict>& verdict) {
  v1::ControlReport out;
  out.set_version_boot(report.version.boot);
  out.set_version_counter(report.version.counter);
  out.set_slots(report.slots);
  out.set_jobs_ended(report.jobs_ended);
  out.set_jobs_cut(report.jobs_cut);
  if (report.drain_left) out.set_drain_left_ms(static_cast<std::uint64_t>(report.drain_left->ms()));
  for (const LeaseUse& use : report.uses) {
    auto* entry = out.add_uses();
    entry->mutable_id()->set_boot(use.id.boot);
    entry->mutable_id()->set_counter(use.id.counter);
    entry->set_running(use.running);
  }
  wire::write_counters(report.counters, &out);
  if (verdict) {
    auto* result = out.mutable_self_check();
    result->set_id(verdict->id);
    result->set_decoded(verdict->decoded);
    result->set_cancel_freed(verdict->cancel_freed);
    result->set_counters_moved(verdict->counters_moved);
    result->set_detail(verdict->detail);
  }
  return out;
}

}  // namespace

ControlStream::ControlStream(std::shared_ptr<WorkerState> state, ControlWriter& writer)
    : state_(std::move(state)), writer_(writer) {}

bool ControlStream::received(const v1::ControlRequest& request) {
  const auto handled = handle(request);
  if (!handled.ok()) close(handled.error());
  const std::lock_guard lock(mutex_);
  return !closing_;
}

Status<EngineFailure> ControlStream::hello(const v1::ControlHello& message) {
  const auto manager = Uuid::parse(message.manager_id());
  if (!manager) return Err{EngineFailure{Outcome::INVALID_PARAMS, "hello.manager_id: not a UUID", "hello.manager_id"}};
  {
    const std::lock_guard lock(mutex_);
    if (greeted_) return Err{EngineFailure{Outcome::INVALID_PARAMS, "hello: sent twice", "hello"}};
    greeted_ = true;
    table_due_ = message.want_table();
  }
  return state_->open_control(message.control_secret(), ManagerId{*manager},
                              {message.inc().boot(), message.inc().counter()}, shared_from_this());
}

Status<EngineFailure> ControlStream::handle(const v1::ControlRequest& request) {
  if (request.kind_case() == v1::ControlRequest::kHello) return hello(request.hello());
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return Ok{};
    if (!greeted_) return Err{EngineFailure{Outcome::FORBIDDEN, "hello: must be the first message", "hello"}};
  }
  switch (request.kind_case()) {
    case v1::ControlRequest::kTable: {
      ORCH_TRY(table, wire::parse_table(request.table()));
      state_->apply(table);
      return Ok{};
    }
    case v1::ControlRequest::kDrain: {
      constexpr std::uint64_t kLongestMs = 24ULL * 3600 * 1000;
      const std::uint64_t deadline = std::min<std::uint64_t>(request.drain().deadline_ms(), kLongestMs);
      state_->drain(Duration::milliseconds(static_cast<std::int64_t>(deadline)));
      return Ok{};
    }
    case v1::ControlRequest::kSelfCheck:
      state_->self_check(request.self_check().id());
      return Ok{};
    default:
      return Err{EngineFailure{Outcome::INVALID_PARAMS, "kind: missing or unknown", "kind"}};
  }
}

void ControlStream::report_due() {
  {
    const std::lock_guard lock(mutex_);
    due_ = true;
  }
  pump();
}

void ControlStream::self_checked(SelfCheckVerdict verdict) {
  {
    const std::lock_guard lock(mutex_);
    if (verdicts_.size() == kVerdictsMax) verdicts_.pop_front();
    verdicts_.push_back(std::move(verdict));
  }
  pump();
}

void ControlStream::replaced() {
  close(EngineFailure{Outcome::CONFLICT, "a newer control stream took this one's place", {}});
}

void ControlStream::peer_gone() { close(std::nullopt); }

void ControlStream::close(std::optional<EngineFailure> failure) {
  state_->close_control(*this);
  {
    const std::lock_guard lock(mutex_);
    if (!closing_) failure_ = std::move(failure);
    closing_ = true;
  }
  pump();
}

void ControlStream::written(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    busy_ = false;
  }
  if (!ok) return peer_gone();
  pump();
}

void ControlStream::pump() {
  std::optional<SelfCheckVerdict> verdict;
  bool finish = false;
  bool with_table = false;
  {
    const std::lock_guard lock(mutex_);
    if (busy_ || closed_) return;
    finish = closing_;
    if (!finish && !due_ && verdicts_.empty()) return;
    busy_ = true;
    closed_ = finish;
    due_ = false;
    with_table = !finish && std::exchange(table_due_, false);
    if (!verdicts_.empty()) {
      verdict = std::move(verdicts_.front());
      verdicts_.pop_front();
    }
  }
  if (finish) {
    writer_.finish(failure_);
  } else {
    v1::ControlReport report = to_message(state_->report(), verdict);
    if (with_table) wire::write_table(state_->table(), report.mutable_table());
    writer_.write(report);
  }
}

}  // namespace orch::worker
