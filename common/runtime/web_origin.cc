#include "common/runtime/web_origin.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace orch::runtime {
namespace {

// What stands before the port; an address of IPv6 keeps its brackets.
std::string host_of(std::string_view authority) {
  return std::string(authority.substr(0, authority.find(':', authority.starts_with('[') ? authority.find(']') : 0)));
}

// No name server is asked for these, or none but this host's own.
bool is_address_or_localhost(const std::string& host) {
  constexpr std::string_view kLocal = ".localhost";
  std::array<unsigned char, sizeof(in6_addr)> ignored{};
  if (host.starts_with('[')) {
    const std::string address = host.substr(1, host.find(']') - 1);
    return ::inet_pton(AF_INET6, address.c_str(), ignored.data()) == 1;
  }
  if (host.size() > kLocal.size() && equals_ignoring_case(host.substr(host.size() - kLocal.size()), kLocal))
    return true;
  return equals_ignoring_case(host, "localhost") || ::inet_pton(AF_INET, host.c_str(), ignored.data()) == 1;
}

}  // namespace

bool says_json(const HttpRequest& request) {
  constexpr std::string_view kJson = "application/json";
  const std::string_view kind = request.header("Content-Type");
  return equals_ignoring_case(kind.substr(0, kJson.size()), kJson);
}

bool may_have_been_led_here(std::string_view authority, std::span<const std::string> known) {
  const std::string host = host_of(authority);
  return !authority.empty() && !is_address_or_localhost(host) &&
         std::ranges::none_of(known, [&](const std::string& name) { return equals_ignoring_case(name, host); });
}

bool comes_from_a_foreign_page(const HttpRequest& request) {
  if (request.method == "GET" || request.method == "HEAD" || !request.has_header("Origin")) return false;
  constexpr std::string_view kScheme = "http://";
  const std::string_view origin = request.header("Origin");
  if (!origin.starts_with(kScheme)) return true;  // `null` and extensions too
  const std::string_view page = origin.substr(kScheme.size());
  return !equals_ignoring_case(page, request.header("Host")) || !is_address_or_localhost(host_of(page));
}

}  // namespace orch::runtime
