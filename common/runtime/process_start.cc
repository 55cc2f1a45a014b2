#include "common/runtime/process_start.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>

namespace orch::runtime {
namespace {

constexpr std::uint64_t kFilesForOthers = 256;

}  // namespace

void keep_files_private() { ::umask(S_IRWXG | S_IRWXO); }

void raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::uint64_t open_files_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

FilesForConnections files_for_connections(std::uint64_t limit) {
  const std::uint64_t all = limit - std::min(kFilesForOthers, limit / 2);
  return {.http = all - all / 4, .grpc = all / 4};
}

}  // namespace orch::runtime
