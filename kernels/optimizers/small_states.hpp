// Optimiser states in 16 or 8 bits, decoded and encoded in the loop of the step: one pass over memory.
//
// A code keeps the top bits of a float32's magnitude. bfloat16: 8 bits of exponent, 7 of mantissa. 8 bits: relative to
// the largest exponent of a block, so that a few bits of exponent are enough. Momentum has a sign, 4 bits of exponent and
// 3 of mantissa; below their second exponent its values are evenly spaced down to 0, as subnormal numbers are, so that
// an average that begins at 0 beside a large neighbour moves, by chance: the least is 2^-17 of the block's exponent. The
// averages of squares have 5 bits and 3. A code of 0 is exactly zero; a square that is not zero keeps a code of at least
// 1, 2^-31 of the exponent: a zero there would let its momentum through undivided.
//
// What is cut off decides by chance whether the code goes up: always to the nearest, the decay of 1 - beta2 per step, far
// less than half a unit, would be lost. The chance of an element is 16 bits: those of its block of 256 from the stream,
// with the step number in the upper half of the block counter, plus its place in the block times 0xC141 (65536 divided
// by the plastic number). Each chance is uniform and independent from step to step; the elements of a block share it
// evenly. It costs next to nothing, where a fresh value for each element would cost 0.19 ns. (A sequence over the steps
// too, which would spread the chances of one element evenly, is biased: the state that meets it is a result of it.)
#pragma once

#include "optimizers/bytes_avx512.hpp"
#include "optimizers/optimizer.hpp"
#include "optimizers/optimizers.h"
#include "random/philox.hpp"

namespace {

constexpr uint32_t SIGN = 0x80000000, INFINITE = 0x7F800000;

// What an element's place in its block adds to the chance of the first, in bits UP and up of 32. (A table: a product of a
// register of places takes ten cycles on many CPUs.)
template <int UP>
struct chances_by_place {
    alignas(64) uint32_t of[FASTOPT_STATE_BLOCK];
    constexpr chances_by_place() : of() {
        for (uint32_t i = 0; i < FASTOPT_STATE_BLOCK; ++i) of[i] = (i * 0xC141 & 0xFFFF) << UP;
    }
};
template <int UP>
constexpr chances_by_place<UP> BY_PLACE;

// The chance of the first element of a block, in the upper half of 32 bits.
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
};

template <class T>
struct bfloat16_states {
    typedef int32_t index;
    static constexpr int64_t BLOCK = FASTOPT_STATE_BLOCK;
    static constexpr uint32_t NOT_A_NUMBER = 0x7FC00000;  // one code for all of them
    uint16_t *whole[3], *codes[3];
    block_chance chances;
    uint32_t momentum_chance, chance;

    explicit bfloat16_states(const optimizer_args& a)
        : whole{static_cast<uint16_t*>(a.step.states[0]), static_cast<uint16_t*>(a.step.states[1]),
                static_cast<uint16_t*>(a.step.states[2])},
          chances(a) {}

    template <int STATES>
    FASTOPT_INLINE void prefetch_states(int64_t first) const {
        for (int k = 0; k < 3; ++k)
            if (STATES >> k & 1) prefetch(whole[k] + first, BLOCK);
    }

    template <int STATES>
    FASTOPT_INLINE void begin(int64_t first, index) {
        for (int k = 0; k < 3; ++k)
            if (STATES >> k & 1) codes[k] = whole[k] + first;
        momentum_chance = chances.at(first, true);
        chance = chances.at(first, false);
    }

    template <int K>
    FASTOPT_INLINE T load(index i) const { return static_cast<T>(bit_copy<float>(static_cast<uint32_t>(codes[K][i]) << 16)); }

    template <int K, bool SIGNED>
    FASTOPT_INLINE void store(index i, T x) {
        static_assert(SIGNED == (K == 0));
        const float kept = stored<SIGNED, float>(x), value = K == 0 ? kept : __builtin_fabsf(kept);
        const uint32_t bits = value == value ? bit_copy<uint32_t>(value) : NOT_A_NUMBER;
        const uint32_t up = ((K == 0 ? momentum_chance : chance) + BY_PLACE<16>.of[i]) >> 16;
        const uint32_t code = (bits + up) >> 16;
        codes[K][i] = static_cast<uint16_t>(code);
    }

    template <int STATES>
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

    template <int STATES>
    FASTOPT_INLINE void prefetch_states(int64_t first) const {
        for (int k = 0; k < 3; ++k)
            if (STATES >> k & 1) prefetch(whole[k] + first, BLOCK);
    }

