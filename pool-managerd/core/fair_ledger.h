// Purpose: what the orchestrators have reported of service and use, start by start, for each of them to hear of the
// others (F4). Per start the largest value of each counter is kept, and of what grows and shrinks the newest. A start
// that has been gone for a lease's life, or that a later one has taken the place of, is over: what it delivered stands,
// its reservations are dropped and its jobs have ended. The first may come back, and is the same one then. Nothing is
// added up here: managers know different pasts, and whoever hears of a sum cannot tell what it is without. Pure;
// bounded by starts_max and, per start, by kFairRowsMax.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/base/fair_report.h"
#include "common/base/ids.h"
#include "common/base/time.h"

namespace orch::pool {

class FairLedger {
 public:
  explicit FairLedger(Duration ttl, std::size_t starts_max = 128) : ttl_(ttl), starts_max_(starts_max) {}

  void report(const Holder& holder, const FairReport& report);
  // Its link is there, or has gone.
  void attached(const Holder& holder);
  void detached(const Holder& holder, Instant now);
  void expire(Instant now);
  Instant next_expiry() const;

  // Of all starts but this one what has changed behind `version`; 0: everything.
  std::vector<StartReport> others(const Holder& holder, std::uint64_t version) const;
  bool knows_others(const Holder& holder) const { return starts_.size() > (starts_.contains(holder) ? 1 : 0); }
  // Grows with every change that somebody has to be told of.
  std::uint64_t version() const { return version_; }
  std::size_t rows() const;  // of all that is kept

 private:
  using Flow = std::tuple<std::string, bool, std::string>;  // domain, class, tenant
  template <typename Row>
  struct Kept {
    Row row;
    std::uint64_t changed = 0;  // the ledger's version then
    std::uint64_t heard = 0;    // likewise
  };
  struct Start {
    std::map<Flow, Kept<FairRow>> rows;
    std::map<std::string, Kept<UseRow>> uses;
    std::uint64_t number = 0;   // of its newest report
    std::uint64_t changed = 0;  // the ledger's version then
    std::optional<Instant> gone_at;
    bool lapsed = false;    // gone for a lease's life
    bool replaced = false;  // by a later start

    bool over() const { return lapsed || replaced; }
  };
  template <typename Row>
  static void keep(Kept<Row>& kept, Row next, std::uint64_t version);
  bool make_room();
  void take_rows(Start& start, const std::vector<FairRow>& rows, bool newest) const;
  void take_uses(Start& start, const std::vector<UseRow>& uses, bool newest) const;

  Duration ttl_;
  std::size_t starts_max_;
  std::map<Holder, Start> starts_;
  std::uint64_t version_ = 1;
};

}  // namespace orch::pool
