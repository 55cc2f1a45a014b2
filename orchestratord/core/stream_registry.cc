#include "orchestratord/core/stream_registry.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace orch::gateway {
namespace {

bool is_terminal(const StreamEvent& event) {
  return std::holds_alternative<EndEvent>(event.body) || std::holds_alternative<ErrorEvent>(event.body);
}

}  // namespace

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
  if (!terminal && !make_room(stream, EventLog::cost(*event), out)) return Published::buffer_full;
  stream.next_id += mutation_ == Mutation::skip_event_id && stream.next_id % 7 == 0 ? 2 : 1;
  stream.kept.append(event);
  stream.last = event;
  if (stream.recorded && event->id == 1) stream.started = event;
  if (!stream.held_behind) {
    for (Reader& reader : stream.readers) {
      if (reader.is_behind() || event->id <= reader.after) continue;
      out.push_back(Deliver{reader.id, event});
      reader.after = event->id;
    }
  }
  if (terminal) {
    record_no_more(job, out);  // its end is told when all of it is stored (J1)
    stream.closed = true;
    stream.last.reset();
    stream.kept.shrink();
    if (!tolerated) close_readers(stream, false, out);
  }
  return Published::delivered;
}

std::uint64_t StreamRegistry::told(const Stream& stream) { return stream.held_behind.value_or(stream.next_id); }

std::uint64_t StreamRegistry::first_of(const Stream& stream) {
  return stream.kept.empty() ? stream.next_id : stream.kept.first_id();
}

// As things stand; of what is recorded, also when the buffer lets more go.
bool StreamRegistry::reachable(const Stream& stream, std::uint64_t after) {
  const std::uint64_t first = first_of(stream);
  return after + 1 >= first || (stream.started != nullptr && (stream.recorded || stream.stored + 1 >= first));
}

void StreamRegistry::give(JobId job, const Stream& stream, Reader& reader, std::uint64_t bytes, Effects& out) const {
  if (reader.after == 0 && first_of(stream) > 1 && stream.started) {
    out.push_back(Deliver{reader.id, stream.started});
    reader.after = 1;
  }
  if (reader.after + 1 < first_of(stream) && mutation_ != Mutation::skip_to_buffer)
    return fetch(job, stream, reader, out);
  const std::uint64_t upto = told(stream);
  std::uint64_t given = 0;
  reader.behind = Behind::no;
  stream.kept.read(reader.after, [&](const EventLog::Event& event, std::uint64_t cost) {
    if (event->id > upto) return false;
    if (given > 0 && given + cost > bytes) {
      reader.behind = Behind::awaited;
      out.push_back(AwaitReader{reader.id});
      return false;
    }
    given += cost;
    reader.after = event->id;
    out.push_back(Deliver{reader.id, event});
    return true;
  });
}

// OC-JOB-1018. What the buffer has let go has been told, whatever is held back since.
void StreamRegistry::fetch(JobId job, const Stream& stream, Reader& reader, Effects& out) const {
  const std::uint64_t upto = std::min(stream.stored, first_of(stream) - 1);
  if (reader.after < upto) {
    reader.behind = Behind::fetching;
    out.push_back(ReadJournal{reader.id, job, reader.after + 1, upto, limits_.replay_bytes});
  } else if (stream.recorded) {
    reader.behind = Behind::unstored;
  } else {
    cut(reader, out);
  }
}

void StreamRegistry::cut(Reader& reader, Effects& out) {
  reader.behind = Behind::cut;
  out.push_back(CutReader{reader.id});
}

void StreamRegistry::read(ReaderId id, const std::vector<std::shared_ptr<const StreamEvent>>& events, Effects& out) {
  Reader* reader = find_reader(id);
  if (reader == nullptr || reader->behind != Behind::fetching) return;
  const std::uint64_t before = reader->after;
  for (const auto& event : events) {
    if (event->id != reader->after + 1) break;
    reader->after = event->id;
    out.push_back(Deliver{id, event});
  }
  if (reader->after == before) return cut(*reader, out);
  reader->behind = Behind::awaited;
  out.push_back(AwaitReader{id});
}

void StreamRegistry::record(JobId job, std::uint64_t upto) {
  Stream& stream = streams_.at(job);
  stream.recorded = true;
  stream.stored = upto;
}

void StreamRegistry::stored(JobId job, std::uint64_t upto, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end() || it->second.stored >= upto) return;
  it->second.stored = upto;
  give_unstored(job, it->second, out);
}

