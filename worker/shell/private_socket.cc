#include "worker/shell/private_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace orch::worker {
namespace {

Err<std::string> refuse(const std::string& what) { return Err{what}; }

Status<std::string> prepare_folder(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return refuse("socket folder " + folder + " cannot be made: " + std::strerror(errno));
  }
  struct stat info{};
  if (::stat(folder.c_str(), &info) != 0) return refuse("socket folder " + folder + ": " + std::strerror(errno));
  if (!S_ISDIR(info.st_mode)) return refuse("socket folder " + folder + " is not a folder");
  if (info.st_uid != ::geteuid()) return refuse("socket folder " + folder + " belongs to another user");
  if ((info.st_mode & 0077) != 0)
    return refuse("socket folder " + folder + " is open to other users; it needs mode 0700");
  return Ok{};
}

}  // namespace

Status<std::string> prepare_private_socket(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : (slash == 0 ? "/" : path.substr(0, slash));
  if (auto made = prepare_folder(folder); !made.ok()) return made;

  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? Status<std::string>(Ok{}) : refuse("socket " + path + ": " + std::strerror(errno));
  }
  if (!S_ISSOCK(info.st_mode)) return refuse("socket path " + path + " exists and is no socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return refuse("socket path " + path + " is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return refuse(std::string("no socket: ") + std::strerror(errno));
  const int connected = ::connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::close(probe);
  if (connected != 0 && error == ECONNREFUSED) {
    if (::unlink(path.c_str()) != 0)
      return refuse("dead socket " + path + " cannot be removed: " + std::strerror(errno));
    return Ok{};
  }
  return refuse("socket " + path + " is in use by another process");
}

}  // namespace orch::worker
