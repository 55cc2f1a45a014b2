#include "pool-managerd/core/operation.h"

#include <charconv>

#include "common/base/check.h"

namespace orch::pool {

std::string_view to_string(OperationKind kind) {
  switch (kind) {
    case OperationKind::drain:
      return "drain";
    case OperationKind::undrain:
      return "undrain";
    case OperationKind::reload:
      return "reload";
    case OperationKind::restart:
      return "restart";
  }
  ORCH_CHECK(false);
}

std::string_view to_string(OperationState state) {
  switch (state) {
    case OperationState::running:
      return "running";
    case OperationState::succeeded:
      return "succeeded";
    case OperationState::failed:
      return "failed";
  }
  ORCH_CHECK(false);
}

std::string to_string(OperationId id) { return std::to_string(id.boot) + "." + std::to_string(id.counter); }

std::optional<OperationId> parse_operation_id(std::string_view text) {
  OperationId id;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto boot = std::from_chars(begin, end, id.boot);
  if (boot.ec != std::errc() || boot.ptr == end || *boot.ptr != '.') return std::nullopt;
  const auto counter = std::from_chars(boot.ptr + 1, end, id.counter);
  if (counter.ec != std::errc() || counter.ptr != end) return std::nullopt;
  return id;
}

}  // namespace orch::pool
