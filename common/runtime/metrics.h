// Purpose: the process's metrics in the Prometheus text format. Families are registered before the first scrape, so a
// name is present from the start; series are bounded per family, further label values fall into "other".
// Threads: any. Nothing here computes a value: callers report what was counted.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace orch::runtime {

using MetricLabels = std::map<std::string, std::string>;

class Metrics {
 public:
  enum class Kind : unsigned char { counter, gauge, histogram };
  struct Family {
    std::string name;
    std::string help;
    Kind kind = Kind::counter;
    std::vector<double> buckets;  // histograms
    std::size_t series_max = 1024;
  };

  explicit Metrics(const std::vector<Family>& families);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The family must have been registered with that kind.
  void add(const std::string& family, const MetricLabels& labels, double amount = 1);
  void set(const std::string& family, const MetricLabels& labels, double value);
  void observe(const std::string& family, const MetricLabels& labels, double value);
  // Drops a gauge's series whose subject is gone.
  void remove(const std::string& family, const MetricLabels& labels);

  std::string text() const;  // Prometheus text format 0.0.4

 private:
  struct State;
  std::unique_ptr<State> state_;
};

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace orch::runtime
