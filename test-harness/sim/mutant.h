// Faults built into the parts that the simulator itself plays, to prove that its checks see them. The gateway's own are
// in orchestratord/core/limits.h.
#pragma once

#include <cstdint>

namespace orch::sim {

enum class Mutant : std::uint8_t {
  none,
  worker_accepts_all,     // the lease arbiter is not asked (L3)
  worker_keeps_orphans,   // jobs of a silent holder run on (L5)
  worker_ignores_cancel,  // a cancelled call goes on
  grant_before_ack,       // the holder learns of a lease before the worker does (L2, L4)
  table_over_declared,    // the manager promises more slots than there are
  lease_changes_holder,   // an id is used twice
  drop_terminal,          // the shell loses a worker's last message
  exit_without_death,     // a living worker is reported as reaped (L6)
  workers_not_found,      // a restarted manager does not look for the workers it had (L8)
  beyond_unsaid,          // a holder does not say what it has open beyond its size (L6)
  copies_are_news,        // a second copy of a grant is taken for a later one (L6)
};
inline constexpr std::uint8_t kMutants = 12;
const char* mutant_name(Mutant mutant);

}  // namespace orch::sim
