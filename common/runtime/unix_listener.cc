#include "common/runtime/unix_listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/runtime/log.h"

namespace orch::runtime {
namespace {

constexpr int kBacklog = 128;

Err<ListenError> refuse(const std::string& path, const char* what) {
  const auto kind = errno == EADDRINUSE ? ListenError::Kind::in_use : ListenError::Kind::other;
  return Err{ListenError{kind, "socket " + path + ": " + what + ": " + std::strerror(errno)}};
}

}  // namespace

UnixListener::UnixListener(std::string path, uid_t user, Taken taken)
    : path_(std::move(path)), user_(user), taken_(std::move(taken)) {}

Result<std::unique_ptr<UnixListener>, ListenError> UnixListener::start(const std::string& path, uid_t user,
                                                                       Taken taken) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return refuse(path, "no name for one");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  std::unique_ptr<UnixListener> out(new UnixListener(path, user, std::move(taken)));
  const int made = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0 || ::bind(made, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const auto refusal = refuse(path, "bind");
    if (made >= 0) ::close(made);
    return refusal;
  }
  out->socket_ = made;  // from here on the path is ours to remove
  if (::chmod(path.c_str(), 0600) != 0) return refuse(path, "chmod");
  if (::listen(made, kBacklog) != 0) return refuse(path, "listen");
  out->thread_.emplace(made, [raw = out.get()](int fd) { raw->judge(fd); });
  return out;
}

UnixListener::~UnixListener() {
  thread_.reset();
  if (socket_ >= 0) {
    ::close(socket_);
    ::unlink(path_.c_str());
  }
}

void UnixListener::judge(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool known = ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  if (known && peer.uid == user_) {
    taken_(fd);
    return;
  }
  const std::uint64_t count = ++refused_;
  ::close(fd);                       // whoever sees its end sees it counted
  if (std::has_single_bit(count)) {  // the 1st, 2nd, 4th, ...: whoever tries for ever does not fill the log
    log_warn("peer_refused", {{"socket", path_}, {"uid", known ? std::to_string(peer.uid) : "?"}, {"refused", count}});
  }
}

}  // namespace orch::runtime
