#include "orchestratord/core/job_queue.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace orch::gateway {

FullPolicy JobQueue::policy(Priority priority) const {
  return priority == Priority::interactive ? limits_.interactive_full_policy : limits_.batch_full_policy;
}

// Who may be given up for a newcomer of this class, in the order of giving up.
std::vector<const QueueEntry*> JobQueue::by_age(Priority highest, const std::string* tenant) const {
  std::vector<const QueueEntry*> out;
  for (const auto& [job, entry] : entries_) {
    if (entry.priority < highest) continue;  // interactive < batch: a higher class is never a victim
    if (tenant != nullptr && entry.tenant != *tenant) continue;
    out.push_back(&entry);
  }
  std::sort(out.begin(), out.end(), [](const QueueEntry* a, const QueueEntry* b) { return a->seq < b->seq; });
  return out;
}

Room JobQueue::room_for(Priority priority, const std::string& tenant, std::uint64_t bytes) const {
  const std::size_t class_capacity =
      priority == Priority::interactive ? limits_.interactive_capacity : limits_.batch_capacity;
  Room room;
  const auto over = [&](std::size_t total, std::size_t in_class, std::uint64_t used) {
    if (total >= limits_.capacity) {
      room.full = "queue.capacity";
      room.limit = limits_.capacity;
    } else if (in_class >= class_capacity) {
      room.full = priority == Priority::interactive ? "queue.interactive_capacity" : "queue.batch_capacity";
      room.limit = class_capacity;
    } else if (bytes > limits_.bytes_max || used > limits_.bytes_max - bytes) {
      room.full = "queue.bytes_max";
      room.limit = limits_.bytes_max;
    } else {
      return false;
    }
    return true;
  };
  std::size_t total = entries_.size() + held_.size();
  std::size_t in_class = counts_[index(priority)];
  std::uint64_t used = bytes_;
  if (!over(total, in_class, used)) {
    room.kind = Room::Kind::free;
    return room;
  }
  const FullPolicy policy_here = policy(priority);
  if (policy_here == FullPolicy::reject || bytes > limits_.bytes_max) return room;

  std::vector<const QueueEntry*> candidates;
  if (policy_here == FullPolicy::drop_lru) {
    candidates = by_age(priority, &tenant);  // oldest first
  } else if (priority == Priority::interactive) {
    candidates = by_age(Priority::batch, nullptr);
    std::reverse(candidates.begin(), candidates.end());  // the newest has waited least
  }
  Room refused = room;
  for (const QueueEntry* victim : candidates) {
    const bool class_is_full = in_class >= class_capacity;
    if (class_is_full && victim->priority != priority) continue;  // would not help
    room.victims.push_back(victim->job);
    --total;
    if (victim->priority == priority) --in_class;
    used -= victim->bytes;
    if (!over(total, in_class, used)) {
      room.kind = Room::Kind::after_eviction;
      return room;
    }
  }
  return refused;  // not enough to give up: nobody is evicted in vain
}

void JobQueue::push(const QueueEntry& entry) {
  const bool fresh = entries_.emplace(entry.job, entry).second;
  ORCH_CHECK(fresh);
  models_[entry.lane.model][index(entry.priority)][entry.lane].emplace(entry.seq, entry.job);
  ++counts_[index(entry.priority)];
  bytes_ += entry.bytes;
}

void JobQueue::hold(const QueueEntry& entry) {
  const bool fresh = held_.emplace(entry.job, entry).second;
  ORCH_CHECK(fresh);
  ++counts_[index(entry.priority)];
  bytes_ += entry.bytes;
}

bool JobQueue::remove(JobId job) {
  if (const auto held = held_.find(job); held != held_.end()) {
    --counts_[index(held->second.priority)];
    bytes_ -= held->second.bytes;
    held_.erase(held);
    return true;
  }
  const auto it = entries_.find(job);
  if (it == entries_.end()) return false;
  const QueueEntry& entry = it->second;
  const auto model = models_.find(entry.lane.model);
  auto& lanes = model->second[index(entry.priority)];
  const auto lane = lanes.find(entry.lane);
  lane->second.erase(entry.seq);
  if (lane->second.empty()) lanes.erase(lane);
  if (model->second[0].empty() && model->second[1].empty()) models_.erase(model);
  --counts_[index(entry.priority)];
  bytes_ -= entry.bytes;
  entries_.erase(it);
  return true;
}

std::size_t JobQueue::depth(const std::string& model, Priority priority) const {
  const auto it = models_.find(model);
  if (it == models_.end()) return 0;
  std::size_t sum = 0;
  for (const auto& [lane, line] : it->second[index(priority)]) sum += line.size();
  return sum;
}

std::vector<std::string> JobQueue::models() const {
  std::vector<std::string> out;
  out.reserve(models_.size());
  for (const auto& [model, lanes] : models_) out.push_back(model);
  return out;
}

std::vector<Lane> JobQueue::lanes_by_age(const std::string& model, Priority priority) const {
  const auto it = models_.find(model);
  if (it == models_.end()) return {};
  std::vector<std::pair<std::uint64_t, const Lane*>> heads;
  for (const auto& [lane, line] : it->second[index(priority)]) heads.emplace_back(line.begin()->first, &lane);
  std::sort(heads.begin(), heads.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Lane> out;
  out.reserve(heads.size());
  for (const auto& [seq, lane] : heads) out.push_back(*lane);
  return out;
}

std::vector<JobId> JobQueue::heads(const Lane& lane, Priority priority, std::size_t max) const {
  std::vector<JobId> out;
  const auto model = models_.find(lane.model);
  if (model == models_.end()) return out;
  const auto& lanes = model->second[index(priority)];
  const auto line = lanes.find(lane);
  if (line == lanes.end()) return out;
  for (auto it = line->second.begin(); it != line->second.end() && out.size() < max; ++it) out.push_back(it->second);
  return out;
}

std::size_t JobQueue::ahead_of(const std::string& model, Priority priority, std::uint64_t seq) const {
  const auto it = models_.find(model);
  if (it == models_.end()) return 0;
  std::size_t ahead = 0;
  for (const auto& [lane, line] : it->second[index(priority)]) {
    if (line.empty() || line.begin()->first >= seq) continue;
    if (line.rbegin()->first < seq) {
      ahead += line.size();
    } else {
      ahead += static_cast<std::size_t>(std::distance(line.begin(), line.lower_bound(seq)));
    }
  }
  return ahead;
}

std::string JobQueue::check_invariants() const {
  std::size_t in_lanes = 0;
  std::array<std::size_t, 2> counts{};
  std::uint64_t bytes = 0;
  for (const auto& [model, classes] : models_) {
    for (std::size_t c = 0; c < classes.size(); ++c) {
      for (const auto& [lane, line] : classes[c]) {
        if (line.empty() || lane.model != model) return "job_queue: an empty or misplaced lane";
        for (const auto& [seq, job] : line) {
          const auto it = entries_.find(job);
          if (it == entries_.end() || it->second.seq != seq || it->second.lane != lane ||
              index(it->second.priority) != c) {
            return "job_queue: lane and entry disagree about job " + job.to_string();
          }
          ++in_lanes;
          ++counts[c];
          bytes += it->second.bytes;
        }
      }
    }
  }
  for (const auto& [job, entry] : held_) {
    if (entries_.contains(job)) return "job_queue: a job is held and waits";
    ++counts[index(entry.priority)];
    bytes += entry.bytes;
  }
  if (in_lanes != entries_.size() || counts != counts_ || bytes != bytes_) return "job_queue: sums are wrong";
  return {};
}

}  // namespace orch::gateway
