// A client's request: its head first, its body when that is let in, some of them late, some never (OC-ADMIT-1005).
#include <utility>

#include "sim/clients.h"

namespace orch::sim {

void Clients::on(const gateway::HeadReply& reply) {
  const auto head = heads_.find(reply.request);
  if (head == heads_.end()) return world_.violation("a head was answered twice or never sent");
  const JobId id = head->second;
  heads_.erase(head);
  const Case* each = alive(id);
  if (each == nullptr) return;  // its client has gone
  if (reply.failure) return refused(id, *reply.failure);
  Prng& rng = world_.rng();
  if (each->plain || world_.healed() || rng.below(4) != 0) return send_body(id);
  const Duration late = world_.between({}, Duration::seconds(2));
  if (rng.below(4) != 0) return world_.after(late, [this, id] { send_body(id); });
  world_.count(Fault::lost_body);
  world_.after(late, [this, id] { drop(id); });
}

void Clients::send_body(JobId id) {
  Case* each = alive(id);
  if (each == nullptr || !each->body) return;
  SimGateway& gateway = *gateways_[each->gateway];
  gateway::Submit event = *std::exchange(each->body, std::nullopt);
  requests_[event.request] = id;
  const bool plain = each->plain;
  gateway.event(event);
  if (plain || world_.rng().below(30) != 0) return;
  // The same id again must be refused or, after a refusal, be a new job; it comes without a head of its own.
  event.request = {next_++};
  event.reader.reset();
  event.spec.attachment = Attachment::task;
  requests_[event.request] = id;
  gateway.event(event);
}

// It goes away before its body is sent; some shells never hear of it.
void Clients::drop(JobId id) {
  Case* each = alive(id);
  if (each == nullptr || !each->body) return;
  each->body.reset();
  each->lost = true;
  if (each->reader) readers_[*each->reader].closed = readers_[*each->reader].left = true;
  if (world_.rng().below(6) != 0) gateways_[each->gateway]->event(gateway::RequestDropped{each->request});
}

void Clients::refused(JobId id, const gateway::Failure& failure) {
  Case& each = cases_.at(id);
  each.answered = true;
  each.body.reset();
  ++totals_.refused;
  const OutcomeRow& row = outcome_row(failure.outcome);
  if (world_.tracing()) {
    world_.trace("clients", "job " + std::to_string(id.value.lo) + " is refused: " + std::string(row.code) + ", " +
                                failure.message);
  }
  ++totals_.errors[std::string(row.code)];
  if (row.internal) fault("an internal outcome reached a client", id);
  const bool backpressure = row.http_status == 429;
  if (backpressure && (!failure.retry_after || failure.policy_label.empty()))
    fault("a 429 without retry_after or policy label", id);
}

}  // namespace orch::sim
