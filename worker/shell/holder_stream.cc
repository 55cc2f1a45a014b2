#include "worker/shell/holder_stream.h"

#include <string>

#include "worker/shell/wire.h"

namespace orch::worker {
namespace {

constexpr std::size_t kSmallItemBytes = 64;

std::size_t bytes_of(const TokenOutbox::Item& item) {
  std::size_t sum = kSmallItemBytes;
  if (const auto* batch = std::get_if<TokenBatch>(&item)) sum += batch->bytes();
  if (const auto* scores = std::get_if<PromptScores>(&item)) {
    for (const TokenLogProbs& each : scores->log_probs) sum += each.bytes();
  }
  return sum;
}

Err<EngineFailure> broken(const std::string& field, const std::string& message) {
  return Err{EngineFailure{.outcome = Outcome::INVALID_PARAMS, .message = field + ": " + message, .field = field}};
}

}  // namespace

HolderStream::HolderStream(std::shared_ptr<WorkerState> state, GenerationEngine& engine, ReplyWriter& writer,
                           std::shared_ptr<BurstGate> gate, const Limits& limits)
    : state_(std::move(state)), engine_(engine), writer_(writer), gate_(std::move(gate)), limits_(limits) {}

bool HolderStream::received(const v1::ServeRequest& request) {
  if (const auto taken = take(request); !taken.ok()) close(taken.error());
  release();  // acks and refusals wait for no engine
  const std::lock_guard lock(mutex_);
  return !closing_;
}

Status<EngineFailure> HolderStream::take(const v1::ServeRequest& request) {
  if (const auto greeted = greet(request); !greeted.ok()) return greeted;
  if (request.beat() != 0) {
    const std::uint32_t running = state_->heartbeat(holder_);
    const std::lock_guard lock(mutex_);
    ack_ = {request.beat(), running};
  }
  for (const v1::Dispatch& message : request.dispatches()) {
    if (const auto taken = dispatch(message); !taken.ok()) return taken;
  }
  for (const std::uint64_t number : request.cancels()) {
    if (const auto taken = cancel(number); !taken.ok()) return taken;
  }
  return Ok{};
}

// Only received() writes holder_ and stream_, so this thread reads them without the mutex.
Status<EngineFailure> HolderStream::greet(const v1::ServeRequest& request) {
  if (stream_ != 0 && !request.has_holder()) return Ok{};
  ORCH_TRY(holder, wire::parse_holder(request.holder()));
  if (stream_ != 0) {
    if (holder != holder_) return broken("holder", "changed within one stream");
    return Ok{};
  }
  const std::uint64_t stream = state_->open_hold(holder, shared_from_this());
  state_->heartbeat(holder);
  bool gone = false;
  {
    const std::lock_guard lock(mutex_);
    holder_ = holder;
    stream_ = stream;
    gone = closing_;
  }
  if (gone) state_->close_hold(holder, stream);
  return Ok{};
}

// OC-WORKER-1004: a number is used once, and only so many are open.
Status<EngineFailure> HolderStream::dispatch(const v1::Dispatch& message) {
  const std::uint64_t number = message.number();
  auto run = std::make_shared<JobStream>(state_, engine_, shared_from_this(), number);
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return Ok{};
    if (number <= last_number_) {
      return broken("dispatches.number",
                    std::to_string(number) + " is not greater than " + std::to_string(last_number_));
    }
    if (jobs_.size() >= limits_.jobs_max) {
      return broken("dispatches", "more than " + std::to_string(limits_.jobs_max) + " are open");
    }
    last_number_ = number;
    jobs_.emplace(number, Open{.run = run, .outbox = TokenOutbox(limits_.outbox_bytes_max)});
  }
  auto parsed = wire::parse_dispatch(message);
  if (!parsed.ok()) {
    ended(number, parsed.error(), {});
  } else {
    run->run(parsed->fence, holder_, parsed->lease_slots, std::move(parsed->request));
  }
  return Ok{};
}

Status<EngineFailure> HolderStream::cancel(std::uint64_t number) {
  std::shared_ptr<JobStream> run;
  {
    const std::lock_guard lock(mutex_);
    if (number == 0 || number > last_number_) {
      return broken("cancels", std::to_string(number) + " was never dispatched");
    }
    const auto job = jobs_.find(number);
    if (job == jobs_.end()) return Ok{};  // its terminal and the cancel have crossed
    run = job->second.run;
  }
  run->stop({.outcome = Outcome::CANCELED, .message = "canceled", .field = {}});
  return Ok{};
}

