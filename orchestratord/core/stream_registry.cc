#include "orchestratord/core/stream_registry.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace orch::gateway {
namespace {

constexpr std::uint64_t kEventOverhead = sizeof(StreamEvent) + 32;  // control block, deque slot

bool is_terminal(const StreamEvent& event) {
  return std::holds_alternative<EndEvent>(event.body) || std::holds_alternative<ErrorEvent>(event.body);
}

}  // namespace

std::uint64_t event_bytes(const StreamEvent& event) {
  std::uint64_t bytes = kEventOverhead;
  if (const auto* token = std::get_if<TokenEvent>(&event.body)) {
    bytes += token->text.size() + token->ids.size() * sizeof(std::uint32_t);
    for (const TokenLogProbs& each : token->log_probs) bytes += each.bytes();
  }
  if (const auto* error = std::get_if<ErrorEvent>(&event.body))
    bytes += error->failure.message.size() + error->failure.field.size();
  return bytes;
}

void StreamRegistry::open(JobId job) {
  const bool fresh = streams_.try_emplace(job).second;
  ORCH_CHECK(fresh);
}

bool StreamRegistry::closed(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() || it->second.closed;
}

StreamRegistry::Published StreamRegistry::publish(JobId job, const decltype(StreamEvent::body)& body, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end()) return Published::closed;
  Stream& stream = it->second;
  const bool tolerated = mutation_ == Mutation::double_terminal || mutation_ == Mutation::deliver_after_close;
  if (stream.closed && !tolerated) return Published::closed;

  if (std::holds_alternative<ErrorEvent>(body)) stream.next_id = std::max(stream.next_id, stream.tail_end);
  auto event = std::make_shared<StreamEvent>(StreamEvent{stream.next_id, body});
  const bool terminal = is_terminal(*event);
  const std::uint64_t bytes = event_bytes(*event);
  if (!terminal && !make_room(stream, bytes)) return Published::buffer_full;
  stream.next_id += mutation_ == Mutation::skip_event_id && stream.next_id % 7 == 0 ? 2 : 1;
  stream.kept.push_back({event, bytes});
  stream.bytes += bytes;
  if (!stream.held_behind) {
    for (const Reader& reader : stream.readers) {
      if (event->id > reader.after) out.push_back(Deliver{reader.id, event});
    }
  }
  if (terminal) {
    stream.closed = true;
    if (!tolerated) close_readers(stream, out);
  }
  return Published::delivered;
}

// What readers have been told may go; what is held for them, or what nobody has read, may not.
bool StreamRegistry::make_room(Stream& stream, std::uint64_t bytes) {
  if (stream.bytes + bytes <= limits_.buffer_bytes_max) return true;
  if (stream.readers.empty() || bytes > limits_.buffer_bytes_max) return false;
  const std::uint64_t told = stream.held_behind.value_or(stream.next_id);
  while (!stream.kept.empty() && stream.kept.front().event->id <= told &&
         stream.bytes + bytes > limits_.buffer_bytes_max) {
    stream.bytes -= stream.kept.front().bytes;
    stream.kept.pop_front();
  }
  return stream.bytes + bytes <= limits_.buffer_bytes_max;
}

void StreamRegistry::hold(JobId job) {
  const auto it = streams_.find(job);
  if (it == streams_.end() || it->second.closed || it->second.held_behind) return;
  it->second.held_behind = it->second.next_id - 1;
}

bool StreamRegistry::held(JobId job) const {
  const auto it = streams_.find(job);
  return it != streams_.end() && it->second.held_behind.has_value();
}

void StreamRegistry::release(JobId job, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end() || !it->second.held_behind) return;
  const std::uint64_t told = *std::exchange(it->second.held_behind, std::nullopt);
  for (const Kept& kept : it->second.kept) {
    if (kept.event->id <= told) continue;
    for (const Reader& reader : it->second.readers) {
      if (kept.event->id > reader.after) out.push_back(Deliver{reader.id, kept.event});
    }
  }
}

void StreamRegistry::restore(JobId job, const std::vector<std::shared_ptr<const StreamEvent>>& events,
                             std::shared_ptr<const ServedBy> served_by, std::uint64_t tail_end) {
  const auto [it, fresh] = streams_.try_emplace(job);
  ORCH_CHECK(fresh);
  Stream& stream = it->second;
  stream.tail_end = tail_end;
  stream.served_by = std::move(served_by);
  for (const auto& event : events) {
    const std::uint64_t bytes = event_bytes(*event);
    stream.kept.push_back({event, bytes});
    stream.bytes += bytes;
    stream.next_id = event->id + 1;
    stream.closed = is_terminal(*event);
  }
  while (stream.bytes > limits_.buffer_bytes_max && stream.kept.size() > 1) {
    stream.bytes -= stream.kept.front().bytes;
    stream.kept.pop_front();
  }
}

std::uint64_t StreamRegistry::terminal_id(JobId job, bool error) const {
  const auto it = streams_.find(job);
  if (it == streams_.end()) return 0;
  return error ? std::max(it->second.next_id, it->second.tail_end) : it->second.next_id;
}

