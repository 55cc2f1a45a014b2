// Who may use the slots of one worker's life, followed step by step: what runs, what holders have sent, what they know
// of and what they are about to hear, and the table in force. The rule (L6): what runs, and what holders may send and
// the worker would admit, fits into what the worker declared. So whoever keeps to the last word that it was sent finds
// its slot free. It reads no process's books.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"

namespace orch::sim {

class SlotWatch {
 public:
  explicit SlotWatch(std::uint32_t declared) : declared_(declared) {}

  // Calls come in the order in which things happen.
  void applied(std::map<LeaseId, std::uint32_t> promised);
  void told(LeaseId lease, std::uint32_t slots, std::uint64_t number);
  void heard(LeaseId lease, std::uint64_t number);
  void sent(LeaseId lease, const DispatchId& dispatch, std::uint32_t slots);
  void used(LeaseId lease, const DispatchId& dispatch);
  void released(LeaseId lease);
  void refused(const DispatchId& dispatch, bool busy);
  void given_up(const DispatchId& dispatch) { no_more_under_way(dispatch); }

  // The first contradiction in words; empty: none.
  const std::string& fault() const { return fault_; }

 private:
  struct Word {
    std::uint64_t number = 0;  // of the grant on its link
    std::uint32_t slots = 0;
  };
  struct Standing {
    std::uint32_t running = 0;
    std::map<DispatchId, std::uint32_t> under_way;  // the size that each was sent with
    std::vector<Word> words;                        // from the one heard last on
    std::uint32_t claim() const;
  };

  std::uint32_t promised(LeaseId lease) const;
  // Its lease, and the size that it was sent with.
  std::pair<LeaseId, std::uint32_t> no_more_under_way(const DispatchId& dispatch);
  void judge(const std::string& what);

  std::uint32_t declared_;
  std::map<LeaseId, std::uint32_t> promised_;  // the table in force
  std::map<LeaseId, Standing> leases_;
  std::string fault_;
};

}  // namespace orch::sim
