// What a driver made of the kernels, kept between starts: one file per device, driver and set of kernels, with a
// checksum. A file that is absent, too large, of another owner, writable by others or damaged counts as absent: drivers
// trust these bytes. Writing replaces the file whole (rename); nothing depends on success. No Vulkan header needed.
// Threads: any; processes may share the directory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/vulkan/kernel_set.h"

namespace orch::worker::vulkan {

inline constexpr std::size_t kPipelineCacheBytesMax = std::size_t{64} << 20U;  // of one file
inline constexpr std::size_t kPipelineCacheFilesMax = 8;                       // in the directory; the oldest go

struct PipelineCacheKey {
  std::string device_uuid;
  std::string driver_uuid;
  std::string cache_uuid;  // the driver's own format version
  std::string kernels;     // kernels_digest()
};

// SHA-256 over all code, hex.
std::string kernels_digest(const KernelSet& kernels);

class PipelineCacheFile {
 public:
  // `directory` is made when something is written. Empty: nothing is read or written.
  PipelineCacheFile(std::string directory, const PipelineCacheKey& key);

  std::vector<std::byte> read() const;
  bool write(std::span<const std::byte> bytes) const;

  const std::string& path() const { return path_; }  // empty without a directory

 private:
  void drop_old_files() const;

  std::string directory_;
  std::string path_;
};

}  // namespace orch::worker::vulkan
