// Messages of PoolManager and Worker to the core's events and back. Threads: any; nothing is kept.
#pragma once

#include <optional>
#include <vector>

#include "orch/v1/pool_manager.pb.h"
#include "orch/v1/worker.pb.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"

namespace orch::gateway::wire {

inline constexpr std::uint32_t kProtocolMajor = 1;
inline constexpr std::uint32_t kProtocolMinor = 0;

void write_holder(const Holder& holder, v1::Holder* out);
void write_prompt(const Prompt& prompt, v1::Prompt* out);
void write_log_probs(const TokenLogProbs& log_probs, v1::TokenLogprobs* out);

v1::AttachRequest attach_hello(const Holder& holder, const std::string& public_url);
v1::AttachRequest attach_update(const SendUpdate& update);
v1::AttachRequest attach_fair(const SendFair& fair);
void write_dispatch(const Dispatch& dispatch, v1::Dispatch* out);

struct ManagerGreeting {
  ManagerUp up;
  std::uint32_t protocol_major = 0;
};
// nullopt: a field of the message is not what it must be; the link is of no use.
std::optional<ManagerGreeting> read_manager_hello(LinkId link, const v1::ManagerHello& message);
ReplicaView read_replica(const v1::Replica& message);
// Everything after the hello; nullopt for a message without a kind or with a malformed one.
std::optional<Event> read_attach_event(LinkId link, const v1::AttachEvent& message);
// `fence` is the one that the dispatch carried: the number of the event stands for it. nullopt: no kind that we know.
std::optional<Event> read_job_event(DispatchId dispatch, const Fence& fence, v1::JobEvent&& message);

}  // namespace orch::gateway::wire
