// Messages of PoolManager and of the manager's side of Worker to values and back. Threads: any; nothing is kept.
#pragma once

#include <string>

#include "common/base/result.h"
#include "orch/v1/pool_manager.pb.h"
#include "orch/v1/worker.pb.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/events.h"

namespace orch::pool::wire {

inline constexpr std::uint32_t kProtocolMajor = 1;
inline constexpr std::uint32_t kProtocolMinor = 0;

struct BadMessage {
  std::string field;
  std::string message;  // names the field and the limit
};

Result<AttachOpened, BadMessage> parse_attach_hello(LinkId link, const v1::AttachHello& message);
HolderUpdate parse_update(LinkId link, const v1::HolderUpdate& message);
FairReport parse_fair(const v1::FairReport& message);
v1::AttachEvent others_event(const SendOthers& effect);
v1::AttachEvent gateways_event(const SendGateways& effect);
WorkerFacts parse_info(const v1::WorkerInfo& message);
WorkerReport parse_report(Incarnation inc, const v1::ControlReport& message);

void write_incarnation(Incarnation inc, v1::Incarnation* out);
void write_replica(const ReplicaView& view, v1::Replica* out);
v1::AttachEvent manager_hello(ManagerId manager, std::uint64_t boot, const std::vector<ReplicaView>& replicas);
v1::AttachEvent replica_event(const ReplicaView& view);
v1::AttachEvent load_event(const ReplicaLoaded& loaded);
v1::AttachEvent gone_event(const ReplicaGone& gone);
v1::AttachEvent earlier_over_event(const SendEarlierOver& over);
Result<StartOperation, BadMessage> parse_operation(const v1::StartOperationRequest& message);
void write_operation(const Operation& operation, v1::Operation* out);
v1::AttachEvent grant_event(const SendGrant& grant);
v1::AttachEvent revoke_event(const SendRevoke& revoke);
v1::AttachEvent refused_event(Outcome outcome, const std::string& message, const std::string& field);
LeaseTable parse_table(const v1::LeaseTable& message);
v1::ControlRequest control_hello(ManagerId manager, Incarnation inc, const Secret& control_secret, bool wants_table);
v1::ControlRequest table_request(const LeaseTable& table);

}  // namespace orch::pool::wire
