// A job aboard a worker that died by itself is suspect: it runs alone, and when the second worker dies under it, it is
// never dispatched again and its prompt is refused for a while, by all gateways (M6). So one prompt takes down at most
// two workers, and those under which it runs elsewhere before that is known there.
//
// A broken stream is no death: only the manager's word is, that the process is gone by itself.
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

constexpr std::array<std::string_view, 6> kDeaths{"exited",        "killed_by_signal", "device_lost",
                                                  "out_of_memory", "silent",           "stalled"};

}  // namespace

// False also when it is not known: what another process died of, or the replica's last error, says nothing of it.
bool Orchestrator::died_by_itself(const ReplicaView& replica, Incarnation inc) {
  const bool told = replica.last_end && replica.last_end->inc == inc;
  return told && std::find(kDeaths.begin(), kDeaths.end(), replica.last_end->code) != kDeaths.end();
}

// False: the job has ended over it.
bool Orchestrator::note_death(Job& job) {
  ++job.deaths;
  const bool refused = quarantined(job.spec, job.lane.model).has_value();  // by what others of that prompt did
  if (job.deaths < config_.limits.deaths_max && !refused) {
    suspects_.insert(job.spec.id);
    note_aboard(job);
    return true;
  }
  const Duration length = config_.limits.quarantine;
  if (job.spec.payload != nullptr)
    quarantine_.add(prompt_digest(job.lane.model, job.spec.payload->prompt), now_ + length);
  Failure failure = failure_for(Outcome::WORKER_RESET,
                                std::to_string(job.deaths) + " workers died while they served the job" +
                                    (refused ? ", and others under its prompt" : "") + "; its prompt is refused for " +
                                    std::to_string(length.ms() / 1000) + " s",
                                job);
  failure.poisoned = true;
  emit(NotedPoisoned{job.spec.id, job.replica_id, job.pool_id});
  fail(job, {std::move(failure), {}});
  return false;
}

// As long as the record of the job that took them down is kept.
void Orchestrator::restore_quarantine(const Job& job, const StreamEvent& terminal) {
  const auto* error = std::get_if<ErrorEvent>(&terminal.body);
  if (error == nullptr || !error->failure.poisoned || job.spec.payload == nullptr) return;
  const Instant until = job.ended_at + config_.limits.quarantine;
  if (until > now_) quarantine_.add(prompt_digest(job.lane.model, job.spec.payload->prompt), until);
}

std::optional<Failure> Orchestrator::quarantined(const JobSpec& spec, const std::string& model) {
  quarantine_.expire(now_);
  if (quarantine_.empty() || spec.payload == nullptr) return std::nullopt;
  const auto until = quarantine_.until(prompt_digest(model, spec.payload->prompt), now_);
  if (!until) return std::nullopt;
  Failure failure;
  failure.outcome = Outcome::WORKER_RESET;
  failure.message = "this prompt took down two workers; it is refused for another " +
                    std::to_string((*until - now_).ms_ceil() / 1000 + 1) + " s";
  failure.field = "prompt";
  failure.poisoned = true;
  return failure;
}

// OC-MIGR-M8: what other gateways have seen. A word holds for as long as an own one at most, and for its one prompt.
void Orchestrator::hear_refused(const std::vector<RefusedPrompt>& refused) {
  if (mutated(Mutation::forget_others_refusals)) return;
  for (const RefusedPrompt& each : refused) {
    const Duration rest = std::min(each.rest, config_.limits.quarantine);
    if (rest.ns > 0) quarantine_.hear(each.prompt, now_ + rest);
  }
}

// Jobs that were admitted before their prompt was refused and wait. Those that run may end well.
void Orchestrator::end_refused_jobs() {
  if (quarantine_.version() == refused_judged_ && !unjudged_) return;
  refused_judged_ = quarantine_.version();
  unjudged_ = false;
  std::vector<std::pair<JobId, Failure>> ends;
  for (auto& [id, job] : jobs_) {
    if (job.state != JobState::waiting || std::exchange(job.judged, refused_judged_) == refused_judged_) continue;
    if (std::optional<Failure> failure = quarantined(job.spec, job.lane.model)) ends.emplace_back(id, *failure);
  }
  for (auto& [id, failure] : ends) fail(jobs_.at(id), {std::move(failure), {}});
}

