// Purpose: commits the core's journal writes off the loop, as many at a time as have piled up (group commit, ruling
// 12). Threads: write() from the loop only and never blocks; `on_answer` runs on the writer's thread, or inside write()
// when the queue is full. Ownership: the destructor commits what is queued and ends the thread. Bounds: kQueueMax
// writes wait.
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

  JournalWriter(std::unique_ptr<JournalSqlite> journal, OnAnswer on_answer);
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  void write(JournalWrite write);

 private:
  void run();
  void commit(std::vector<JournalWrite>& group);

  std::unique_ptr<JournalSqlite> journal_;
  const OnAnswer on_answer_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<JournalWrite> queue_;  // guarded by mutex_
  bool stopping_ = false;           // guarded by mutex_
  std::thread thread_;              // last: it uses all of the above
};

}  // namespace orch::gateway
