#include "common/runtime/web_origin.h"

#include <arpa/inet.h>

#include <array>
#include <string>
#include <string_view>

namespace orch::runtime {
namespace {

// `authority` is a host with or without a port.
bool is_address_or_localhost(std::string_view authority) {
  std::array<unsigned char, sizeof(in6_addr)> ignored{};
  if (authority.starts_with('[')) {
    const std::string address(authority.substr(1, authority.find(']') - 1));
    return ::inet_pton(AF_INET6, address.c_str(), ignored.data()) == 1;
  }
  const std::string host(authority.substr(0, authority.find(':')));
  return equals_ignoring_case(host, "localhost") || ::inet_pton(AF_INET, host.c_str(), ignored.data()) == 1;
}

}  // namespace

bool says_json(const HttpRequest& request) {
  constexpr std::string_view kJson = "application/json";
  const std::string_view kind = request.header("Content-Type");
  return equals_ignoring_case(kind.substr(0, kJson.size()), kJson);
}

bool comes_from_a_foreign_page(const HttpRequest& request) {
  if (request.method == "GET" || request.method == "HEAD" || !request.has_header("Origin")) return false;
  constexpr std::string_view kScheme = "http://";
  const std::string_view origin = request.header("Origin");
  if (!origin.starts_with(kScheme)) return true;  // `null` and extensions too
  const std::string_view page = origin.substr(kScheme.size());
  return !equals_ignoring_case(page, request.header("Host")) || !is_address_or_localhost(page);
}

}  // namespace orch::runtime
