#include "orchestratord/core/fleet.h"

#include <algorithm>
#include <set>

namespace orch::gateway {

bool is_gpu(const ReplicaView& replica) { return replica.accelerator == "vulkan"; }

bool has_numeric_class(const ReplicaView& replica) {
  return !replica.numeric_class.empty() && replica.numeric_class != "none";
}

namespace {

bool named_in(const std::vector<std::string>& list, const ReplicaView& replica) {
  return std::binary_search(list.begin(), list.end(), replica.pool_id) ||
         std::binary_search(list.begin(), list.end(), replica.replica_id);
}

}  // namespace

bool preferred(const ReplicaView& replica, const PlacementWish& wish) {
  return wish.prefer.empty() || named_in(wish.prefer, replica);
}

bool suits(const ReplicaView& replica, const Lane& lane) {
  if (!lane.digest.empty() && replica.model_digest != lane.digest) return false;
  if (lane.require_gpu && !is_gpu(replica)) return false;
  if (!lane.exact.empty() && replica_set_key(replica) != lane.exact) return false;
  if (lane.strict && !has_numeric_class(replica)) return false;
  const PlacementWish& wish = lane.wish;
  if (wish.empty()) return true;
  if (!wish.pin.empty() && wish.pin != replica.pool_id && wish.pin != replica.replica_id) return false;
  if (!wish.devices.empty() && !std::binary_search(wish.devices.begin(), wish.devices.end(), replica.device_name))
    return false;
  if (!wish.allow_fallback && !preferred(replica, wish)) return false;
  return !named_in(wish.avoid, replica);
}

std::uint64_t room_of(const ReplicaView& replica) {
  const std::uint64_t context = replica.ctx_max;
  return replica.kv.told() ? std::min(context, replica.kv.tokens_total()) : context;
}

bool serves(const ReplicaView& replica, const Lane& lane) {
  return replica.model_name == lane.model && suits(replica, lane);
}

std::string replica_set_key(const ReplicaView& replica) {
  if (replica.numeric_class != "X" || replica.model_digest.empty()) return {};
  std::string key;
  for (const std::string* part : {&replica.engine, &replica.model_digest, &replica.quant, &replica.numeric_class,
                                  &replica.engine_version, &replica.sampler_profile_version}) {
    key += *part;
    key += '\n';
  }
  return key;
}

ServedBy served_by(const ReplicaView& replica) {
  return {replica.model_name,    replica.model_digest, replica.engine,    replica.engine_version,
          replica.numeric_class, replica.accelerator,  replica.replica_id};
}

std::optional<Instant> Link::sent_at(std::uint64_t seq) const {
  const auto it = std::lower_bound(sent.begin(), sent.end(), seq,
                                   [](const Sent& entry, std::uint64_t value) { return entry.seq < value; });
  if (it == sent.end() || it->seq != seq) return std::nullopt;
  return it->at;
}

void Link::remember(std::uint64_t seq, Instant at, std::size_t max) {
  sent.push_back({seq, at});
  while (sent.size() > max) sent.pop_front();
}

bool Fleet::attach(const ManagerUp& up, std::uint64_t* previous_boot) {
  *previous_boot = 0;
  const auto known = managers_.find(up.manager);
  if (known == managers_.end() && managers_.size() >= limits_.managers_max && !forget_longest_detached()) return false;
  ManagerRecord& record = managers_[up.manager];
  *previous_boot = record.boot;
  if (record.link) links_.erase(*record.link);  // a reconnect that is noticed before the loss
  record.boot = up.boot;
  record.link = up.link;
  record.replicas.clear();
  ++version_;
  for (const ReplicaView& replica : up.replicas) {
    if (record.replicas.size() >= limits_.replicas_per_manager_max) break;
    record.replicas.emplace(replica.replica_id, replica).first->second.kv_version = ++kv_words_;
  }
  links_.erase(up.link);
  links_[up.link].manager = up.manager;
  return true;
}

std::optional<ManagerId> Fleet::detach(LinkId link, Instant now) {
  const auto it = links_.find(link);
  if (it == links_.end()) return std::nullopt;
  const ManagerId manager = it->second.manager;
  links_.erase(it);
  ManagerRecord& record = managers_.at(manager);
  record.link = std::nullopt;
  ++version_;
  record.detached_at = now;
  return manager;
}

std::optional<ManagerId> Fleet::manager_of(LinkId link) const {
  const auto it = links_.find(link);
  if (it == links_.end()) return std::nullopt;
  return it->second.manager;
}

bool Fleet::update(ManagerId manager, const ReplicaView& replica) {
  const auto it = managers_.find(manager);
  if (it == managers_.end()) return false;
  auto& replicas = it->second.replicas;
  ++version_;
  const auto known = replicas.find(replica.replica_id);
  if (known == replicas.end()) {
    if (replicas.size() >= limits_.replicas_per_manager_max) return false;
    replicas.emplace(replica.replica_id, replica).first->second.kv_version = ++kv_words_;
    return true;
  }
  if (replica.inc < known->second.inc) return false;  // an incarnation never comes back
  known->second = replica;
  known->second.kv_version = ++kv_words_;
  return true;
}

bool Fleet::loaded(ManagerId manager, const ReplicaLoaded& load) {
  const auto record = managers_.find(manager);
  if (record == managers_.end()) return false;
  const auto known = record->second.replicas.find(load.replica_id);
  if (known == record->second.replicas.end() || known->second.inc != load.inc) return false;
  known->second.kv.pages_used = load.kv_pages_used;
  known->second.kv_version = ++kv_words_;
  return true;
}

bool Fleet::remove(ManagerId manager, const std::string& replica_id) {
  const auto it = managers_.find(manager);
  if (it == managers_.end() || it->second.replicas.erase(replica_id) == 0) return false;
  ++version_;
  return true;
}

// OC-CORE-1019: who is there is never refused for the sake of those that have gone.
bool Fleet::forget_longest_detached() {
  auto oldest = managers_.end();
  for (auto it = managers_.begin(); it != managers_.end(); ++it) {
    if (it->second.link) continue;
    if (oldest == managers_.end() || it->second.detached_at < oldest->second.detached_at) oldest = it;
  }
  if (oldest == managers_.end()) return false;
  managers_.erase(oldest);
  return true;
}

bool Fleet::forget_old(Instant now) {
  const auto gone = std::erase_if(managers_, [&](const auto& entry) {
    return !entry.second.link && entry.second.detached_at + limits_.manager_forget <= now;
  });
  if (gone > 0) ++version_;
  return gone > 0;
}

Instant Fleet::next_forget() const {
  Instant next = Instant::never();
  for (const auto& [id, record] : managers_) {
    if (!record.link) next = std::min(next, record.detached_at + limits_.manager_forget);
  }
  return next;
}

const ReplicaView* Fleet::find(const ReplicaKey& key) const {
  const auto manager = managers_.find(key.manager);
  if (manager == managers_.end()) return nullptr;
  const auto replica = manager->second.replicas.find(key.replica_id);
  return replica == manager->second.replicas.end() ? nullptr : &replica->second;
}

bool Fleet::attached(ManagerId manager) const {
  const auto it = managers_.find(manager);
  return it != managers_.end() && it->second.link.has_value();
}

Link* Fleet::link(LinkId id) {
  const auto it = links_.find(id);
  return it == links_.end() ? nullptr : &it->second;
}

std::optional<Lane> Fleet::resolve(const std::string& model_ref) const {
  const bool by_digest = model_ref.starts_with("sha256:");
  for (const auto& [id, record] : managers_) {
    for (const auto& [replica_id, replica] : record.replicas) {
      if (by_digest ? replica.model_digest == model_ref : replica.model_name == model_ref) {
        return Lane{replica.model_name, by_digest ? model_ref : std::string(), false, false};
      }
    }
  }
  return std::nullopt;
}

std::vector<std::string> Fleet::digests(const std::string& name) const {
  std::set<std::string> out;
  for (const auto& [id, record] : managers_) {
    for (const auto& [replica_id, replica] : record.replicas) {
      if (replica.model_name == name) out.insert(replica.model_digest);
    }
  }
  return {out.begin(), out.end()};
}

ModelStatus Fleet::status(const Lane& lane) const {
  ModelStatus status;
  const auto improve = [&](Standing standing, const ReplicaKey& key, const ReplicaView& replica) {
    status.ctx_max = std::max(status.ctx_max, static_cast<std::uint32_t>(room_of(replica)));
    if (status.primary && standing <= status.standing) return;
    status.standing = standing;
    status.primary = key;
  };
  for (const auto& [id, record] : managers_) {
    for (const auto& [replica_id, replica] : record.replicas) {
      if (!serves(replica, lane)) continue;
      const ReplicaKey key{id, replica_id};
      if (!record.link) {
        improve(Standing::unavailable, key, replica);
        continue;
      }
      switch (replica.state) {
        case ReplicaState::ready:
          status.ready_slots += replica.slots;
          improve(Standing::ready, key, replica);
          break;
        case ReplicaState::starting:
        case ReplicaState::preloading:
        case ReplicaState::backoff:
          improve(replica.was_ready ? Standing::returning : Standing::unready, key, replica);
          if (replica.state == ReplicaState::backoff && (!status.retry_in || replica.retry_in < *status.retry_in))
            status.retry_in = replica.retry_in;
          break;
        case ReplicaState::draining:
        case ReplicaState::failed:
        case ReplicaState::stopped:
          improve(Standing::unready, key, replica);
          break;
      }
    }
  }
  return status;
}

SelfTestRates Fleet::self_test(const Lane& lane) const {
  std::vector<double> prefill;
  std::vector<double> decode;
  for (const auto& [id, record] : managers_) {
    for (const auto& [replica_id, replica] : record.replicas) {
      if (!record.link || replica.state != ReplicaState::ready || !serves(replica, lane)) continue;
      if (replica.prefill_rate <= 0 || replica.decode_rate <= 0) continue;
      prefill.push_back(replica.prefill_rate);
      decode.push_back(replica.decode_rate);
    }
  }
  const auto median = [](std::vector<double>& rates) {
    if (rates.empty()) return 0.0;
    const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
    std::nth_element(rates.begin(), middle, rates.end());
    return *middle;
  };
  return {median(prefill), median(decode)};
}

bool Fleet::any_attached(const Lane& lane, const std::function<bool(const ReplicaView&)>& predicate) const {
  for (const auto& [id, record] : managers_) {
    if (!record.link) continue;
    for (const auto& [replica_id, replica] : record.replicas) {
      if (serves(replica, lane) && predicate(replica)) return true;
    }
  }
  return false;
}

}  // namespace orch::gateway
