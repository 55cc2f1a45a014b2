// Purpose: what every other start of a gateway has served and used, whichever manager told it, and the sums over them
// (F4). Of each start the largest of each counter counts, and of what grows and shrinks the last words of the manager
// that has its newest report: managers know different pasts, and one that has begun anew knows less than it said
// before; start by start nothing of that hides what anybody serves now. A manager does not repeat what has not changed,
// so what each said last is kept by row, for when it knows better than the others. A start that is over has nothing
// reserved, waiting or living; so has one whose orchestrator has begun anew since. It is over when all managers say so
// that have its newest report, of those that are attached: one alone may have lost its link to it.
//
// Threads: owned by the core's loop. Bounds: starts_max starts, each with kFairRowsMax rows and for each row 24 bytes a
// manager that is attached, and one more; the one that is over for longest makes room: its service stays in the sums,
// and no more is heard of it. Complexity: a report costs the rows it names, and all rows of its start when another
// manager than before knows best.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/base/fair_report.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

// What other gateways used of a tenant's quotas since they were heard last.
struct OthersUse {
  std::string tenant = {};
  std::int64_t requests = 0;
  std::int64_t tokens = 0;
  std::int64_t live = 0;  // now, of all
  bool first = false;     // the first word of its start: all of its past
};

// What a report has changed.
struct OthersNews {
  std::vector<FairRow> rows;  // each a sum over all starts
  std::vector<OthersUse> uses;
};

class OtherStarts {
 public:
  explicit OtherStarts(Mutation mutation = Mutation::none, std::size_t starts_max = 128)
      : mutation_(mutation), starts_max_(starts_max) {}

  OthersNews hear(LinkId link, const StartReport& report);
  // What its manager has said is no word on who is over any more, and holds until another knows as much; when it comes
  // back, by another link, it tells all anew.
  OthersNews ended(LinkId link);
  std::size_t starts() const { return starts_.size(); }

 private:
  using Flow = std::tuple<std::string, bool, std::string>;  // domain, class, tenant
  // What of a row grows and shrinks.
  struct Gauges {
    bool waiting = false;
    bool inside = false;
    std::int64_t live = 0;
    bool operator==(const Gauges&) const = default;
  };
  template <typename Row>
  struct Known {
    Row row;
    std::vector<std::pair<LinkId, Gauges>> said;  // last, by each that has said anything
    void take(LinkId link, const Gauges& gauges);
    void forget(LinkId link);
    bool follow(LinkId link);  // true: it changes the row
  };
  struct Word {
    std::uint64_t number = 0;  // of the newest report that the manager has
    bool over = false;
    bool ended = false;  // its link
  };
  struct Start {
    std::map<Flow, Known<FairRow>> rows;
    std::map<std::string, Known<UseRow>> uses;
    std::map<LinkId, Word> words;
    std::optional<LinkId> best;  // of words: whose gauges hold
    std::uint64_t serial = 0;    // grows with every report of any start
    bool lapsed = false;
    bool replaced = false;

    bool over() const { return lapsed || replaced; }
  };
  struct Changed {
    std::set<Flow> flows;
    std::set<std::string> tenants;
    void add(const Start& start);  // all of it
  };
  Start* find_or_add(const Holder& holder);
  bool make_room();
  void replace_older(const Holder& holder, Changed& changed);
  static void judge(Start& start, Changed& changed);
  static bool choose_best(Start& start);
  static void drop(Start& start, LinkId link);
  static Gauges gauges_of(const FairRow& row) { return {row.waiting, row.inside, 0}; }
  static Gauges gauges_of(const UseRow& row) { return {false, false, row.live > 0 ? row.live : 0}; }
  static void set(FairRow& row, const Gauges& gauges);
  static void set(UseRow& row, const Gauges& gauges) { row.live = gauges.live; }
  static void take_rows(Start& start, LinkId link, const StartReport& report, Changed& changed);
  static void take_uses(Start& start, LinkId link, const StartReport& report, OthersNews& news);
  static void follow_best(Start& start, Changed& changed);
  void add_sums(const Changed& changed, OthersNews& news) const;
  FairRow sum_of(const Flow& flow) const;
  std::int64_t live_of(const std::string& tenant) const;

  Mutation mutation_;
  std::size_t starts_max_;
  std::map<Holder, Start> starts_;
  std::map<Flow, FairRow> past_;  // of starts that made room
  std::set<Holder> moved_;        // into the past
  std::deque<Holder> moves_;      // the same, in their order
  std::uint64_t serial_ = 0;
};

}  // namespace orch::gateway
