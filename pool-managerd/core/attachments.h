// Purpose: the attached orchestrators, their standing bids and which start of each is the current one (L7, S1, S6).
// Pure; bounded by links_max. A holder without a link may still have leases: they run to their end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "pool-managerd/core/events.h"

namespace orch::pool {

struct Attachment {
  Holder holder;
  std::uint64_t seq = 0;                         // of the last update
  Instant updated;                               // when it came
  bool has_updated = false;                      // any update yet on this link
  std::map<std::string, Bid> bids;               // by pool
  std::map<std::string, Instant> hungry_since;   // by pool: an unbroken bid with work waiting (S5)
  std::map<std::string, Incarnation> over_told;  // by replica: L7, that nothing of an earlier boot is left there
  std::uint64_t others_told = 0;                 // version of the ledger that was told
  std::uint64_t refused_told = 0;                // likewise of the refused prompts
  Instant others_told_at;
  std::uint64_t grants_sent = 0;
  std::deque<std::pair<std::uint64_t, Instant>> grants_in_flight;  // at most kGrantsTimed, ascending
  Duration round_trip;                                             // S4; smoothed, rises at once

  static constexpr std::size_t kGrantsTimed = 64;
  std::uint64_t grant_sent(Instant now);  // its number
  void note_hunger(Instant now);
  void time_grants(const HolderUpdate& update, Instant now);
};

class Attachments {
 public:
  explicit Attachments(std::size_t links_max) : links_max_(links_max) {}

  struct Opened {
    bool accepted = false;
    std::string refusal;           // when not accepted
    std::vector<LinkId> replaced;  // earlier links of the same orchestrator, to be refused and forgotten
  };
  Opened open(LinkId link, const Holder& holder);
  void close(LinkId link);

  // False: unknown link, or not newer than the last one.
  bool update(const HolderUpdate& update, Instant now);

  Attachment* find(LinkId link);
  // The link of exactly this start of the orchestrator.
  const LinkId* link_of(const Holder& holder) const;
  bool is_superseded(const Holder& holder) const;
  const std::map<LinkId, Attachment>& links() const { return links_; }
  // Starts are remembered while they have a link or the caller says they have a lease.
  template <typename HasLease>
  void forget_unless(HasLease has_lease) {
    std::erase_if(boots_, [&](const auto& entry) { return !is_attached(entry.first) && !has_lease(entry.first); });
  }

 private:
  bool is_attached(const OrchId& orch) const { return current_.contains(orch); }

  std::size_t links_max_;
  std::map<LinkId, Attachment> links_;
  std::map<OrchId, LinkId> current_;
  std::map<OrchId, std::uint64_t> boots_;  // highest seen
};

}  // namespace orch::pool
