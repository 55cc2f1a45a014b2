#include "orchestratord/core/placement.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace orch::gateway {
namespace {

using Entry = PlacementIndex::Entry;

constexpr double kBoundedLoad = 1.25;
constexpr double kStep = 1.1;  // ends closer than this count as equal
constexpr double kSpeedAlpha = 0.1;

// FNV-1a and splitmix64's finaliser: stable over processes, builds and machines.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xCBF29CE484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

std::uint64_t mix_hash(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// OC-CORE-1017: pages that neither the replica's last word nor what was sent there since needs.
std::uint64_t free_pages(const Entry& entry) {
  const KvMemory& kv = entry.replica->kv;
  const std::uint64_t taken = kv.pages_used + entry.lease->pages.pages(entry.replica->kv_version);
  return kv.pages_total - std::min(taken, kv.pages_total);
}

bool has_room(const Entry& entry, std::uint64_t tokens) {
  const KvMemory& kv = entry.replica->kv;
  return tokens == 0 || !kv.told() || std::min(kv.pages_for(tokens), kv.pages_total) <= free_pages(entry);
}

Verdict judge(const Entry& entry, const PlacementInput& input) {
  const HeldLease& lease = *entry.lease;
  const ReplicaView& replica = *entry.replica;
  if (!suits(replica, input.lane)) return Verdict::unsuitable;
  const bool of_others = input.reserved != nullptr && input.reserved->contains(lease.replica);
  if (input.only != nullptr ? lease.replica != *input.only : of_others) return Verdict::reserved;
  if (input.held != nullptr && lease.replica == *input.held) return Verdict::reserved;
  if (replica.inc != lease.inc) return Verdict::other_incarnation;
  if (replica.state != ReplicaState::ready) return Verdict::not_ready;  // L9: a draining replica gets nothing new
  if (input.tokens_bound > replica.ctx_max) return Verdict::context_too_small;
  if (input.tokens_bound > room_of(replica)) return Verdict::memory_too_small;
  const bool ignore_end = input.mutation == Mutation::dispatch_on_expired_lease;
  if (lease.closed || lease.stale || (!ignore_end && !lease.live(input.now))) return Verdict::no_live_lease;
  if (lease.not_before > input.now) return Verdict::paused;
  const bool ignore_size = input.mutation == Mutation::dispatch_beyond_slots && lease.in_use <= lease.slots;
  if (!ignore_size && lease.in_use >= lease.slots) return Verdict::no_free_slot;
  // Its first token wants room too. A replica without any work has all its pages.
  if (input.prompt_tokens > 0 && !has_room(entry, input.prompt_tokens + 1)) return Verdict::no_free_memory;
  return Verdict::feasible;
}

std::size_t fill_after(const Entry& entry) {
  const std::uint32_t slots = std::max({entry.replica->slots, entry.lease->slots, 1u});
  const std::uint32_t busy = std::min(entry.lease->in_use + 1, slots);
  return std::min<std::size_t>((std::size_t{busy} * 4 + slots - 1) / slots - 1, 3);
}

// Slots in use and there, of all replicas of the model.
struct Load {
  std::uint64_t busy = 0;
  std::uint64_t slots = 0;
};

Load load_of(const PlacementInput& input) {
  Load load;
  for (const Entry& entry : input.entries) {
    load.busy += entry.lease->in_use;
    load.slots += entry.lease->slots;
  }
  return load;
}

// With one more job it stays within the mean with that job and a quarter.
bool within_bounded_load(const Entry& entry, const Load& load) {
  const double fair = static_cast<double>(load.busy + 1) * entry.lease->slots /
                      static_cast<double>(std::max<std::uint64_t>(load.slots, 1));
  return entry.lease->in_use + 1 <= static_cast<std::uint64_t>(std::ceil(kBoundedLoad * fair));
}

// OC-CORE-1018. A replica at most half full is no hot spot, whatever the others do.
const WarmStart* warm_start(const Entry& entry, const PlacementInput& input, const Load& load) {
  if (input.warm.empty()) return nullptr;
  const auto found = std::lower_bound(input.warm.begin(), input.warm.end(), entry.lease->replica,
                                      [](const WarmStart& warm, const ReplicaKey& key) { return warm.replica < key; });
  if (found == input.warm.end() || found->replica != entry.lease->replica) return nullptr;
  const bool cool = 2 * (std::uint64_t{entry.lease->in_use} + 1) <= entry.lease->slots;
  return cool || within_bounded_load(entry, load) ? &*found : nullptr;
}

Duration predicted(const Entry& entry, const PlacementInput& input, const WarmStart* warm) {
  const Duration usual = (warm != nullptr ? warm->service : input.service)[fill_after(entry)];
  return {static_cast<std::int64_t>(static_cast<double>(usual.ns) * entry.slowness)};
}

std::int64_t step_of(Duration end) {
  return end.ns <= 0 ? 0
                     : static_cast<std::int64_t>(std::floor(std::log(static_cast<double>(end.ns)) / std::log(kStep)));
}

// The feasible entry that wins the session's hash among those that are not loaded beyond the others (OC-CORE-1013).
const Entry* session_home(const PlacementInput& input, const std::vector<const Entry*>& feasible, const Load& load) {
  if (input.session.empty()) return nullptr;
  const std::uint64_t session = hash_of(input.session);
  const Entry* home = nullptr;
  std::uint64_t best = 0;
  for (const Entry* entry : feasible) {
    if (!within_bounded_load(*entry, load)) continue;
    const std::uint64_t score = mix_hash(session ^ entry->name_hash);
    if (home == nullptr || score > best) {
      home = entry;
      best = score;
    }
  }
  return home;
}

// Smaller is better; total, for lease keys are unique.
struct Rank {
  bool not_preferred = false;
  bool short_of_memory = false;
  std::int64_t end_step = 0;
  bool not_home = false;
  std::int64_t less_cached = 0;
  std::uint64_t load = 0;  // in-use slots per million of the lease's
  std::int64_t less_context = 0;
  double slowness = 1;
  const Entry* entry = nullptr;

  auto order() const {
    return std::tie(not_preferred, short_of_memory, end_step, not_home, less_cached, load, less_context, slowness,
                    entry->replica->replica_id, entry->key);
  }
};

// What all candidates of one question are compared by.
struct Scene {
  const PlacementInput& input;
  Load load;
  const Entry* home = nullptr;
  std::array<std::int64_t, 4> steps{};  // of the ends on a replica of usual speed that has nothing of the prompt
};

Rank rank_of(const Entry& entry, const Scene& scene) {
  const PlacementInput& input = scene.input;
  const WarmStart* warm = warm_start(entry, input, scene.load);
  Rank rank;
  rank.not_preferred = !preferred(*entry.replica, input.lane.wish);
  rank.short_of_memory = !has_room(entry, input.expected_tokens);
  const bool usual = warm == nullptr && entry.slowness >= 1 && entry.slowness <= 1;
  rank.end_step = usual ? scene.steps[fill_after(entry)] : step_of(predicted(entry, input, warm));
  rank.not_home = &entry != scene.home;
  rank.less_cached = warm == nullptr ? 0 : -static_cast<std::int64_t>(warm->cached_tokens);
  rank.load = std::uint64_t{entry.lease->in_use} * 1'000'000 / std::max(entry.lease->slots, 1u);
  rank.less_context = -static_cast<std::int64_t>(entry.replica->ctx_max);
  rank.slowness = entry.slowness;
  rank.entry = &entry;
  return rank;
}

DecidedBy difference(const Rank& first, const Rank& second) {
  if (first.not_preferred != second.not_preferred) return DecidedBy::preference;
  if (first.short_of_memory != second.short_of_memory) return DecidedBy::memory;
  if (first.end_step != second.end_step) return DecidedBy::predicted_end;
  if (first.not_home != second.not_home) return DecidedBy::session;
  if (first.less_cached != second.less_cached) return DecidedBy::warm;
  if (first.load != second.load) return DecidedBy::load;
  if (first.less_context != second.less_context) return DecidedBy::context;
  if (first.slowness < second.slowness || second.slowness < first.slowness) return DecidedBy::speed;
  return DecidedBy::name;
}

void explain(const Scene& scene, const std::vector<Verdict>& verdicts, const Entry* chosen,
             PlacementDecision& decision) {
  const PlacementInput& input = scene.input;
  const auto add = [&](std::size_t i) {
    const Entry& entry = input.entries[i];
    PlacementCandidate candidate;
    candidate.replica_id = entry.replica->replica_id;
    candidate.verdict = &entry == chosen ? Verdict::chosen : verdicts[i];
    if (entry.lease->in_use < entry.lease->slots) candidate.free_slots = entry.lease->slots - entry.lease->in_use;
    const WarmStart* warm = warm_start(entry, input, scene.load);
    candidate.predicted = predicted(entry, input, warm);
    if (warm != nullptr) candidate.cached_tokens = warm->cached_tokens;
    if (entry.replica->kv.told()) candidate.free_kv_tokens = free_pages(entry) * entry.replica->kv.page_tokens;
    candidate.session_home = &entry == scene.home;
    candidate.preferred = !input.lane.wish.prefer.empty() && preferred(*entry.replica, input.lane.wish);
    decision.candidates.push_back(std::move(candidate));
  };
  for (std::size_t i = 0; i < input.entries.size(); ++i) {
    const bool room = decision.candidates.size() < input.candidates_max;
    if (!room && &input.entries[i] != chosen) continue;
    if (!room) decision.candidates.pop_back();
    add(i);
  }
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::chosen:
      return "chosen";
    case Verdict::feasible:
      return "feasible";
    case Verdict::no_live_lease:
      return "no_live_lease";
    case Verdict::no_free_slot:
      return "no_free_slot";
    case Verdict::no_free_memory:
      return "no_free_memory";
    case Verdict::paused:
      return "paused";
    case Verdict::not_ready:
      return "not_ready";
    case Verdict::other_incarnation:
      return "other_incarnation";
    case Verdict::context_too_small:
      return "context_too_small";
    case Verdict::memory_too_small:
      return "memory_too_small";
    case Verdict::unsuitable:
      return "unsuitable";
    case Verdict::reserved:
      return "reserved";
  }
  return "?";
}

const char* decided_by_name(DecidedBy reason) {
  switch (reason) {
    case DecidedBy::only_one:
      return "only_one";
    case DecidedBy::preference:
      return "preference";
    case DecidedBy::memory:
      return "memory";
    case DecidedBy::predicted_end:
      return "predicted_end";
    case DecidedBy::session:
      return "session";
    case DecidedBy::warm:
      return "warm";
    case DecidedBy::load:
      return "load";
    case DecidedBy::context:
      return "context";
    case DecidedBy::speed:
      return "speed";
    case DecidedBy::name:
      return "name";
  }
  return "?";
}

void ReplicaSpeeds::observe(const ReplicaKey& replica, double measured_over_predicted) {
  const double bounded = std::clamp(measured_over_predicted, 0.05, 20.0);
  const auto it = slowness_.find(replica);
  const double before = slowness(replica);
  if (it != slowness_.end()) {
    it->second += kSpeedAlpha * (bounded - it->second);
  } else {
    if (slowness_.size() >= kReplicasMax) slowness_.erase(slowness_.begin());
    slowness_.emplace(replica, 1 + kSpeedAlpha * (bounded - 1));
  }
  if (slowness(replica) != before) ++version_;
}

double ReplicaSpeeds::slowness(const ReplicaKey& replica) const {
  const auto it = slowness_.find(replica);
  // In steps of a twentieth: a choice must not turn on the last bits of a mean.
  return it == slowness_.end() ? 1 : std::max(0.05, std::round(it->second * 20) / 20);
}

const std::vector<Entry>& PlacementIndex::of(const std::string& model, const Fleet& fleet, const LeaseTable& leases,
                                             const ReplicaSpeeds& speeds) {
  if (fleet_version_ != fleet.version() || leases_version_ != leases.version() || speeds_version_ != speeds.version()) {
    models_.clear();
    for (const auto& [key, lease] : leases.all()) {
      const ReplicaView* replica = fleet.find(lease.replica);
      if (replica == nullptr) continue;
      models_[replica->model_name].push_back(
          {key, &lease, replica, hash_of(replica->replica_id), speeds.slowness(lease.replica)});
    }
    fleet_version_ = fleet.version();
    leases_version_ = leases.version();
    speeds_version_ = speeds.version();
  }
  return models_[model];
}

PlacementDecision decide(const PlacementInput& input) {
  PlacementDecision decision;
  std::vector<Verdict> verdicts;
  std::vector<const Entry*> feasible;
  const Entry* roomiest = nullptr;
  verdicts.reserve(input.entries.size());
  for (const Entry& entry : input.entries) {
    const Verdict verdict = judge(entry, input);
    verdicts.push_back(verdict);
    if (verdict == Verdict::feasible) feasible.push_back(&entry);
    if (verdict != Verdict::no_free_memory) continue;
    if (roomiest == nullptr || free_pages(entry) > free_pages(*roomiest)) roomiest = &entry;
  }
  if (roomiest != nullptr) decision.lacks_memory = roomiest->key;
  decision.considered = static_cast<std::uint32_t>(input.entries.size());
  decision.feasible = static_cast<std::uint32_t>(feasible.size());
  Scene scene{input, {}, nullptr, {}};
  if (!input.session.empty() || !input.warm.empty()) scene.load = load_of(input);
  scene.home = session_home(input, feasible, scene.load);
  for (std::size_t i = 0; i < scene.steps.size(); ++i) scene.steps[i] = step_of(input.service[i]);
  std::optional<Rank> best;
  std::optional<Rank> second;
  for (const Entry* entry : feasible) {
    const Rank rank = rank_of(*entry, scene);
    if (!best || rank.order() < best->order()) {
      second = best;
      best = rank;
    } else if (!second || rank.order() < second->order()) {
      second = rank;
    }
  }
  if (best) {
    decision.lease = best->entry->key;
    decision.cached_tokens = static_cast<std::uint64_t>(-best->less_cached);
    decision.fallback = !input.lane.wish.prefer.empty() && best->not_preferred;
    if (second) decision.decided_by = difference(*best, *second);
  }
  if (input.candidates_max > 0) explain(scene, verdicts, best ? best->entry : nullptr, decision);
  return decision;
}

}  // namespace orch::gateway