void StreamRegistry::record_no_more(JobId job, Effects& out) {
  const auto it = streams_.find(job);
  if (it != streams_.end() && std::exchange(it->second.recorded, false)) give_unstored(job, it->second, out);
}

void StreamRegistry::give_unstored(JobId job, Stream& stream, Effects& out) {
  for (Reader& reader : stream.readers) {
    if (reader.behind == Behind::unstored) give(job, stream, reader, limits_.replay_bytes, out);
  }
}

StreamRegistry::Reader* StreamRegistry::find_reader(ReaderId id) {
  const auto found = readers_.find(id);
  if (found == readers_.end()) return nullptr;
  std::vector<Reader>& readers = streams_.at(found->second).readers;
  const auto reader = std::find_if(readers.begin(), readers.end(), [id](const Reader& each) { return each.id == id; });
  return reader == readers.end() ? nullptr : &*reader;
}

std::optional<JobId> StreamRegistry::drained(ReaderId id, Effects& out) {
  Reader* reader = find_reader(id);
  if (reader == nullptr || reader->behind != Behind::awaited) return std::nullopt;
  const JobId job = readers_.at(id);
  Stream& stream = streams_.at(job);
  give(job, stream, *reader, limits_.replay_bytes, out);
  if (!stream.closed || reader->is_behind()) return std::nullopt;
  close_readers(stream, false, out);
  return job;
}

// What readers have been told may go; what is held for them, or what nobody has read, may not.
bool StreamRegistry::make_room(Stream& stream, std::uint64_t bytes, Effects& out) {
  const auto fits = [&] { return stream.kept.bytes() + bytes <= limits_.buffer_bytes_max; };
  if (fits()) return true;
  if (stream.readers.empty() || bytes > limits_.buffer_bytes_max) return false;
  while (!stream.kept.empty() && stream.kept.first_id() <= told(stream) && !fits()) drop_first(stream, out);
  return fits();
}

// OC-JOB-1017: who is behind is given this event and no more, and what it was given before is still awaited. All the
// rest at once would be more than its connection may hold, however fast it reads. What the journal keeps it is not
// given.
void StreamRegistry::drop_first(Stream& stream, Effects& out) {
  const std::uint64_t first = stream.kept.first_id();
  const bool in_journal = stream.recorded || stream.stored >= first;
  for (Reader& reader : stream.readers) {
    if (in_journal || reader.behind != Behind::awaited || reader.after + 1 != first) continue;
    stream.kept.read(reader.after, [&](const EventLog::Event& event, std::uint64_t) {
      reader.after = event->id;
      out.push_back(Deliver{reader.id, event});
      return event->id < first;
    });
  }
  stream.kept.drop_first();
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
  it->second.held_behind.reset();
  for (Reader& reader : it->second.readers) {
    if (!reader.is_behind()) give(job, it->second, reader, limits_.replay_bytes, out);
  }
}

void StreamRegistry::restore(JobId job, const std::vector<std::shared_ptr<const StreamEvent>>& events,
                             std::shared_ptr<const ServedBy> served_by, std::uint64_t tail_end) {
  const auto [it, fresh] = streams_.try_emplace(job);
  ORCH_CHECK(fresh);
  Stream& stream = it->second;
  stream.tail_end = tail_end;
  stream.served_by = std::move(served_by);
  if (!events.empty() && events.front()->id == 1) stream.started = events.front();
  for (const auto& event : events) {
    stream.kept.append(event);
    stream.next_id = event->id + 1;
    stream.closed = is_terminal(*event);
  }
  while (!stream.closed && stream.kept.bytes() > limits_.buffer_bytes_max &&
         stream.kept.first_id() < stream.kept.last_id()) {
    stream.kept.drop_first();
  }
  if (stream.closed) stream.kept.shrink();
}

std::uint64_t StreamRegistry::terminal_id(JobId job, bool error) const {
  const auto it = streams_.find(job);
  if (it == streams_.end()) return 0;
  return error ? std::max(it->second.next_id, it->second.tail_end) : it->second.next_id;
}

std::shared_ptr<const StreamEvent> StreamRegistry::last_event(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() ? nullptr : it->second.last;
}

