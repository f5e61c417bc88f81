// 64 codes of 8 bits at a time with AVX-512, bit for bit what the loops of small_states.hpp do for one. (Registers of 16
// elements take a conversion of width each, and twice as many instructions.)
//
// The upper half of a float32 is enough for a code, so two elements share 32 bits for the most part: elements l and
// 16 + l, and 32 + l and 48 + l, of the four registers of a row of 64. The codes of l, 16 + l, 32 + l and 48 + l are brought
// into one group of 32 bits by a transposition: of groups, then of bytes within 16.
#pragma once

#include "core/kernel.hpp"

#if defined(__AVX512F__)
namespace {

// A matrix of 4 by 4 groups of 32 bits, transposed.
FASTOPT_INLINE __m512i transposed_groups(__m512i x) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}

// Group l is then of the codes of elements 16 + l, 48 + l, l and 32 + l, lowest byte first.
FASTOPT_INLINE __m512i gathered(__m512i codes) {
    const __m128i order = _mm_setr_epi8(4, 12, 0, 8, 5, 13, 1, 9, 6, 14, 2, 10, 7, 15, 3, 11);
    return _mm512_shuffle_epi8(transposed_groups(codes), _mm512_broadcast_i32x4(order));
}

FASTOPT_INLINE __m512i scattered(__m512i groups) {
    const __m128i order = _mm_setr_epi8(2, 6, 10, 14, 0, 4, 8, 12, 3, 7, 11, 15, 1, 5, 9, 13);
    return transposed_groups(_mm512_shuffle_epi8(groups, _mm512_broadcast_i32x4(order)));
}

// The upper halves of the values whose codes, times 8 without the sign, are `fields`.
template <bool SIGNED>
struct decoder_64 {
    __m512i zero, evenly;  // what is added to a code; the values below the second exponent

    explicit FASTOPT_INLINE decoder_64(uint32_t code_zero) : zero(_mm512_set1_epi16(static_cast<int16_t>(code_zero >> 16))) {
        const float least = bit_copy<float>(code_zero + (1 << 23)) * 0.125f;
        const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
        const __m512i values = _mm512_castps_si512(_mm512_mul_ps(numbers, _mm512_set1_ps(least)));
        evenly = _mm512_broadcast_i64x4(_mm512_cvtepi32_epi16(_mm512_srli_epi32(values, 16)));
    }

    // Of `code` the low 5 bits count, of `sign` the highest.
    FASTOPT_INLINE __m512i halves(__m512i fields, __m512i code, __m512i sign) const {
        if constexpr (SIGNED) {
            const __m512i magnitude = _mm512_and_si512(fields, _mm512_set1_epi16(0x07F0));
            const __mmask32 normal = _mm512_test_epi16_mask(fields, _mm512_set1_epi16(0x0780));
            const __m512i value = _mm512_mask_add_epi16(_mm512_permutexvar_epi16(code, evenly), normal, magnitude, zero);
            return _mm512_ternarylogic_epi32(value, sign, _mm512_set1_epi16(static_cast<int16_t>(0x8000)), 0xF8);  // a | b & c
        } else {
            const __m512i magnitude = _mm512_and_si512(fields, _mm512_set1_epi16(0x0FF0));
            return _mm512_maskz_add_epi16(_mm512_test_epi16_mask(magnitude, magnitude), magnitude, zero);
        }
    }

    FASTOPT_INLINE void operator()(float* out, const uint8_t* codes) const {
        const __m512i groups = gathered(_mm512_loadu_si512(codes));
        const __m512i low = halves(_mm512_slli_epi16(groups, 4), groups, _mm512_slli_epi16(groups, 8));
        const __m512i high = halves(_mm512_srli_epi16(groups, 4), _mm512_srli_epi16(groups, 8), groups);
        const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000));
        _mm512_storeu_si512(out, _mm512_and_si512(low, upper));
        _mm512_storeu_si512(out + 16, _mm512_slli_epi32(low, 16));
        _mm512_storeu_si512(out + 32, _mm512_and_si512(high, upper));
        _mm512_storeu_si512(out + 48, _mm512_slli_epi32(high, 16));
    }
};

template <bool SIGNED>
struct encoder_64 {
    __m512i zero, chance;  // of a code in bits 4 and up, as the sums below have it; of the first element of the block
    __m512 even;

    FASTOPT_INLINE encoder_64(int32_t code_zero, uint32_t chance_of_first)
        : zero(_mm512_set1_epi16(static_cast<int16_t>(code_zero >> 20))),
          chance(_mm512_set1_epi32(static_cast<int32_t>(chance_of_first))),
          even(_mm512_set1_ps(bit_copy<float>(code_zero + (1 << 23)))) {}

    // A magnitude over 16 with the chance of 16 bits added to it: a code and `zero` are in the upper half.
    FASTOPT_INLINE __m512i sum(__m512i magnitude, const uint32_t* by_place) const {
        if constexpr (SIGNED) {
            const __m512i shifted = _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(magnitude), even));
            magnitude = _mm512_max_epi32(magnitude, _mm512_sub_epi32(shifted, _mm512_set1_epi32(1 << 23)));
        }
        const __m512i up = _mm512_add_epi16(chance, _mm512_loadu_si512(by_place));
        return _mm512_add_epi32(_mm512_srli_epi32(magnitude, 4), up);
    }

    FASTOPT_INLINE __m512i code(__m512i first, __m512i second) const {
        const __m512i both = _mm512_mask_mov_epi16(_mm512_srli_epi32(second, 16), 0xAAAAAAAA, first);
        if constexpr (SIGNED) return _mm512_sub_epi16(both, zero);
        const __m512i less = _mm512_subs_epu16(both, _mm512_set1_epi16(1));  // so that a code of at least 1 is left, but of 0
        return _mm512_sub_epi16(both, _mm512_min_epu16(zero, less));
    }

    FASTOPT_INLINE void operator()(uint8_t* codes, const float* x, const uint32_t* by_place) const {
        const __m512i no_sign = _mm512_set1_epi32(0x7FFFFFFF);
        __m512i sums[4];
        __mmask16 negative[4] = {};
        for (int j = 0; j < 4; ++j) {
            const __m512i bits = _mm512_loadu_si512(x + 16 * j);
            sums[j] = sum(_mm512_and_si512(bits, no_sign), by_place + 16 * j);
            if (SIGNED) negative[j] = _mm512_movepi32_mask(bits);
        }
        const __m512i low = code(sums[0], sums[1]), high = code(sums[2], sums[3]);
        __m512i ordered = scattered(_mm512_or_si512(low, _mm512_slli_epi16(high, 8)));
        if constexpr (SIGNED) {
            const __mmask64 signs = _mm512_kunpackd(_mm512_kunpackw(negative[3], negative[2]),
                                                    _mm512_kunpackw(negative[1], negative[0]));
            ordered = _mm512_mask_add_epi8(ordered, signs, ordered, _mm512_set1_epi8(static_cast<int8_t>(0x80)));
        }
        _mm512_storeu_si512(codes, ordered);
    }
};

}  // namespace
#endif
