// What a process may still take of its host, from texts as Linux writes them.
#include "worker/model/host_memory.h"

#include <gtest/gtest.h>

#include <map>

namespace orch::worker {
namespace {

using Files = std::map<std::string, std::string>;
using Directories = std::vector<std::string>;

DeviceMemory memory_of(const Files& files) {
  return host_memory([&files](const std::string& path) {
    const auto found = files.find(path);
    return found == files.end() ? std::nullopt : std::optional(found->second);
  });
}
std::uint64_t free_of(const Files& files) { return memory_of(files).free_bytes; }

constexpr char kMeminfo[] =
    "MemTotal:       16384000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\nHugePages_Total:       0\n";
constexpr std::uint64_t kAvailable = 8'000'000ULL * 1024;

Files limited(std::uint64_t limit, std::uint64_t usage, const std::string& directory = "/sys/fs/cgroup/a/b") {
  return {{"/proc/meminfo", kMeminfo},
          {"/proc/self/cgroup", "0::/a/b\n"},
          {directory + "/memory.max", std::to_string(limit) + "\n"},
          {directory + "/memory.current", std::to_string(usage) + "\n"}};
}

TEST(HostMemory, OC_DEVICE_1012_without_groups_the_kernels_word_holds) {
  EXPECT_EQ(free_of({{"/proc/meminfo", kMeminfo}}), kAvailable);
  EXPECT_EQ(free_of({{"/proc/meminfo", kMeminfo}, {"/proc/self/cgroup", "0::/\n"}}), kAvailable);
  EXPECT_EQ(free_of({}), 0u) << "nothing is known";
  EXPECT_EQ(free_of({{"/proc/meminfo", "MemAvailable:\nMemAvailableX: 5 kB\n"}}), 0u);
}

TEST(HostMemory, OC_DEVICE_1012_every_group_up_to_the_root_counts) {
  for (const char* directory : {"/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"}) {
    EXPECT_EQ(free_of(limited(5000, 1000, directory)), 4000u) << directory;
  }
  EXPECT_EQ(free_of(limited(5000, 1000, "/sys/fs/cgroup/other")), kAvailable);
  Files both = limited(5000, 1000);
  both["/sys/fs/cgroup/a/memory.max"] = "3000\n";
  both["/sys/fs/cgroup/a/memory.current"] = "1500\n";
  EXPECT_EQ(free_of(both), 1500u) << "the smaller rest, wherever it is";
  both["/sys/fs/cgroup/a/memory.max"] = "max\n";
  EXPECT_EQ(free_of(both), 4000u);
}

TEST(HostMemory, OC_DEVICE_1010_the_total_is_the_hosts_or_the_smallest_limit) {
  EXPECT_EQ(memory_of({{"/proc/meminfo", kMeminfo}}).total_bytes, 16'384'000ULL * 1024);
  EXPECT_EQ(memory_of({}).total_bytes, 0u);
  Files both = limited(5000, 1000);
  EXPECT_EQ(memory_of(both).total_bytes, 5000u);
  both["/sys/fs/cgroup/a/memory.max"] = "3000\n";
  both["/sys/fs/cgroup/a/memory.current"] = "100\n";
  EXPECT_EQ(memory_of(both).total_bytes, 3000u) << "whatever is held of it";
}

TEST(HostMemory, OC_DEVICE_1012_pages_of_files_are_free) {
  Files files = limited(5000, 4000);
  files["/sys/fs/cgroup/a/b/memory.stat"] = "anon 1\nactive_file 700\ninactive_file 1800\ninactive_file_x 1\n";
  EXPECT_EQ(free_of(files), 3500u);
  files["/sys/fs/cgroup/a/b/memory.stat"] = "active_file 2500\n";
  EXPECT_EQ(free_of(files), 3500u) << "all of it was read a moment ago";
  files["/sys/fs/cgroup/a/b/memory.stat"] = "inactive_file 9999\n";
  EXPECT_EQ(free_of(files), 5000u) << "read at another moment than the use";
}

// 0 would say that nothing is known, and a load would have no budget at all.
TEST(HostMemory, OC_DEVICE_1012_a_full_group_is_not_one_of_which_nothing_is_known) {
  EXPECT_EQ(free_of(limited(5000, 5000)), 1u);
  EXPECT_EQ(free_of(limited(5000, 6000)), 1u);
}

TEST(HostMemory, OC_DEVICE_1012_version_1_has_files_and_lines_of_its_own) {
  Files files{{"/proc/meminfo", kMeminfo},
              {"/proc/self/cgroup", "12:cpuset:/x\n5:hugetlb,memory:/docker/f00\n1:name=systemd:/y\n0::/z\n"},
              {"/sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes", "9000\n"},
              {"/sys/fs/cgroup/memory/docker/f00/memory.usage_in_bytes", "6000\n"},
              {"/sys/fs/cgroup/memory/docker/f00/memory.stat",
               "inactive_file 1\nactive_file 1\ntotal_inactive_file 300\ntotal_active_file 200\n"}};
  EXPECT_EQ(free_of(files), 3500u);
  files["/sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes"] = "9223372036854771712\n";
  EXPECT_EQ(free_of(files), kAvailable) << "no limit";
  files.erase("/proc/meminfo");
  EXPECT_EQ(free_of(files), 0u) << "and nothing else is known";
  // In a container the path of the host is not there, and the group is mounted as the root.
  files.erase("/sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes");
  files["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = "7000\n";
  files["/sys/fs/cgroup/memory/memory.usage_in_bytes"] = "3000\n";
  EXPECT_EQ(free_of(files), 4000u);
}

TEST(HostMemory, OC_DEVICE_1012_directories_stay_below_the_mount) {
  EXPECT_EQ(cgroup_directories("0::/a/b c:d\n", kCgroup2),
            (Directories{"/sys/fs/cgroup/a/b c:d", "/sys/fs/cgroup/a", "/sys/fs/cgroup"}));
  EXPECT_EQ(cgroup_directories("0::/../../etc\n", kCgroup2), Directories{"/sys/fs/cgroup"});
  EXPECT_EQ(cgroup_directories("0::/a/..\n", kCgroup2), Directories{"/sys/fs/cgroup"});
  EXPECT_EQ(cgroup_directories("0::\n", kCgroup2), Directories{"/sys/fs/cgroup"});
  EXPECT_EQ(cgroup_directories("7:mymemory,cpu:/a\n", kCgroup1), Directories{});
  for (const char* nothing : {"", "\n", "0:", "x", "0:memory"}) {
    EXPECT_EQ(cgroup_directories(nothing, kCgroup2), Directories{}) << nothing;
    EXPECT_EQ(cgroup_directories(nothing, kCgroup1), Directories{}) << nothing;
  }
}

}  // namespace
}  // namespace orch::worker
