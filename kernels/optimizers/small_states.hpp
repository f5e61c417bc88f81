// Optimiser states in 16 or 8 bits, decoded and encoded in the loop of the step: one pass over memory.
//
// A code keeps the top bits of a float32's magnitude. bfloat16: 8 bits of exponent, 7 of mantissa. 8 bits: relative to
// the largest exponent of a block, so that a few bits of exponent are enough: momentum has a sign, 4 bits of exponent
// and 3 of mantissa, the averages of squares 5 and 3. A code of 0 is exactly zero; a square that is not zero keeps a
// code of at least 1, for a zero there would let its momentum through undivided.
//
// What is cut off decides by chance whether the code goes up: always to the nearest, the decay of 1 - beta2 per step, far
// less than half a unit, would be lost. The chance of an element is 16 bits: those of its block of 256 from the stream,
// with the step number in the upper half of the block counter, plus its place in the block times 0xC141 (65536 divided
// by the plastic number). Each chance is uniform and independent from step to step; the elements of a block share it
// evenly. It costs next to nothing, where a fresh value for each element would cost 0.19 ns. (A sequence over the steps
// too, which would spread the chances of one element evenly, is biased: the state that meets it is a result of it.)
#pragma once

#include "optimizers/optimizer.hpp"
#include "random/philox.hpp"

namespace {

constexpr uint32_t SIGN = 0x80000000, INFINITE = 0x7F800000;
constexpr uint32_t CHANCE_BY_PLACE = 0xC141;

// The chances of a block, in the upper half of 32 bits, where they wrap by themselves.
struct block_chance {
    philox_stream stream;
    uint64_t step_number;
    uint32_t words[4];
    int64_t block_of_words = -1;

    explicit block_chance(const optimizer_args& a) : stream(a.rounding), step_number(a.step_number) {}

    // Of the first element: momentum takes the low half of the block's word, the averages of squares the high half.
    // Inlined, and by way of copies, so that no pointer to this gets out: the loops around it would not be vectorised.
    FASTOPT_INLINE uint32_t at(int64_t first, bool momentum) {
        const int64_t block = first / FASTOPT_STATE_BLOCK;
        if (block / 4 != block_of_words) {
            uint32_t fresh[4];
            const philox_stream copy = stream;
            block_of_words = block / 4;
            philox_block(fresh, copy, step_number << 32 | static_cast<uint64_t>(block_of_words));
            for (int k = 0; k < 4; ++k) words[k] = fresh[k];
        }
        const uint32_t word = words[block % 4];
        return (momentum ? word : word >> 16) << 16;
    }

    static FASTOPT_INLINE uint32_t of_element(uint32_t of_first, int32_t i) {
        return of_first + static_cast<uint32_t>(i) * (CHANCE_BY_PLACE << 16);
    }
};

template <class T>
struct bfloat16_states {
    typedef int32_t index;
    static constexpr int64_t BLOCK = FASTOPT_STATE_BLOCK;
    static constexpr uint32_t NOT_A_NUMBER = 0x7FC00000;  // the least of those that arithmetic gives
    uint16_t *whole[3], *codes[3];
    block_chance chances;
    uint32_t momentum_chance, chance;

    explicit bfloat16_states(const optimizer_args& a)
        : whole{static_cast<uint16_t*>(a.step.states[0]), static_cast<uint16_t*>(a.step.states[1]),
                static_cast<uint16_t*>(a.step.states[2])},
          chances(a) {}

    template <int COUNT>
    FASTOPT_INLINE void begin(int64_t first, index) {
        for (int k = 0; k < COUNT; ++k) codes[k] = whole[k] + first;
        momentum_chance = chances.at(first, true);
        chance = chances.at(first, false);
    }

    template <int K>
    FASTOPT_INLINE T load(index i) const { return static_cast<T>(bit_copy<float>(static_cast<uint32_t>(codes[K][i]) << 16)); }

