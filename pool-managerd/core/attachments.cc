#include "pool-managerd/core/attachments.h"

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

bool Attachments::update(const HolderUpdate& update, Instant now) {
  Attachment* attachment = find(update.link);
  if (attachment == nullptr || (attachment->has_updated && update.seq <= attachment->seq)) return false;
  attachment->seq = update.seq;
  attachment->updated = now;
  attachment->bids.clear();
  for (const Bid& bid : update.bids) attachment->bids[bid.pool_id] = bid;
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
