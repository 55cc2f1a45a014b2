#include "orchestratord/core/job_queue.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::gateway {

FullPolicy JobQueue::policy(Priority priority) const {
  return priority == Priority::interactive ? limits_.interactive_full_policy : limits_.batch_full_policy;
}

std::size_t JobQueue::class_capacity(Priority priority) const {
  return priority == Priority::interactive ? limits_.interactive_capacity : limits_.batch_capacity;
}

// --- waiting ---

void JobQueue::rank(const std::string& tenant, const Use& use, bool in) {
  for (std::size_t measure = 0; measure < kMeasures; ++measure) {
    const std::uint64_t amount = measured(use, measure);
    if (amount == 0) continue;
    std::pair<double, std::string> place{static_cast<double>(amount) / use.weight, tenant};
    if (in) {
      by_use_[measure].insert(std::move(place));
      weights_[measure] += use.weight;
    } else {
      by_use_[measure].erase(place);
      weights_[measure] -= use.weight;
    }
  }
}

void JobQueue::push(const QueueEntry& entry) {
  const bool fresh = entries_.emplace(entry.job, entry).second;
  ORCH_CHECK(fresh);
  ClassLines& of = models_[entry.lane.model][index(entry.priority)];
  TenantLines& lines = of.tenants[entry.tenant];
  Line& line = lines.lanes[entry.lane];
  if (line.empty()) ++of.lanes[entry.lane];
  line.emplace(entry.key(), entry.job);
  lines.all.insert({entry.key(), entry.job, entry.work});
  ++of.size;

  use_grows(entry, entry.may_be_victim);
}

void JobQueue::use_grows(const QueueEntry& entry, bool waits) {
  const auto [use, first] = uses_.try_emplace(entry.tenant);
  if (first) use->second.weight = entry.weight;
  rank(entry.tenant, use->second, false);
  ++use->second.counts[index(entry.priority)];
  use->second.bytes += entry.bytes;
  if (waits) use->second.by_age[index(entry.priority)].emplace(entry.seq, entry.job);
  rank(entry.tenant, use->second, true);
  ++counts_[index(entry.priority)];
  bytes_ += entry.bytes;
}

void JobQueue::use_shrinks(const QueueEntry& entry) {
  const auto use = uses_.find(entry.tenant);
  rank(entry.tenant, use->second, false);
  --use->second.counts[index(entry.priority)];
  use->second.bytes -= entry.bytes;
  use->second.by_age[index(entry.priority)].erase(entry.seq);
  rank(entry.tenant, use->second, true);
  if (use->second.jobs() == 0) uses_.erase(use);
  --counts_[index(entry.priority)];
  bytes_ -= entry.bytes;
}

void JobQueue::hold(const QueueEntry& entry) {
  const bool fresh = held_.emplace(entry.job, entry).second;
  ORCH_CHECK(fresh);
  use_grows(entry, false);
}

bool JobQueue::remove(JobId job) {
  if (const auto held = held_.find(job); held != held_.end()) {
    use_shrinks(held->second);
    held_.erase(held);
    return true;
  }
  const auto it = entries_.find(job);
  if (it == entries_.end()) return false;
  const QueueEntry& entry = it->second;
  const auto model = models_.find(entry.lane.model);
  ClassLines& of = model->second[index(entry.priority)];
  const auto tenant = of.tenants.find(entry.tenant);
  const auto lane = tenant->second.lanes.find(entry.lane);
  lane->second.erase(entry.key());
  tenant->second.all.erase(entry.key());
  --of.size;
  if (lane->second.empty()) {
    tenant->second.lanes.erase(lane);
    if (--of.lanes.at(entry.lane) == 0) of.lanes.erase(entry.lane);
  }
  if (tenant->second.all.empty()) of.tenants.erase(tenant);
  if (model->second[0].size == 0 && model->second[1].size == 0) models_.erase(model);

  use_shrinks(entry);
  entries_.erase(it);
  return true;
}

void JobQueue::set_weight(const std::string& tenant, std::uint32_t weight) {
  const auto use = uses_.find(tenant);
  if (use == uses_.end()) return;
  rank(tenant, use->second, false);
  use->second.weight = weight;
  rank(tenant, use->second, true);
}

// --- reading ---

const JobQueue::ClassLines* JobQueue::find(const std::string& model, Priority priority) const {
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : &it->second[index(priority)];
}

const JobQueue::TenantLines* JobQueue::find(const std::string& model, Priority priority,
                                            const std::string& tenant) const {
  const ClassLines* of = find(model, priority);
  if (of == nullptr) return nullptr;
  const auto it = of->tenants.find(tenant);
  return it == of->tenants.end() ? nullptr : &it->second;
}

std::size_t JobQueue::size_of(const std::string& tenant) const {
  const auto use = uses_.find(tenant);
  return use == uses_.end() ? 0 : use->second.jobs();
}

std::size_t JobQueue::size_of(const std::string& tenant, Priority priority) const {
  const auto it = uses_.find(tenant);
  return it == uses_.end() ? 0 : it->second.counts[index(priority)];
}

std::size_t JobQueue::depth(const std::string& model, Priority priority) const {
  const ClassLines* of = find(model, priority);
  return of == nullptr ? 0 : of->size;
}

std::size_t JobQueue::size_of(const std::string& model, Priority priority, const std::string& tenant) const {
  const TenantLines* lines = find(model, priority, tenant);
  return lines == nullptr ? 0 : lines->all.size();
}

std::size_t JobQueue::size_of(const Lane& lane, Priority priority, const std::string& tenant) const {
  const TenantLines* lines = find(lane.model, priority, tenant);
  if (lines == nullptr) return 0;
  const auto line = lines->lanes.find(lane);
  return line == lines->lanes.end() ? 0 : line->second.size();
}

