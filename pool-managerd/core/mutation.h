// Faults switched on by the mutation tests alone, to prove that the simulator sees each of them.
#pragma once

#include <cstdint>

namespace orch::pool {

enum class Mutation : std::uint8_t {
  none,
  tell_without_room,      // a holder is told of a slot that is in use (L6)
  take_told_for_heard,    // a lease grows again although its holder may go by an older word (L6)
  forget_absent_holders,  // slots of a holder that is away go to others (L7, S2)
  leases_never_expire,    // a holder that does not renew keeps its slots (L4)
  store_unfinished,       // what a rollout has begun is written down before it has ended (OC-POOL-3054)
  forget_end,             // a failed reload takes back how a process ended (OC-POOL-3058)
};
inline constexpr std::uint8_t kMutations = 7;

}  // namespace orch::pool
