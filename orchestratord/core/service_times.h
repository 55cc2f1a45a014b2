// How long a job holds a slot, from what was measured (DESIGN-RULES E2): prompt / prefill rate + output / decode rate,
// per model and, for decoding, per batch fill. Feeds predicted starts, deadlines and placement, so that none of them is
// a constant.
//
// Prefill time is a fixed part plus a part per token, fitted to the newest jobs, times a quantile of measured / fitted:
// a plain time per token learned from short prompts would refuse long ones for the overhead of the short.
//
// Threads: owned by the core's loop. Units: Durations, tokens. Before the first measurement the self-tests' rates
// or the class default stand in and the estimate says so. Bounds: kModelsMax models, kTenantsMax (model, tenant) pairs,
// least recently used first out.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "common/base/ids.h"
#include "orchestratord/core/decaying_quantiles.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

// One job that ended by itself.
struct ServiceSample {
  std::string model;
  std::string tenant;
  Priority priority = Priority::interactive;
  std::uint64_t prompt_bytes = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;  // of them, that the worker did not compute again
  std::uint64_t output_tokens = 0;
  double fill = 0;                         // busy share of the model's slots when it was dispatched, its own included
  std::optional<Duration> to_first_token;  // from the dispatch
  Duration held;                           // from the dispatch to the end
};

// Tokens per second of one job alone, by the replicas' self-tests; 0: not measured.
struct SelfTestRates {
  double prefill = 0;
  double decode = 0;
  bool measured() const { return prefill > 0 && decode > 0; }
};

// What an estimate rests on.
enum class Basis : std::uint8_t { class_default, self_test, served };

struct ServiceQuery {
  const std::string& model;
  Priority priority = Priority::interactive;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t output_tokens = 0;  // expected
  std::uint64_t output_median = 0;  // for the typical estimate
  std::uint64_t output_least = 0;   // for the quick one
  double fill = 0;
  SelfTestRates self_test = {};  // stand in until jobs have been served
};

struct ServiceEstimate {
  Duration median;   // of rates, with the expected output
  Duration typical;  // of rates and output
  Duration quick;    // 10th percentile, whatever the fill; never extrapolated beyond the longest prompt seen
  Basis basis = Basis::class_default;
};

class ServiceTimes {
 public:
  explicit ServiceTimes(const Limits& limits) : limits_(limits) {}

  void served(const ServiceSample& sample, Instant now);

  ServiceEstimate estimate(const ServiceQuery& query) const;
  // Tokens of a prompt of which only the bytes are known; a quarter of them until the model has shown its share.
  std::uint64_t prompt_tokens(const std::string& model, std::uint64_t bytes) const;
  // Expected output: the tenant's 75th percentile for the model, else half of what is allowed (F2).
  std::uint64_t expected_output(const std::string& model, const std::string& tenant, std::uint64_t max_tokens) const;
  // Its output at a quantile; nullopt until enough of its jobs have ended.
  std::optional<std::uint64_t> output_quantile(const std::string& model, const std::string& tenant, double q,
                                               std::uint64_t max_tokens) const;
  // A job of this class, whatever its size.
  Duration service(const std::string& model, Priority priority) const;
  // Tokens per second of a lone sequence; 0: not measured.
  double decode_rate(const std::string& model) const;

  static constexpr std::size_t kModelsMax = 256;
  static constexpr std::size_t kTenantsMax = 4096;
  std::size_t models() const { return models_.size(); }
  std::size_t tenants() const { return outputs_.size(); }

 private:
  static constexpr std::size_t kFills = 4;
  // Exponentially weighted sums for t = fixed + per_token * n.
  struct PrefillFit {
    double weight = 0;
    double n = 0;
    double t = 0;
    double nn = 0;
    double nt = 0;
    std::uint64_t longest = 0;
    void add(double tokens, double ns);
    double at(double tokens) const;
  };
  struct Record {
    std::array<double, 2> service_ns{};  // moving average per class; 0: no data
    double prompt_bytes = 0;             // weighted sums over the same jobs
    double prompt_tokens = 0;
    PrefillFit prefill;
    DecayingQuantiles prefill_ratio;                  // measured / fitted
    std::array<DecayingQuantiles, kFills> decode_ns;  // per token
    Instant used;
  };
  struct Outputs {
    DecayingQuantiles tokens;
    Instant used;
  };
  ServiceEstimate unserved(const ServiceQuery& query) const;
  const Record* find(const std::string& model) const;
  static const DecayingQuantiles* nearest(const Record& record, double fill);

  Limits limits_;
  std::map<std::string, Record> models_;
  std::map<std::pair<std::string, std::string>, Outputs> outputs_;  // by model and tenant
};

}  // namespace orch::gateway
