#include "sim/mutant.h"

namespace orch::sim {

const char* mutant_name(Mutant mutant) {
  switch (mutant) {
    case Mutant::none:
      return "none";
    case Mutant::worker_accepts_all:
      return "worker_accepts_all";
    case Mutant::worker_keeps_orphans:
      return "worker_keeps_orphans";
    case Mutant::worker_ignores_cancel:
      return "worker_ignores_cancel";
    case Mutant::grant_before_ack:
      return "grant_before_ack";
    case Mutant::table_over_declared:
      return "table_over_declared";
    case Mutant::lease_changes_holder:
      return "lease_changes_holder";
    case Mutant::drop_terminal:
      return "drop_terminal";
    case Mutant::exit_without_death:
      return "exit_without_death";
    case Mutant::workers_not_found:
      return "workers_not_found";
    case Mutant::beyond_unsaid:
      return "beyond_unsaid";
    case Mutant::copies_are_news:
      return "copies_are_news";
  }
  return "?";
}

}  // namespace orch::sim
