#include "sim/coverage.h"

#include <utility>

namespace orch::sim {
namespace {

// The name of a type without its namespaces, from the compiler.
template <typename T>
std::string type_name() {
  std::string_view text = __PRETTY_FUNCTION__;  // "... [T = orch::gateway::Dispatch]"
  text.remove_suffix(1);
  return std::string(text.substr(text.rfind(':') + 1));
}

template <typename Variant, typename Counts, std::size_t... kIndex>
void append_types(const std::string& prefix, const Counts& counts, std::index_sequence<kIndex...>,
                  std::vector<Coverage::Count>& out) {
  (out.push_back({prefix + type_name<std::variant_alternative_t<kIndex, Variant>>(), counts[kIndex]}), ...);
}

template <typename State, typename Matrix, typename Name>
void append_edges(const std::string& prefix, const Matrix& matrix, Name name, std::vector<Coverage::Count>& out) {
  for (std::size_t from = 0; from < matrix.size(); ++from) {
    for (std::size_t to = 0; to < matrix.size(); ++to) {
      const auto a = static_cast<State>(from);
      const auto b = static_cast<State>(to);
      using pool::may_change;  // the others are found by their arguments
      if (!may_change(a, b)) continue;
      out.push_back({prefix + std::string(name(a)) + ">" + std::string(name(b)), matrix[from][to]});
    }
  }
}

template <typename Array>
void add_array(Array& to, const Array& from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}
template <typename Matrix>
void add_matrix(Matrix& to, const Matrix& from) {
  for (std::size_t i = 0; i < to.size(); ++i) add_array(to[i], from[i]);
}

constexpr std::array<const char*, kFaults> kFaultNames = {
    "drop",        "half_open", "delay",       "duplicate",    "reorder",       "partition",          "one_way",
    "pause",       "suspend",   "clock_jump",  "crash_worker", "crash_manager", "crash_orchestrator", "crash_at_effect",
    "refuse",      "drain",     "lost_report", "slow_reader",  "lost_state",    "engine_fault",       "slow_disk",
    "disk_fails",  "adopted",   "undrain",     "rollout",      "session_end",   "tenants_change",     "model_change",
    "device_lost", "lost_body"};

}  // namespace

const char* fault_name(Fault fault) { return kFaultNames[static_cast<std::size_t>(fault)]; }

bool may_change(JobPhase from, JobPhase to) {
  switch (from) {
    case JobPhase::none:
      // Most are admitted at once; journaled ones when it is durable, and a new life takes them over (J4).
      return to == JobPhase::admitting || to == JobPhase::committing || to == JobPhase::waiting ||
             to == JobPhase::ended;
    case JobPhase::admitting:
      return to == JobPhase::waiting || to == JobPhase::committing || to == JobPhase::gone;
    case JobPhase::committing:
      return to == JobPhase::waiting || to == JobPhase::gone;
    case JobPhase::waiting:  // only journaled jobs are seen concluding
      return to == JobPhase::dispatching || to == JobPhase::concluding || to == JobPhase::ended;
    case JobPhase::dispatching:
      return to == JobPhase::running || to == JobPhase::waiting || to == JobPhase::concluding || to == JobPhase::ended;
    case JobPhase::running:
      return to == JobPhase::waiting || to == JobPhase::concluding || to == JobPhase::ended;
    case JobPhase::concluding:  // back: its newcomer could not be journaled
      return to == JobPhase::waiting || to == JobPhase::ended;
    case JobPhase::ended:
      return to == JobPhase::gone;
    case JobPhase::gone:
      return false;
  }
  return false;
}

bool may_change(LeasePhase from, LeasePhase to) {
  switch (from) {
    case LeasePhase::none:  // closed: it came in the step that ended a drain
      return to == LeasePhase::live || to == LeasePhase::closed;
    case LeasePhase::live:
      return to == LeasePhase::stale || to == LeasePhase::lapsed || to == LeasePhase::closed || to == LeasePhase::gone;
    case LeasePhase::stale:
      return to == LeasePhase::live || to == LeasePhase::lapsed || to == LeasePhase::closed || to == LeasePhase::gone;
    case LeasePhase::lapsed:
      return to == LeasePhase::live || to == LeasePhase::closed || to == LeasePhase::gone;
    case LeasePhase::closed:
      return to == LeasePhase::gone;
    case LeasePhase::gone:
      return false;
  }
  return false;
}

bool may_change(BookPhase from, BookPhase to) {
  switch (from) {
    case BookPhase::none:
      // An adopted one stands as the worker applied it (L8).
      return to == BookPhase::opened || to == BookPhase::issued || to == BookPhase::acked || to == BookPhase::closed;
    case BookPhase::opened:
      return to == BookPhase::issued || to == BookPhase::gone;  // nobody was told: closed is gone
    case BookPhase::issued:
      return to == BookPhase::acked || to == BookPhase::gone;
    case BookPhase::acked:
      return to == BookPhase::closed || to == BookPhase::gone;
    case BookPhase::closed:
      return to == BookPhase::gone;
    case BookPhase::gone:
      return false;
  }
  return false;
}

const char* phase_name(JobPhase phase) {
  constexpr std::array<const char*, kJobPhases> kNames = {
      "none", "admitting", "committing", "waiting", "dispatching", "running", "concluding", "ended", "gone"};
  return kNames[static_cast<std::size_t>(phase)];
}
const char* phase_name(LeasePhase phase) {
  constexpr std::array<const char*, kLeasePhases> kNames = {"none", "live", "stale", "lapsed", "closed", "gone"};
  return kNames[static_cast<std::size_t>(phase)];
}
const char* phase_name(BookPhase phase) {
  constexpr std::array<const char*, kBookPhases> kNames = {"none", "opened", "issued", "acked", "closed", "gone"};
  return kNames[static_cast<std::size_t>(phase)];
}
const char* point_name(WorkerPoint point) {
  constexpr std::array<const char*, kWorkerPoints> kNames = {"before_apply",    "before_ack",          "before_admit",
                                                             "before_refusal",  "before_start",        "before_token",
                                                             "before_terminal", "before_slot_returned"};
  return kNames[static_cast<std::size_t>(point)];
}

void Coverage::add(const Coverage& other) {
  add_array(faults_, other.faults_);
  add_matrix(jobs_, other.jobs_);
  add_matrix(leases_, other.leases_);
  add_matrix(books_, other.books_);
  add_matrix(replicas_, other.replicas_);
  add_matrix(operations_, other.operations_);
  add_array(gateway_effects_, other.gateway_effects_);
  add_array(manager_effects_, other.manager_effects_);
  add_array(gateway_boundaries_, other.gateway_boundaries_);
  add_array(manager_boundaries_, other.manager_boundaries_);
  add_array(worker_points_, other.worker_points_);
}

std::vector<Coverage::Count> Coverage::faults() const {
  std::vector<Count> out;
  out.reserve(kFaults);
  for (std::size_t i = 0; i < kFaults; ++i) out.push_back({kFaultNames[i], faults_[i]});
  return out;
}

std::vector<Coverage::Count> Coverage::edges() const {
  std::vector<Count> out;
  append_edges<JobPhase>("job ", jobs_, [](JobPhase phase) { return phase_name(phase); }, out);
  append_edges<LeasePhase>("held lease ", leases_, [](LeasePhase phase) { return phase_name(phase); }, out);
  append_edges<BookPhase>("granted lease ", books_, [](BookPhase phase) { return phase_name(phase); }, out);
  append_edges<pool::ReplicaState>("replica ", replicas_, [](pool::ReplicaState s) { return pool::to_string(s); }, out);
  for (const auto kind : {pool::OperationKind::drain, pool::OperationKind::undrain, pool::OperationKind::reload,
                          pool::OperationKind::restart}) {
    for (const auto state : {pool::OperationState::succeeded, pool::OperationState::failed}) {
      out.push_back({"operation " + std::string(pool::to_string(kind)) + ">" + std::string(pool::to_string(state)),
                     operations_[index(kind)][index(state)]});
    }
  }
  return out;
}

std::vector<Coverage::Count> Coverage::effects() const {
  std::vector<Count> out;
  append_types<gateway::EffectKinds>("orchestratord ", gateway_effects_,
                                     std::make_index_sequence<std::variant_size_v<gateway::EffectKinds>>(), out);
  append_types<pool::EffectKinds>("pool-managerd ", manager_effects_,
                                  std::make_index_sequence<std::variant_size_v<pool::EffectKinds>>(), out);
  return out;
}

std::vector<Coverage::Count> Coverage::boundaries() const {
  std::vector<Count> out;
  append_types<gateway::EffectKinds>("orchestratord ", gateway_boundaries_,
                                     std::make_index_sequence<std::variant_size_v<gateway::EffectKinds>>(), out);
  append_types<pool::EffectKinds>("pool-managerd ", manager_boundaries_,
                                  std::make_index_sequence<std::variant_size_v<pool::EffectKinds>>(), out);
  for (std::size_t i = 0; i < kWorkerPoints; ++i)
    out.push_back({std::string("worker ") + point_name(static_cast<WorkerPoint>(i)), worker_points_[i]});
  return out;
}

}  // namespace orch::sim