std::vector<std::string> JobQueue::models() const {
  std::vector<std::string> out;
  out.reserve(models_.size());
  for (const auto& [model, classes] : models_) out.push_back(model);
  return out;
}

const std::map<Lane, std::size_t>& JobQueue::lanes(const std::string& model, Priority priority) const {
  static const std::map<Lane, std::size_t> none;
  const ClassLines* of = find(model, priority);
  return of == nullptr ? none : of->lanes;
}

std::vector<Lane> JobQueue::lanes_of(const std::string& model, Priority priority, const std::string& tenant) const {
  const TenantLines* lines = find(model, priority, tenant);
  if (lines == nullptr) return {};
  std::vector<std::pair<LineKey, const Lane*>> heads;
  heads.reserve(lines->lanes.size());
  for (const auto& [lane, line] : lines->lanes) heads.emplace_back(line.begin()->first, &lane);
  std::sort(heads.begin(), heads.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Lane> out;
  out.reserve(heads.size());
  for (const auto& [key, lane] : heads) out.push_back(*lane);
  return out;
}

std::vector<JobId> JobQueue::heads(const Lane& lane, Priority priority, const std::string& tenant,
                                   std::size_t max) const {
  std::vector<JobId> out;
  const TenantLines* lines = find(lane.model, priority, tenant);
  if (lines == nullptr) return out;
  const auto line = lines->lanes.find(lane);
  if (line == lines->lanes.end()) return out;
  for (auto it = line->second.begin(); it != line->second.end() && out.size() < max; ++it) out.push_back(it->second);
  return out;
}

std::vector<JobId> JobQueue::jobs_in(const Lane& lane, Priority priority) const {
  std::vector<JobId> out;
  const ClassLines* of = find(lane.model, priority);
  if (of == nullptr) return out;
  for (const auto& [tenant, lines] : of->tenants) {
    const auto line = lines.lanes.find(lane);
    if (line == lines.lanes.end()) continue;
    for (const auto& [key, job] : line->second) out.push_back(job);
  }
  return out;
}

std::vector<std::pair<std::string, std::size_t>> JobQueue::tenants(const std::string& model, Priority priority) const {
  std::vector<std::pair<std::string, std::size_t>> out;
  const ClassLines* of = find(model, priority);
  if (of == nullptr) return out;
  out.reserve(of->tenants.size());
  for (const auto& [tenant, lines] : of->tenants) out.emplace_back(tenant, lines.all.size());
  return out;
}

std::optional<RankedLine::Item> JobQueue::first_of(const std::string& model, Priority priority,
                                                   const std::string& tenant) const {
  const TenantLines* lines = find(model, priority, tenant);
  return lines == nullptr ? std::nullopt : lines->all.first();
}

RankedLine::Sums JobQueue::ahead_of(const std::string& model, Priority priority, const std::string& tenant,
                                    const LineKey& key) const {
  const TenantLines* lines = find(model, priority, tenant);
  return lines == nullptr ? RankedLine::Sums{} : lines->all.before(key);
}

std::optional<RankedLine::Item> JobQueue::after(const std::string& model, Priority priority, const std::string& tenant,
                                                const LineKey& key) const {
  const TenantLines* lines = find(model, priority, tenant);
  return lines == nullptr ? std::nullopt : lines->all.after(key);
}

std::string JobQueue::check_invariants() const {
  std::size_t in_lines = 0;
  std::array<std::size_t, 2> counts{};
  std::uint64_t bytes = 0;
  for (const auto& [model, classes] : models_) {
    for (std::size_t c = 0; c < classes.size(); ++c) {
      std::size_t in_class = 0;
      std::map<Lane, std::size_t> lanes;
      for (const auto& [tenant, lines] : classes[c].tenants) {
        if (const char* fault = lines.all.check(); *fault != 0) return fault;
        std::size_t of_tenant = 0;
        for (const auto& [lane, line] : lines.lanes) {
          if (line.empty() || lane.model != model) return "job_queue: an empty or misplaced lane";
          ++lanes[lane];
          for (const auto& [key, job] : line) {
            const auto it = entries_.find(job);
            if (it == entries_.end() || it->second.key() != key || it->second.lane != lane ||
                index(it->second.priority) != c || it->second.tenant != tenant) {
              return "job_queue: line and entry disagree about job " + job.to_string();
            }
            ++of_tenant;
            ++counts[c];
            bytes += it->second.bytes;
          }
        }
        if (of_tenant == 0 || of_tenant != lines.all.size()) return "job_queue: lines of tenant " + tenant;
        in_class += of_tenant;
      }
      if (in_class != classes[c].size || lanes != classes[c].lanes) return "job_queue: sums of a class are wrong";
      in_lines += in_class;
    }
  }
  for (const auto& [job, entry] : held_) {
    if (entries_.contains(job)) return "job_queue: a job is held and waits";
    ++counts[index(entry.priority)];
    bytes += entry.bytes;
  }
  if (in_lines != entries_.size() || counts != counts_ || bytes != bytes_) return "job_queue: sums are wrong";
  std::size_t used = 0;
  for (const auto& [tenant, use] : uses_) {
    used += use.jobs();
    if (use.by_age[0].size() > use.counts[0] || use.by_age[1].size() > use.counts[1])
      return "job_queue: ages of tenant " + tenant;
    for (std::size_t measure = 0; measure < kMeasures; ++measure) {
      const std::uint64_t amount = measured(use, measure);
      if (amount > 0 && !by_use_[measure].contains({static_cast<double>(amount) / use.weight, tenant}))
        return "job_queue: use of tenant " + tenant;
    }
  }
  return used == entries_.size() + held_.size() ? std::string() : "job_queue: uses are wrong";
}

}  // namespace orch::gateway
