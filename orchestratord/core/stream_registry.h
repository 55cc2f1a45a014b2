// The event stream of every job: numbered, buffered for late and returning readers, ended once (ORCH-2002, J2, "Jobs,
// streams, journal").
//
//   open --publish*--> publish a terminal --> closed: readers are closed, the buffer stays until forget()
//
// Ids count started, token and the terminal from 1 without a gap; metrics carry 0, are not buffered and may be lost.
// The buffer is bounded by bytes. With a reader present its oldest events are let go, for they have been delivered;
// without one a publish that would exceed it is refused and the caller ends the job with SLOW_CONSUMER. Terminals
// always fit.
//
// What was there before a reader comes is given to it in portions (OC-JOB-1017): after each it is behind, and hears
// nothing, until drained() says that it has taken what it was given. It is never waited for: where the buffer needs the
// room the reader gets what goes, as fast as others write; whoever writes to it judges whether that is too much. Where
// the stream is forgotten, it is cut off.
//
// Of a recorded stream the journal has what the buffer has let go, but for `started`, which stays (OC-JOB-1018). A
// reader that wants such events is given portions that read() brings. Where it has come to the buffer's beginning it
// goes on there, and in the journal again when the buffer was faster. It waits for what is not stored yet, and is cut
// off before what never will be.
//
// A held stream keeps what is published and tells nobody, until release(): its journal entry is not durable yet (J1,
// J4).
// A restored stream of a job that ran when the process died has an unknown tail: clients may have seen more events
// than are kept. They resume behind what they saw, events up to there are not told again, and an error that cuts the
// tail off is numbered behind everything that can have been told.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/effects.h"
#include "orchestratord/core/event_log.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

class StreamRegistry {
 public:
  StreamRegistry(const StreamLimits& limits, Mutation mutation) : limits_(limits), mutation_(mutation) {}

  enum class Published : std::uint8_t { delivered, buffer_full, closed };
  enum class Opened : std::uint8_t {
    live,
    replaying,       // closed; the end comes with a later portion
    replayed_whole,  // closed, and its end was given
    unknown_job,
    too_many_readers,
    gone,
    beyond,
    reader_exists
  };

  void open(JobId job);
  bool exists(JobId job) const { return streams_.contains(job); }
  bool closed(JobId job) const;

  // Numbers, keeps and delivers. A terminal closes the stream for all readers.
  Published publish(JobId job, const decltype(StreamEvent::body)& body, Effects& out);
  // Delivered to present readers only.
  void publish_metrics(JobId job, const MetricsEvent& metrics, Effects& out);
  void set_served_by(JobId job, ServedBy served_by, Effects& out);
  std::shared_ptr<const ServedBy> served_by(JobId job) const;  // null: nobody yet

  void hold(JobId job);
  bool held(JobId job) const;
  void release(JobId job, Effects& out);

  // The journal is given the events of the stream from now on, and has those up to this id.
  void record(JobId job, std::uint64_t upto);
  void stored(JobId job, std::uint64_t upto, Effects& out);
  void record_no_more(JobId job, Effects& out);

  // Opens the stream of a job that an earlier life left behind: started first, then tokens, then a terminal if any, ids
  // ascending. `tail_end`: an id behind all that can have been told; 0: nothing else was.
  void restore(JobId job, const std::vector<std::shared_ptr<const StreamEvent>>& events,
               std::shared_ptr<const ServedBy> served_by, std::uint64_t tail_end);
  // The id a terminal published now would have, and the event published last.
  std::uint64_t terminal_id(JobId job, bool error) const;
  std::shared_ptr<const StreamEvent> last_event(JobId job) const;

  // Emits StreamOpened and the replay, or its first portion; the caller turns every refusal into StreamRefused.
  Opened add_reader(ReaderId reader, JobId job, std::optional<std::uint64_t> last_event_id, Effects& out);
  // Answers AwaitReader; nothing of a reader that is gone. The job whose end it has been given by that.
  std::optional<JobId> drained(ReaderId reader, Effects& out);
  // Answers ReadJournal likewise.
  void read(ReaderId reader, const std::vector<std::shared_ptr<const StreamEvent>>& events, Effects& out);
  // The job the reader was reading; nullopt when it reads nothing (any more).
  std::optional<JobId> remove_reader(ReaderId reader);

  std::size_t readers(JobId job) const;
  bool heard(JobId job) const;  // by a reader that is not behind
  std::uint64_t bytes(JobId job) const;
  std::uint64_t first_kept(JobId job) const;  // smallest event id still in the buffer
  std::uint64_t last_id(JobId job) const;
  void forget(JobId job, Effects& out);  // cuts off who is behind

  std::size_t size() const { return streams_.size(); }
  std::string check_invariants() const;

 private:
  // What a reader that is behind waits for: that it takes its portion, one from the journal, the journal's next write;
  // or nothing.
  enum class Behind : std::uint8_t { no, awaited, fetching, unstored, cut };
  struct Reader {
    ReaderId id;
    std::uint64_t after = 0;  // events up to here are not told to it (any more)
    Behind behind = Behind::no;
    bool is_behind() const { return behind != Behind::no; }
  };
  struct Stream {
    EventLog kept;
    EventLog::Event last;  // published last, while it runs
    std::uint64_t next_id = 1;
    bool closed = false;
    std::uint64_t tail_end = 0;
    std::optional<std::uint64_t> held_behind;  // events with a higher id are told to nobody yet
    bool recorded = false;                     // what is published will be stored
    std::uint64_t stored = 0;                  // the journal has the token events up to this id
    EventLog::Event started;                   // of a recorded stream
    std::vector<Reader> readers;
    std::shared_ptr<const ServedBy> served_by;
  };
  static constexpr std::uint64_t kEverything = UINT64_MAX;
  // What the stream has for the reader, as long as that is at most about so many bytes.
  void give(JobId job, const Stream& stream, Reader& reader, std::uint64_t bytes, Effects& out) const;
  void fetch(JobId job, const Stream& stream, Reader& reader, Effects& out) const;
  static void cut(Reader& reader, Effects& out);
  static std::uint64_t first_of(const Stream& stream);  // id of the first event that is in the buffer, or will be
  static bool reachable(const Stream& stream, std::uint64_t after);
  void give_unstored(JobId job, Stream& stream, Effects& out);
  Reader* find_reader(ReaderId id);
  static std::uint64_t told(const Stream& stream);  // id of the last event that may be told
  void close_readers(Stream& stream, bool all, Effects& out);
  bool make_room(Stream& stream, std::uint64_t bytes, Effects& out);
  static void drop_first(Stream& stream, Effects& out);

  StreamLimits limits_;
  Mutation mutation_;
  std::map<JobId, Stream> streams_;
  std::map<ReaderId, JobId> readers_;
};

}  // namespace orch::gateway
