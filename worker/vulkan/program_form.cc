#include "worker/vulkan/program_form.h"

namespace orch::worker::vulkan {
namespace {

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
