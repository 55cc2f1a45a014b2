// Quotas per tenant (OC-QUOTA-1001 to 1005): requests a second with a burst, tokens a minute, concurrent jobs. Reserve
// at admission, settle at the end by what was counted, give everything back at a later refusal.
//
// With K gateways a quota is one budget of all: between two merges each may use a K-th of what the last merge left, and
// of what comes in since. Without merges that is a fixed K-th. What the others used before their first word, this
// process's own past among it, is history; of it no more counts than the others' share.
//
// Threads: owned by the core's loop. Units: a bucket holds millionths of a request or token, integers, refilled by the
// core's time; rounding is against the tenant, under a nanosecond's worth a call. Bounds: one entry per tenant name.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/base/time.h"
#include "orchestratord/core/other_starts.h"
#include "orchestratord/core/tenants.h"

namespace orch::gateway {

class TokenBucket {
 public:
  // Full at `now`. `per_minute` and `capacity` in whole units, both > 0. `others_used`: see merge; counts from there.
  TokenBucket(std::int64_t per_minute, std::int64_t capacity, std::int64_t gateways, Instant now,
              std::int64_t others_used = 0);

  // nullopt: there is enough, and it is taken. Else the time until there will be; saturated.
  std::optional<Duration> take(std::int64_t units, Instant now);
  // Taken whether it is there or not, or given back (negative). A debt is at most one capacity.
  void charge(std::int64_t units, Instant now);
  // Can it ever hold that much?
  bool may_hold(std::int64_t units) const { return units <= capacity_ / gateways_; }
  // Other limits from now on; what was used stays used.
  void resize(std::int64_t per_minute, std::int64_t capacity, std::int64_t gateways, Instant now);
  // What all other gateways have used, in whole units; only grows.
  void merge(std::int64_t others_used, Instant now);

  std::int64_t used() const { return used_; }  // ever, by this gateway, less what it gave back
  double level(Instant now) const;             // whole units this gateway may use
  std::int64_t capacity() const { return capacity_; }
  std::int64_t share_of_others() const { return capacity_ - capacity_ / gateways_; }

 private:
  void refill(Instant now);

  std::int64_t per_minute_;
  std::int64_t capacity_;
  std::int64_t gateways_;
  std::int64_t level_;  // this gateway's part, millionths
  std::int64_t whole_;  // of all gateways at the last merge, millionths
  std::int64_t used_ = 0;
  std::int64_t used_at_merge_ = 0;
  std::int64_t others_used_;
  Instant at_;
  Instant merged_at_;
};

// What one job holds of its tenant's quotas.
struct QuotaHold {
  bool request = false;
  bool live = false;
  std::int64_t tokens = 0;
};

enum class Quota : std::uint8_t { concurrent_jobs, requests_per_second, tokens_per_minute };
const char* quota_name(Quota quota);

struct QuotaRefusal {
  Quota quota = Quota::concurrent_jobs;
  std::int64_t limit = 0;
  std::optional<Duration> retry_after;  // until the own bucket holds enough; nullopt: a job has to end first
  bool never = false;                   // the request alone is more than the quota
};

// F4's sibling: what one gateway says of its use.
struct QuotaUse {
  std::int64_t requests = 0;
  std::int64_t tokens = 0;
  std::int64_t live = 0;
};

class QuotaBook {
 public:
  // One job and one request, as far as `hold` has not got them. What is refused has taken nothing; in a dry run
  // everything is taken all the same.
  std::optional<QuotaRefusal> begin(const std::string& tenant, const Tenants& tenants, QuotaHold& hold, Instant now);
  // One request likewise, of which no job is to come.
  std::optional<QuotaRefusal> begin_request(const std::string& tenant, const Tenants& tenants, QuotaHold& hold,
                                            Instant now);
  // No job has come of it; the request stays used.
  void release_place(const std::string& tenant, QuotaHold& hold);
  std::optional<QuotaRefusal> reserve(const std::string& tenant, const Tenants& tenants, std::int64_t tokens,
                                      QuotaHold& hold, Instant now);
  void give_back(const std::string& tenant, QuotaHold& hold, Instant now);
  // The job has ended and `tokens` were counted.
  void settle(const std::string& tenant, QuotaHold& hold, std::int64_t tokens, Instant now);
  // A job of an earlier life of this process runs on.
  void assume(const std::string& tenant, const Tenants& tenants, QuotaHold& hold, Instant now);

  void replace(const Tenants& tenants, Instant now);
  // What another start has used since its last word; counts with the next merge.
  void others_use(const std::string& tenant, const Tenants& tenants, const OthersUse& news, Instant now);
  // A manager that knows others has said what is new: of every tenant, those included that others have never had.
  void merge(Instant now);
  std::map<std::string, QuotaUse> own_use() const;  // requests and tokens: ever
  // Grows with every change of what own_use() says.
  std::uint64_t version() const { return version_; }
  std::int64_t live(const std::string& tenant) const;
  std::optional<double> requests_left(const std::string& tenant, Instant now) const;
  std::optional<double> tokens_left(const std::string& tenant, Instant now) const;

 private:
  struct Account {
    std::int64_t live = 0;
    std::int64_t live_at_merge = 0;
    std::optional<TokenBucket> requests;
    std::optional<TokenBucket> tokens;
    QuotaUse before;   // used in buckets that a change of the quotas took away
    QuotaUse others;   // what other starts used, counted since their first words
    QuotaUse history;  // what of it is from before those
  };
  Account& account(const std::string& tenant, const Tenants& tenants, Instant now);
  static void fit(Account& account, const TenantQuotas& quotas, std::int64_t gateways, Instant now);
  std::optional<QuotaRefusal> take_request(Account& of, const TenantQuotas& quotas, bool dry, QuotaHold& hold,
                                           Instant now);
  static bool may_start(const Account& account, std::int64_t limit, std::int64_t gateways);

  std::map<std::string, Account> accounts_;
  std::uint64_t version_ = 0;
};

}  // namespace orch::gateway
