#include "worker/vulkan/spirv_rules.h"

#include <algorithm>
#include <array>
#include <set>

namespace orch::worker::vulkan {
namespace {

// Numbers: SPIR-V 1.5 specification, section 3; GLSL.std.450, section 2.
constexpr std::size_t kHeaderWords = 5;
constexpr std::uint32_t kOpExtInst = 12;
constexpr std::uint32_t kOpExecutionMode = 16;
constexpr std::uint32_t kOpDecorate = 71;
constexpr std::uint32_t kOpFAdd = 129;
constexpr std::uint32_t kOpFSub = 131;
constexpr std::uint32_t kOpFMul = 133;
constexpr std::uint32_t kDecorationNoContraction = 42;
constexpr std::uint32_t kModeRoundingModeRte = 4462;

struct Named {
  std::uint32_t opcode;
  const char* name;
};
constexpr std::array kForbidden{Named{136, "OpFDiv"},
                                Named{140, "OpFRem"},
                                Named{141, "OpFMod"},
                                Named{142, "OpVectorTimesScalar"},
                                Named{143, "OpMatrixTimesScalar"},
                                Named{144, "OpVectorTimesMatrix"},
                                Named{145, "OpMatrixTimesVector"},
                                Named{146, "OpMatrixTimesMatrix"},
                                Named{147, "OpOuterProduct"},
                                Named{148, "OpDot"},
                                Named{350, "OpGroupNonUniformFAdd"},
                                Named{352, "OpGroupNonUniformFMul"},
                                Named{355, "OpGroupNonUniformFMin"},
                                Named{358, "OpGroupNonUniformFMax"}};

// Extended instructions whose result is one integer or an exact widening: UMin, SMin, UMax, SMax, UClamp, SClamp,
// UnpackHalf2x16.
constexpr std::array<std::uint32_t, 7> kExactExtended{38, 39, 41, 42, 44, 45, 62};

template <typename F>
void for_each_instruction(SpirvWords module, F visit) {
  for (std::size_t at = kHeaderWords; at < module.size();) {
    const std::size_t length = module[at] >> 16U;
    if (length == 0 || at + length > module.size()) return;
    visit(module[at] & 0xFFFFU, module.subspan(at, length));
    at += length;
  }
}

}  // namespace

SpirvFindings read_spirv(SpirvWords module) {
  SpirvFindings findings;
  std::set<std::uint32_t> no_contraction;
  for_each_instruction(module, [&](std::uint32_t opcode, SpirvWords words) {
    if (opcode == kOpDecorate && words[2] == kDecorationNoContraction) no_contraction.insert(words[1]);
    if (opcode == kOpExecutionMode && words.size() > 3 && words[2] == kModeRoundingModeRte && words[3] == 32) {
      findings.rounding_mode = true;
    }
  });
  for_each_instruction(module, [&](std::uint32_t opcode, SpirvWords words) {
    if (opcode == kOpFAdd || opcode == kOpFSub || opcode == kOpFMul) {
      ++findings.float_operations;
      if (!no_contraction.contains(words[2])) {
        findings.violations.push_back("float operation %" + std::to_string(words[2]) + " may be contracted");
      }
    }
    for (const Named& forbidden : kForbidden) {
      if (opcode == forbidden.opcode) findings.violations.emplace_back(forbidden.name);
    }
    if (opcode == kOpExtInst &&
        std::find(kExactExtended.begin(), kExactExtended.end(), words[4]) == kExactExtended.end()) {
      findings.violations.push_back("GLSL.std.450 instruction " + std::to_string(words[4]));
    }
  });
  return findings;
}

}  // namespace orch::worker::vulkan
