#include "sim/sim_journal.h"

#include <algorithm>
#include <utility>

#include "orchestratord/core/event_log.h"

namespace orch::sim {

void SimJournal::write(const gateway::JournalWrite& write, std::function<void(const gateway::Event&)> answer) {
  const bool fails = !world_.healed() && world_.chance(world_.rates.disk_fails);
  const bool slow = !world_.healed() && world_.chance(world_.rates.slow_disk);
  if (fails) world_.count(Fault::disk_fails);
  if (slow) world_.count(Fault::slow_disk);
  const Duration time = slow ? world_.between(Duration::milliseconds(50), Duration::seconds(6))
                             : world_.between(Duration::microseconds(200), Duration::milliseconds(8));
  // A refused transaction may be on the disk all the same.
  const bool durable = !fails || world_.rng().below(4) == 0;
  const Instant done = std::max(world_.now(), free_at_) + time;
  free_at_ = done + Duration{2};
  const auto records = std::make_shared<const std::vector<gateway::JournalRecord>>(write.records);  // for two actions
  if (durable) {
    // The kernel may finish what a dead process had begun: some of it, in order, up to where it was cut.
    const std::uint64_t life = node_.life;
    const bool survives = world_.rng().below(2) == 0;
    world_.at(done, [this, records, life, survives] {
      if (life < opened_life_) return;
      if (node_.life != life && !survives) cut_life_ = life;
      if (cut_life_ != life) apply(*records);
    });
  }
  world_.on_node(node_, done + Duration{1}, [answer = std::move(answer), ticket = write.ticket, fails] {
    if (fails) {
      answer(gateway::JournalFailed{ticket, ticket, "the disk refuses"});
    } else {
      answer(gateway::JournalCommitted{ticket, ticket});
    }
  });
}

void SimJournal::read(const gateway::ReadJournal& wanted, std::function<void(const gateway::Event&)> answer) {
  const bool fails = !world_.healed() && world_.chance(world_.rates.disk_fails);
  const bool slow = !world_.healed() && world_.chance(world_.rates.slow_disk);
  if (fails) world_.count(Fault::disk_fails);
  if (slow) world_.count(Fault::slow_disk);
  const Duration time = slow ? world_.between(Duration::milliseconds(50), Duration::seconds(6))
                             : world_.between(Duration::microseconds(100), Duration::milliseconds(3));
  free_at_ = std::max(world_.now(), free_at_) + time;
  world_.on_node(node_, free_at_, [this, answer = std::move(answer), wanted, fails] {
    answer(fails ? gateway::JournalRead{wanted.reader, {}} : portion(wanted));
  });
}

gateway::JournalRead SimJournal::portion(const gateway::ReadJournal& wanted) const {
  gateway::JournalRead out{wanted.reader, {}};
  const auto row = rows_.find(wanted.job);
  if (row == rows_.end()) return out;
  std::uint64_t bytes = 0;
  for (std::uint64_t id = wanted.from; id <= wanted.upto; ++id) {
    const auto event = row->second.tokens.find(id);
    if (event == row->second.tokens.end()) break;
    bytes += gateway::EventLog::cost(*event->second);
    if (!out.events.empty() && bytes > wanted.bytes) break;
    out.events.push_back(event->second);
  }
  return out;
}

void SimJournal::apply(const std::vector<gateway::JournalRecord>& records) {
  for (const gateway::JournalRecord& record : records) {
    std::visit([this](const auto& each) { take(each); }, record);
  }
}

void SimJournal::take(const gateway::AdmitRecord& record) {
  Row row;
  row.job.admit = record;
  if (!record.spec.store) row.job.admit.spec.payload.reset();
  row.job.admit.spec.idempotency.reset();
  row.order = ++last_order_;
  row.admitted = world_.now();
  rows_[record.spec.id] = std::move(row);
}

void SimJournal::take(const gateway::DispatchRecord& record) {
  if (const auto row = rows_.find(record.job); row != rows_.end()) row->second.job.dispatch = record;
}

void SimJournal::take(const gateway::TokensRecord& record) {
  const auto row = rows_.find(record.job);
  if (row == rows_.end()) return;
  for (const auto& event : record.events) row->second.tokens[event->id] = event;
}

void SimJournal::take(const gateway::AboardRecord& record) {
  if (const auto row = rows_.find(record.job); row != rows_.end()) row->second.job.aboard = record;
}

void SimJournal::take(const gateway::EndRecord& record) {
  const auto row = rows_.find(record.job);
  if (row == rows_.end()) return;
  row->second.job.terminal = record.terminal;
  row->second.ended = world_.now();
}

void SimJournal::take(const gateway::EraseRecord& record) { rows_.erase(record.job); }

gateway::Recovered SimJournal::recover() const {
  std::vector<const Row*> rows;
  for (const auto& [id, row] : rows_) rows.push_back(&row);
  std::sort(rows.begin(), rows.end(), [](const Row* a, const Row* b) { return a->order < b->order; });
  gateway::Recovered out;
  out.managers = managers_;
  for (const Row* row : rows) {
    gateway::RecoveredJob job = row->job;
    job.age = world_.now() - row->admitted;
    job.ended_age = world_.now() - row->ended;
    for (const auto& [id, event] : row->tokens) {
      if (id == job.tokens.size() + 2) job.tokens.push_back(event);
    }
    out.jobs.push_back(std::move(job));
  }
  return out;
}

}  // namespace orch::sim
