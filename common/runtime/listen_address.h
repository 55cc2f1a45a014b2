// Where a process listens: "unix:/path" or "host:port". Only literal addresses, so that a bind never waits for DNS.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace orch::runtime {

struct ListenAddress {
  bool is_unix = false;
  std::string path;  // unix
  std::string host;  // tcp: IPv4 or IPv6 literal, without brackets
  std::uint16_t port = 0;

  bool is_loopback() const;         // a unix socket counts as loopback
  std::string grpc_target() const;  // what gRPC understands
};

// The error is a sentence that names what is wrong.
Result<ListenAddress, std::string> parse_listen_address(std::string_view text);

// Why a listener did not start.
struct ListenError {
  enum class Kind : unsigned char { in_use, denied, bad_address, other };
  Kind kind = Kind::other;
  std::string message;
  int exit_code() const { return kind == Kind::bad_address ? 78 : 74; }
};

}  // namespace orch::runtime
