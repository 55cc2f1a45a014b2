// Purpose: commits the core's journal writes off the loop, as many at a time as have piled up (group commit, ruling
// 12), and reads between commits what readers of tasks are to be given (OC-JOB-1018). Threads: write() and read() from
// the loop only and never block; `on_answer` and `on_found` run on the writer's thread, `on_answer` inside write() when
// the queue is full. Ownership: the destructor commits what is queued, leaves out what is to be read, and ends the
// thread. Bounds: kQueueMax writes wait, and one read of each reader.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/time.h"
#include "orchestratord/shell/journal_sqlite.h"

namespace orch::gateway {

class JournalWriter {
 public:
  static constexpr std::size_t kQueueMax = 16'384;
  static constexpr std::size_t kGroupMax = 1'024;  // writes in one transaction

  static constexpr std::size_t kReadsMax = 8;  // before the next commit

  // Of the writes `first` to `last`.
  struct Answer {
    JournalTicket first;
    JournalTicket last;
    std::optional<std::string> refused;
    std::size_t writes = 0;
    std::size_t records = 0;
    Duration took;
    std::uint64_t file_bytes = 0;
  };
  using OnAnswer = std::function<void(Answer)>;

  struct Found {
    JournalRead portion;
    std::optional<std::string> fault;
  };
  using OnFound = std::function<void(Found)>;

  JournalWriter(std::unique_ptr<JournalSqlite> journal, OnAnswer on_answer, OnFound on_found);
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  void write(JournalWrite write);
  void read(const ReadJournal& wanted);

 private:
  void run();
  void commit(std::vector<JournalWrite>& group);
  void find(const ReadJournal& wanted);

  std::unique_ptr<JournalSqlite> journal_;
  const OnAnswer on_answer_;
  const OnFound on_found_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<JournalWrite> queue_;  // guarded by mutex_
  std::deque<ReadJournal> reads_;   // guarded by mutex_
  bool stopping_ = false;           // guarded by mutex_
  std::thread thread_;              // last: it uses all of the above
};

}  // namespace orch::gateway
