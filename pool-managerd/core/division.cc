#include "pool-managerd/core/division.h"

namespace orch::pool {

std::vector<std::uint32_t> divide_slots(std::uint32_t slots, std::span<const Demand> demands, std::size_t offset) {
  std::vector<std::uint32_t> shares(demands.size(), 0);
  const auto deal = [&](auto&& wants_more) {
    for (bool dealt = true; dealt && slots > 0;) {
      dealt = false;
      for (std::size_t turn = 0; turn < demands.size() && slots > 0; ++turn) {
        const std::size_t i = (turn + offset) % demands.size();
        if (!wants_more(i)) continue;
        ++shares[i];
        --slots;
        dealt = true;
      }
    }
  };
  deal([&](std::size_t i) { return shares[i] < demands[i].wanted; });
  deal([&](std::size_t i) { return demands[i].takes_credit; });
  return shares;
}

}  // namespace orch::pool
