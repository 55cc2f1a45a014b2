// A disk for tests of the journal: SQLite's own file layer underneath, and on top of it whatever a disk can do to a
// database: lose what was not synced, keep parts of it, tear a write, fill up, refuse. Threads: one journal at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

struct sqlite3_vfs;

namespace orch::gateway::testing {

class FaultVfs {
 public:
  static constexpr const char* kName = "fault";

  FaultVfs();
  ~FaultVfs();
  FaultVfs(const FaultVfs&) = delete;
  FaultVfs& operator=(const FaultVfs&) = delete;

  // --- faults; an operation is a write, a sync or a truncation ---
  int operations = 0;  // so far
  int syncs = 0;
  int cut_at = -1;          // from this operation on everything fails, for good: the power is gone
  int fail_at = -1;         // this operation alone fails with `failure`
  int failure = 0;          // an SQLite result code
  bool refuse_all = false;  // every operation fails with `failure`
  bool refuse_open = false;
  std::function<void()> on_sync;

  // What a disk may hold after the cut: what was synced, and of what was written since ...
  enum class Kept : std::uint8_t { nothing, everything, a_part };
  // Writes the files into `directory`; `seed` decides about a_part, in which the last kept write is torn.
  void leave_behind(const std::string& directory, Kept kept, std::uint64_t seed) const;

  struct Change {
    std::int64_t at = 0;
    std::string bytes;
    bool truncate = false;
  };
  struct Image {
    std::string synced;
    std::vector<Change> since;
  };
  std::map<std::string, Image> files;  // by name without directory
  // The result an operation shall have; 0: go on.
  int next_operation();

 private:
  sqlite3_vfs* vfs_;
};

}  // namespace orch::gateway::testing
