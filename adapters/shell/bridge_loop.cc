#include "adapters/shell/bridge_loop.h"

#include <algorithm>
#include <utility>

#include "adapters/core/upstream_error.h"
#include "common/base/check.h"
#include "common/runtime/clock.h"

namespace orch::adapter {
namespace {

using worker::GenerationSink;

constexpr Duration kSlotsEvery = Duration::milliseconds(25);
constexpr Duration kSlotsLimit = Duration::seconds(1);
constexpr std::size_t kSlotsBytesMax = 1024 * 1024;
constexpr Duration kTail = Duration::milliseconds(250);

EngineFailure spent(Outcome outcome, const char* budget, Duration value) {
  return {.outcome = outcome,
          .message = std::string("upstream ") + budget + " timeout after " + std::to_string(value.ms()) + " ms",
          .field = {}};
}

}  // namespace

BridgeLoop::BridgeLoop(const Dialect& dialect, EngineAddress address, Budgets budgets, EngineStatus& status)
    : dialect_(dialect), address_(std::move(address)), budgets_(budgets), status_(status), multi_(::curl_multi_init()) {
  ORCH_CHECK(multi_ != nullptr);
  thread_ = std::thread([this] { run(); });
}

BridgeLoop::~BridgeLoop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ::curl_multi_wakeup(multi_);
  thread_.join();
  ::curl_multi_cleanup(multi_);
}

void BridgeLoop::push(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  ::curl_multi_wakeup(multi_);
}

void BridgeLoop::submit(worker::GenerationRequest request, std::shared_ptr<GenerationSink> sink) {
  status_.update([](auto&, auto& counters) { ++counters.running; });
  push(Submit{std::move(request), std::move(sink), runtime::now()});
}

void BridgeLoop::cancel(const DispatchId& id) { push(id); }

void BridgeLoop::run() {
  while (take_commands()) {
    int running = 0;
    ::curl_multi_perform(multi_, &running);
    read_messages();
    const Instant now = runtime::now();
    for (auto& [id, job] : jobs_) check_budgets(*job, now);
    note_waits();
    close_connections(now);
    settle(now);
    end_burst();
    std::erase_if(jobs_, [](const auto& entry) { return entry.second->state == State::over; });
    wait(now);
  }
  for (auto& [id, job] : jobs_) {
    job->transfer.reset();
    if (job->sink) end_failed(*job, {.outcome = Outcome::WORKER_RESET, .message = "the adapter stops", .field = {}});
  }
  end_burst();
  jobs_.clear();
  slots_transfer_.reset();
}

void BridgeLoop::end_burst() {
  if (std::exchange(told_, false) && burst_over_) burst_over_();
}

bool BridgeLoop::take_commands() {
  std::deque<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
    // What was submitted gets its terminal even now: it becomes a job and run() ends it.
    if (stopping_ && commands.empty()) return false;
  }
  for (Command& command : commands) {
    if (auto* job = std::get_if<Submit>(&command)) {
      begin(std::move(*job));
    } else if (const auto found = jobs_.find(std::get<DispatchId>(command)); found != jobs_.end()) {
      close_because(*found->second, {.outcome = Outcome::CANCELED, .message = "canceled", .field = {}});
    }
  }
  return true;
}

void BridgeLoop::begin(Submit submit) {
  auto job = std::make_unique<Job>();
  job->id = submit.request.id;
  job->sink = std::move(submit.sink);
  job->submitted = submit.at;
  if (submit.request.deadline) job->deadline = submit.at + *submit.request.deadline;
  if (!status_.ready()) {
    return end_failed(*job, {.outcome = Outcome::POOL_UNREADY, .message = "the engine is not ready", .field = {}});
  }
  if (jobs_.contains(job->id)) {
    return end_failed(*job,
                      {.outcome = Outcome::INTERNAL, .message = "this job and attempt runs already", .field = {}});
  }
  auto conversation = dialect_.generate(submit.request);
  if (!conversation.ok()) return end_failed(*job, conversation.error());
  job->conversation = std::move(conversation.value());
  Job& kept = *jobs_.emplace(job->id, std::move(job)).first->second;
  begin_exchange(kept);
}

void BridgeLoop::begin_exchange(Job& job) {
  const HttpRequest request = job.conversation->next();
  job.exchange_began = job.last_event = runtime::now();
  job.transfer = Transfer::start(multi_, address_, request,
                                 {.on_head = [&job](int status) { job.conversation->head(status); },
                                  .on_body = [this, &job](std::string_view bytes) { return received(job, bytes); }});
  if (!job.transfer)
    end_failed(job, {.outcome = Outcome::INTERNAL, .message = "no memory for an exchange", .field = {}});
}

