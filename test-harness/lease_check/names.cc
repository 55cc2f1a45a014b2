// What people read of faults and choices.
#include "lease_check/cluster.h"

namespace orch::check {

const char* fault_name(Fault fault) {
  static constexpr std::array<const char*, kFaults> kNames{"none",
                                                           "skip_the_ack",
                                                           "grant_while_it_runs",
                                                           "free_on_a_timer",
                                                           "apply_older_tables",
                                                           "holder_counts_from_receipt",
                                                           "worker_ignores_the_end",
                                                           "one_id_two_holders",
                                                           "orphans_run_on",
                                                           "successor_before_the_reap",
                                                           "adopt_and_grant_at_once",
                                                           "restart_forgets_what_runs",
                                                           "told_is_heard"};
  return kNames[static_cast<std::size_t>(fault)];
}

std::string describe(const Action& action) {
  static constexpr std::array<const char*, 18> kNames{
      "divide",         "close_lease",   "renewal",  "table_comes",    "late_table",     "report_comes",
      "told",           "heard",         "dispatch", "dispatch_comes", "dispatch_lost",  "finish",
      "control_breaks", "attach_breaks", "tick",     "holder_crashes", "worker_crashes", "manager_crashes"};
  return std::string(kNames[static_cast<std::size_t>(action.kind)]) + " " + std::to_string(action.what);
}

}  // namespace orch::check
