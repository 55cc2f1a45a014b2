// Purpose: method and path to handler. Patterns are literal segments and {names}. Threads: built once, then read only.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/runtime/http_server.h"

namespace orch::runtime {

class HttpRouter {
 public:
  struct Match {
    const HttpHandler* handler = nullptr;  // null: see `allow`
    std::string_view pattern;              // bounded label for metrics and logs
    std::vector<std::pair<std::string, std::string>> params;
    std::string allow;  // methods of the path when none fits: 405; empty: 404
  };

  void add(std::string method, std::string_view pattern, HttpHandler handler);
  Match find(std::string_view method, std::string_view path) const;

 private:
  struct Route {
    std::string method;
    std::string pattern;
    std::vector<std::string> segments;
    HttpHandler handler;
  };
  std::vector<Route> routes_;
};

}  // namespace orch::runtime
