// bfloat16: the upper half of a float. Codes are widened exactly, and rounded to nearest, ties to even; all NaN are one code.
//
// A loop in which lanes of 16 bits become lanes of 32 and the other way round spends more on moving them than on
// arithmetic. Here a word of two codes becomes two floats that stand n / 2 apart: elements change places, which is all the
// same to what works on each alone.
#pragma once

#include "core/kernel.hpp"

namespace {

typedef uint32_t code_pair __attribute__((aligned(2), may_alias));

FASTOPT_INLINE float widened(uint16_t code) { return bit_copy<float>(static_cast<uint32_t>(code) << 16); }

// The code in the upper half; what is below is to be cut off.
FASTOPT_INLINE uint32_t rounded_to_bfloat16(float x) {
    const uint32_t bits = bit_copy<uint32_t>(x), nan = -static_cast<uint32_t>(x != x);
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & ~nan) | (0x7FC00000 & nan);
}

// x = n codes, those of even index first.
FASTOPT_INLINE void widen(float* x, const uint16_t* codes, int64_t n) {
    const code_pair* pairs = reinterpret_cast<const code_pair*>(codes);
    const int64_t half = n / 2;
    FASTOPT_INDEPENDENT
    for (int64_t i = 0; i < half; ++i) {
        const uint32_t pair = pairs[i];
        x[i] = bit_copy<float>(pair << 16);
        x[half + i] = bit_copy<float>(pair & 0xFFFF0000);
    }
    if (n % 2) x[n - 1] = widened(codes[n - 1]);
}

// The other way round.
FASTOPT_INLINE void narrow(uint16_t* codes, const float* x, int64_t n) {
    code_pair* pairs = reinterpret_cast<code_pair*>(codes);
    const int64_t half = n / 2;
    FASTOPT_INDEPENDENT
    for (int64_t i = 0; i < half; ++i)
        pairs[i] = rounded_to_bfloat16(x[i]) >> 16 | (rounded_to_bfloat16(x[half + i]) & 0xFFFF0000);
    if (n % 2) codes[n - 1] = static_cast<uint16_t>(rounded_to_bfloat16(x[n - 1]) >> 16);
}

}  // namespace
