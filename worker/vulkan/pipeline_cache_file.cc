#include "worker/vulkan/pipeline_cache_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "worker/core/sha256.h"

namespace orch::worker::vulkan {
namespace {

constexpr const char* kSuffix = ".pipelines";
constexpr std::size_t kDigestBytes = std::tuple_size_v<Sha256Digest>;  // stands before the driver's bytes

Sha256Digest digest_of(std::span<const std::byte> bytes) {
  return Sha256().add({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}).finish();
}

std::string hex(const Sha256Digest& digest) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : digest) {
    text.push_back(kDigits[byte >> 4U]);
    text.push_back(kDigits[byte & 15U]);
  }
  return text;
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool open() const { return fd_ >= 0; }

  // Bytes of a plain file that only its owner, this user, may change; 0: not to be trusted.
  std::size_t trusted_size() const {
    struct stat facts{};
    if (::fstat(fd_, &facts) != 0 || !S_ISREG(facts.st_mode)) return 0;
    if (facts.st_uid != ::geteuid() || (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0) return 0;
    const auto size = static_cast<std::size_t>(facts.st_size);
    return size <= kDigestBytes + kPipelineCacheBytesMax ? size : 0;
  }

  bool read(std::span<std::byte> into) const {
    for (std::size_t done = 0; done < into.size();) {
      const ssize_t got = ::read(fd_, into.data() + done, into.size() - done);
      if (got <= 0) return false;
      done += static_cast<std::size_t>(got);
    }
    return true;
  }

  bool write(std::span<const std::byte> from) const {
    for (std::size_t done = 0; done < from.size();) {
      const ssize_t put = ::write(fd_, from.data() + done, from.size() - done);
      if (put <= 0) return false;
      done += static_cast<std::size_t>(put);
    }
    return true;
  }

 private:
  int fd_;
};

}  // namespace

std::string kernels_digest(const KernelSet& kernels) {
  Sha256 sum;
  for (const SpirvWords code : kernels.code) {
    sum.add_number(code.size());
    sum.add({reinterpret_cast<const std::uint8_t*>(code.data()), code.size_bytes()});
  }
  return hex(sum.finish());
}

PipelineCacheFile::PipelineCacheFile(std::string directory, const PipelineCacheKey& key)
    : directory_(std::move(directory)) {
  if (directory_.empty()) return;
  const std::string all = key.device_uuid + "/" + key.driver_uuid + "/" + key.cache_uuid + "/" + key.kernels;
  path_ = directory_ + "/" + hex(digest_of(std::as_bytes(std::span(all)))) + kSuffix;
}

std::vector<std::byte> PipelineCacheFile::read() const {
  if (path_.empty()) return {};
  const File file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.open()) return {};
  const std::size_t size = file.trusted_size();
  if (size <= kDigestBytes) return {};
  std::vector<std::byte> bytes(size);
  if (!file.read(bytes)) return {};
  const Sha256Digest digest = digest_of(std::span(bytes).subspan(kDigestBytes));
  if (std::memcmp(bytes.data(), digest.data(), kDigestBytes) != 0) return {};
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(kDigestBytes));
  return bytes;
}

bool PipelineCacheFile::write(std::span<const std::byte> bytes) const {
  if (path_.empty() || bytes.empty() || bytes.size() > kPipelineCacheBytesMax) return false;
  std::error_code failed;
  std::filesystem::create_directories(directory_, failed);
  if (failed) return false;
  const std::string temporary = path_ + "." + std::to_string(::getpid());
  {
    ::unlink(temporary.c_str());  // of an earlier process with this number
    const File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    const Sha256Digest digest = digest_of(bytes);
    if (!file.open() || !file.write(std::as_bytes(std::span(digest))) || !file.write(bytes)) {
      ::unlink(temporary.c_str());
      return false;
    }
  }
  if (::rename(temporary.c_str(), path_.c_str()) != 0) {
    ::unlink(temporary.c_str());
    return false;
  }
  drop_old_files();
  return true;
}

void PipelineCacheFile::drop_old_files() const {
  namespace fs = std::filesystem;
  std::error_code failed;
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  for (fs::directory_iterator at(directory_, failed), end; !failed && at != end; at.increment(failed)) {
    if (at->path().extension() != kSuffix) continue;
    std::error_code unseen;
    files.emplace_back(at->last_write_time(unseen), at->path());
  }
  std::sort(files.begin(), files.end());
  for (std::size_t i = 0; i + kPipelineCacheFilesMax < files.size(); ++i) {
    if (files[i].second != path_) fs::remove(files[i].second, failed);
  }
}

}  // namespace orch::worker::vulkan
