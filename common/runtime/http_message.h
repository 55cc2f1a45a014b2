// HTTP requests and responses as plain data; no Beast type is visible to their users.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/time.h"

namespace orch::runtime {

struct HttpHeader {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;  // upper case
  std::string path;    // without query, percent-decoded
  std::string query;   // raw, without '?'
  std::vector<HttpHeader> headers;
  std::string body;
  std::vector<std::pair<std::string, std::string>> params;  // of the matched route
  std::string correlation_id;                               // taken from the client when valid, else generated
  bool peer_is_loopback = false;

  // Empty when absent; names compare without case. The first of several wins.
  std::string_view header(std::string_view name) const;
  bool has_header(std::string_view name) const;
  std::string_view param(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type;  // empty: no body expected
  std::vector<HttpHeader> headers;
  std::string body;
  bool close = false;  // close the connection after it

  HttpResponse& with(std::string name, std::string value) {
    headers.push_back({std::move(name), std::move(value)});
    return *this;
  }
  static HttpResponse json(int status, std::string body) { return {status, "application/json", {}, std::move(body)}; }
  static HttpResponse text(int status, std::string body) {
    return {status, "text/plain; charset=utf-8", {}, std::move(body)};
  }
  static HttpResponse empty(int status) { return {status, "", {}, ""}; }
};

std::string_view http_reason(int status);

// ORCH correlation ids are echoed and logged, so their form is closed: 1..128 of [A-Za-z0-9._:-].
bool is_valid_correlation_id(std::string_view text);

// False for malformed escapes and encoded NUL.
bool percent_decode(std::string_view text, std::string& out);
bool equals_ignoring_case(std::string_view a, std::string_view b);
// Value of `name` in a raw query string, percent-decoded; empty when absent.
std::string query_value(std::string_view query, std::string_view name);

}  // namespace orch::runtime
