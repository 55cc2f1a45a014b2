// Why each of the last jobs was queued, placed, put back, ended or refused as it was (OC-CORE-1016, OC-CTRL-2090).
//
// Threads: owned by the core's loop. Bounds: kJobsMax jobs, oldest out first; kPlacementsMax placements of each, the
// first and the newest kept; one explanation names at most Limits::placement_candidates_max replicas.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/forecast.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/placement.h"
#include "orchestratord/core/stream_event.h"

namespace orch::gateway {

struct PlacementRecord {
  std::uint32_t attempt = 0;
  Instant at;
  std::string replica_id;
  std::string pool_id;
  PlacementDecision decision;
  std::optional<Outcome> put_back;         // an internal outcome undid it
  std::optional<JobId> preempted_by = {};  // its slot went to this one (OC-PREEMPT-1004)
  std::optional<bool> kv_warmth = {};      // as in MetricsEvent
};

struct DecisionRecord {
  JobId job;
  std::string tenant;
  std::string session;
  std::string model;
  Priority priority = Priority::interactive;
  Instant submitted_at;
  bool admitted = false;
  std::uint32_t queue_position = 0;
  Forecast forecast;
  Instant order_by = Instant::never();
  Instant deadline_at = Instant::never();
  std::vector<PlacementRecord> placements;
  std::uint32_t placements_left_out = 0;
  std::optional<Instant> ended_at;  // or refused
  std::optional<Failure> failure;   // nullopt with ended_at: `end`
};

class DecisionLog {
 public:
  static constexpr std::size_t kJobsMax = 10'000;
  static constexpr std::size_t kPlacementsMax = 8;

  // A new record; an older one of the same id is replaced. The reference lives until the next call.
  DecisionRecord& open(JobId job);
  DecisionRecord* find(JobId job);
  const DecisionRecord* find(JobId job) const;
  void add_placement(JobId job, PlacementRecord placement);
  void put_back(JobId job, std::uint32_t attempt, Outcome outcome);
  void preempted(JobId job, std::uint32_t attempt, JobId by);
  std::size_t size() const { return records_.size(); }

 private:
  struct Kept {
    DecisionRecord record;
    std::uint64_t serial = 0;
  };
  PlacementRecord* last_placement(JobId job, std::uint32_t attempt);

  std::map<JobId, Kept> records_;
  std::map<std::uint64_t, JobId> by_age_;
  std::uint64_t next_ = 0;
};

}  // namespace orch::gateway
