// What every loop includes first. A header of loops includes what it uses, and holds all that is its own in an anonymous
// namespace: a template or inline function with external linkage would be a weak symbol, of which the linker keeps one
// copy for all instruction sets.
#pragma once

#include "core/core.h"

#include <stddef.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The iterations of the next loop are independent: an output may be the very array that is read, at the same index.
#if defined(__clang__)
#define FASTOPT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define FASTOPT_INDEPENDENT _Pragma("GCC ivdep")
#endif

// For what a loop calls on every element: left to itself, GCC stops inlining where a function has grown large, and a loop
// with a call in it is not vectorised (Adam took 4.8 ns an element instead of 0.28).
#define FASTOPT_INLINE inline __attribute__((always_inline))

namespace {

// Of a register of neighbouring elements.
#if defined(__AVX512F__)
constexpr int64_t REGISTER_BYTES = 64;
#elif defined(__AVX2__)
constexpr int64_t REGISTER_BYTES = 32;
#else
constexpr int64_t REGISTER_BYTES = 16;
#endif

template <class T>
FASTOPT_INLINE T square_root(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x);
    else return __builtin_sqrt(x);
}

// The integers as wide as T: a comparison of T selects among them without a conversion.
template <class T>
struct integer_like;
template <>
struct integer_like<float> {
    typedef int32_t type;
};
template <>
struct integer_like<double> {
    typedef int64_t type;
};

template <class Target, class Source>
FASTOPT_INLINE Target bit_copy(Source x) {
    static_assert(sizeof(Target) == sizeof(Source), "one size");
    Target y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}

}  // namespace
