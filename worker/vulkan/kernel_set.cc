#include "worker/vulkan/kernel_set.h"

#include <cstring>
#include <string_view>

#include "gen/kernels/attention.h"
#include "gen/kernels/embed.h"
#include "gen/kernels/matmul_float.h"
#include "gen/kernels/matmul_quant.h"
#include "gen/kernels/matmul_wide.h"
#include "gen/kernels/norm.h"
#include "gen/kernels/prepare.h"
#include "gen/kernels/probe.h"
#include "gen/kernels/rope_store_kv.h"

namespace orch::worker::vulkan {
namespace {

// SPIR-V 1.5, section 2.3 and 3: five header words, then instructions of (length << 16 | opcode).
constexpr std::size_t kHeaderWords = 5;
constexpr std::uint32_t kOpExtension = 10;
constexpr std::uint32_t kOpExecutionMode = 16;
constexpr std::uint32_t kOpCapability = 17;
constexpr std::uint32_t kCapabilityRoundingModeRte = 4467;
constexpr std::uint32_t kModeRoundingModeRte = 4462;
constexpr std::string_view kExtension = "SPV_KHR_float_controls";

bool is_rounding_request(SpirvWords instruction) {
  switch (instruction[0] & 0xFFFFU) {
    case kOpCapability:
      return instruction[1] == kCapabilityRoundingModeRte;
    case kOpExecutionMode:
      return instruction.size() > 2 && instruction[2] == kModeRoundingModeRte;
    case kOpExtension:
      return instruction.size_bytes() - 4 > kExtension.size() &&
             std::memcmp(instruction.data() + 1, kExtension.data(), kExtension.size()) == 0;
    default:
      return false;
  }
}

}  // namespace

const KernelSet& embedded_kernels() {
  static const KernelSet kSet{{SpirvWords(embed), SpirvWords(prepare), SpirvWords(norm), SpirvWords(matmul_quant),
                               SpirvWords(matmul_wide), SpirvWords(matmul_float), SpirvWords(rope_store_kv),
                               SpirvWords(attention), SpirvWords(probe)}};
  return kSet;
}

std::vector<std::uint32_t> without_rounding_mode(SpirvWords module) {
  std::vector<std::uint32_t> words(module.begin(), module.begin() + kHeaderWords);
  for (std::size_t at = kHeaderWords; at < module.size();) {
    const std::size_t length = module[at] >> 16U;
    if (length == 0 || at + length > module.size()) break;
    const SpirvWords instruction = module.subspan(at, length);
    if (!is_rounding_request(instruction)) words.insert(words.end(), instruction.begin(), instruction.end());
    at += length;
  }
  return words;
}

}  // namespace orch::worker::vulkan
