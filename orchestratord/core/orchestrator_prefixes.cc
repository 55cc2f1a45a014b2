// Jobs go where the beginning of their prompt was computed before (OC-CORE-1018, proposal 0009).
#include <algorithm>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

const PrefixChain& Orchestrator::prefix_of(Job& job) {
  if (!job.prefix) job.prefix = job.spec.payload == nullptr ? PrefixChain{} : prefix_chain(job.spec.payload->prompt);
  return *job.prefix;
}

// By replica. Of a model with one replica nothing is asked: there is no choice.
std::vector<WarmStart> Orchestrator::warm_starts(Job& job) {
  std::vector<WarmStart> out;
  if (!config_.limits.warm_placement || job.spec.prompt_bytes == 0) return out;
  if (placement_index_.of(job.lane.model, fleet_, leases_, speeds_).size() < 2) return out;
  const std::uint64_t prompt = job.forecast.prompt_tokens;
  for (const PrefixIndex::Match& match : prefixes_.match(job.spec.tenant, prefix_of(job))) {
    const ReplicaView* replica = fleet_.find(match.replica);
    if (replica == nullptr || replica->inc != match.inc || prompt == 0) continue;
    const double share =
        static_cast<double>(match.chunks * kPrefixChunkBytes) / static_cast<double>(job.spec.prompt_bytes);
    // The last token is always computed.
    const auto cached = std::min(static_cast<std::uint64_t>(share * static_cast<double>(prompt)), prompt - 1);
    out.push_back({match.replica, cached, service_by_fill(job, cached)});
  }
  return out;
}

// ORCH-3009. nullopt: no session, or nothing is known of what the engine keeps.
std::optional<bool> Orchestrator::kv_warmth(Job& job, const ReplicaKey& key) const {
  const ReplicaView* replica = fleet_.find(key);
  const bool known = replica != nullptr && replica->prefix_cache && config_.limits.warm_placement;
  if (job.spec.session.empty() || !known) return std::nullopt;
  const auto matches = prefixes_.match(job.spec.tenant, prefix_of(job));
  return std::any_of(matches.begin(), matches.end(), [&](const PrefixIndex::Match& match) {
    return match.replica == key && match.inc == replica->inc && match.chunks > 0;
  });
}

// The worker has admitted it: what it found is the truth, and the rest of the prompt will be there from now on.
void Orchestrator::note_prefix(Job& job, const Call& call, const DispatchStarted& event) {
  const ReplicaView* replica = fleet_.find(call.replica);
  const bool shares = replica != nullptr && replica->inc == call.fence.inc && replica->prefix_cache;
  if (!shares || !config_.limits.warm_placement) return;
  const bool choice = placement_index_.of(job.lane.model, fleet_, leases_, speeds_).size() >= 2;
  if (!choice && job.spec.session.empty()) return;
  const PrefixChain& chain = prefix_of(job);
  if (call.cached_tokens > 0) {
    const bool found = std::uint64_t{event.cached_prompt_tokens} * 2 >= call.cached_tokens;
    emit(NotedWarmStart{job.replica_id, job.pool_id, job.engine, found});
    const std::uint64_t bytes = job.spec.prompt_bytes * event.cached_prompt_tokens / std::max(event.prompt_tokens, 1u);
    if (!found) prefixes_.found_only(job.spec.tenant, chain, call.replica, bytes / kPrefixChunkBytes);
  }
  const std::uint64_t chunk_tokens =
      std::max<std::uint64_t>(times_.prompt_tokens(job.lane.model, kPrefixChunkBytes), 1);
  const std::size_t chunks_max = replica->kv.told()
                                     ? static_cast<std::size_t>(replica->kv.tokens_total() / chunk_tokens)
                                     : PrefixIndex::kEntriesMax;
  prefixes_.holds(job.spec.tenant, chain, call.replica, call.fence.inc, chunks_max);
}

}  // namespace orch::gateway
