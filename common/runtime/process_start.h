// Purpose: what a daemon settles about its process before anything else. Threads: main, before any other. Children
// inherit it.
#pragma once

#include <cstdint>

namespace orch::runtime {

// OC-PLAT-1001: files, directories and sockets made from now on are their user's alone.
void keep_files_private();

// OC-PLAT-1002: open files are bounded by the hard limit. Where the kernel refuses, the old limit stays.
void raise_open_files_limit();
// The limit that holds now.
std::uint64_t open_files_limit();
// How many of `limit` open files connections of clients may take. The rest is for the links to managers and workers,
// the journal and the log.
struct FilesForConnections {
  std::uint64_t http = 0;
  std::uint64_t grpc = 0;
};
FilesForConnections files_for_connections(std::uint64_t limit);

}  // namespace orch::runtime