    template <int K>
    FASTOPT_INLINE void store(index i, T x) {
        const float value = stored<K, float>(x);
        uint32_t magnitude = bit_copy<uint32_t>(value) & ~SIGN;
        magnitude = magnitude < NOT_A_NUMBER ? magnitude : NOT_A_NUMBER;
        uint32_t code = (magnitude + (chances.of_element(K == 0 ? momentum_chance : chance, i) >> 16)) >> 16;
        if (K == 0) code |= value < 0 ? 0x8000 : 0;
        codes[K][i] = static_cast<uint16_t>(code);
    }

    template <int COUNT>
    FASTOPT_INLINE void finish(int64_t, index) {}
};

template <class T>
struct eight_bit_states {
    typedef int32_t index;
    static constexpr int64_t BLOCK = FASTOPT_STATE_BLOCK;
    static constexpr int32_t LOWEST_EXPONENT = 32;  // of a block, biased as in a float32; the highest is that of infinity
    uint8_t *whole[3], *exponents[3];
    block_chance chances;
    int32_t largest[3];  // magnitude in the block
    alignas(64) float values[3][BLOCK];

    // The exponent field of a code whose value has the exponent of its block.
    template <int K>
    static constexpr int32_t top_field = K == 0 ? 15 : 31;

    explicit eight_bit_states(const optimizer_args& a)
        : whole{static_cast<uint8_t*>(a.step.states[0]), static_cast<uint8_t*>(a.step.states[1]),
                static_cast<uint8_t*>(a.step.states[2])},
          exponents{a.exponents[0], a.exponents[1], a.exponents[2]},
          chances(a) {}

    template <int COUNT>
    FASTOPT_INLINE void begin(int64_t first, index n) {
        if constexpr (COUNT > 0) decode<0>(first, n);
        if constexpr (COUNT > 1) decode<1>(first, n);
        if constexpr (COUNT > 2) decode<2>(first, n);
    }

    template <int K>
    FASTOPT_INLINE void decode(int64_t first, index n) {
        const uint8_t* from = whole[K] + first;
        const uint32_t code_zero = static_cast<uint32_t>(exponents[K][first / BLOCK] - top_field<K>) << 23;
        index i = 0;
#if defined(__AVX512F__)
        const __m512i zero = _mm512_set1_epi32(static_cast<int32_t>(code_zero));
        const __m512i kept = _mm512_set1_epi32(K == 0 ? static_cast<int32_t>(0x87F00000) : 0x0FF00000);
        const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
        for (; i + 16 <= n; i += 16) {
            const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
            const __m512i wide = K == 0 ? _mm512_cvtepi8_epi32(code) : _mm512_cvtepu8_epi32(code);
            const __m512i bits = _mm512_and_si512(_mm512_slli_epi32(wide, 20), kept);
            const __mmask16 not_zero = _mm512_test_epi32_mask(bits, magnitude);
            _mm512_storeu_si512(values[K] + i, _mm512_maskz_add_epi32(not_zero, bits, zero));
        }
#endif
        FASTOPT_INDEPENDENT
        for (; i < n; ++i) {
            const int32_t wide = K == 0 ? static_cast<int8_t>(from[i]) : from[i];
            const uint32_t bits = static_cast<uint32_t>(wide) << 20 & (K == 0 ? 0x87F00000 : 0x0FF00000);
            values[K][i] = bit_copy<float>((bits & ~SIGN) != 0 ? bits + code_zero : 0u);
        }
        largest[K] = 0;
    }

    template <int K>
    FASTOPT_INLINE T load(index i) const { return static_cast<T>(values[K][i]); }

    template <int K>
    FASTOPT_INLINE void store(index i, T x) {
        const float value = stored<K, float>(x);
        const int32_t magnitude = static_cast<int32_t>(bit_copy<uint32_t>(value) & ~SIGN);
        largest[K] = magnitude > largest[K] ? magnitude : largest[K];
        values[K][i] = value;
    }

