#include "common/runtime/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>
#include <sstream>

#include "common/base/check.h"

namespace orch::runtime {
namespace {

struct Entry {
  Metrics::Family spec;
  prometheus::Family<prometheus::Counter>* counters = nullptr;
  prometheus::Family<prometheus::Gauge>* gauges = nullptr;
  prometheus::Family<prometheus::Histogram>* histograms = nullptr;
  std::map<MetricLabels, void*> series;  // Counter*, Gauge* or Histogram*, by kind
};

}  // namespace

struct Metrics::State {
  prometheus::Registry registry;
  std::mutex mutex;
  std::map<std::string, Entry> families;

  Entry& entry(const std::string& name, Kind kind) {
    const auto found = families.find(name);
    ORCH_CHECK(found != families.end() && found->second.spec.kind == kind);
    return found->second;
  }

  void* create(Entry& entry, const MetricLabels& labels) {
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
    if (entry.series.size() < entry.spec.series_max) {
      return entry.series.emplace(labels, create(entry, labels)).first->second;
    }
    MetricLabels other = labels;
    for (auto& [name, value] : other) value = "other";
    if (const auto found = entry.series.find(other); found != entry.series.end()) return found->second;
    return entry.series.emplace(other, create(entry, other)).first->second;
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

void Metrics::add(const std::string& family, const MetricLabels& labels, double amount) {
  const std::lock_guard lock(state_->mutex);
  static_cast<prometheus::Counter*>(state_->series(state_->entry(family, Kind::counter), labels))->Increment(amount);
}
void Metrics::set(const std::string& family, const MetricLabels& labels, double value) {
  const std::lock_guard lock(state_->mutex);
  static_cast<prometheus::Gauge*>(state_->series(state_->entry(family, Kind::gauge), labels))->Set(value);
}
void Metrics::observe(const std::string& family, const MetricLabels& labels, double value) {
  const std::lock_guard lock(state_->mutex);
  static_cast<prometheus::Histogram*>(state_->series(state_->entry(family, Kind::histogram), labels))->Observe(value);
}
void Metrics::remove(const std::string& family, const MetricLabels& labels) {
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