void HolderStream::replaced() {
  close(EngineFailure{Outcome::CONFLICT, "a newer stream of this holder took this one's place", {}});
}

void HolderStream::peer_gone() { close(std::nullopt); }

// L5: the stream's end stops its jobs, whoever ended it.
void HolderStream::close(std::optional<EngineFailure> failure) {
  std::map<std::uint64_t, Open> jobs;
  std::uint64_t stream = 0;
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
    failure_ = std::move(failure);
    stream = stream_;
    std::swap(jobs, jobs_);
    due_.clear();
  }
  if (stream != 0) state_->close_hold(holder_, stream);
  for (auto& [number, job] : jobs) {
    job.run->stop({.outcome = Outcome::CANCELED, .message = "its holder's stream ended", .field = {}});
  }
  pump();
}

void HolderStream::started(std::uint64_t job, StartedNote note) {
  tell(job, [note](TokenOutbox& outbox) {
    outbox.started(note);
    return true;
  });
}

bool HolderStream::prompt_scored(std::uint64_t job, PromptScores scores) {
  return tell(job, [&scores](TokenOutbox& outbox) { return outbox.prompt_scored(std::move(scores)); });
}

bool HolderStream::tokens(std::uint64_t job, TokenBatch batch) {
  return tell(job, [&batch](TokenOutbox& outbox) { return outbox.tokens(std::move(batch)); });
}

void HolderStream::ended(std::uint64_t job, TokenOutbox::Terminal terminal, TokenBatch last) {
  tell(job, [&terminal, &last](TokenOutbox& outbox) {
    if (!last.text.empty()) outbox.tokens(std::move(last));  // where that is too much, it is the terminal
    outbox.finish(std::move(terminal));
    return true;
  });
}

template <typename Change>
bool HolderStream::tell(std::uint64_t job, Change change) {
  bool fits = true;
  bool wait = false;
  {
    const std::lock_guard lock(mutex_);
    const auto open = jobs_.find(job);
    if (open == jobs_.end()) return true;
    fits = change(open->second.outbox);
    if (!open->second.due && !open->second.outbox.empty()) {
      open->second.due = true;
      due_.push_back(job);
    }
    wait = gate_ != nullptr && !std::exchange(waiting_, true);
  }
  if (gate_ == nullptr) {
    release();
  } else if (wait) {
    gate_->wait(shared_from_this());
  }
  return fits;
}

void HolderStream::burst_over() {
  {
    const std::lock_guard lock(mutex_);
    waiting_ = false;
  }
  release();
}

void HolderStream::release() {
  {
    const std::lock_guard lock(mutex_);
    ready_ = true;
  }
  pump();
}

void HolderStream::written(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    busy_ = false;
  }
  if (!ok) peer_gone();
  pump();
}

// OC-WORKER-1002: in rotation, so that one job with much to tell costs the others no more than a reply.
std::vector<HolderStream::Told> HolderStream::gather() {
  std::vector<Told> out;
  std::size_t bytes = 0;
  while (!due_.empty() && bytes < limits_.reply_bytes_enough) {
    const std::uint64_t number = due_.front();
    due_.pop_front();
    const auto job = jobs_.find(number);
    bool over = false;
    while (bytes < limits_.reply_bytes_enough || job->second.outbox.only_its_end_waits()) {
      std::optional<TokenOutbox::Item> item = job->second.outbox.take();
      if (!item) break;
      bytes += bytes_of(*item);
      over = is_terminal(*item);
      out.emplace_back(number, std::move(*item));
    }
    job->second.due = !job->second.outbox.empty();
    if (job->second.due) due_.push_back(number);
    if (over) jobs_.erase(job);
  }
  ready_ = !due_.empty();
  return out;
}

void HolderStream::pump() {
  std::vector<Told> told;
  std::optional<std::pair<std::uint64_t, std::uint32_t>> ack;
  bool finish = false;
  {
    const std::lock_guard lock(mutex_);
    if (busy_ || closed_) return;
    finish = closing_;
    if (!finish) {
      if (ready_) told = gather();
      ack = std::exchange(ack_, std::nullopt);
      if (told.empty() && !ack) return;
    }
    busy_ = true;
    closed_ = finish;
  }
  if (finish) return writer_.finish(failure_);
  reply_.Clear();
  if (ack) {
    reply_.set_beat(ack->first);
    reply_.set_running(ack->second);
  }
  for (Told& each : told) {
    v1::JobEvent* event = reply_.add_events();
    event->set_number(each.first);
    wire::write_item(std::move(each.second), event);
  }
  writer_.write(reply_);
}

}  // namespace orch::worker
