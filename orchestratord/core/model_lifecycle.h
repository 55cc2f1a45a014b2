// In which state each model is, and where a request for a name goes (OC-MODEL-1001 to 1006, ORCH-3069 to 3073,
// ORCH-3033). A model is a served name and a digest; what nobody has set is active.
//
//   draft --> active --> deprecated --> retired --> draft        canary --> draft (taken back)
//     |  \--> canary --> active           |                      deprecated --> active (taken back)
//     +-------------------- retired <-----+                      every state but draft --> retired
//
// One earlier state of a name's models is kept, so that one action undoes the last change of that name.
//
// Threads: owned by the core's loop. Bounds: kModelsMax models. Deterministic: the canary's share is decided by a
// stable hash of name and session (the task where there is none).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/stream_event.h"

namespace orch::gateway {

enum class ModelState : std::uint8_t { draft, active, canary, deprecated, retired };
const char* model_state_name(ModelState state);
std::optional<ModelState> model_state_of(const std::string& name);
bool may_change(ModelState from, ModelState to);

struct ModelStanding {
  ModelState state = ModelState::active;
  std::uint32_t percent = 0;  // of a canary: 1..100
  bool unloaded = false;      // while it was retired, and not all of its replicas are known to be back (OC-MODEL-1008)
  auto operator<=>(const ModelStanding&) const = default;
};
struct ModelKey {
  std::string name;
  std::string digest;
  auto operator<=>(const ModelKey&) const = default;
};
using ModelStandings = std::map<ModelKey, ModelStanding>;

class ModelLifecycle {
 public:
  static constexpr std::size_t kModelsMax = 1024;

  explicit ModelLifecycle(ModelStandings standings = {}) : standings_(std::move(standings)) {}

  ModelStanding of(const ModelKey& model) const;
  // Nullopt: done. A name has one canary at a time.
  std::optional<Failure> change(const ModelKey& model, ModelStanding to);
  std::optional<Failure> roll_back(const std::string& name);
  // Its replicas are back.
  void loaded(const ModelKey& model);
  // Grows with each change.
  std::uint64_t version() const { return version_; }
  const ModelStandings& all() const { return standings_; }

  // Where a request goes. `known` are the digests of the name that replicas are known for.
  struct Route {
    std::string digest;  // empty: any of them
    std::optional<Outcome> refused;
    ModelState state = ModelState::active;
  };
  struct Question {
    std::string name;
    std::string digest;  // asked for; empty: by name
    std::string spread;  // session, or task
    std::vector<std::string> known;
    bool known_session = false;  // one that this name has served within the session's life
  };
  Route route(const Question& question) const;
  // Are new leases wanted for it? (OC-MODEL-1005)
  bool wanted(const ModelKey& model) const;

 private:
  ModelStandings of_name(const std::string& name) const;
  void replace_name(const std::string& name, const ModelStandings& standings);

  ModelStandings standings_;
  std::map<std::string, ModelStandings> before_;  // by name, one step
  std::uint64_t version_ = 0;
};

}  // namespace orch::gateway
