#include "pool-managerd/core/attachments.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::pool {

Attachments::Opened Attachments::open(LinkId link, const Holder& holder) {
  ORCH_CHECK(!links_.contains(link));
  Opened opened;
  const auto boot = boots_.find(holder.orch);
  if (boot != boots_.end() && holder.boot < boot->second) {
    opened.refusal = "orch_boot " + std::to_string(holder.boot) + " is older than " + std::to_string(boot->second) +
                     ", which has attached";
    return opened;
  }
  const auto earlier = current_.find(holder.orch);
  if (earlier != current_.end()) {
    opened.replaced.push_back(earlier->second);
    links_.erase(earlier->second);
    current_.erase(earlier);
  }
  if (links_.size() >= links_max_) {
    opened.refusal = "this manager serves at most " + std::to_string(links_max_) + " orchestrators";
    return opened;
  }
  Attachment attachment;
  attachment.holder = holder;
  links_.emplace(link, std::move(attachment));
  current_[holder.orch] = link;
  boots_[holder.orch] = holder.boot;
  opened.accepted = true;
  return opened;
}

void Attachments::close(LinkId link) {
  const auto found = links_.find(link);
  if (found == links_.end()) return;
  current_.erase(found->second.holder.orch);
  links_.erase(found);
}

std::uint64_t Attachment::grant_sent(Instant now) {
  grants_in_flight.emplace_back(++grants_sent, now);
  if (grants_in_flight.size() > kGrantsTimed) grants_in_flight.pop_front();
  return grants_sent;
}

// The holder says how many grants it has seen and how long ago the last one came: the rest of the time was the way.
void Attachment::time_grants(const HolderUpdate& update, Instant now) {
  while (!grants_in_flight.empty() && grants_in_flight.front().first < update.grants_seen) grants_in_flight.pop_front();
  if (grants_in_flight.empty() || grants_in_flight.front().first != update.grants_seen) return;
  const Duration sample = std::max(now - grants_in_flight.front().second - update.grant_age, Duration{});
  grants_in_flight.pop_front();
  round_trip = std::max(sample, round_trip / 8 * 7 + sample / 8);
}

void Attachment::note_hunger(Instant now) {
  std::erase_if(hungry_since, [&](const auto& entry) {
    const auto bid = bids.find(entry.first);
    return bid == bids.end() || bid->second.waiting == 0;
  });
  for (const auto& [pool, bid] : bids) {
    if (bid.waiting > 0) hungry_since.try_emplace(pool, now);
  }
}

bool Attachments::update(const HolderUpdate& update, Instant now) {
  Attachment* attachment = find(update.link);
  if (attachment == nullptr || (attachment->has_updated && update.seq <= attachment->seq)) return false;
  attachment->seq = update.seq;
  attachment->updated = now;
  attachment->bids.clear();
  for (const Bid& bid : update.bids) attachment->bids[bid.pool_id] = bid;
  attachment->note_hunger(now);
  attachment->time_grants(update, now);
  return true;
}

Attachment* Attachments::find(LinkId link) {
  const auto found = links_.find(link);
  return found == links_.end() ? nullptr : &found->second;
}

const LinkId* Attachments::link_of(const Holder& holder) const {
  const auto found = current_.find(holder.orch);
  if (found == current_.end() || links_.at(found->second).holder != holder) return nullptr;
  return &found->second;
}

bool Attachments::is_superseded(const Holder& holder) const {
  const auto boot = boots_.find(holder.orch);
  return boot != boots_.end() && holder.boot < boot->second;
}

}  // namespace orch::pool