    template <int STATES>
    FASTOPT_INLINE void begin(int64_t first, index n) {
        if constexpr (AMONG<STATES, 0>) decode<0>(first, n);
        if constexpr (AMONG<STATES, 1>) decode<1>(first, n);
        if constexpr (AMONG<STATES, 2>) decode<2>(first, n);
    }

    template <int K>
    FASTOPT_INLINE void decode(int64_t first, index n) {
        const uint8_t* from = whole[K] + first;
        int32_t top = exponents[K][first / BLOCK];
        top = top < LOWEST_EXPONENT ? LOWEST_EXPONENT : top;  // 0 before the first step
        const uint32_t code_zero = static_cast<uint32_t>(top - top_field<K>) << 23;
        const float even = bit_copy<float>(code_zero + (1 << 23));
        index i = 0;
#if defined(__AVX512F__)
        const decoder_64<K == 0> decode_64(code_zero);
        for (; i + 64 <= n; i += 64) decode_64(values[K] + i, from + i);
#endif
        FASTOPT_INDEPENDENT
        for (; i < n; ++i) {
            if constexpr (K == 0) {
                const uint32_t bits = static_cast<uint32_t>(static_cast<int8_t>(from[i])) << 20;
                const float x = bit_copy<float>((bits & 0x07F00000) + code_zero), evenly = x + x - even;
                values[K][i] = bit_copy<float>(bit_copy<uint32_t>(evenly < x ? evenly : x) | (bits & SIGN));
            } else {
                const uint32_t bits = static_cast<uint32_t>(from[i]) << 20;
                values[K][i] = bit_copy<float>(bits != 0 ? bits + code_zero : 0u);
            }
        }
        largest[K] = 0;
    }

    template <int K>
    FASTOPT_INLINE T load(index i) const { return static_cast<T>(values[K][i]); }

    template <int K, bool SIGNED>
    FASTOPT_INLINE void store(index i, T x) {
        static_assert(SIGNED == (K == 0));
        const float value = stored<SIGNED, float>(x);
        const int32_t magnitude = static_cast<int32_t>(bit_copy<uint32_t>(value) & ~SIGN);
        largest[K] = magnitude > largest[K] ? magnitude : largest[K];
        values[K][i] = value;
    }

    template <int STATES>
    FASTOPT_INLINE void finish(int64_t first, index n) {
        if constexpr (AMONG<STATES, 0>) encode<0>(first, n);
        if constexpr (AMONG<STATES, 1>) encode<1>(first, n);
        if constexpr (AMONG<STATES, 2>) encode<2>(first, n);
    }

    template <int K>
    FASTOPT_INLINE void encode(int64_t first, index n) {
        const float* x = values[K];
        if (largest[K] > static_cast<int32_t>(INFINITE)) {  // a NaN counts as zero: it must not take its block along
            largest[K] = 0;
            for (index i = 0; i < n; ++i) store<K, K == 0>(i, static_cast<T>(x[i] == x[i] ? x[i] : 0));
        }
        int32_t top = (largest[K] + 0xFFFFF) >> 23;  // of the largest even when it is rounded up
        top = top < LOWEST_EXPONENT ? LOWEST_EXPONENT : top;
        exponents[K][first / BLOCK] = static_cast<uint8_t>(top);
        const int32_t code_zero = (top - top_field<K>) * (1 << 23);
        const float even = bit_copy<float>(code_zero + (1 << 23));
        const uint32_t chance = chances.at(first, K == 0);
        uint8_t* to = whole[K] + first;
        index i = 0;
#if defined(__AVX512F__)
        const encoder_64<K == 0> encode_64(code_zero, chance >> 16);
        for (; i + 64 <= n; i += 64) encode_64(to + i, x + i, BY_PLACE<0>.of + i);
#endif
        FASTOPT_INDEPENDENT
        for (; i < n; ++i) {
            const uint32_t bits = bit_copy<uint32_t>(x[i]);
            const int32_t magnitude = static_cast<int32_t>(bits & ~SIGN);
            const int32_t up = static_cast<int32_t>((chance + BY_PLACE<16>.of[i]) >> 12) - code_zero;
            if constexpr (K == 0) {
                const int32_t evenly = bit_copy<int32_t>(bit_copy<float>(magnitude) + even) - (1 << 23);
                const uint32_t sum = static_cast<uint32_t>((evenly > magnitude ? evenly : magnitude) + up);
                to[i] = static_cast<uint8_t>((sum | (bits & SIGN) >> 4) >> 20);
            } else {
                const int32_t least = magnitude > 0 ? 1 : 0, code = (magnitude + up) >> 20;
                to[i] = static_cast<uint8_t>(code < least ? least : code);
            }
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
