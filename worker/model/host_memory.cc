#include "worker/model/host_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

namespace orch::worker {
namespace {

// Version 1 writes "no limit" as the largest multiple of a page.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 60U;

std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;  // "max"
  return value;
}

std::optional<std::uint64_t> number_of(const std::optional<std::string>& text) {
  return text ? number_in(*text) : std::nullopt;
}

// The number behind `key` at the beginning of a line, whatever blanks stand between.
std::optional<std::uint64_t> line_number(const std::optional<std::string>& text, std::string_view key) {
  std::istringstream lines(text.value_or(std::string()));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key) || line.size() == key.size()) continue;
    const std::size_t digits = line.find_first_not_of(" \t", key.size());
    if (digits == key.size() || digits == std::string::npos) continue;  // the key goes on, or nothing is there
    return number_in(std::string_view(line).substr(digits));
  }
  return std::nullopt;
}

// A line is "number:controllers:path"; version 2 has number 0 and no controllers.
std::optional<std::string> path_in(const std::string& line, int version) {
  const std::size_t first = line.find(':');
  const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
  if (second == std::string::npos) return std::nullopt;
  const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
  const bool fits = version == 2 ? line.starts_with("0::") : controllers.find(",memory,") != std::string::npos;
  return fits ? std::optional(line.substr(second + 1)) : std::nullopt;
}

}  // namespace

std::vector<std::string> cgroup_directories(const std::string& text, const CgroupFiles& files) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::optional<std::string> path = path_in(line, files.version);
    if (!path) continue;
    // A process outside of its own name space's root: what is above the mount cannot be read.
    if (!path->starts_with('/') || (*path + "/").find("/../") != std::string::npos) path = "/";
    std::vector<std::string> out;
    while (path->size() > 1) {
      out.push_back(files.mount + *path);
      path->erase(path->rfind('/'));
    }
    out.emplace_back(files.mount);
    return out;
  }
  return {};
}

std::optional<DeviceMemory> cgroup_memory(const ReadText& read, const std::string& directory,
                                          const CgroupFiles& files) {
  const auto limit = number_of(read(directory + "/" + files.limit));
  const auto usage = number_of(read(directory + "/" + files.usage));
  if (!limit || !usage || *limit >= kNoLimit) return std::nullopt;
  const std::optional<std::string> pages = read(directory + "/memory.stat");
  const std::uint64_t of_files =
      line_number(pages, files.inactive).value_or(0) + line_number(pages, files.active).value_or(0);
  const std::uint64_t held = *usage - std::min(*usage, of_files);
  return DeviceMemory{.free_bytes = *limit - std::min(*limit, held), .total_bytes = *limit};
}

DeviceMemory host_memory(const ReadText& read) {
  std::vector<std::uint64_t> rests;
  std::vector<std::uint64_t> totals;
  const std::optional<std::string> meminfo = read("/proc/meminfo");
  if (const auto kib = line_number(meminfo, "MemAvailable:")) rests.push_back(*kib * 1024);
  if (const auto kib = line_number(meminfo, "MemTotal:")) totals.push_back(*kib * 1024);
  const std::string groups = read("/proc/self/cgroup").value_or(std::string());
  for (const CgroupFiles& files : {kCgroup2, kCgroup1}) {
    for (const std::string& directory : cgroup_directories(groups, files)) {
      const auto group = cgroup_memory(read, directory, files);
      if (!group) continue;
      rests.push_back(group->free_bytes);
      totals.push_back(group->total_bytes);
    }
  }
  DeviceMemory memory;
  if (!rests.empty()) memory.free_bytes = std::max<std::uint64_t>(1, *std::min_element(rests.begin(), rests.end()));
  if (!totals.empty()) memory.total_bytes = *std::min_element(totals.begin(), totals.end());
  return memory;
}

DeviceMemory host_memory() {
  return host_memory([](const std::string& path) -> std::optional<std::string> {
    std::ifstream file(path);
    if (!file) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(file), {});
  });
}

}  // namespace orch::worker
