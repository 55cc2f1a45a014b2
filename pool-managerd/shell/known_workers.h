// Purpose: the workers this manager has started, written down so that its next start finds them (DESIGN-RULES L8). A
// process is the one that was written down iff pid and start time agree. Threads: loop thread. Files: `workers` in the
// state directory, one line each, replaced atomically; it carries control secrets, and the folder is private.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/runtime/state_dir.h"

namespace orch::pool {

struct KnownWorker {
  std::string replica_id;
  Incarnation inc;
  std::int64_t pid = 0;
  std::uint64_t start_time = 0;  // clock ticks since the machine booted
  std::string command;           // digest of its arguments: another configuration is another worker
  Secret control_secret{};
};

class KnownWorkers {
 public:
  // `state_dir` outlives it.
  explicit KnownWorkers(const runtime::StateDir& state_dir) : state_dir_(state_dir) {}

  // What the last start left; lines that cannot be read are skipped.
  std::vector<KnownWorker> left_behind() const;
  void remember(KnownWorker worker);
  void forget(Incarnation inc);

 private:
  void write() const;

  const runtime::StateDir& state_dir_;
  std::map<Incarnation, KnownWorker> workers_;
};

// 0: no such process.
std::uint64_t process_start_time(std::int64_t pid);
// OC-POOL-3065: without the number of sharers. Other pools make it, and a worker that is found has loaded.
inline constexpr std::string_view kMemorySharersFlag = "--memory-sharers";
std::string command_digest(const std::vector<std::string>& arguments);
// A pidfd of exactly that process, or -1 when it is gone.
int open_process(const KnownWorker& worker);
// Kills it and waits until it is gone; false: it is still there after five seconds. Closes `pid_fd`.
bool end_process(int pid_fd);

}  // namespace orch::pool
