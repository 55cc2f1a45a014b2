#include "common/runtime/http_router.h"

namespace orch::runtime {
namespace {

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> segments;
  if (path.starts_with('/')) path.remove_prefix(1);
  for (;;) {
    const std::size_t slash = path.find('/');
    segments.emplace_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return segments;
    path.remove_prefix(slash + 1);
  }
}

bool is_parameter(const std::string& segment) { return segment.starts_with('{') && segment.ends_with('}'); }

}  // namespace

void HttpRouter::add(std::string method, std::string_view pattern, HttpHandler handler) {
  routes_.push_back({std::move(method), std::string(pattern), split_path(pattern), std::move(handler)});
}

HttpRouter::Match HttpRouter::find(std::string_view method, std::string_view path) const {
  Match match;
  const std::vector<std::string> segments = split_path(path);
  for (const Route& route : routes_) {
    if (route.segments.size() != segments.size()) continue;
    std::vector<std::pair<std::string, std::string>> params;
    bool fits = true;
    for (std::size_t i = 0; fits && i < segments.size(); ++i) {
      const std::string& want = route.segments[i];
      if (is_parameter(want)) {
        fits = !segments[i].empty();
        params.emplace_back(want.substr(1, want.size() - 2), segments[i]);
      } else {
        fits = want == segments[i];
      }
    }
    if (!fits) continue;
    match.pattern = route.pattern;
    if (route.method == method) {
      match.handler = &route.handler;
      match.params = std::move(params);
      match.allow.clear();
      return match;
    }
    match.allow += match.allow.empty() ? route.method : ", " + route.method;
  }
  return match;
}

}  // namespace orch::runtime
