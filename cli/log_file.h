// Logs that other processes append to: what stands at their end, and a bound on their size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/base/result.h"

namespace orch::cli {

// The last `lines` lines, of the last 256 KiB at most; empty when the file cannot be read.
std::string last_lines(const std::string& path, std::uint32_t lines);
// The last line that is not empty, without its end.
std::string last_line(const std::string& path);

// A log above `bytes_max` moves its newest `bytes_max` bytes to `path`.1 and starts again, empty. The file itself
// stays: who writes it has it open, for appending. Lines that come between the last read and the cut are lost. When the
// copy cannot be written the log stays until it is twice as large. Error: what failed, with the path.
Status<std::string> bound_log(const std::string& path, std::size_t bytes_max);

}  // namespace orch::cli