    template <int COUNT>
    FASTOPT_INLINE void finish(int64_t first, index n) {
        if constexpr (COUNT > 0) encode<0>(first, n);
        if constexpr (COUNT > 1) encode<1>(first, n);
        if constexpr (COUNT > 2) encode<2>(first, n);
    }

    template <int K>
    FASTOPT_INLINE void encode(int64_t first, index n) {
        const float* x = values[K];
        if (largest[K] > static_cast<int32_t>(INFINITE)) {  // a NaN counts as zero: it must not take its block along
            largest[K] = 0;
            for (index i = 0; i < n; ++i) store<K>(i, static_cast<T>(x[i] == x[i] ? x[i] : 0));
        }
        int32_t top = (largest[K] + 0xFFFFF) >> 23;  // of the largest even when it is rounded up
        top = top < LOWEST_EXPONENT ? LOWEST_EXPONENT : top;
        exponents[K][first / BLOCK] = static_cast<uint8_t>(top);
        const int32_t code_zero = (top - top_field<K>) * (1 << 23);
        const uint32_t chance = chances.at(first, K == 0);
        uint8_t* to = whole[K] + first;
        index i = 0;
#if defined(__AVX512F__)
        const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i place = _mm512_set1_epi32(static_cast<int32_t>(CHANCE_BY_PLACE << 16));
        const __m512i by_register = _mm512_slli_epi32(place, 4);
        __m512i chance_now = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(chance)), _mm512_mullo_epi32(places, place));
        const __m512i zero = _mm512_set1_epi32(code_zero), one = _mm512_set1_epi32(1), none = _mm512_setzero_si512();
        for (; i + 16 <= n; i += 16) {
            const __m512i bits = _mm512_loadu_si512(x + i);
            const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
            const __m512i cut = _mm512_sub_epi32(_mm512_srli_epi32(chance_now, 12), zero);
            __m512i code = _mm512_srai_epi32(_mm512_add_epi32(magnitude, cut), 20);
            if (K == 0) {
                code = _mm512_max_epi32(code, none);
                code = _mm512_mask_or_epi32(code, _mm512_movepi32_mask(bits), code, _mm512_set1_epi32(0x80));
            } else {
                code = _mm512_maskz_max_epi32(_mm512_test_epi32_mask(magnitude, magnitude), code, one);
            }
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm512_cvtepi32_epi8(code));
            chance_now = _mm512_add_epi32(chance_now, by_register);
        }
#endif
        FASTOPT_INDEPENDENT
        for (; i < n; ++i) {
            const int32_t magnitude = static_cast<int32_t>(bit_copy<uint32_t>(x[i]) & ~SIGN);
            const int32_t least = K > 0 && magnitude > 0 ? 1 : 0;
            int32_t code = (magnitude - code_zero + static_cast<int32_t>(chances.of_element(chance, i) >> 12)) >> 20;
            code = code < least ? least : code;
            if (K == 0) code |= x[i] < 0 ? 0x80 : 0;
            to[i] = static_cast<uint8_t>(code);
        }
    }
};

// The kernels RULE, RULE_bfloat16 and RULE_8bit, of a template RULE_in over the element type and the states.
#define FASTOPT_STATE_DTYPE(RULE, KERNEL, STATES)                         \
    template <class T>                                                   \
    void KERNEL(const optimizer_args& a, int64_t begin, int64_t end) {   \
        RULE##_in<T, STATES<T>>(a, begin, end);                          \
    }
#define FASTOPT_STATE_DTYPES(RULE)                               \
    FASTOPT_STATE_DTYPE(RULE, RULE, plain_states)                \
    FASTOPT_STATE_DTYPE(RULE, RULE##_bfloat16, bfloat16_states)  \
    FASTOPT_STATE_DTYPE(RULE, RULE##_8bit, eight_bit_states)

}  // namespace
