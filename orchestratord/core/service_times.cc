#include "orchestratord/core/service_times.h"

#include <algorithm>
#include <cmath>

namespace orch::gateway {
namespace {

constexpr double kAlpha = 0.2;             // moving average per class: about the last nine count
constexpr double kFitDecay = 0.98;         // prefill fit: about the last fifty count
constexpr std::size_t kOutputsWanted = 8;  // jobs of a tenant before its own output lengths are believed

void blend(double& mean, double sample) { mean = mean <= 0 ? sample : mean + kAlpha * (sample - mean); }

Duration to_duration(double ns) {
  constexpr double kMax = 1e18;
  return {static_cast<std::int64_t>(std::clamp(ns, 0.0, kMax))};
}

std::size_t fill_index(double fill, std::size_t count) {
  const double scaled = std::ceil(std::clamp(fill, 0.0, 1.0) * static_cast<double>(count)) - 1;
  return static_cast<std::size_t>(std::clamp(scaled, 0.0, static_cast<double>(count - 1)));
}

// Room for one more under `max`, by letting go of what was used longest ago.
template <typename Map>
void make_room_in(Map& map, std::size_t max) {
  if (map.size() < max) return;
  map.erase(std::min_element(map.begin(), map.end(),
                             [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
}

}  // namespace

void ServiceTimes::PrefillFit::add(double tokens, double ns) {
  for (double* sum : {&weight, &n, &t, &nn, &nt}) *sum *= kFitDecay;
  weight += 1;
  n += tokens;
  t += ns;
  nn += tokens * tokens;
  nt += tokens * ns;
  longest = std::max(longest, static_cast<std::uint64_t>(tokens));
}

double ServiceTimes::PrefillFit::at(double tokens) const {
  if (weight <= 0) return 0;
  const double mean_n = n / weight;
  const double mean_t = t / weight;
  const double spread = nn / weight - mean_n * mean_n;
  const double per_token = spread > 0.01 * mean_n * mean_n
                               ? std::max(0.0, (nt / weight - mean_n * mean_t) / spread)
                               : mean_t / std::max(mean_n, 1.0);  // one length: nothing tells the fixed part
  const double fixed = mean_t - per_token * mean_n;
  if (fixed < 0) return mean_t / std::max(mean_n, 1.0) * tokens;
  return fixed + per_token * tokens;
}

const ServiceTimes::Record* ServiceTimes::find(const std::string& model) const {
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : &it->second;
}

void ServiceTimes::served(const ServiceSample& sample, Instant now) {
  if (!models_.contains(sample.model)) make_room_in(models_, kModelsMax);
  Record& record = models_[sample.model];
  record.used = now;
  const double held = static_cast<double>(std::max<std::int64_t>(sample.held.ns, 1));
  blend(record.service_ns[static_cast<std::size_t>(sample.priority)], held);

  const std::pair<std::string, std::string> key{sample.model, sample.tenant};
  if (!outputs_.contains(key)) make_room_in(outputs_, kTenantsMax);
  Outputs& outputs = outputs_[key];
  outputs.used = now;
  outputs.tokens.add(static_cast<double>(sample.output_tokens));

  record.prompt_bytes = record.prompt_bytes * kFitDecay + static_cast<double>(sample.prompt_bytes);
  record.prompt_tokens = record.prompt_tokens * kFitDecay + static_cast<double>(sample.prompt_tokens);

  // A job without a first token's instant tells its whole time only.
  if (!sample.to_first_token || sample.output_tokens == 0) return;
  const double first = static_cast<double>(std::clamp<std::int64_t>(sample.to_first_token->ns, 1, sample.held.ns + 1));
  const std::uint64_t computed = sample.prompt_tokens - std::min(sample.cached_tokens, sample.prompt_tokens);
  const double prompt = static_cast<double>(std::max<std::uint64_t>(computed, 1));
  record.prefill.add(prompt, first);
  record.prefill_ratio.add(first / std::max(record.prefill.at(prompt), 1.0));
  if (sample.output_tokens < 2) return;
  record.decode_ns[fill_index(sample.fill, kFills)].add(std::max(held - first, 1.0) /
                                                        static_cast<double>(sample.output_tokens - 1));
}

// The fill itself, else the closest one that was measured; the emptier first.
const DecayingQuantiles* ServiceTimes::nearest(const Record& record, double fill) {
  const std::size_t wanted = fill_index(fill, kFills);
  for (std::size_t distance = 0; distance < kFills; ++distance) {
    if (wanted >= distance && !record.decode_ns[wanted - distance].empty()) return &record.decode_ns[wanted - distance];
    if (wanted + distance < kFills && !record.decode_ns[wanted + distance].empty())
      return &record.decode_ns[wanted + distance];
  }
  return nullptr;
}

// E2: rates of a lone job say nothing of company, so the quickest tenth is taken to be twice as fast, with one token.
ServiceEstimate ServiceTimes::unserved(const ServiceQuery& query) const {
  ServiceEstimate out;
  if (!query.self_test.measured()) {
    out.median = service(query.model, query.priority);
    out.typical = out.median;
    return out;
  }
  out.basis = Basis::self_test;
  const auto prompt = static_cast<double>(std::max<std::uint64_t>(query.prompt_tokens, 1));
  const auto output = static_cast<double>(std::max<std::uint64_t>(query.output_tokens, 1));
  const double first = prompt / query.self_test.prefill * 1e9;
  out.median = to_duration(first + (output - 1) / query.self_test.decode * 1e9);
  out.typical = out.median;
  out.quick = to_duration(first / 2);
  return out;
}

ServiceEstimate ServiceTimes::estimate(const ServiceQuery& query) const {
  ServiceEstimate out;
  const Record* record = find(query.model);
  const DecayingQuantiles* decode = record == nullptr ? nullptr : nearest(*record, query.fill);
  if (decode == nullptr || record->prefill_ratio.empty()) {
    return unserved(query);
  }
  out.basis = Basis::served;
  const double prompt = static_cast<double>(std::max<std::uint64_t>(query.prompt_tokens, 1));
  const auto after_first = [](std::uint64_t tokens) { return static_cast<double>(tokens > 0 ? tokens - 1 : 0); };
  out.median = to_duration(record->prefill.at(prompt) * record->prefill_ratio.quantile(0.5) +
                           decode->quantile(0.5) * after_first(query.output_tokens));
  out.typical = to_duration(record->prefill.at(prompt) * record->prefill_ratio.quantile(0.5) +
                            decode->quantile(0.5) * after_first(std::min(query.output_median, query.output_tokens)));
  double quick_token = decode->quantile(0.1);
  for (const DecayingQuantiles& each : record->decode_ns) {
    if (!each.empty()) quick_token = std::min(quick_token, each.quantile(0.1));
  }
  const double seen = std::min(prompt, static_cast<double>(record->prefill.longest));
  out.quick = to_duration(record->prefill.at(seen) * record->prefill_ratio.quantile(0.1) +
                          quick_token * after_first(std::min(query.output_least, query.output_tokens)));
  out.quick = std::min(out.quick, out.median);
  return out;
}

std::uint64_t ServiceTimes::prompt_tokens(const std::string& model, std::uint64_t bytes) const {
  const Record* record = find(model);
  double per_byte = 0.25;
  if (record != nullptr && record->prompt_bytes > 0 && record->prompt_tokens > 0)
    per_byte = record->prompt_tokens / record->prompt_bytes;
  return std::max<std::uint64_t>(static_cast<std::uint64_t>(std::ceil(static_cast<double>(bytes) * per_byte)), 1);
}

std::uint64_t ServiceTimes::expected_output(const std::string& model, const std::string& tenant,
                                            std::uint64_t max_tokens) const {
  return output_quantile(model, tenant, 0.75, max_tokens).value_or(std::max<std::uint64_t>(max_tokens / 2, 1));
}

std::optional<std::uint64_t> ServiceTimes::output_quantile(const std::string& model, const std::string& tenant,
                                                           double q, std::uint64_t max_tokens) const {
  const auto it = outputs_.find({model, tenant});
  if (it == outputs_.end() || it->second.tokens.size() < kOutputsWanted) return std::nullopt;
  return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(it->second.tokens.quantile(q)), 1, max_tokens);
}

Duration ServiceTimes::service(const std::string& model, Priority priority) const {
  const Record* record = find(model);
  const double measured = record == nullptr ? 0 : record->service_ns[static_cast<std::size_t>(priority)];
  if (measured > 0) return to_duration(measured);
  return priority == Priority::interactive ? limits_.interactive_service_default : limits_.batch_service_default;
}

double ServiceTimes::decode_rate(const std::string& model) const {
  const Record* record = find(model);
  const DecayingQuantiles* decode = record == nullptr ? nullptr : nearest(*record, 0);
  return decode == nullptr ? 0 : 1e9 / std::max(decode->quantile(0.5), 1.0);
}

}  // namespace orch::gateway
