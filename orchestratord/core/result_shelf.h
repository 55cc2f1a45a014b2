// The tasks that have ended and are kept for readers to come (OC-JOB-J7): bounded in number and in bytes of their
// events. Past a bound those go first whose end a reader was given, oldest first, then the oldest of the tenant that
// keeps the most, so that nobody's flood costs another tenant an answer; of either those last that somebody is being
// given, for they take room for a while all the same. Of one that went, it is remembered until its time would have been
// over that it did, kDroppedMax at most. Threads: owned by one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "common/base/ids.h"
#include "common/base/time.h"

namespace orch::gateway {

class ResultShelf {
 public:
  static constexpr std::size_t kDroppedMax = 32'768;
  struct Result {
    std::string tenant;
    Instant ended;
    std::uint64_t bytes = 0;
    bool read = false;  // to its end, by somebody
  };

  ResultShelf(std::uint32_t results_max, std::uint64_t bytes_max) : results_max_(results_max), bytes_max_(bytes_max) {}

  void add(JobId job, const Result& result);
  void note_read(JobId job);
  void remove(JobId job);
  bool contains(JobId job) const { return results_.contains(job); }
  std::size_t size() const { return results_.size(); }
  const std::map<JobId, Result>& all() const { return results_; }

  // What has to go next; nullopt: the bounds hold. Each result that is being read is asked for at most once.
  std::optional<JobId> surplus(const std::function<bool(JobId)>& being_read) const;
  // It is gone and missed until then.
  void note_dropped(JobId job, std::string tenant, Instant until);
  // Whose it was; null: not known (any more).
  const std::string* dropped(JobId job) const;
  void forget_dropped(JobId job);  // its id names another task now
  void expire(Instant now);
  Instant next_expiry() const;

 private:
  using ByAge = std::set<std::pair<Instant, JobId>>;
  void take_out(JobId job, const Result& result);

  const std::uint32_t results_max_;
  const std::uint64_t bytes_max_;
  std::map<JobId, Result> results_;
  ByAge read_;
  std::map<std::string, ByAge> unread_;  // by tenant, none empty
  std::uint64_t bytes_ = 0;
  std::map<JobId, std::pair<Instant, std::string>> dropped_;
  ByAge dropped_by_end_;
};

}  // namespace orch::gateway
