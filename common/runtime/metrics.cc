#include "common/runtime/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <sstream>
#include <unordered_map>

#include "common/base/check.h"

namespace orch::runtime {
namespace {

// Labels have no order: those of a call are summed as they come.
struct LabelsHash {
  using is_transparent = void;
  static std::size_t of(std::string_view name, std::string_view value) {
    const std::hash<std::string_view> hash;
    return (hash(name) ^ (hash(value) * 0x9E3779B97F4A7C15ull)) * 0xBF58476D1CE4E5B9ull;
  }
  std::size_t operator()(const SeriesLabels& labels) const {
    std::size_t sum = 0;
    for (const auto& [name, value] : labels) sum += of(name, value);
    return sum;
  }
  std::size_t operator()(const MetricLabels& labels) const {
    std::size_t sum = 0;
    for (const MetricLabels::Label& label : labels.all()) sum += of(label.name, label.value);
    return sum;
  }
};

struct SameLabels {
  using is_transparent = void;
  bool operator()(const SeriesLabels& a, const SeriesLabels& b) const { return a == b; }
  bool operator()(const SeriesLabels& kept, const MetricLabels& labels) const {
    return kept.size() == labels.all().size() && std::ranges::all_of(kept, [&](const auto& each) {
             return std::ranges::any_of(labels.all(), [&](const MetricLabels::Label& label) {
               return label.name == each.first && label.value == each.second;
             });
           });
  }
  bool operator()(const MetricLabels& labels, const SeriesLabels& kept) const { return (*this)(kept, labels); }
};

struct Entry {
  Metrics::Family spec;
  prometheus::Family<prometheus::Counter>* counters = nullptr;
  prometheus::Family<prometheus::Gauge>* gauges = nullptr;
  prometheus::Family<prometheus::Histogram>* histograms = nullptr;
  std::unordered_map<SeriesLabels, void*, LabelsHash, SameLabels> series;  // Counter*, Gauge* or Histogram*, by kind
};

}  // namespace

void MetricLabels::add(Label label) {
  ORCH_CHECK(count_ < kLabelsMax);
  labels_[count_++] = label;
}

SeriesLabels MetricLabels::kept() const {
  SeriesLabels out;
  for (const Label& label : all()) out.emplace(label.name, label.value);
  return out;
}

struct Metrics::State {
  prometheus::Registry registry;
  std::mutex mutex;
  std::map<std::string, Entry, std::less<>> families;

  Entry& entry(std::string_view name, Kind kind) {
    const auto found = families.find(name);
    ORCH_CHECK(found != families.end() && found->second.spec.kind == kind);
    return found->second;
  }

  void* create(Entry& entry, const SeriesLabels& labels) {
    switch (entry.spec.kind) {
      case Kind::counter:
        return &entry.counters->Add(labels);
      case Kind::gauge:
        return &entry.gauges->Add(labels);
      case Kind::histogram:
        break;
    }
    return &entry.histograms->Add(labels, entry.spec.buckets);
  }

  void* series(Entry& entry, const MetricLabels& labels) {
    if (const auto found = entry.series.find(labels); found != entry.series.end()) return found->second;
    SeriesLabels kept = labels.kept();
    if (entry.series.size() >= entry.spec.series_max) {
      for (auto& [name, value] : kept) value = "other";
      if (const auto found = entry.series.find(kept); found != entry.series.end()) return found->second;
    }
    void* const made = create(entry, kept);
    return entry.series.emplace(std::move(kept), made).first->second;
  }
};

Metrics::Metrics(const std::vector<Family>& families) : state_(std::make_unique<State>()) {
  for (const Family& spec : families) {
    Entry entry;
    entry.spec = spec;
    switch (spec.kind) {
      case Kind::counter:
        entry.counters = &prometheus::BuildCounter().Name(spec.name).Help(spec.help).Register(state_->registry);
        break;
      case Kind::gauge:
        entry.gauges = &prometheus::BuildGauge().Name(spec.name).Help(spec.help).Register(state_->registry);
        break;
      case Kind::histogram:
        entry.histograms = &prometheus::BuildHistogram().Name(spec.name).Help(spec.help).Register(state_->registry);
        break;
    }
    state_->families.emplace(spec.name, std::move(entry));
  }
}
Metrics::~Metrics() = default;

void Metrics::add(std::string_view family, const MetricLabels& labels, double amount) {
  const std::lock_guard lock(state_->mutex);
  static_cast<prometheus::Counter*>(state_->series(state_->entry(family, Kind::counter), labels))->Increment(amount);
}
void Metrics::set(std::string_view family, const MetricLabels& labels, double value) {
  const std::lock_guard lock(state_->mutex);
  static_cast<prometheus::Gauge*>(state_->series(state_->entry(family, Kind::gauge), labels))->Set(value);
}
void Metrics::observe(std::string_view family, const MetricLabels& labels, double value) {
  const std::lock_guard lock(state_->mutex);
  static_cast<prometheus::Histogram*>(state_->series(state_->entry(family, Kind::histogram), labels))->Observe(value);
}
void Metrics::remove(std::string_view family, const MetricLabels& labels) {
  const std::lock_guard lock(state_->mutex);
  Entry& entry = state_->entry(family, Kind::gauge);
  const auto found = entry.series.find(labels);
  if (found == entry.series.end()) return;
  entry.gauges->Remove(static_cast<prometheus::Gauge*>(found->second));
  entry.series.erase(found);
}

std::string Metrics::text() const {
  auto collected = state_->registry.Collect();
  std::ostringstream out;
  // A family without series yet still announces its name and type: a scrape then shows what can be counted.
  for (const auto& [name, entry] : state_->families) {
    bool present = false;
    for (const auto& family : collected) present = present || family.name == name;
    if (present) continue;
    static constexpr const char* kTypes[] = {"counter", "gauge", "histogram"};
    out << "# HELP " << name << ' ' << entry.spec.help << "\n# TYPE " << name << ' '
        << kTypes[static_cast<std::size_t>(entry.spec.kind)] << '\n';
  }
  prometheus::TextSerializer().Serialize(out, collected);
  return std::move(out).str();
}

}  // namespace orch::runtime
