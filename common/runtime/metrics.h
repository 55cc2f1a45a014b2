// Purpose: the process's metrics in the Prometheus text format. Families are registered before the first scrape, so a
// name is present from the start; series are bounded per family, further label values fall into "other".
// Threads: any. Nothing here computes a value: callers report what was counted.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace orch::runtime {

// The labels of one series, as they are kept.
using SeriesLabels = std::map<std::string, std::string>;

// The labels of one series for the length of a call, in any order: views, because a request counts eight times and
// finding a series needs no copy of its name.
class MetricLabels {
 public:
  static constexpr std::size_t kLabelsMax = 8;
  struct Label {
    std::string_view name;
    std::string_view value;
  };

  MetricLabels(std::initializer_list<Label> labels) {
    for (const Label& label : labels) add(label);
  }
  MetricLabels(const SeriesLabels& labels) {
    for (const auto& [name, value] : labels) add({name, value});
  }
  MetricLabels with(std::string_view name, std::string_view value) const {
    MetricLabels out = *this;
    out.add({name, value});
    return out;
  }
  std::span<const Label> all() const { return {labels_.data(), count_}; }
  SeriesLabels kept() const;

 private:
  void add(Label label);

  std::array<Label, kLabelsMax> labels_{};
  std::size_t count_ = 0;
};

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
  void add(std::string_view family, const MetricLabels& labels, double amount = 1);
  void set(std::string_view family, const MetricLabels& labels, double value);
  void observe(std::string_view family, const MetricLabels& labels, double value);
  // Drops a gauge's series whose subject is gone.
  void remove(std::string_view family, const MetricLabels& labels);

  std::string text() const;  // Prometheus text format 0.0.4

 private:
  struct State;
  std::unique_ptr<State> state_;
};

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace orch::runtime
