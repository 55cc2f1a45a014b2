#include "worker/vulkan/program_form.h"

#include <algorithm>

#include "worker/core/numerics.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint32_t kFirstPositions = 9;
constexpr std::uint32_t kIntoSplit = 7;  // of the rows behind whole splits

std::uint32_t tile_for(std::uint32_t rows) {
  for (const std::uint32_t tile : kTileTokens) {
    if (rows <= tile) return tile;
  }
  return kTileTokens.back();
}

}  // namespace

ProgramForm form_for(std::uint32_t rows, std::uint32_t splits, OwnInputLimits limits) {
  const std::uint32_t tile = tile_for(rows);
  if (rows > limits.rows) return {tile, OwnInputs::none};
  return {tile, splits > limits.splits ? OwnInputs::norms : OwnInputs::norms_and_joins};
}

std::vector<StepRows> compared_steps(ProgramForm form, OwnInputLimits limits, std::uint32_t context) {
  std::vector<StepRows> steps;
  const auto add = [&](std::uint32_t first, std::uint32_t most) {
    if (first < context) steps.push_back({first, std::min({form.tile_tokens, most, context - first})});
  };
  for (std::uint32_t at = 0; at < kFirstPositions; at += form.tile_tokens) add(at, kFirstPositions - at);
  const std::uint32_t last = form.own == OwnInputs::norms ? limits.splits + 1 : limits.splits;
  for (std::uint32_t splits = form.own == OwnInputs::norms ? last : 2; splits <= last; ++splits) {
    const std::uint32_t first = (splits - 1) * numerics::kAttentionSplit + kIntoSplit;
    if (first >= context) break;
    add(first, form.tile_tokens);
  }
  return steps;
}

std::vector<ProgramForm> every_form(OwnInputLimits limits, std::uint32_t splits_max) {
  std::vector<ProgramForm> forms;
  std::uint32_t fewest = 1;  // rows of the tile's steps
  for (const std::uint32_t tile : kTileTokens) {
    const bool last = tile == kTileTokens.back();
    if (last || tile > limits.rows) forms.push_back({tile, OwnInputs::none});
    if (fewest <= limits.rows) {
      if (splits_max > limits.splits) forms.push_back({tile, OwnInputs::norms});
      if (limits.splits > 0) forms.push_back({tile, OwnInputs::norms_and_joins});
    }
    fewest = tile + 1;
  }
  return forms;
}

}  // namespace orch::worker::vulkan
