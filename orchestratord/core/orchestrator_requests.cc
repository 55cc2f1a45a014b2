// Requests by their heads: rate and concurrency are judged and reserved before anything of the body is here, and what
// is reserved goes to the job, or back (OC-ADMIT-1002, OC-ADMIT-1005, OC-ADMIT-1006).
#include <algorithm>
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// What `hold` lacks of a request's reservation; nullopt: it has all of it. A kept key promises that no job comes of the
// request, so it is not held against its tenant that the very job it asks for is under way.
std::optional<Failure> Orchestrator::begin_quota(const std::string& tenant, const KeyDigest* key, QuotaHold& hold) {
  const bool repeats = key != nullptr && keys_.find(*key) != nullptr;
  const std::optional<QuotaRefusal> refusal =
      repeats ? quotas_.begin_request(tenant, tenants_, hold, now_) : quotas_.begin(tenant, tenants_, hold, now_);
  if (!refusal) return std::nullopt;
  note_quota(tenant, *refusal);
  if (tenants_.config().dry_run || mutated(Mutation::ignore_quota)) return std::nullopt;
  return quota_failure(tenant, *refusal);
}

void Orchestrator::on(const RequestHead& event) {
  settle_needed_ = false;  // nothing follows but what other gateways are told, which a wakeup sees to
  const std::string tenant = tenants_.admit(event.tenant);
  const auto answer = [&](std::optional<Failure> failure) {
    if (failure) emit(NotedRefused{std::nullopt, tenant, {}, *failure});
    emit(HeadReply{event.request, std::move(failure)});
  };
  give_up(event.request);
  if (open_requests_.full()) {
    Failure failure;
    failure.outcome = Outcome::ADMISSION_REJECT;
    failure.message = std::to_string(OpenRequests::kRequestsMax) + " requests are on their way already";
    failure.policy_label = "reject";
    failure.retry_after = Duration::seconds(1);
    return answer(std::move(failure));
  }
  QuotaHold hold;
  std::optional<Failure> failure = begin_quota(tenant, event.key ? &*event.key : nullptr, hold);
  if (!failure) {
    const Instant until = now_ + config_.limits.request_max;
    open_requests_.add(event.request, {tenant, hold, until});
    wakeup_ = std::min(wakeup_, until);
  }
  answer(std::move(failure));
}

void Orchestrator::on(const RequestDropped& event) {
  settle_needed_ = false;
  give_up(event.request);
}

void Orchestrator::give_up(RequestId request) {
  std::optional<OpenRequest> open = open_requests_.take(request);
  if (open) quotas_.give_back(open->tenant, open->hold, now_);
}

void Orchestrator::give_up_overdue() {
  while (std::optional<OpenRequest> open = open_requests_.take_overdue(now_))
    quotas_.give_back(open->tenant, open->hold, now_);
}

// What its head has reserved, for the Submit under way; nothing when that was given up.
QuotaHold Orchestrator::reserved_by(RequestId request, const std::string& tenant) {
  std::optional<OpenRequest> open = open_requests_.take(request);
  if (!open) return {};
  if (open->tenant == tenant) return open->hold;
  quotas_.give_back(open->tenant, open->hold, now_);
  return {};
}

}  // namespace orch::gateway
