// AVX2 + F16C entries of the kernel table. Their files are compiled with -mavx2 -mf16c and never -mfma; nothing but
// these functions may have external linkage there, or the linker could pick an AVX2 copy of shared inline code for any
// CPU.
#pragma once

#include "worker/cpu/kernels.h"

namespace orch::worker::cpu::avx2 {

void quantise(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, float* s, std::int32_t* sum);
void quantise_wide(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, std::int16_t* sum16,
                   std::int16_t* sum32);
void rms_norm(const float* x, const float* w, std::uint32_t n, float eps, float* y);
void matmul(const MatmulArgs& args);
void attention(const AttentionArgs& args);
void silu_mul(const float* gate, const float* up, std::uint32_t n, float* out);
void gelu_mul(const float* gate, const float* up, std::uint32_t n, float* out);
void rope_adjacent(float* x, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t pairs, const float* cosine,
                   const float* sine);
void rope_half(float* x, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t pairs, const float* cosine,
               const float* sine);
std::uint32_t narrow(const float* x, std::uint32_t n, std::uint16_t* out);

}  // namespace orch::worker::cpu::avx2
