#include "cli/model_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "cli/api_client.h"
#include "cli/cluster_files.h"
#include "common/runtime/entropy.h"

namespace orch::cli {
namespace {

constexpr std::string_view kSuffix = ".gguf";
constexpr std::string_view kDigestSuffix = ".sha256";
constexpr std::string_view kMagic = "GGUF";
constexpr std::size_t kNameBytesMax = 128;
constexpr std::size_t kDigestBytes = 7 + 64;
constexpr std::size_t kBlock = std::size_t{1} << 20;

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > kNameBytesMax || text.starts_with('.')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

bool is_digest(std::string_view text) {
  if (text.size() != kDigestBytes || !text.starts_with("sha256:")) return false;
  text.remove_prefix(7);
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::string errno_text(const std::string& what) { return what + ": " + std::strerror(errno); }

// A file under a name of its own that disappears unless it is kept.
class PartFile {
 public:
  explicit PartFile(std::string path) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  }
  ~PartFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!kept_) ::unlink(path_.c_str());
  }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  bool is_open() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }
  bool append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
  }
  Result<std::string, std::string> digest() const {
    struct stat info{};
    if (::fstat(fd_, &info) != 0) return Err{errno_text(path_)};
    if (info.st_size < static_cast<off_t>(kMagic.size())) return Err{std::string("the file is too short for a model")};
    const std::size_t size = static_cast<std::size_t>(info.st_size);
    void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd_, 0);
    if (map == MAP_FAILED) return Err{errno_text(path_)};
    const std::string_view bytes(static_cast<const char*>(map), size);
    const bool is_model = bytes.starts_with(kMagic);
    const std::string digest = "sha256:" + runtime::to_hex(runtime::sha256(bytes));
    ::munmap(map, size);
    if (!is_model) return Err{std::string("the file is not a GGUF model: it does not begin with 'GGUF'")};
    return digest;
  }
  Status<std::string> keep_as(const std::string& path) {
    if (::fsync(fd_) != 0 || ::rename(path_.c_str(), path.c_str()) != 0) return Err{errno_text(path)};
    kept_ = true;
    return Ok{};
  }

 private:
  std::string path_;
  int fd_ = -1;
  bool kept_ = false;
};

using Progress = std::function<void(std::uint64_t, std::optional<std::uint64_t>)>;

Status<std::string> copy_into(PartFile& part, const std::string& source, const Progress& progress) {
  std::ifstream in(source, std::ios::binary);
  std::error_code error;
  const std::uint64_t all = std::filesystem::file_size(source, error);
  if (!in || error) return Err{errno_text("cannot read " + source)};
  std::string block(kBlock, '\0');
  for (std::uint64_t done = 0; done < all;) {
    in.read(block.data(), static_cast<std::streamsize>(std::min<std::uint64_t>(kBlock, all - done)));
    if (in.gcount() <= 0) return Err{"cannot read " + source + ": it ended early"};
    if (!part.append({block.data(), static_cast<std::size_t>(in.gcount())})) return Err{errno_text(part.path())};
    done += static_cast<std::uint64_t>(in.gcount());
    progress(done, all);
  }
  return Ok{};
}

Status<std::string> check(const PullRequest& request, bool remote) {
  if (!is_name(request.name)) {
    return Err{"name '" + request.name + "': 1 to 128 characters of A-Za-z0-9._-, not beginning with a dot"};
  }
  if (!request.digest.empty() && !is_digest(request.digest)) {
    return Err{"digest '" + request.digest + "': sha256: and 64 lower-case hex digits"};
  }
  if (request.source.starts_with("http://")) return Err{"source " + request.source + ": only https is taken"};
  if (remote && request.digest.empty()) {
    return Err{std::string("digest: a download needs one, so that what arrives is what was meant")};
  }
  return Ok{};
}

}  // namespace

std::string digest_beside(const std::string& model_path) {
  const auto text = read_small_file(model_path + std::string(kDigestSuffix));
  if (!text.ok()) return {};
  const std::string digest = text->substr(0, text->find_first_of(" \r\n"));
  return is_digest(digest) ? digest : "";
}

std::vector<ModelFile> list_models(const std::string& dir) {
  std::vector<ModelFile> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with(kSuffix) || !entry.is_regular_file(error)) continue;
    ModelFile model;
    model.name = file.substr(0, file.size() - kSuffix.size());
    model.path = entry.path().string();
    model.digest = digest_beside(model.path);
    model.bytes = entry.file_size(error);
    out.push_back(std::move(model));
  }
  std::sort(out.begin(), out.end(), [](const ModelFile& a, const ModelFile& b) { return a.name < b.name; });
  return out;
}

Result<ModelFile, std::string> pull_model(const std::string& dir, const PullRequest& request,
                                          const Progress& progress) {
  const bool remote = request.source.starts_with("https://");
  if (const auto checked = check(request, remote); !checked.ok()) return Err{checked.error()};
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  ModelFile model{.name = request.name, .path = dir + "/" + request.name + std::string(kSuffix), .digest = {}};
  PartFile part(model.path + ".part");
  if (!part.is_open()) return Err{errno_text(part.path())};
  const auto taken = remote
                         ? http_download(
                               request.source, [&part](std::string_view bytes) { return part.append(bytes); }, progress)
                         : copy_into(part, request.source, progress);
  if (!taken.ok()) return Err{taken.error()};
  const auto digest = part.digest();
  if (!digest.ok()) return Err{request.source + ": " + digest.error()};
  if (!request.digest.empty() && *digest != request.digest) {
    return Err{request.source + ": its digest is " + *digest + ", expected " + request.digest};
  }
  model.digest = *digest;
  model.bytes = std::filesystem::file_size(part.path(), error);
  // The digest first: a crash between the two leaves a file that is refused, not one that is served unchecked.
  const auto noted = write_file_atomically(model.path + std::string(kDigestSuffix), model.digest + "\n");
  if (!noted.ok()) return Err{noted.error()};
  if (const auto kept = part.keep_as(model.path); !kept.ok()) return Err{kept.error()};
  return model;
}

}  // namespace orch::cli
