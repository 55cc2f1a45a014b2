#include "common/runtime/listen_address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>

namespace orch::runtime {
namespace {

bool is_ip_literal(const std::string& host, int family) {
  in6_addr buffer{};
  return ::inet_pton(family, host.c_str(), &buffer) == 1;
}

}  // namespace

bool ListenAddress::is_loopback() const { return is_unix || host.starts_with("127.") || host == "::1"; }

std::string ListenAddress::grpc_target() const {
  if (is_unix) return "unix:" + path;
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<ListenAddress, std::string> parse_listen_address(std::string_view text) {
  ListenAddress out;
  if (text.starts_with("unix:")) {
    out.is_unix = true;
    out.path = std::string(text.substr(5));
    if (out.path.empty()) return Err{std::string("unix: needs a path")};
    if (out.path.size() >= sizeof(sockaddr_un::sun_path)) {
      return Err{"socket path is longer than " + std::to_string(sizeof(sockaddr_un::sun_path) - 1) +
                 " bytes: " + out.path};
    }
    return out;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return Err{"listen address must be host:port or unix:/path, not '" + std::string(text) + "'"};
  }
  out.host = std::string(text.substr(0, colon));
  if (out.host.starts_with('[') && out.host.ends_with(']')) out.host = out.host.substr(1, out.host.size() - 2);
  if (out.host == "localhost") out.host = "127.0.0.1";
  if (!is_ip_literal(out.host, AF_INET) && !is_ip_literal(out.host, AF_INET6)) {
    return Err{"'" + out.host + "' is not an IP address"};
  }
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (error != std::errc() || end != port.data() + port.size()) {
    return Err{"'" + std::string(port) + "' is not a port (0..65535)"};
  }
  return out;
}

}  // namespace orch::runtime
