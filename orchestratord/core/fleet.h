// What the attached pool managers say of their replicas, and the model readiness rule that admission stands on.
// Replicas of a manager that went away are remembered for a while, so that an outage reads as 503 and not as an unknown
// model.
//
// Threads: owned by the core's loop. Bounds: managers_max, replicas_per_manager_max (excess reports are ignored).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"
#include "orchestratord/core/lane.h"
#include "orchestratord/core/limits.h"
#include "orchestratord/core/service_times.h"

namespace orch::gateway {

struct ReplicaKey {
  ManagerId manager;
  std::string replica_id;
  auto operator<=>(const ReplicaKey&) const = default;
};

bool is_gpu(const ReplicaView& replica);
bool has_numeric_class(const ReplicaView& replica);
bool serves(const ReplicaView& replica, const Lane& lane);
// Tokens that prompt and completion of one job may have there: its context, or its memory where that is smaller.
std::uint64_t room_of(const ReplicaView& replica);
// As `serves`, for a replica that is known to serve the lane's model.
bool suits(const ReplicaView& replica, const Lane& lane);
// True for every replica when the wish prefers none.
bool preferred(const ReplicaView& replica, const PlacementWish& wish);
// Everything that decides the bytes of an answer (terms of DESIGN-RULES: replica-set key), or empty when the replica
// declares no class whose results can be computed again (J4, M3).
std::string replica_set_key(const ReplicaView& replica);
ServedBy served_by(const ReplicaView& replica);

// One connection to a manager. Grants refer to the instants at which updates were sent (L4).
struct Link {
  struct Sent {
    std::uint64_t seq = 0;
    Instant at;
  };
  ManagerId manager;
  std::uint64_t next_seq = 1;
  std::deque<Sent> sent;  // ascending seq; bounded by updates_remembered_max and by age
  Instant last_update_at;
  Instant last_renew_at;
  bool greeted = false;            // the first update has been sent
  std::uint64_t bids_checked = 0;  // version of the gateway's load that last_bids was compared with
  std::vector<PoolBid> last_bids;
  std::vector<LeaseId> release;  // for the next update
  std::uint64_t fair_told = 0;   // version of the counters told last; 0: none
  Instant fair_told_at;
  std::uint64_t grants_seen = 0;  // number of the last one
  Instant last_grant_at;
  bool shrank = false;                // a grant made a lease smaller, and the manager waits to hear that it came (L6)
  std::vector<LeaseUse> last_beyond;  // as told last

  std::optional<Instant> sent_at(std::uint64_t seq) const;
  void remember(std::uint64_t seq, Instant at, std::size_t max);
};

struct ManagerRecord {
  std::uint64_t boot = 0;
  std::optional<LinkId> link;  // nullopt: detached
  Instant detached_at;
  std::map<std::string, ReplicaView> replicas;
};

// POOL-ADMIT: what may be told about a model.
enum class Standing : std::uint8_t {
  unknown,      // MODEL_NOT_FOUND
  unavailable,  // POOL_UNAVAILABLE: no attached manager knows it
  unready,      // POOL_UNREADY: none ready and none ever was, or all draining or failed
  returning,    // was ready, is restarting: jobs queue
  ready,
};

struct ModelStatus {
  Standing standing = Standing::unknown;
  std::optional<ReplicaKey> primary;  // the replica that labels and limits are taken from
  std::uint32_t ctx_max = 0;          // largest room_of() those that may serve it
  std::optional<Duration> retry_in;   // until the earliest known restart
  std::uint32_t ready_slots = 0;
};

class Fleet {
 public:
  explicit Fleet(const Limits& limits) : limits_(limits) {}

  // False: refused for want of room. Returns the manager's earlier boot through `previous_boot`, 0 when new.
  bool attach(const ManagerUp& up, std::uint64_t* previous_boot);
  // The manager whose current link this was; nullopt when the link is unknown or has been replaced.
  std::optional<ManagerId> detach(LinkId link, Instant now);
  // The manager whose current link this is.
  std::optional<ManagerId> manager_of(LinkId link) const;
  bool update(ManagerId manager, const ReplicaView& replica);
  // False: not known, or another life of it.
  bool loaded(ManagerId manager, const ReplicaLoaded& load);
  bool remove(ManagerId manager, const std::string& replica_id);
  bool forget_old(Instant now);  // true: some were
  Instant next_forget() const;
  // Grows whenever a replica may have changed or gone, but for what of its memory is used.
  std::uint64_t version() const { return version_; }

  const ReplicaView* find(const ReplicaKey& key) const;
  bool attached(ManagerId manager) const;
  Link* link(LinkId id);
  std::map<LinkId, Link>& links() { return links_; }
  const std::map<LinkId, Link>& links() const { return links_; }
  const std::map<ManagerId, ManagerRecord>& managers() const { return managers_; }

  // Turns what the client wrote (a served name or "sha256:<hex>") into a lane; nullopt: no replica is known for it.
  std::optional<Lane> resolve(const std::string& model_ref) const;
  // The digests replicas are known for under a served name, ascending; a replica that tells none counts as "".
  std::vector<std::string> digests(const std::string& name) const;
  ModelStatus status(const Lane& lane) const;
  // Medians over the lane's ready replicas that measured any.
  SelfTestRates self_test(const Lane& lane) const;
  // Any replica of the lane, loaded or not, that fits `predicate`, attached managers only.
  bool any_attached(const Lane& lane, const std::function<bool(const ReplicaView&)>& predicate) const;

 private:
  bool forget_longest_detached();

  Limits limits_;
  std::map<ManagerId, ManagerRecord> managers_;
  std::map<LinkId, Link> links_;
  std::uint64_t version_ = 0;
  std::uint64_t kv_words_ = 0;
};

}  // namespace orch::gateway
