// Purpose: what the orchestrators have reported of service and use, and the sum of the others for each of them (F4).
// Per start of an orchestrator the largest value of each counter is kept. A start that has been gone for a lease's
// life, or that a later one has taken the place of, keeps what it delivered and used; its reservations count as
// released and its jobs as ended. It may come back: it is added to the past only when a later one has come, or for want
// of room. Pure; bounded by starts_max and, per start, by kFairRowsMax; past starts are added up in one table.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

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

  // The sum of all starts but this one.
  FairReport others(const Holder& holder) const;
  // Grows with every change that somebody has to be told of.
  std::uint64_t version() const { return version_; }
  std::size_t rows() const;  // of all that is kept
  bool has_past() const { return !past_.rows.empty() || starts_.size() > 1; }

 private:
  using Flow = std::tuple<std::string, bool, std::string>;  // domain, class, tenant
  struct Book {
    std::map<Flow, FairRow> rows;
    std::map<std::string, UseRow> uses;
  };
  struct Start {
    Book book;
    std::optional<Instant> gone_at;
    bool lapsed = false;  // gone for a lease's life
  };
  static constexpr std::size_t kMovedMax = 1024;
  static void add(Book& sum, const Book& other, bool lapsed);
  void retire(std::map<Holder, Start>::iterator start);
  bool make_room();
  void take_out_of_past(const FairReport& report);

  Duration ttl_;
  std::size_t starts_max_;
  std::map<Holder, Start> starts_;
  std::set<Holder> moved_;  // into the past for want of room
  Book past_;
  std::uint64_t version_ = 1;
};

}  // namespace orch::pool