bool BridgeLoop::received(Job& job, std::string_view bytes) {
  if (job.state == State::tail) return true;
  if (job.state != State::exchanging) return false;
  std::vector<Event> events;
  job.conversation->body(bytes, events);
  deliver(job, events);
  return job.state == State::exchanging || job.state == State::tail;
}

void BridgeLoop::deliver(Job& job, std::vector<Event>& events) {
  for (Event& event : events) {
    if (job.state != State::exchanging) return;
    if (auto* started = std::get_if<Started>(&event)) {
      told_ = true;
      job.sink->started(started->prompt_tokens, started->cached_prompt_tokens);
    } else if (auto* tokens = std::get_if<Tokens>(&event)) {
      take_tokens(job, std::move(*tokens));
    } else if (auto* result = std::get_if<GenerationResult>(&event)) {
      end_finished(job, *result);
    } else if (auto* failure = std::get_if<EngineFailure>(&event)) {
      close_because(job, std::move(*failure));
    } else {
      close_because(job, malformed("a count instead of tokens"));
    }
  }
}

void BridgeLoop::take_tokens(Job& job, Tokens tokens) {
  const Instant now = runtime::now();
  const auto gap = static_cast<std::uint64_t>(std::max<std::int64_t>(0, (now - job.last_event).ms()));
  status_.update([&](auto&, auto& counters) {
    ++counters.steps_done;
    counters.tokens_out_total += tokens.count;
    if (job.has_event) counters.step_longest_ms = std::max(counters.step_longest_ms, gap);
  });
  job.has_event = true;
  job.last_event = now;
  told_ = true;
  job.sink->tokens({tokens.index, std::move(tokens.ids), std::move(tokens.text)});
}

void BridgeLoop::read_messages() {
  int left = 0;
  while (const CURLMsg* message = ::curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    if (slots_transfer_ && message->easy_handle == slots_transfer_->handle()) {
      slots_done_ = true;
      continue;
    }
    for (auto& [id, job] : jobs_) {
      if (!job->transfer || job->transfer->handle() != message->easy_handle) continue;
      exchange_ended(*job, message->data.result);
      break;
    }
  }
}

void BridgeLoop::exchange_ended(Job& job, CURLcode code) {
  if (job.state == State::tail) job.state = State::over;
  if (job.state != State::exchanging) return;
  const bool connected = job.transfer->connected();
  std::vector<Event> events;
  // Row A3: a connection that breaks early ends the answer like any other end; the dialect says whether it was
  // complete.
  if (code == CURLE_OK || code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING) {
    if (code == CURLE_GOT_NOTHING) {
      events.emplace_back(truncated());
    } else {
      job.conversation->end(events);
    }
  } else {
    const Outcome outcome = connected ? Outcome::WORKER_RESET : Outcome::POOL_UNAVAILABLE;
    events.emplace_back(
        EngineFailure{.outcome = outcome, .message = "engine: " + Transfer::describe(code), .field = {}});
  }
  job.transfer.reset();  // the peer has ended it: nothing to settle
  deliver(job, events);
  if (job.state == State::exchanging) begin_exchange(job);
  if (job.state == State::tail) job.state = State::over;
}

std::optional<std::pair<Instant, EngineFailure>> BridgeLoop::next_budget(const Job& job) const {
  if (job.state != State::exchanging || !job.transfer) return std::nullopt;
  const Instant total = job.submitted + budgets_.total;
  std::pair<Instant, EngineFailure> next{total, spent(Outcome::DECODE_TIMEOUT, "total", budgets_.total)};
  if (job.deadline && *job.deadline < next.first) {
    next = {*job.deadline, {.outcome = Outcome::DECODE_TIMEOUT, .message = "the job's deadline passed", .field = {}}};
  }
  Instant step = job.exchange_began + budgets_.connect;
  EngineFailure failure = spent(Outcome::POOL_UNAVAILABLE, "connect", budgets_.connect);
  if (job.has_event) {
    step = job.last_event + budgets_.idle;
    failure = spent(Outcome::DECODE_TIMEOUT, "idle", budgets_.idle);
  } else if (job.transfer->connected()) {
    step = job.exchange_began + budgets_.first_event;
    failure = spent(Outcome::POOL_UNAVAILABLE, "first byte", budgets_.first_event);
  }
  if (step < next.first) next = {step, std::move(failure)};
  return next;
}

void BridgeLoop::check_budgets(Job& job, Instant now) {
  auto next = next_budget(job);
  if (next && now >= next->first) close_because(job, std::move(next->second));
}

