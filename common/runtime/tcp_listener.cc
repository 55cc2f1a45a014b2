#include "common/runtime/tcp_listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <arpa/inet.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/runtime/log.h"

namespace orch::runtime {
namespace {

// A literal address as the kernel wants it.
struct SocketAddress {
  explicit SocketAddress(const ListenAddress& address) {
    auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    if (::inet_pton(AF_INET, address.host.c_str(), &v4->sin_addr) == 1) {
      storage.ss_family = AF_INET;
      v4->sin_port = htons(address.port);
      size = sizeof *v4;
    } else if (::inet_pton(AF_INET6, address.host.c_str(), &v6->sin6_addr) == 1) {
      storage.ss_family = AF_INET6;
      v6->sin6_port = htons(address.port);
      size = sizeof *v6;
    }
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  sockaddr_storage storage{};
  socklen_t size = 0;  // 0: it is none
};

std::uint16_t port_of(int socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
}

// 0: there is no such descriptor.
ino_t inode_of(int fd) {
  struct stat found{};
  return ::fstat(fd, &found) == 0 ? found.st_ino : 0;
}

ListenError::Kind kind_of(int error) {
  if (error == EADDRINUSE) return ListenError::Kind::in_use;
  if (error == EACCES) return ListenError::Kind::denied;
  return error == EADDRNOTAVAIL ? ListenError::Kind::bad_address : ListenError::Kind::other;
}

}  // namespace

TcpListener::TcpListener(int socket, std::size_t connections_max, Taken taken)
    : socket_(socket), connections_max_(connections_max), taken_(std::move(taken)), port_(port_of(socket)) {}

Result<std::unique_ptr<TcpListener>, ListenError> TcpListener::start(const ListenAddress& address,
                                                                     std::size_t connections_max, Taken taken) {
  SocketAddress wanted(address);
  const int made = ::socket(wanted.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  const int off = 0;
  // "[::]" is both families, whatever the system's default is.
  const bool v6 = wanted.storage.ss_family == AF_INET6;
  if (made < 0 || ::setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      (v6 && ::setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0) ||
      ::bind(made, wanted.get(), wanted.size) != 0 || ::listen(made, SOMAXCONN) != 0) {
    const int error = errno;
    if (made >= 0) ::close(made);
    return Err{ListenError{kind_of(error), "cannot listen on " + address.grpc_target() + ": " + std::strerror(error)}};
  }
  std::unique_ptr<TcpListener> out(new TcpListener(made, connections_max, std::move(taken)));
  out->thread_.emplace(made, [raw = out.get()](int fd) { raw->judge(fd); });
  return out;
}

TcpListener::~TcpListener() {
  thread_.reset();
  ::close(socket_);
}

void TcpListener::judge(int fd) {
  if (open_.size() >= connections_max_) forget_closed();
  if (open_.size() < connections_max_) {
    open_.insert_or_assign(fd, inode_of(fd));  // who had this number is closed
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    taken_(fd);
    return;
  }
  const std::uint64_t count = ++refused_;
  ::close(fd);                       // whoever sees its end sees it counted
  if (std::has_single_bit(count)) {  // the 1st, 2nd, 4th, ...: whoever tries for ever does not fill the log
    log_warn("connections_full", {{"port", port_}, {"connections_max", connections_max_}, {"refused", count}});
  }
}

void TcpListener::forget_closed() {
  std::erase_if(open_, [](const auto& entry) { return inode_of(entry.first) != entry.second; });
}

}  // namespace orch::runtime
