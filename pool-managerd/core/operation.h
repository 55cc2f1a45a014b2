// An operator's change of a pool that takes time: drain, undrain, reload, rolling restart (OC-POOL-3050 to 3054). Plain
// data; Manager drives it (manager_operations.cc).
#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "pool-managerd/core/settings.h"

namespace orch::pool {

using OperationId = BootCounter<struct OperationTag>;

enum class OperationKind : std::uint8_t { drain, undrain, reload, restart };
enum class OperationState : std::uint8_t { running, succeeded, failed };

std::string_view to_string(OperationKind kind);
std::string_view to_string(OperationState state);
// "<boot>.<counter>"
std::string to_string(OperationId id);
std::optional<OperationId> parse_operation_id(std::string_view text);

// What a worker is started with. The core hands the path on and checks the digest.
struct ModelFile {
  std::string path;    // empty: the engine has its own
  std::string digest;  // "sha256:<hex>"; empty: any
  auto operator<=>(const ModelFile&) const = default;
};

struct Operation {
  OperationId id;
  OperationKind kind = OperationKind::drain;
  std::string pool_id;
  std::string replica_id;          // empty: the whole pool
  Duration deadline;               // of each drain in it
  std::optional<ModelFile> model;  // reload: what every replica is to serve
  OperationState state = OperationState::running;
  std::string step;            // what it waits for, in words
  std::string error;           // why it failed
  std::uint32_t done = 0;      // replicas
  std::uint32_t total = 0;     // replicas
  std::uint32_t jobs_cut = 0;  // stopped because the deadline of their drain had passed (OC-POOL-3059)
  Instant begun;
  Instant ended = Instant::never();
};

// The replacement of replicas, one after another, and back again.
struct Rollout {
  struct Change {
    std::string replica_id;
    ModelFile to;
    bool drained = false;  // its successor is not to run either
  };
  std::vector<ReplicaSpec> before;  // what its targets are until it has ended (OC-POOL-3054)
  std::deque<Change> todo;
  std::string old_id;             // under way; empty: none
  std::string new_id;             // its successor
  bool successor_served = false;  // was ready: the old one drains
  bool giving_up = false;         // the successor is being removed
  bool to_drained = false;        // nothing is started in the place of the one under way
  bool of_drained = false;        // the pool was drained: nothing ran before (OC-POOL-3056)
  std::deque<Change> undo;        // what was replaced, newest first, and what to go back to
  bool back = false;              // todo is what undo was
};

struct OpenOperation {
  Operation view;
  std::vector<std::string> targets;                      // drain, undrain: replica ids
  std::map<std::string, std::uint32_t> failures_before;  // undrain: of each target
  std::optional<Rollout> rollout;
};

}  // namespace orch::pool
