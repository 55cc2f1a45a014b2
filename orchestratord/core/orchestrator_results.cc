// Which of the ended jobs are kept, what is said of one that is not (OC-JOB-J7), and the portions of readers that come
// late.
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

void Orchestrator::trim_finished() {
  const auto being_read = [this](JobId job) { return streams_.readers(job) > 0; };
  while (const std::optional<JobId> job = results_.surplus(being_read)) {
    const ResultShelf::Result& result = results_.all().at(*job);
    results_.note_dropped(*job, result.tenant, result.ended + config_.result_ttl);
    let_go(*job);
  }
  results_.expire(now_);
}

// From now on it is there for those alone who read it.
void Orchestrator::let_go(JobId id) {
  Job& job = jobs_.at(id);
  results_.remove(id);
  if (streams_.readers(id) == 0) return forget(id);
  if (read_out_.size() >= config_.limits.read_out_jobs_max) forget(read_out_.begin()->second);
  job.read_out_until = now_ + config_.limits.read_out_max;
  read_out_.emplace(job.read_out_until, id);
  arm(job);
}

void Orchestrator::read_out(JobId id) {
  if (!jobs_.at(id).being_read_out() || streams_.readers(id) > 0) return;
  forget(id);
  settle_needed_ = true;
}

bool Orchestrator::was_dropped(JobId id, const std::optional<std::string>& tenant) const {
  const std::string* owner = results_.dropped(id);
  return owner != nullptr && (!tenant || *owner == tenants_.known_as(*tenant));
}

Failure Orchestrator::missing_task(const OpenStream& event) const {
  Failure failure;
  failure.outcome = Outcome::NOT_FOUND;
  failure.message = "no task with id " + event.job.to_string();
  failure.field = "task_id";
  if (was_dropped(event.job, event.tenant)) {
    failure.outcome = Outcome::RESULT_DROPPED;
    failure.message = dropped_message();
  }
  return failure;
}

std::string Orchestrator::dropped_message() const {
  return "the task has ended and its result was dropped: results.jobs_max = " +
         std::to_string(config_.limits.finished_max) +
         ", results.bytes_max = " + std::to_string(config_.limits.finished_bytes_max);
}

void Orchestrator::on(const ReaderDrained& event) {
  settle_needed_ = false;
  const std::optional<JobId> read = streams_.drained(event.reader, *out_);
  if (!read) return;
  results_.note_read(*read);  // OC-JOB-J7
  read_out(*read);
}

void Orchestrator::on(const JournalRead& event) {
  settle_needed_ = false;
  streams_.read(event.reader, event.events, *out_);
}

}  // namespace orch::gateway