void Orchestrator::forget_suspect(JobId job) {
  suspects_.erase(job);
  const auto own = alone_.find(job);
  if (own == alone_.end()) return;
  reserved_.erase(own->second.replica);
  alone_.erase(own);
}

// With a slot that is merely in use now.
bool Orchestrator::could_serve(const Job& job, const PlacementIndex::Entry& entry) const {
  return suits(*entry.replica, job.lane) && entry.replica->state == ReplicaState::ready &&
         entry.replica->inc == entry.lease->inc && entry.lease->live(now_) && entry.lease->slots > 0 &&
         job.tokens_bound <= room_of(*entry.replica);
}

bool Orchestrator::could_serve(const Job& job, const ReplicaKey& replica) {
  const auto& entries = placement_index_.of(job.lane.model, fleet_, leases_, speeds_);
  return std::any_of(entries.begin(), entries.end(),
                     [&](const auto& entry) { return entry.lease->replica == replica && could_serve(job, entry); });
}

// A replica for itself: of those that could serve it, the one with the fewest calls. Nothing new goes there meanwhile.
const ReplicaKey* Orchestrator::replica_of_its_own(const Job& job) {
  const auto own = alone_.find(job.spec.id);
  if (own != alone_.end()) {
    const ReplicaView* replica = fleet_.find(own->second.replica);
    if (replica != nullptr && replica->inc == own->second.inc && could_serve(job, own->second.replica))
      return &own->second.replica;
    reserved_.erase(own->second.replica);
    alone_.erase(own);
  }
  const PlacementIndex::Entry* best = nullptr;
  for (const PlacementIndex::Entry& entry : placement_index_.of(job.lane.model, fleet_, leases_, speeds_)) {
    const bool fits = could_serve(job, entry) && !reserved_.contains(entry.lease->replica);
    if (fits && (best == nullptr || entry.lease->in_use < best->lease->in_use)) best = &entry;
  }
  if (best == nullptr) return nullptr;
  reserved_.insert(best->lease->replica);
  return &alone_.emplace(job.spec.id, Alone{best->lease->replica, best->lease->inc}).first->second.replica;
}

void Orchestrator::dispatch_suspects() {
  const std::set<JobId> suspects = suspects_;
  for (const JobId id : suspects) {
    Job& job = jobs_.at(id);
    if (job.state != JobState::waiting || !attempt_may_begin(job)) continue;
    const ReplicaKey* replica = replica_of_its_own(job);
    if (replica == nullptr || calls_on(*replica) > 0) continue;
    PlacementDecision decision = place(job, replica);
    if (decision.lease && boarded(job, *decision.lease)) dispatch(job, std::move(decision));
  }
}

std::size_t Orchestrator::calls_on(const ReplicaKey& replica) const {
  return static_cast<std::size_t>(
      std::count_if(calls_.begin(), calls_.end(), [&](const auto& entry) { return entry.second.replica == replica; }));
}

std::string Orchestrator::check_suspects() const {
  for (const JobId id : suspects_) {
    const auto job = jobs_.find(id);
    if (job == jobs_.end() || !job->second.live()) return "a suspect is no live job";
    if (job->second.deaths >= config_.limits.deaths_max) return "a job aboard too many deaths lives on";
    if (!job->second.in_flight()) continue;
    const auto own = alone_.find(id);
    if (own == alone_.end()) return "a suspect runs without a replica of its own";
    if (calls_on(own->second.replica) > 1) return "a suspect does not run alone";
  }
  for (const auto& [id, own] : alone_) {
    if (!suspects_.contains(id) || !reserved_.contains(own.replica)) return "a reserved replica is nobody's";
  }
  return reserved_.size() == alone_.size() ? std::string() : "a replica is reserved twice";
}

}  // namespace orch::gateway
