// Standard normal numbers by the transform of Box and Muller ("A note on the generation of random normal deviates", 1958),
// in aligned groups of 32 elements: element j of a group and element j + 16 are
//     sqrt(-2 ln u1) cos(2 pi u2)   and   sqrt(-2 ln u1) sin(2 pi u2)
// with u1 in (0, 1] from the words of element j and u2 from those of element j + 16. Logarithm (kernels/core/math.hpp), sine and
// cosine are polynomials of correctly rounded operations, written the same way in fastopt/reference/core.py, so the bits are
// the same everywhere. Coefficients: Chebyshev fits on the reduced ranges, relative errors below 3e-8 (float) and 5e-17
// (double).
#pragma once

#include "core/math.hpp"
#include "random/philox.hpp"
#include "random/random.h"

namespace {

// sin and cos of 2 pi t for t in [-1/8, 1/8], in turns.
FASTOPT_INLINE void sine_cosine(float t, float& sine, float& cosine) {
    const float q = t * t;
    float s = -75.4016127f;
    s = s * q + 81.5925429f;
    s = s * q + -41.3416626f;
    s = s * q + 6.28318529f;
    sine = s * t;
    float c = 59.2201690f;
    c = c * q + -85.4428447f;
    c = c * q + 64.9393161f;
    c = c * q + -19.7392087f;
    cosine = c * q + 1.0f;
}

FASTOPT_INLINE void sine_cosine(double t, double& sine, double& cosine) {
    const double q = t * t;
    double s = -0.71163580907816659965;
    s = s * q + 3.8197881201632114229;
    s = s * q + -15.094640403891545649;
    s = s * q + 42.058693928988783438;
    s = s * q + -76.70585975299812673;
    s = s * q + 81.605249276074930668;
    s = s * q + -41.341702240399760142;
    s = s * q + 6.2831853071795864769;
    sine = s * t;
    double c = -1.6968494702918826806;
    c = c * q + 7.9030916877516976361;
    c = c * q + -26.426250908622135959;
    c = c * q + 60.24464132886729332;
    c = c * q + -85.456817206522712487;
    c = c * q + 64.939394022667957529;
    c = c * q + -19.739208802178716989;
    cosine = c * q + 1.0;
}

// x with the sign of -1 where bit 1 of `turned` is set. As a choice between x and -x GCC 16 would make branches of it.
FASTOPT_INLINE float signed_by(uint32_t turned, float x) {
    return bit_copy<float>(bit_copy<uint32_t>(x) ^ ((turned & 2) << 30));
}
FASTOPT_INLINE double signed_by(uint32_t turned, double x) {
    return bit_copy<double>(bit_copy<uint64_t>(x) ^ (static_cast<uint64_t>(turned & 2) << 62));
}

constexpr int64_t NORMAL_GROUP = 32, NORMAL_HALF = 16;

// u1 in (0, 1] and the turn u2 of one element, the latter as a quarter of it (0 to 3) and the rest in [-1/8, 1/8).
FASTOPT_INLINE float unit(const uint32_t* words, int64_t j, float& below_one) {
    below_one = static_cast<float>(~words[j]) * 0x1p-32f;
    return (static_cast<float>(words[j]) + 1.0f) * 0x1p-32f;
}
FASTOPT_INLINE double unit(const uint32_t* words, int64_t j, double&) {
    const double low = static_cast<double>(static_cast<int32_t>(words[2 * j] >> 11)) * 0x1p-53;
    return (static_cast<double>(words[2 * j + 1]) * 0x1p-32 + low) + 0x1p-53;
}
FASTOPT_INLINE uint32_t turn(const uint32_t* words, int64_t j, float& rest) {
    const uint32_t word = words[j], quarter = (word + 0x20000000u) >> 30;
    rest = static_cast<float>(static_cast<int32_t>(word - (quarter << 30))) * 0x1p-32f;
    return quarter;
}
FASTOPT_INLINE uint32_t turn(const uint32_t* words, int64_t j, double& rest) {
    const uint32_t word = words[2 * j + 1], quarter = (word + 0x20000000u) >> 30;
    const double low = static_cast<double>(static_cast<int32_t>(words[2 * j] >> 11)) * 0x1p-53;
    rest = static_cast<double>(static_cast<int32_t>(word - (quarter << 30))) * 0x1p-32 + low;
    return quarter;
}

// Of each group all elements, or the first half of them alone, one group's after another's. With 32 registers two groups
// at a time, so that their chains of operations overlap (AVX-512: 0.97 to 0.81 ns for a float, 1.93 to 1.75 for a double).
template <class T, bool BOTH>
FASTOPT_INLINE void normal_halves(T* out, const uint32_t* words, int64_t groups) {
    constexpr int64_t WORDS = sizeof(T) / 4;
#if defined(__AVX512F__)
#pragma GCC unroll 2
#endif
    for (int64_t g = 0; g < groups; ++g, out += BOTH ? NORMAL_GROUP : NORMAL_HALF, words += NORMAL_GROUP * WORDS) {
        FASTOPT_INDEPENDENT
        for (int64_t j = 0; j < NORMAL_HALF; ++j) {
            T below_one = 0;
            const T u1 = unit(words, j, below_one);
            const T radius = square_root(T(-2) * natural_log(u1, below_one));
            T rest, sine, cosine;
            const uint32_t quarter = turn(words, j + NORMAL_HALF, rest);
            sine_cosine(rest, sine, cosine);
            const T x = (quarter & 1) != 0 ? sine : cosine, y = (quarter & 1) != 0 ? cosine : sine;
            out[j] = radius * signed_by(quarter + 1, x);
            if (BOTH) out[j + NORMAL_HALF] = radius * signed_by(quarter, y);
        }
    }
}

// Functions of their own, so that nothing else competes for registers with their constants.
template <class T>
__attribute__((noinline)) void normal_groups(T* out, const uint32_t* words, int64_t groups) {
    normal_halves<T, true>(out, words, groups);
}
template <class T>
__attribute__((noinline)) void normal_first_halves(T* out, const uint32_t* words, int64_t groups) {
    normal_halves<T, false>(out, words, groups);
}

template <class T>
void random_normal(const random_normal_args& a, int64_t begin, int64_t end) {
    constexpr int64_t WORDS = sizeof(T) / 4, PIECE = 32;  // words an element, groups a piece
    const philox_stream s(a.address);
    T* out = static_cast<T*>(a.out);
    alignas(64) uint32_t words[PIECE * NORMAL_GROUP * WORDS];
    for (int64_t i = begin, n; i < end; i += n) {
        const uint64_t element = a.offset + static_cast<uint64_t>(i);
        const uint64_t block = element / NORMAL_GROUP * (NORMAL_GROUP * WORDS / 4);
        const int64_t skip = static_cast<int64_t>(element % NORMAL_GROUP);
        if (skip == 0 && end - i >= NORMAL_GROUP) {
            const int64_t groups = (end - i) / NORMAL_GROUP < PIECE ? (end - i) / NORMAL_GROUP : PIECE;
            philox_words(words, s, block, groups * (NORMAL_GROUP * WORDS / 4));
            normal_groups(out + i, words, groups);
            n = groups * NORMAL_GROUP;
        } else {  // a group of which the range has a part
            T whole[NORMAL_GROUP];
            philox_words(words, s, block, NORMAL_GROUP * WORDS / 4);
            normal_groups(whole, words, 1);
            n = end - i < NORMAL_GROUP - skip ? end - i : NORMAL_GROUP - skip;
            __builtin_memcpy(out + i, whole + skip, static_cast<size_t>(n) * sizeof(T));
        }
    }
}

}  // namespace
