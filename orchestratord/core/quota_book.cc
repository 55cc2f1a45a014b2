#include "orchestratord/core/quota_book.h"

#include <algorithm>
#include <limits>

namespace orch::gateway {
namespace {

constexpr std::int64_t kMillionths = 1'000'000;
constexpr std::int64_t kNsPerMillionth = 60'000;  // at one unit a minute

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// ceil(a / b) of what is not negative.
std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Of what is not negative, without wrapping: such counters come from other processes.
std::int64_t plus(std::int64_t a, std::int64_t b) { return a > kMost - b ? kMost : a + b; }
std::int64_t grown(std::int64_t from, std::int64_t to) { return std::max<std::int64_t>(to - from, 0); }

}  // namespace

const char* quota_name(Quota quota) {
  switch (quota) {
    case Quota::concurrent_jobs:
      return "concurrent_jobs";
    case Quota::requests_per_second:
      return "requests_per_second";
    case Quota::tokens_per_minute:
      return "tokens_per_minute";
  }
  return "?";
}

// --- one bucket ---

TokenBucket::TokenBucket(std::int64_t per_minute, std::int64_t capacity, std::int64_t gateways, Instant now,
                         std::int64_t others_used)
    : per_minute_(per_minute),
      capacity_(capacity),
      gateways_(gateways),
      level_(capacity * kMillionths / gateways),
      whole_(capacity * kMillionths),
      others_used_(others_used),
      at_(now),
      merged_at_(now) {}

// Products stay inside 64 bits: per_minute <= 1e8 and the time counted is at most that of filling the bucket, which is
// cut at a minute's worth of the largest rate.
void TokenBucket::refill(Instant now) {
  const std::int64_t full = capacity_ * kMillionths / gateways_;
  if (now <= at_) return;
  if (level_ >= full) {
    at_ = now;
    return;
  }
  const std::int64_t step = kNsPerMillionth * gateways_;
  const std::int64_t elapsed = (now - at_).ns;
  const std::int64_t to_full = divide_up(full - level_, per_minute_) * step + step;
  if (elapsed >= to_full) {
    level_ = full;
    at_ = now;
    return;
  }
  // elapsed / step millionths for each unit a minute; in two parts, so that the product fits.
  const std::int64_t whole = elapsed / step * per_minute_;
  const std::int64_t part = elapsed % step * per_minute_ / step;
  level_ = std::min(full, level_ + whole + part);
  at_ = at_ + Duration{elapsed / step * step + divide_up(part * step, per_minute_)};
}

std::optional<Duration> TokenBucket::take(std::int64_t units, Instant now) {
  refill(now);
  const std::int64_t missing = units * kMillionths - level_;
  if (missing <= 0) {
    level_ -= units * kMillionths;
    used_ += units;
    return std::nullopt;
  }
  const std::int64_t step = kNsPerMillionth * gateways_;
  if (missing / per_minute_ >= kMost / 2 / step) return Duration{kMost / 2};  // beyond what it can ever hold
  const std::int64_t ns = missing / per_minute_ * step + divide_up(missing % per_minute_ * step, per_minute_);
  return Duration{ns - (now - at_).ns > 0 ? ns - (now - at_).ns : 1};
}

void TokenBucket::charge(std::int64_t units, Instant now) {
  refill(now);
  const std::int64_t full = capacity_ * kMillionths / gateways_;
  level_ = std::clamp(level_ - units * kMillionths, -full, full);
  used_ += units;
}

void TokenBucket::resize(std::int64_t per_minute, std::int64_t capacity, std::int64_t gateways, Instant now) {
  if (per_minute == per_minute_ && capacity == capacity_ && gateways == gateways_) return;
  refill(now);
  const std::int64_t full_before = capacity_ * kMillionths / gateways_;
  const std::int64_t spent = full_before - level_;
  const std::int64_t spent_whole = capacity_ * kMillionths - whole_;
  per_minute_ = per_minute;
  capacity_ = capacity;
  gateways_ = gateways;
  const std::int64_t full = capacity_ * kMillionths / gateways_;
  level_ = std::max(full - spent, -full);
  whole_ = std::max(capacity_ * kMillionths - spent_whole, -capacity_ * kMillionths);
}

// The budget of all: what it was, what came in since, less what we and the others used since.
void TokenBucket::merge(std::int64_t others_used, Instant now) {
  refill(now);
  const std::int64_t elapsed = std::min((now - merged_at_).ns, kNsPerMillionth * kMillionths);  // a minute
  const std::int64_t in = elapsed / kNsPerMillionth * per_minute_;
  const std::int64_t most = 2 * capacity_;  // from full to the deepest debt
  const std::int64_t theirs = std::min(grown(others_used_, others_used), most);
  const std::int64_t out = std::clamp(used_ - used_at_merge_ + theirs, -most, most);
  const std::int64_t full = capacity_ * kMillionths;
  whole_ = std::clamp(std::min(full, whole_ + in) - out * kMillionths, -full, full);
  level_ = whole_ / gateways_;
  others_used_ = std::max(others_used_, others_used);
  used_at_merge_ = used_;
  merged_at_ = now;
}

double TokenBucket::level(Instant now) const {
  TokenBucket copy = *this;
  copy.refill(now);
  return static_cast<double>(copy.level_) / kMillionths;
}

// --- the book ---

void QuotaBook::fit(Account& account, const TenantQuotas& quotas, std::int64_t gateways, Instant now) {
  const auto set = [&](std::optional<TokenBucket>& bucket, std::int64_t QuotaUse::* kind, std::int64_t per_minute,
                       std::int64_t capacity) {
    if (per_minute == 0) {
      account.before.*kind += bucket ? bucket->used() : 0;
      bucket.reset();
    } else if (bucket) {
      bucket->resize(per_minute, capacity, gateways, now);
    } else {
      bucket.emplace(per_minute, capacity, gateways, now, account.others.*kind);
    }
  };
  set(account.requests, &QuotaUse::requests, quotas.requests_per_second * 60, quotas.burst());
  set(account.tokens, &QuotaUse::tokens, quotas.tokens_per_minute, quotas.tokens_per_minute);
}

QuotaBook::Account& QuotaBook::account(const std::string& tenant, const Tenants& tenants, Instant now) {
  const auto [it, fresh] = accounts_.try_emplace(tenant);
  if (fresh) fit(it->second, tenants.policy(tenant).quotas, tenants.config().gateways, now);
  return it->second;
}

// (limit - merged use) / K since the last merge.
bool QuotaBook::may_start(const Account& account, std::int64_t limit, std::int64_t gateways) {
  if (gateways <= 1) return account.live < limit;
  const std::int64_t left = limit - account.others.live - account.live_at_merge;
  return account.live < limit && account.live - account.live_at_merge < left / gateways;
}

std::optional<QuotaRefusal> QuotaBook::begin(const std::string& tenant, const Tenants& tenants, QuotaHold& hold,
                                             Instant now) {
  Account& of = account(tenant, tenants, now);
  const TenantQuotas& quotas = tenants.policy(tenant).quotas;
  const bool dry = tenants.config().dry_run;
  std::optional<QuotaRefusal> refusal;
  if (!hold.live && !may_start(of, quotas.concurrent_jobs, tenants.config().gateways))
    refusal = QuotaRefusal{Quota::concurrent_jobs, quotas.concurrent_jobs, std::nullopt, false};
  if (refusal && !dry) return refusal;
  if (const auto over = take_request(of, quotas, dry, hold, now)) {
    if (!dry) return over;
    if (!refusal) refusal = over;
  }
  if (hold.live) return refusal;
  hold.live = true;
  ++of.live;
  ++version_;
  return refusal;
}

std::optional<QuotaRefusal> QuotaBook::begin_request(const std::string& tenant, const Tenants& tenants, QuotaHold& hold,
                                                     Instant now) {
  return take_request(account(tenant, tenants, now), tenants.policy(tenant).quotas, tenants.config().dry_run, hold,
                      now);
}

std::optional<QuotaRefusal> QuotaBook::take_request(Account& of, const TenantQuotas& quotas, bool dry, QuotaHold& hold,
                                                    Instant now) {
  if (hold.request || !of.requests) return std::nullopt;
  std::optional<QuotaRefusal> refusal;
  if (const std::optional<Duration> wait = of.requests->take(1, now)) {
    refusal = QuotaRefusal{Quota::requests_per_second, quotas.requests_per_second, wait, false};
    if (!dry) return refusal;
    of.requests->charge(1, now);
  }
  hold.request = true;
  ++version_;
  return refusal;
}

void QuotaBook::release_place(const std::string& tenant, QuotaHold& hold) {
  if (!hold.live) return;
  hold.live = false;
  --accounts_.at(tenant).live;
  ++version_;
}

std::optional<QuotaRefusal> QuotaBook::reserve(const std::string& tenant, const Tenants& tenants, std::int64_t tokens,
                                               QuotaHold& hold, Instant now) {
  Account& of = account(tenant, tenants, now);
  if (!of.tokens || tokens <= 0) return std::nullopt;
  const std::int64_t limit = tenants.policy(tenant).quotas.tokens_per_minute;
  std::optional<QuotaRefusal> refusal;
  if (const std::optional<Duration> wait = of.tokens->take(tokens, now)) {
    refusal = QuotaRefusal{Quota::tokens_per_minute, limit, wait, !of.tokens->may_hold(tokens)};
    if (!tenants.config().dry_run) return refusal;
    of.tokens->charge(tokens, now);
  }
  hold.tokens += tokens;
  ++version_;
  return refusal;
}

void QuotaBook::give_back(const std::string& tenant, QuotaHold& hold, Instant now) {
  const auto it = accounts_.find(tenant);
  if (it == accounts_.end()) return;
  Account& of = it->second;
  if (hold.request && of.requests) of.requests->charge(-1, now);
  if (hold.tokens > 0 && of.tokens) of.tokens->charge(-hold.tokens, now);
  if (hold.live) --of.live;
  if (hold.request || hold.live || hold.tokens > 0) ++version_;
  hold = {};
}

void QuotaBook::settle(const std::string& tenant, QuotaHold& hold, std::int64_t tokens, Instant now) {
  const auto it = accounts_.find(tenant);
  if (it == accounts_.end()) return;
  if (hold.tokens > 0 && it->second.tokens) it->second.tokens->charge(tokens - hold.tokens, now);
  if (hold.live) --it->second.live;
  if (hold.live || hold.tokens > 0) ++version_;
  hold = {};
}

void QuotaBook::assume(const std::string& tenant, const Tenants& tenants, QuotaHold& hold, Instant now) {
  hold.live = true;
  ++account(tenant, tenants, now).live;
  ++version_;
}

void QuotaBook::replace(const Tenants& tenants, Instant now) {
  for (auto& [name, of] : accounts_) fit(of, tenants.policy(name).quotas, tenants.config().gateways, now);
}

// The first word of a start has no last one to be measured against: it counts as far as the others' share goes, which
// is right where all begin together and costs no more than a share where they do not.
void QuotaBook::others_use(const std::string& tenant, const Tenants& tenants, const OthersUse& news, Instant now) {
  Account& of = account(tenant, tenants, now);
  const auto count = [&](const std::optional<TokenBucket>& bucket, std::int64_t QuotaUse::* kind, std::int64_t grown) {
    if (news.first) {
      const std::int64_t share = bucket ? bucket->share_of_others() : 0;
      grown = std::min(grown, std::max<std::int64_t>(share - of.history.*kind, 0));
      of.history.*kind += grown;
    }
    of.others.*kind = plus(of.others.*kind, grown);
  };
  count(of.requests, &QuotaUse::requests, news.requests);
  count(of.tokens, &QuotaUse::tokens, news.tokens);
  of.others.live = news.live;
}

void QuotaBook::merge(Instant now) {
  for (auto& [tenant, of] : accounts_) {
    of.live_at_merge = of.live;
    if (of.requests) of.requests->merge(of.others.requests, now);
    if (of.tokens) of.tokens->merge(of.others.tokens, now);
  }
}

std::map<std::string, QuotaUse> QuotaBook::own_use() const {
  std::map<std::string, QuotaUse> out;
  for (const auto& [name, of] : accounts_) {
    out[name] = {of.before.requests + (of.requests ? of.requests->used() : 0),
                 of.before.tokens + (of.tokens ? of.tokens->used() : 0), of.live};
  }
  return out;
}

std::int64_t QuotaBook::live(const std::string& tenant) const {
  const auto it = accounts_.find(tenant);
  return it == accounts_.end() ? 0 : it->second.live;
}

std::optional<double> QuotaBook::requests_left(const std::string& tenant, Instant now) const {
  const auto it = accounts_.find(tenant);
  if (it == accounts_.end() || !it->second.requests) return std::nullopt;
  return it->second.requests->level(now);
}

std::optional<double> QuotaBook::tokens_left(const std::string& tenant, Instant now) const {
  const auto it = accounts_.find(tenant);
  if (it == accounts_.end() || !it->second.tokens) return std::nullopt;
  return it->second.tokens->level(now);
}

}  // namespace orch::gateway