// OC-ADAPT-5085: what is still exchanging here is inside its budgets. At least once a second, as wait() has it.
void BridgeLoop::note_waits() {
  const bool waits = std::any_of(jobs_.begin(), jobs_.end(),
                                 [](const auto& entry) { return entry.second->state == State::exchanging; });
  if (waits) status_.update([](auto&, auto& counters) { ++counters.waits_done; });
}

void BridgeLoop::close_because(Job& job, EngineFailure failure) {
  if (job.state == State::exchanging) {
    job.why = std::move(failure);
    job.state = State::closing;
  }
}

void BridgeLoop::close_connections(Instant now) {
  for (auto& [id, job] : jobs_) {
    if (job->state == State::closing) {
      const bool may_decode = job->transfer && job->conversation->decoding() && job->transfer->connected();
      job->transfer.reset();  // closes the connection: the engine notices and stops decoding (row A5)
      job->closed = now;
      job->until = may_decode ? now + budgets_.cancel_settle : now;
      job->state = State::settling;
    } else if (job->state == State::tail && now >= job->until) {
      job->transfer.reset();
      job->state = State::over;
    }
  }
}

void BridgeLoop::settle(Instant now) {
  if (slots_done_) slots_answered();
  bool waiting = false;
  for (auto& [id, job] : jobs_) {
    if (job->state != State::settling) continue;
    if (now >= job->until) {
      end_failed(*job, std::move(*job->why));
    } else {
      waiting = true;
    }
  }
  if (slots_transfer_ && now >= slots_asked_ + kSlotsLimit) slots_transfer_.reset();
  if (waiting && !slots_transfer_ && now >= slots_asked_ + kSlotsEvery) ask_slots(now);
}

void BridgeLoop::ask_slots(Instant now) {
  if (status_.info().cancel != "confirmed") return;
  slots_asked_ = now;
  slots_done_ = false;
  slots_reply_ = {};
  slots_transfer_ = Transfer::start(multi_, address_, dialect_.slots_probe(),
                                    {.on_head = [this](int status) { slots_reply_.status = status; },
                                     .on_body =
                                         [this](std::string_view bytes) {
                                           slots_reply_.body += bytes;
                                           return slots_reply_.body.size() <= kSlotsBytesMax;
                                         }});
}

void BridgeLoop::slots_answered() {
  slots_done_ = false;
  slots_transfer_.reset();
  const auto busy = dialect_.busy_slots(slots_reply_);
  if (!busy) return;
  // Only jobs that have shown a token surely hold a slot. Counting the others too could call a slot idle that is not;
  // without them an idle slot is found idle a little later, at most cancel_settle.
  const auto decoding = std::count_if(jobs_.begin(), jobs_.end(), [](const auto& entry) {
    return entry.second->state == State::exchanging && entry.second->has_event;
  });
  if (*busy > static_cast<std::uint64_t>(decoding)) return;
  for (auto& [id, job] : jobs_) {
    if (job->state == State::settling && job->closed <= slots_asked_) end_failed(*job, std::move(*job->why));
  }
}

void BridgeLoop::note_ended(bool canceled, std::uint32_t tokens_in) {
  status_.update([&](auto&, auto& counters) {
    --counters.running;
    counters.tokens_in_total += tokens_in;
    if (canceled) ++counters.canceled_total;
  });
}

void BridgeLoop::end_failed(Job& job, EngineFailure failure) {
  job.state = State::over;
  note_ended(failure.outcome == Outcome::CANCELED, 0);
  told_ = true;
  std::exchange(job.sink, nullptr)->failed(failure);
}

void BridgeLoop::end_finished(Job& job, const worker::GenerationResult& result) {
  job.state = State::tail;
  job.until = runtime::now() + kTail;
  note_ended(false, result.prompt_tokens);
  told_ = true;
  std::exchange(job.sink, nullptr)->finished(result);
}

void BridgeLoop::wait(Instant now) {
  Instant next = now + Duration::seconds(1);
  for (const auto& [id, job] : jobs_) {
    if (const auto budget = next_budget(*job)) next = std::min(next, budget->first);
    if (job->state == State::settling) next = std::min({next, job->until, now + kSlotsEvery});
    if (job->state == State::tail) next = std::min(next, job->until);
    if (job->state == State::closing || job->state == State::over) next = now;
  }
  const std::int64_t wait_ms = std::clamp<std::int64_t>((next - now).ms_ceil(), 0, 1000);
  ::curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait_ms), nullptr);
}

}  // namespace orch::adapter
