#include "common/runtime/http_router.h"

namespace orch::runtime {
namespace {

using Params = std::vector<std::pair<std::string, std::string>>;

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

// Every answer asks for its label too, so a path is split where it stands: without parameters nothing is copied.
bool fits(const std::vector<std::string>& wanted, std::string_view path, Params& params) {
  params.clear();
  if (path.starts_with('/')) path.remove_prefix(1);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::string& want = wanted[i];
    const std::size_t slash = path.find('/');
    const std::string_view segment = path.substr(0, slash);
    if (is_parameter(want)) {
      if (segment.empty()) return false;
      params.emplace_back(want.substr(1, want.size() - 2), segment);
    } else if (want != segment) {
      return false;
    }
    if (slash == std::string_view::npos) return i + 1 == wanted.size();
    path.remove_prefix(slash + 1);
  }
  return false;
}

}  // namespace

void HttpRouter::add(std::string method, std::string_view pattern, HttpHandler handler) {
  routes_.push_back({std::move(method), std::string(pattern), split_path(pattern), std::move(handler)});
}

HttpRouter::Match HttpRouter::find(std::string_view method, std::string_view path) const {
  Match match;
  Params params;
  for (const Route& route : routes_) {
    if (!fits(route.segments, path, params)) continue;
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
