#include "orchestratord/shell/journal_writer.h"

#include <chrono>
#include <span>
#include <utility>

#include "common/runtime/clock.h"

namespace orch::gateway {
namespace {

// How long leftovers may wait for a commit that takes them along.
constexpr std::chrono::milliseconds kTidyPause{200};

}  // namespace

JournalWriter::JournalWriter(std::unique_ptr<JournalSqlite> journal, OnAnswer on_answer, OnFound on_found)
    : journal_(std::move(journal)),
      on_answer_(std::move(on_answer)),
      on_found_(std::move(on_found)),
      thread_([this] { run(); }) {}

JournalWriter::~JournalWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void JournalWriter::write(JournalWrite write) {
  const JournalTicket ticket = write.ticket;
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() < kQueueMax) {
      queue_.push_back(std::move(write));
      if (queue_.size() == 1) wake_.notify_one();
      return;
    }
  }
  on_answer_({.first = ticket,
              .last = ticket,
              .refused = std::to_string(kQueueMax) + " writes wait for the disk already",
              .writes = 1,
              .records = 0,
              .took = {},
              .file_bytes = 0});
}

void JournalWriter::read(const ReadJournal& wanted) {
  const std::lock_guard lock(mutex_);
  reads_.push_back(wanted);
  wake_.notify_one();
}

void JournalWriter::run() {
  std::vector<JournalWrite> group;
  std::vector<ReadJournal> reads;
  for (;;) {
    group.clear();
    reads.clear();
    {
      std::unique_lock lock(mutex_);
      const auto something = [this] { return stopping_ || !queue_.empty() || !reads_.empty(); };
      if (journal_->has_leftovers()) {
        wake_.wait_for(lock, kTidyPause, something);
      } else {
        wake_.wait(lock, something);
      }
      while (!queue_.empty() && group.size() < kGroupMax) {
        group.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
      if (group.empty() && stopping_) return;
      while (!reads_.empty() && reads.size() < kReadsMax) {
        reads.push_back(reads_.front());
        reads_.pop_front();
      }
    }
    if (!group.empty()) {
      commit(group);
    } else if (journal_->has_leftovers()) {
      static_cast<void>(journal_->commit({}));
    }
    for (const ReadJournal& wanted : reads) find(wanted);
  }
}

void JournalWriter::find(const ReadJournal& wanted) {
  auto portion = journal_->read(wanted);
  Found found;
  found.portion.reader = wanted.reader;
  if (portion.ok()) {
    found.portion.events = std::move(portion).value();
  } else {
    found.fault = portion.error();
  }
  on_found_(std::move(found));
}

void JournalWriter::commit(std::vector<JournalWrite>& group) {
  const auto one = [this](std::span<const JournalWrite> writes) {
    const Instant begun = runtime::now();
    auto result = journal_->commit(writes);
    Answer answer;
    answer.first = writes.front().ticket;
    answer.last = writes.back().ticket;
    answer.writes = writes.size();
    answer.took = runtime::now() - begun;
    answer.file_bytes = journal_->bytes();
    if (result.ok()) {
      answer.records = result->records;
    } else {
      // One write that is too large for what room there is must not take the others with it.
      if (result.error().full && writes.size() > 1) return false;
      answer.refused = result.error().reason;
    }
    on_answer_(std::move(answer));
    return true;
  };
  if (one(group)) return;
  for (const JournalWrite& write : group) one({&write, 1});
}

}  // namespace orch::gateway
