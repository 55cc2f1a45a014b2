#include "worker/vulkan/self_test.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "worker/core/numerics.h"

namespace orch::worker::vulkan {
namespace {

namespace num = numerics;

constexpr std::size_t kRandomValues = 8192;
constexpr std::uint32_t kNarrowings = 1U << 20U;
constexpr std::uint32_t kHalfPatterns = 1U << 16U;
constexpr std::uint32_t kGroupsMax = 4096;  // the kernel strides over the rest

// Multiplier and increment of the 32-bit generator of Numerical Recipes: the values need only be spread, and fixed.
class Spread {
 public:
  std::uint32_t next() {
    state_ = state_ * 1664525U + 1013904223U;
    return state_ ^ (state_ >> 16U);
  }
  // Sign and mantissa free, exponent from 2^low to 2^high.
  std::uint32_t float_bits(int low, int high) {
    const std::uint32_t bits = next();
    const std::uint32_t exponent =
        static_cast<std::uint32_t>(127 + low) + (next() >> 8U) % static_cast<std::uint32_t>(high - low + 1);
    return (bits & 0x807F'FFFFU) | exponent << 23U;
  }

 private:
  std::uint32_t state_ = 0x2545'F491U;
};

std::uint32_t four_products(std::uint32_t a, std::uint32_t b) {
  std::int32_t sum = 0;
  for (std::uint32_t i = 0; i < 32; i += 8) {
    sum += static_cast<std::int8_t>(a >> i & 0xFFU) * static_cast<std::int8_t>(b >> i & 0xFFU);
  }
  return static_cast<std::uint32_t>(sum);
}

ProbeCase random_case(Probe probe, Spread& spread, int low, int high, std::uint32_t sign_mask) {
  ProbeCase question{probe, {}, {}};
  for (std::size_t i = 0; i < kRandomValues; ++i) {
    question.a.push_back(spread.float_bits(low, high) & sign_mask);
    question.b.push_back(spread.float_bits(-6, 6));
  }
  return question;
}

ProbeCase integer_case(Probe probe, Spread& spread) {
  ProbeCase question{probe, {}, {}};
  for (std::size_t i = 0; i < kRandomValues; ++i) {
    question.a.push_back(spread.next());
    question.b.push_back(spread.next());
  }
  return question;
}

// Which of the NaNs comes out of a widening is the device's affair: none survives a step (NUMERIC_FAULT).
bool is_nan(std::uint32_t bits) { return (bits & num::kAbsMask) > num::kInfBits; }

}  // namespace

const char* to_string(Probe probe) {
  constexpr std::array kNames{
      "a + b",    "a * b",           "a * b - 1",  "rcp",          "rsqrt",        "exp",
      "silu_mul", "f32_to_f16",      "f16_to_f32", "quantise_one", "int to float", "four int8 products",
      "store",    "integer product", "gelu_mul"};
  static_assert(kNames.size() == kProbes);
  return kNames[static_cast<std::size_t>(probe)];
}

std::uint32_t expected(Probe probe, std::uint32_t a_bits, std::uint32_t b_bits) {
  const float a = num::float_of(a_bits);
  const float b = num::float_of(b_bits);
  switch (probe) {
    case Probe::add:
      return num::bits_of(a + b);
    case Probe::multiply:
      return num::bits_of(a * b);
    case Probe::product_minus_one:
      return num::bits_of(a * b - 1.0F);
    case Probe::rcp:
      return num::bits_of(num::rcp(a));
    case Probe::rsqrt:
      return num::bits_of(num::rsqrt(a));
    case Probe::exp:
      return num::bits_of(num::exp(a));
    case Probe::silu_mul:
      return num::bits_of(num::silu_mul(a, b));
    case Probe::narrow_f16:
      return num::f32_to_f16(a);
    case Probe::widen_f16:
      return num::bits_of(num::f16_to_f32(static_cast<std::uint16_t>(a_bits)));
    case Probe::quantise:
      return static_cast<std::uint32_t>(num::quantise_one(a, b));
    case Probe::int_to_float:
      return num::bits_of(static_cast<float>(static_cast<std::int32_t>(a_bits)));
    case Probe::four_products:
      return four_products(a_bits, b_bits);
    case Probe::store:
      return num::bits_of(num::store(a));
    case Probe::int_multiply:
      return a_bits * b_bits;
    case Probe::gelu_mul:
      return num::bits_of(num::gelu_mul(a, b));
  }
  return 0;
}

std::vector<ProbeCase> self_test_cases() {
  constexpr std::uint32_t kAny = 0xFFFF'FFFFU;
  constexpr std::uint32_t kPositive = 0x7FFF'FFFFU;
  Spread spread;
  std::vector<ProbeCase> cases;
  cases.push_back(random_case(Probe::add, spread, -8, 8, kAny));
  cases.push_back(random_case(Probe::multiply, spread, -40, 40, kAny));
  // a near 1, b near 1/a: the rounding of the product decides the difference.
  ProbeCase fused{Probe::product_minus_one, {}, {}};
  for (std::size_t i = 0; i < kRandomValues; ++i) {
    const float a = num::float_of(spread.float_bits(0, 0) & kPositive);
    fused.a.push_back(num::bits_of(a));
    fused.b.push_back(num::bits_of(num::rcp(a)));
  }
  cases.push_back(std::move(fused));
  cases.push_back(random_case(Probe::rcp, spread, -60, 60, kAny));
  cases.push_back(random_case(Probe::rsqrt, spread, -60, 60, kPositive));
  cases.push_back(random_case(Probe::exp, spread, -20, 7, kAny));
  cases.push_back(random_case(Probe::silu_mul, spread, -20, 6, kAny));
  cases.push_back(random_case(Probe::quantise, spread, -12, 2, kAny));
  cases.push_back(random_case(Probe::store, spread, -70, -50, kAny));
  cases.push_back(random_case(Probe::gelu_mul, spread, -20, 6, kAny));
  cases.push_back(integer_case(Probe::int_to_float, spread));
  cases.push_back(integer_case(Probe::four_products, spread));
  cases.push_back(integer_case(Probe::int_multiply, spread));
  ProbeCase widen{Probe::widen_f16, {}, std::vector<std::uint32_t>(kHalfPatterns, 0)};
  for (std::uint32_t h = 0; h < kHalfPatterns; ++h) widen.a.push_back(h);
  cases.push_back(std::move(widen));
  ProbeCase narrow{Probe::narrow_f16, {}, std::vector<std::uint32_t>(kNarrowings, 0)};
  for (std::uint32_t i = 0; i < kNarrowings; ++i) narrow.a.push_back(spread.float_bits(-27, 17));
  cases.push_back(std::move(narrow));
  return cases;
}

Result<std::vector<std::uint32_t>, VulkanError> ask(KernelDevice& device, const ProbeCase& question) {
  ORCH_CHECK(question.a.size() == question.b.size());
  const auto count = static_cast<std::uint32_t>(question.a.size());
  const std::uint64_t bytes = std::uint64_t{count} * sizeof(std::uint32_t);
  ORCH_TRY(input, device.make_buffer(MemoryUse::device, "self-test input", 2 * bytes));
  ORCH_TRY(output, device.make_written_buffer(MemoryUse::device, "self-test output", bytes));
  ORCH_TRY(first, device.write(*input, 0, std::as_bytes(std::span(question.a))));
  static_cast<void>(first);
  ORCH_TRY(second, device.write(*input, bytes, std::as_bytes(std::span(question.b))));
  static_cast<void>(second);
  ORCH_TRY(pipeline, device.pipeline(probe_variant()));
  Bindings bindings;
  bindings.reads[0] = input->words();
  bindings.reads[1] = input->words();
  bindings.writes[0] = output->handle();
  ORCH_TRY(set, device.bind(bindings));
  ORCH_TRY(recorder, device.make_recorder());
  ORCH_TRY(begun, recorder->begin());
  static_cast<void>(begun);
  const std::array<std::uint32_t, 2> push{count, static_cast<std::uint32_t>(question.probe)};
  const std::uint32_t groups = std::min((count + device.tuning().width - 1) / device.tuning().width, kGroupsMax);
  recorder->dispatch({pipeline, set, std::as_bytes(std::span(push))}, {groups, 1, 1});
  recorder->host_barrier();
  ORCH_TRY(ended, recorder->end());
  static_cast<void>(ended);
  ORCH_TRY(ran, device.run(*recorder));
  static_cast<void>(ran);
  std::vector<std::uint32_t> answers(count);
  ORCH_TRY(read, device.read(*output, 0, std::as_writable_bytes(std::span(answers))));
  static_cast<void>(read);
  return answers;
}

Status<VulkanError> self_test(KernelDevice& device) {
  for (const ProbeCase& question : self_test_cases()) {
    ORCH_TRY(answers, ask(device, question));
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const std::uint32_t want = expected(question.probe, question.a[i], question.b[i]);
      if (answers[i] == want || (is_nan(answers[i]) && is_nan(want))) continue;
      std::array<char, 256> text{};
      std::snprintf(text.data(), text.size(),
                    "%s failed the class-X self-test: %s of %08x, %08x gave %08x, the contract says %08x",
                    device.facts().entry.name.c_str(), to_string(question.probe), question.a[i], question.b[i],
                    answers[i], want);
      return Err{VulkanError{VulkanErrorKind::self_test, text.data()}};
    }
  }
  return Ok{};
}

}  // namespace orch::worker::vulkan