void StreamRegistry::publish_metrics(JobId job, const MetricsEvent& metrics, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end() || it->second.closed || it->second.readers.empty()) return;
  const auto event = std::make_shared<StreamEvent>(StreamEvent{0, metrics});
  for (const Reader& reader : it->second.readers) {
    if (!reader.is_behind()) out.push_back(Deliver{reader.id, event});
  }
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
  if (!reachable(stream, after)) return Opened::gone;
  const bool crowded = stream.readers.size() >= limits_.readers_per_job_max;
  if (crowded && (!stream.closed || after + 1 < first_of(stream))) return Opened::too_many_readers;

  out.push_back(StreamOpened{reader, job});
  if (stream.served_by) out.push_back(DeliverServedBy{reader, stream.served_by});
  stream.readers.push_back({reader, after});
  readers_.emplace(reader, job);
  give(job, stream, stream.readers.back(), crowded ? kEverything : limits_.replay_bytes, out);
  if (!stream.closed) return Opened::live;
  if (stream.readers.back().is_behind()) return Opened::replaying;
  close_readers(stream, false, out);
  return Opened::replayed_whole;
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

bool StreamRegistry::heard(JobId job) const {
  const auto it = streams_.find(job);
  return it != streams_.end() && std::any_of(it->second.readers.begin(), it->second.readers.end(),
                                             [](const Reader& reader) { return !reader.is_behind(); });
}

std::uint64_t StreamRegistry::bytes(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() ? 0 : it->second.kept.bytes();
}

std::uint64_t StreamRegistry::first_kept(JobId job) const {
  const auto it = streams_.find(job);
  if (it == streams_.end()) return 0;
  return first_of(it->second);
}

std::uint64_t StreamRegistry::last_id(JobId job) const {
  const auto it = streams_.find(job);
  return it == streams_.end() ? 0 : it->second.next_id - 1;
}

void StreamRegistry::forget(JobId job, Effects& out) {
  const auto it = streams_.find(job);
  if (it == streams_.end()) return;
  for (Reader& reader : it->second.readers) {
    if (reader.is_behind() && reader.behind != Behind::cut) cut(reader, out);
  }
  std::erase_if(it->second.readers,
                [this](const Reader& reader) { return reader.is_behind() && readers_.erase(reader.id) > 0; });
  close_readers(it->second, true, out);
  streams_.erase(it);
}

// Of a closed stream those go that have had its end.
void StreamRegistry::close_readers(Stream& stream, bool all, Effects& out) {
  std::erase_if(stream.readers, [&](const Reader& reader) {
    if (reader.is_behind() && !all) return false;
    out.push_back(StreamClosed{reader.id});
    readers_.erase(reader.id);
    return true;
  });
}

std::string StreamRegistry::check_invariants() const {
  std::size_t reading = 0;
  for (const auto& [job, stream] : streams_) {
    std::uint64_t bytes = 0;
    std::uint64_t expected = stream.kept.empty() ? 0 : stream.kept.first_id();
    bool gap = false;
    stream.kept.read(0, [&](const EventLog::Event& event, std::uint64_t cost) {
      const bool cut_off = is_terminal(*event) && event->id == stream.tail_end;
      gap = gap || (event->id != expected && !cut_off);
      expected = event->id + 1;
      bytes += cost;
      return true;
    });
    if (gap) return "stream_registry: a gap in the ids of job " + job.to_string();
    if (!stream.kept.empty() && expected != stream.next_id) return "stream_registry: the next id is not the next";
    if (stream.held_behind && stream.closed) return "stream_registry: a closed stream is held";
    if (bytes != stream.kept.bytes()) return "stream_registry: wrong byte sum";
    if (!stream.closed && bytes > limits_.buffer_bytes_max) return "stream_registry: buffer over its bound";
    if (stream.readers.size() > limits_.readers_per_job_max) return "stream_registry: too many readers";
    for (const Reader& reader : stream.readers) {
      if (stream.closed && !reader.is_behind()) return "stream_registry: a reader on a closed stream";
      const bool ahead = reader.after + 1 < first_of(stream);
      if (ahead && !reader.is_behind()) return "stream_registry: a reader has missed what it was to be told";
      if (reader.behind == Behind::unstored && (!stream.recorded || reader.after < stream.stored))
        return "stream_registry: a reader waits for what is stored, or never will be";
      const auto it = readers_.find(reader.id);
      if (it == readers_.end() || it->second != job) return "stream_registry: a reader without its index entry";
      ++reading;
    }
  }
  if (reading != readers_.size()) return "stream_registry: readers and index disagree";
  return {};
}

}  // namespace orch::gateway
