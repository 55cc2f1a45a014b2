#include "orchestratord/shell/worker_stream.h"

#include <utility>

#include "orchestratord/shell/wire.h"

namespace orch::gateway {

void WorkerStream::dispatch(const Dispatch& effect) {
  v1::Dispatch* message = gathered_.add_dispatches();
  wire::write_dispatch(effect, message);
  message->set_number(++last_number_);
  bytes_ += message->ByteSizeLong();
  waits_ = true;
  open_.emplace(last_number_, Open{effect.dispatch, effect.fence});
  numbers_[effect.dispatch] = last_number_;
}

void WorkerStream::cancel(DispatchId dispatch) {
  const auto number = numbers_.find(dispatch);
  if (number == numbers_.end()) return;
  gathered_.add_cancels(number->second);
  waits_ = true;
}

void WorkerStream::beat(std::uint64_t seq) {
  gathered_.set_beat(seq);
  waits_ = true;
}

std::optional<v1::ServeRequest> WorkerStream::take_request() {
  if (!std::exchange(waits_, false)) return std::nullopt;
  bytes_ = 0;
  if (!std::exchange(greeted_, true)) wire::write_holder(holder_, gathered_.mutable_holder());
  return std::exchange(gathered_, {});
}

bool WorkerStream::merge(v1::ServeRequest& waiting, v1::ServeRequest& more) {
  if (waiting.ByteSizeLong() + more.ByteSizeLong() > kRequestBytesEnough) return false;
  waiting.MergeFrom(more);  // dispatches stay before cancels, and the newer heartbeat counts
  return true;
}

Status<std::string> WorkerStream::take(v1::ServeReply&& reply, std::vector<Event>& events) {
  for (v1::JobEvent& message : *reply.mutable_events()) {
    const std::uint64_t number = message.number();
    const auto open = open_.find(number);
    // OC-WORKER-1004: a job that had its terminal, or that this stream never carried, has nothing to say.
    if (open == open_.end()) return Err{"an event of number " + std::to_string(number) + ", which is not open"};
    const bool terminal = message.has_finished() || message.has_failure();
    auto event = wire::read_job_event(open->second.dispatch, open->second.fence, std::move(message));
    if (!event) return Err{"an event of number " + std::to_string(number) + " without a known kind"};
    events.push_back(std::move(*event));
    if (!terminal) continue;
    numbers_.erase(open->second.dispatch);
    open_.erase(open);
  }
  return Ok{};
}

std::vector<DispatchId> WorkerStream::take_open() {
  std::vector<DispatchId> out;
  out.reserve(open_.size());
  for (const auto& [number, open] : open_) out.push_back(open.dispatch);
  open_.clear();
  numbers_.clear();
  return out;
}

}  // namespace orch::gateway
