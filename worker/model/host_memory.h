// How much memory this process may still take of its host (OC-DEVICE-1012): what the kernel calls available, and what
// its control groups leave it. Bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "worker/model/device_memory.h"

namespace orch::worker {

// The text of a file; nullopt: there is none.
using ReadText = std::function<std::optional<std::string>(const std::string& path)>;

// Free is the smallest of MemAvailable and the rests of all control groups from the process's own up to the root, of
// both versions, which are expected where systemd and container runtimes mount them (/sys/fs/cgroup,
// /sys/fs/cgroup/memory); a full group leaves 1. The total is the smallest of MemTotal and the limits.
DeviceMemory host_memory(const ReadText& read);
DeviceMemory host_memory();  // of this host

// One hierarchy of control groups, as its files are called.
struct CgroupFiles {
  int version;
  const char* mount;
  const char* limit;
  const char* usage;
  // Lines of memory.stat: pages of files that the kernel takes back before it ends anybody. Those that were read twice
  // lately are active; the load hashes its whole file just before the estimate.
  const char* inactive;
  const char* active;
};

// The directories to look at, the process's own first, from the text of /proc/self/cgroup.
std::vector<std::string> cgroup_directories(const std::string& text, const CgroupFiles& files);
// Its limit, and what it leaves of it. nullopt: this group has no limit, or its files say nothing.
std::optional<DeviceMemory> cgroup_memory(const ReadText& read, const std::string& directory, const CgroupFiles& files);

inline constexpr CgroupFiles kCgroup2{
    2, "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "active_file"};
inline constexpr CgroupFiles kCgroup1{1,
                                      "/sys/fs/cgroup/memory",
                                      "memory.limit_in_bytes",
                                      "memory.usage_in_bytes",
                                      "total_inactive_file",
                                      "total_active_file"};

}  // namespace orch::worker
