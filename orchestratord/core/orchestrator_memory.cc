// What the orchestrator knows of its replicas' KV memory, and what follows for who goes where (OC-CORE-1017). A worker
// that runs short takes pages from its youngest job and computes that again; all this is to make it rare.
#include <algorithm>
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// Nothing but what may be dispatched follows from it.
void Orchestrator::on(const ReplicaLoaded& event) {
  settle_needed_ = queue_.size() > 0;
  const std::optional<ManagerId> manager = fleet_.manager_of(event.link);
  if (!manager || !fleet_.loaded(*manager, event)) ++ignored_.unknown_link;
}

// What has to be there for its first token. Never more than what admission found to fit.
std::uint64_t Orchestrator::prompt_now(const Job& job) {
  const std::uint64_t tokens = job.forecast.prompt_tokens + job.shown_ids.size();
  return job.tokens_bound == 0 ? tokens : std::min(tokens, job.tokens_bound - 1);
}

std::uint64_t Orchestrator::expected_tokens(const Job& job) {
  const std::uint64_t tokens = job.forecast.prompt_tokens + job.forecast.output_tokens;
  return job.tokens_bound == 0 ? tokens : std::min(tokens, job.tokens_bound);
}

// The next word on its replica's memory contains what it has.
void Orchestrator::note_admitted(Call& call) {
  if (std::exchange(call.answered, true)) return;
  const ReplicaView* replica = fleet_.find(call.replica);
  if (replica == nullptr || replica->inc != call.fence.inc) return;
  call.admitted_at = replica->kv_version;
  leases_.admitted(call.lease, call.kv_pages, call.admitted_at);
}

// A job that others pass because they need less gets a replica held for it in the end: what runs there ends, nothing
// new begins, and it finds room. One job of a model at a time.
void Orchestrator::note_lacks_memory(Job& job, const LeaseKey& roomiest) {
  job.lacks_memory_since = std::min(job.lacks_memory_since, now_);
  if (now_ < job.lacks_memory_since + config_.limits.memory_patience) return;
  const HeldLease* lease = leases_.find(roomiest);
  if (lease != nullptr) memory_holds_.try_emplace(job.lane.model, MemoryHold{job.spec.id, lease->replica, lease->inc});
}

// The replica that this job may not use, for another one waits for it; null: none.
const ReplicaKey* Orchestrator::held_from(const Job& job) {
  const auto hold = memory_holds_.find(job.lane.model);
  if (hold == memory_holds_.end()) return nullptr;
  const auto waits = jobs_.find(hold->second.job);
  const ReplicaView* replica = fleet_.find(hold->second.replica);
  const bool stands = waits != jobs_.end() && waits->second.state == JobState::waiting && replica != nullptr &&
                      replica->inc == hold->second.inc && replica->state == ReplicaState::ready &&
                      !reserved_.contains(hold->second.replica) && could_serve(waits->second, hold->second.replica);
  if (!stands) {
    memory_holds_.erase(hold);
    return nullptr;
  }
  return hold->second.job == job.spec.id ? nullptr : &hold->second.replica;
}

}  // namespace orch::gateway