std::shared_ptr<const StreamEvent> StreamRegistry::last_event(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() || it->second.kept.empty() ? nullptr : it->second.kept.back().event;
}

void StreamRegistry::publish_metrics(JobId job, const MetricsEvent& metrics, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end() || it->second.closed || it->second.readers.empty()) return;
  const auto event = std::make_shared<StreamEvent>(StreamEvent{0, metrics});
  for (const Reader& reader : it->second.readers) out.push_back(Deliver{reader.id, event});
}

void StreamRegistry::set_served_by(JobId job, ServedBy served_by, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end() || it->second.closed) return;
  it->second.served_by = std::make_shared<ServedBy>(std::move(served_by));
  for (const Reader& reader : it->second.readers) out.push_back(DeliverServedBy{reader.id, it->second.served_by});
}

std::shared_ptr<const ServedBy> StreamRegistry::served_by(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() ? nullptr : it->second.served_by;
}

StreamRegistry::Opened StreamRegistry::add_reader(ReaderId reader, JobId job,
                                                  std::optional<std::uint64_t> last_event_id, Effects& out) {
  if (readers_.contains(reader)) return Opened::reader_exists;
  const auto it = streams_.find(job);
  if (it == streams_.end()) return Opened::unknown_job;
  Stream& stream = it->second;
  const std::uint64_t after = last_event_id.value_or(0);
  if (after >= std::max(stream.next_id, stream.closed ? 0 : stream.tail_end)) return Opened::beyond;
  const std::uint64_t first = stream.kept.empty() ? stream.next_id : stream.kept.front().event->id;
  if (after + 1 < first) return Opened::gone;
  if (!stream.closed && stream.readers.size() >= limits_.readers_per_job_max) return Opened::too_many_readers;

  out.push_back(StreamOpened{reader, job});
  if (stream.served_by) out.push_back(DeliverServedBy{reader, stream.served_by});
  const std::uint64_t told = stream.held_behind.value_or(stream.next_id);
  for (const Kept& kept : stream.kept) {
    if (kept.event->id > after && kept.event->id <= told) out.push_back(Deliver{reader, kept.event});
  }
  if (stream.closed) {
    out.push_back(StreamClosed{reader});
    return Opened::replayed_whole;
  }
  stream.readers.push_back({reader, after});
  readers_.emplace(reader, job);
  return Opened::live;
}

std::optional<JobId> StreamRegistry::remove_reader(ReaderId reader) {
  const auto it = readers_.find(reader);
  if (it == readers_.end()) return std::nullopt;
  const JobId job = it->second;
  readers_.erase(it);
  std::erase_if(streams_.at(job).readers, [&](const Reader& each) { return each.id == reader; });
  return job;
}

std::size_t StreamRegistry::readers(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() ? 0 : it->second.readers.size();
}

std::uint64_t StreamRegistry::bytes(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() ? 0 : it->second.bytes;
}

std::uint64_t StreamRegistry::first_kept(JobId job) const {
  const auto it = streams_.find(job);
  if (it == streams_.end()) return 0;
  return it->second.kept.empty() ? it->second.next_id : it->second.kept.front().event->id;
}

std::uint64_t StreamRegistry::last_id(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() ? 0 : it->second.next_id - 1;
}

void StreamRegistry::forget(JobId job, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end()) return;
  close_readers(it->second, out);
  streams_.erase(it);
}

void StreamRegistry::close_readers(Stream& stream, Effects& out) {
  for (const Reader& reader : stream.readers) {
    out.push_back(StreamClosed{reader.id});
    readers_.erase(reader.id);
  }
  stream.readers.clear();
}

std::string StreamRegistry::check_invariants() const {
  std::size_t reading = 0;
  for (const auto& [job, stream] : streams_) {
    std::uint64_t bytes = 0;
    std::uint64_t expected = stream.kept.empty() ? 0 : stream.kept.front().event->id;
    for (const Kept& kept : stream.kept) {
      const bool cut_off = is_terminal(*kept.event) && kept.event->id == stream.tail_end;
      if (kept.event->id != expected && !cut_off) return "stream_registry: a gap in the ids of job " + job.to_string();
      expected = kept.event->id + 1;
      bytes += kept.bytes;
    }
    if (!stream.kept.empty() && expected != stream.next_id) return "stream_registry: the next id is not the next";
    if (stream.held_behind && stream.closed) return "stream_registry: a closed stream is held";
    if (bytes != stream.bytes) return "stream_registry: wrong byte sum";
    const std::uint64_t terminal = stream.closed && !stream.kept.empty() ? stream.kept.back().bytes : 0;
    if (bytes - terminal > limits_.buffer_bytes_max) return "stream_registry: buffer over its bound";
    if (stream.readers.size() > limits_.readers_per_job_max) return "stream_registry: too many readers";
    if (stream.closed && !stream.readers.empty()) return "stream_registry: a reader on a closed stream";
    for (const Reader& reader : stream.readers) {
      const auto it = readers_.find(reader.id);
      if (it == readers_.end() || it->second != job) return "stream_registry: a reader without its index entry";
      ++reading;
    }
  }
  if (reading != readers_.size()) return "stream_registry: readers and index disagree";
  return {};
}

}  // namespace orch::gateway
