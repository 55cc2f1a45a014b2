// What was measured of service, per model: how long a job holds a slot and how fast the queue drains. Feeds
// `predicted_start_ms` and `retry_after_ms`, so that neither is ever a constant (DESIGN-RULES E2, E3,
// "retry_after_ms").
//
// Units: Durations. Before the first measurement a class default stands in. Bound: one record per model with waiting or
// running jobs, plus `models_max` idle ones, least recently used first out.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "common/base/ids.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

class ServiceTimes {
 public:
  explicit ServiceTimes(const Limits& limits) : limits_(limits) {}

  // A job held a slot this long.
  void served(const std::string& model, Priority priority, Duration held, Instant now);
  // A job came into the queue of this model.
  void waits(const std::string& model, Instant now);
  // A job left the queue for a worker; `still_waiting` others of the model wait behind it.
  void departed(const std::string& model, bool still_waiting, Instant now);
  // A newcomer was refused.
  void refused(const std::string& model, Instant now);

  Duration service(const std::string& model, Priority priority) const;
  // Mean time between two departures while jobs wait, from what was measured; `slots` serves before that.
  Duration departure_interval(const std::string& model, Priority priority, std::uint32_t slots, Instant now) const;
  // (own queue excess + n) departures, n = refusals in the drain window, +-10 % by `salt`, so that the refused do not
  // return as one wave.
  Duration retry_after(const std::string& model, Priority priority, std::uint32_t excess, std::uint32_t slots,
                       std::uint64_t salt, Instant now) const;

  static constexpr std::size_t kModelsMax = 256;
  std::size_t models() const { return models_.size(); }

 private:
  struct Record {
    std::array<double, 2> service_ns{};  // EWMA; 0: no data
    double interval_ns = 0;              // EWMA; 0: no data
    bool backlog = false;                // jobs wait
    Instant backlog_since;
    Instant last_departure;
    std::uint32_t refusals = 0;  // not yet drained since `refusals_at`
    Instant refusals_at;
    Instant used;
  };
  Record& record(const std::string& model, Instant now);
  const Record* find(const std::string& model) const;
  Limits limits_;
  std::map<std::string, Record> models_;
};

}  // namespace orch::gateway
