#include "orchestratord/core/journal.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace orch::gateway {

JournalTicket Journal::begin(std::vector<JournalItem> items, Instant now) {
  const JournalTicket ticket{next_ticket_++};
  writes_.emplace(ticket, Write{now, std::move(items)});
  return ticket;
}

std::vector<JournalItem> Journal::answered(JournalTicket first, JournalTicket last) {
  std::vector<JournalItem> out;
  auto it = writes_.lower_bound(first);
  while (it != writes_.end() && it->first <= last) {
    out.insert(out.end(), it->second.items.begin(), it->second.items.end());
    it = writes_.erase(it);
  }
  return out;
}

void Journal::note_committed() {
  failing_ = false;
  reason_.clear();
  pause_ = {};
}

void Journal::note_failed(const std::string& reason, Instant now) {
  reason_ = reason;
  if (failing_ && retry_at_ > now) return;  // one of several that failed together
  failing_ = true;
  pause_ = std::clamp(pause_ * 2, limits_.journal_retry_min, limits_.journal_retry_max);
  retry_at_ = now + pause_;
}

bool Journal::note_stall(Instant now) {
  if (failing_ || writes_.empty() || writes_.begin()->second.begun + limits_.journal_stall > now) return false;
  failing_ = true;
  reason_ = "the disk has not answered for " + std::to_string(limits_.journal_stall.ms()) + " ms";
  pause_ = limits_.journal_retry_min;
  retry_at_ = now + pause_;
  return true;
}

bool Journal::may_write(Instant now) const { return !failing_ || (writes_.empty() && retry_at_ <= now); }

Instant Journal::next_change(Instant now) const {
  Instant next = Instant::never();
  if (failing_) {
    if (writes_.empty()) next = std::max(retry_at_, now + Duration{1});
    return next;
  }
  if (!writes_.empty()) next = std::max(writes_.begin()->second.begun + limits_.journal_stall, now + Duration{1});
  return std::min(next, checkpoint_at_);
}

const IdempotencyKeys::Entry* IdempotencyKeys::find(const Digest& key) const {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : &it->second;
}

void IdempotencyKeys::add(const Digest& key, const Entry& entry) {
  drop(key);
  entries_.emplace(key, entry);
  by_expiry_.emplace(entry.expires, key);
}

void IdempotencyKeys::admitted(const Digest& key, JobId job, const StartedEvent& started) {
  const auto it = entries_.find(key);
  if (it != entries_.end() && it->second.job == job) it->second.admitted = started;
}

void IdempotencyKeys::refused(const Digest& key, JobId job) {
  const auto it = entries_.find(key);
  if (it != entries_.end() && it->second.job == job) drop(key);
}

void IdempotencyKeys::drop(const Digest& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  by_expiry_.erase({it->second.expires, key});
  entries_.erase(it);
}

void IdempotencyKeys::expire(Instant now) {
  while (!by_expiry_.empty() && by_expiry_.begin()->first <= now) {
    const Digest key = by_expiry_.begin()->second;
    drop(key);
  }
}

Instant IdempotencyKeys::next_expiry() const {
  return by_expiry_.empty() ? Instant::never() : by_expiry_.begin()->first;
}

}  // namespace orch::gateway
