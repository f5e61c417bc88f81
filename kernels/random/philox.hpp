// Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
// A block of four 32-bit words is a pure function of a 128-bit counter and a 64-bit key. Counter words: block number (64
// bits, low first), low 32 bits of the stream, next 24 bits of the stream | domain << 24.
#pragma once

#include "core/kernel.hpp"
#include "random/below.hpp"
#include "random/random.h"

namespace {

constexpr uint32_t PHILOX_M0 = 0xD2511F53, PHILOX_M1 = 0xCD9E8D57;  // multipliers and key increments of the paper
constexpr uint32_t PHILOX_W0 = 0x9E3779B9, PHILOX_W1 = 0xBB67AE85;
constexpr int PHILOX_ROUNDS = 10;

struct philox_stream {
    uint32_t c2, c3;
    uint64_t key[PHILOX_ROUNDS][2];  // of each round, as wide as the registers' lanes: a broadcast from memory is free
    explicit philox_stream(const random_address& a)
        : c2(static_cast<uint32_t>(a.stream)), c3(static_cast<uint32_t>(a.stream >> 32) | a.domain << 24) {
        uint32_t k0 = static_cast<uint32_t>(a.seed), k1 = static_cast<uint32_t>(a.seed >> 32);
        for (int round = 0; round < PHILOX_ROUNDS; ++round, k0 += PHILOX_W0, k1 += PHILOX_W1) {
            key[round][0] = k0;
            key[round][1] = k1;
        }
    }
};

inline void philox_block(uint32_t* out, const philox_stream& s, uint64_t block) {
    uint32_t x0 = static_cast<uint32_t>(block), x1 = static_cast<uint32_t>(block >> 32), x2 = s.c2, x3 = s.c3;
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        const uint32_t k0 = static_cast<uint32_t>(s.key[round][0]), k1 = static_cast<uint32_t>(s.key[round][1]);
        const uint64_t p0 = static_cast<uint64_t>(PHILOX_M0) * x0, p1 = static_cast<uint64_t>(PHILOX_M1) * x2;
        x0 = static_cast<uint32_t>(p1 >> 32) ^ x1 ^ k0;
        x1 = static_cast<uint32_t>(p1);
        x2 = static_cast<uint32_t>(p0 >> 32) ^ x3 ^ k1;
        x3 = static_cast<uint32_t>(p0);
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

// The same with registers of blocks. GCC 12 vectorises the loop above three times slower than these intrinsics.
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__aarch64__)
#define FASTOPT_PHILOX_REGISTERS
#endif

#if defined(__AVX512F__) || defined(__AVX2__)
// Each word is in the low half of a 64-bit lane: the widening multiply ignores the high half, so a round is two multiplies,
// two shifts and four xors.
#if defined(__AVX512F__)
typedef __m512i philox_lanes;
constexpr int PHILOX_LANES = 8;
inline philox_lanes lanes_set(uint64_t x) { return _mm512_set1_epi64(static_cast<int64_t>(x)); }
inline philox_lanes lanes_order() { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }
inline philox_lanes lanes_ordered(const uint64_t* x) { return _mm512_permutexvar_epi64(lanes_order(), _mm512_loadu_si512(x)); }
inline philox_lanes lanes_add(philox_lanes a, philox_lanes b) { return _mm512_add_epi64(a, b); }
inline philox_lanes lanes_mul(philox_lanes a, philox_lanes b) { return _mm512_mul_epu32(a, b); }
inline philox_lanes lanes_high(philox_lanes a) { return _mm512_srli_epi64(a, 32); }
inline philox_lanes lanes_xor(philox_lanes a, philox_lanes b, philox_lanes c) {
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}
inline philox_lanes lanes_pair(philox_lanes low, philox_lanes high) {
    return _mm512_mask_blend_epi32(0xAAAA, low, _mm512_slli_epi64(high, 32));
}
inline void lanes_store(uint32_t* out, philox_lanes a, philox_lanes b) {
    _mm512_storeu_si512(out, _mm512_unpacklo_epi64(a, b));
    _mm512_storeu_si512(out + 16, _mm512_unpackhi_epi64(a, b));
}
#else
typedef __m256i philox_lanes;
constexpr int PHILOX_LANES = 4;
inline philox_lanes lanes_set(uint64_t x) { return _mm256_set1_epi64x(static_cast<int64_t>(x)); }
inline philox_lanes lanes_order() { return _mm256_setr_epi64x(0, 2, 1, 3); }
inline philox_lanes lanes_ordered(const uint64_t* x) {
    return _mm256_permute4x64_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)), 0xD8);
}
inline philox_lanes lanes_add(philox_lanes a, philox_lanes b) { return _mm256_add_epi64(a, b); }
inline philox_lanes lanes_mul(philox_lanes a, philox_lanes b) { return _mm256_mul_epu32(a, b); }
inline philox_lanes lanes_high(philox_lanes a) { return _mm256_srli_epi64(a, 32); }
inline philox_lanes lanes_xor(philox_lanes a, philox_lanes b, philox_lanes c) {
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
inline philox_lanes lanes_pair(philox_lanes low, philox_lanes high) {
    return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xAA);
}
inline void lanes_store(uint32_t* out, philox_lanes a, philox_lanes b) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_unpacklo_epi64(a, b));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8), _mm256_unpackhi_epi64(a, b));
}
#endif

inline philox_lanes lanes_from(uint64_t first) { return lanes_add(lanes_set(first), lanes_order()); }

// Chain c is of the blocks blocks(c), laid out so that the two unpacks at the end put the words in element order.
template <int CHAINS, class Blocks>
inline void philox_registers(uint32_t* out, const philox_stream& s, Blocks blocks) {
    const philox_lanes m0 = lanes_set(PHILOX_M0), m1 = lanes_set(PHILOX_M1);
    philox_lanes x0[CHAINS], x1[CHAINS], x2[CHAINS], x3[CHAINS];
    for (int c = 0; c < CHAINS; ++c) {
        x0[c] = blocks(c);
        x1[c] = lanes_high(x0[c]);
        x2[c] = lanes_set(s.c2);
        x3[c] = lanes_set(s.c3);
    }
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        const philox_lanes key0 = lanes_set(s.key[round][0]), key1 = lanes_set(s.key[round][1]);
        for (int c = 0; c < CHAINS; ++c) {
            const philox_lanes p0 = lanes_mul(m0, x0[c]), p1 = lanes_mul(m1, x2[c]);
            x0[c] = lanes_xor(lanes_high(p1), x1[c], key0);
            x1[c] = p1;
            x2[c] = lanes_xor(lanes_high(p0), x3[c], key1);
            x3[c] = p0;
        }
    }
    for (int c = 0; c < CHAINS; ++c)
        lanes_store(out + c * 4 * PHILOX_LANES, lanes_pair(x0[c], x1[c]), lanes_pair(x2[c], x3[c]));
}

#elif defined(__aarch64__)
// Four words a register, of four blocks: a round is four widening multiplies of two words each, four instructions that take
// their products apart, and four xors. The store interleaves the registers, which puts the words in element order.
typedef uint64x2x2_t philox_lanes;  // numbers of blocks
constexpr int PHILOX_LANES = 4;
inline philox_lanes lanes_ordered(const uint64_t* x) { return {{vld1q_u64(x), vld1q_u64(x + 2)}}; }
inline philox_lanes lanes_from(uint64_t first) {
    const uint64_t steps[4] = {0, 1, 2, 3};
    const uint64x2_t base = vdupq_n_u64(first);
    return {{vaddq_u64(base, vld1q_u64(steps)), vaddq_u64(base, vld1q_u64(steps + 2))}};
}
inline uint32x4_t lanes_low(uint64x2_t a, uint64x2_t b) {
    return vuzp1q_u32(vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(b));
}
inline uint32x4_t lanes_high(uint64x2_t a, uint64x2_t b) {
    return vuzp2q_u32(vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(b));
}

template <int CHAINS, class Blocks>
inline void philox_registers(uint32_t* out, const philox_stream& s, Blocks blocks) {
    const uint32x4_t m0 = vdupq_n_u32(PHILOX_M0), m1 = vdupq_n_u32(PHILOX_M1);
    uint32x4x4_t x[CHAINS];
    for (int c = 0; c < CHAINS; ++c) {
        const philox_lanes numbers = blocks(c);
        x[c].val[0] = lanes_low(numbers.val[0], numbers.val[1]);
        x[c].val[1] = lanes_high(numbers.val[0], numbers.val[1]);
        x[c].val[2] = vdupq_n_u32(s.c2);
        x[c].val[3] = vdupq_n_u32(s.c3);
    }
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        const uint32x4_t key0 = vdupq_n_u32(static_cast<uint32_t>(s.key[round][0]));
        const uint32x4_t key1 = vdupq_n_u32(static_cast<uint32_t>(s.key[round][1]));
        for (int c = 0; c < CHAINS; ++c) {
            uint32x4_t* const w = x[c].val;
            const uint64x2_t p0 = vmull_u32(vget_low_u32(m0), vget_low_u32(w[0])), q0 = vmull_high_u32(m0, w[0]);
            const uint64x2_t p1 = vmull_u32(vget_low_u32(m1), vget_low_u32(w[2])), q1 = vmull_high_u32(m1, w[2]);
            w[0] = veorq_u32(veorq_u32(w[1], key0), lanes_high(p1, q1));
            w[1] = lanes_low(p1, q1);
            w[2] = veorq_u32(veorq_u32(w[3], key1), lanes_high(p0, q0));
            w[3] = lanes_low(p0, q0);
        }
    }
    for (int c = 0; c < CHAINS; ++c) vst4q_u32(out + c * 4 * PHILOX_LANES, x[c]);
}
#endif

typedef uint16_t __attribute__((may_alias)) value16;  // the 16-bit values of a word, low half first

#if defined(FASTOPT_PHILOX_REGISTERS)
// Several independent chains hide the latency of the multiplies, as far as the registers go (Zen 4, ns a word: AVX-512 0.33
// with four and 0.35 with three; AVX2 0.57 with three, 0.62 with two and 0.73 with four).
constexpr int PHILOX_CHAINS = PHILOX_LANES == 8 ? 4 : 3;

// out = the words of `count` registers of blocks, blocks(0), blocks(1), ...
template <class Blocks>
inline void philox_chains(uint32_t* out, const philox_stream& s, int64_t count, Blocks blocks) {
    int64_t v = 0;
    for (; v + PHILOX_CHAINS <= count; v += PHILOX_CHAINS, out += PHILOX_CHAINS * 4 * PHILOX_LANES)
        philox_registers<PHILOX_CHAINS>(out, s, [=](int c) { return blocks(v + c); });
    for (; v < count; ++v, out += 4 * PHILOX_LANES) philox_registers<1>(out, s, [=](int) { return blocks(v); });
}
#endif

// out[0 .. 4 * blocks) = the words of blocks first, first + 1, ... in element order.
__attribute__((noinline, unused)) void philox_words(uint32_t* out, const philox_stream& s, uint64_t first, int64_t blocks) {
    int64_t b = 0;
#if defined(FASTOPT_PHILOX_REGISTERS)
    const int64_t whole = blocks / PHILOX_LANES;
    philox_chains(out, s, whole, [=](int64_t v) { return lanes_from(first + static_cast<uint64_t>(v * PHILOX_LANES)); });
    b = whole * PHILOX_LANES;
#endif
    for (; b < blocks; ++b) philox_block(out + 4 * b, s, first + static_cast<uint64_t>(b));
}

// out = the words of groups of BLOCKS blocks each, which need not be neighbours.
template <int BLOCKS>
__attribute__((noinline)) void philox_groups(uint32_t* out, const philox_stream& s, const uint64_t* groups, int64_t count) {
#if defined(FASTOPT_PHILOX_REGISTERS)
    constexpr int EACH = BLOCKS / PHILOX_LANES;
    static_assert(EACH * PHILOX_LANES == BLOCKS, "whole registers");
    philox_chains(out, s, count * EACH, [=](int64_t v) {
        return lanes_from(groups[v / EACH] * BLOCKS + static_cast<uint64_t>(v % EACH * PHILOX_LANES));
    });
#else
    for (int64_t g = 0; g < count; ++g) philox_words(out + g * 4 * BLOCKS, s, groups[g] * BLOCKS, BLOCKS);
#endif
}

// out = the words of any blocks, a multiple of 8 of them.
__attribute__((noinline, unused)) void philox_blocks(uint32_t* out, const philox_stream& s, const uint64_t* blocks, int64_t count) {
#if defined(FASTOPT_PHILOX_REGISTERS)
    philox_chains(out, s, count / PHILOX_LANES, [=](int64_t v) { return lanes_ordered(blocks + v * PHILOX_LANES); });
#else
    for (int64_t b = 0; b < count; ++b) philox_block(out + 4 * b, s, blocks[b]);
#endif
}

// Runs loop(words, from, to) over pieces of [begin, end), where words[0] is word number `first_word + from`.
// `words` has room for what a piece needs, whatever alignment to blocks costs.
constexpr int64_t WORDS_PIECE = 1024;

template <class Loop>
inline void for_words(const random_address& address, uint64_t first_word, int64_t begin, int64_t end, Loop loop) {
    const philox_stream s(address);
    alignas(64) uint32_t buffer[WORDS_PIECE];
    for (int64_t i = begin; i < end;) {
        const uint64_t word = first_word + static_cast<uint64_t>(i);
        const int64_t skip = static_cast<int64_t>(word % 4);  // only the first piece can start inside a block
        const int64_t n = end - i < WORDS_PIECE - skip ? end - i : WORDS_PIECE - skip;
        philox_words(buffer, s, word / 4, (skip + n + 3) / 4);
        loop(buffer + skip, i, i + n);
        i += n;
    }
}

// Whole blocks go straight to their place.
template <class T>
void random_raw(const random_raw_args& a, int64_t begin, int64_t end) {
    const auto copied = [&](const uint32_t* words, int64_t from, int64_t to) {
        __builtin_memcpy(a.out + from, words, static_cast<size_t>(to - from) * 4);
    };
    const int64_t into_block = static_cast<int64_t>((a.offset + static_cast<uint64_t>(begin)) % 4);
    const int64_t first = into_block == 0 || end - begin < 4 ? begin : begin + 4 - into_block;
    const int64_t blocks = (end - first) / 4;
    for_words(a.address, a.offset, begin, first, copied);
    philox_words(a.out + first, philox_stream(a.address), (a.offset + static_cast<uint64_t>(first)) / 4, blocks);
    for_words(a.address, a.offset, first + 4 * blocks, end, copied);
}

inline void uniforms(float* out, const uint32_t* words, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(static_cast<int32_t>(words[i] >> 8)) * 0x1p-24f;
}

inline void uniforms(double* out, const uint32_t* words, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        // 53 bits: the upper 32 from the odd word, the lower 21 from the even one. Both halves and their sum are exact.
        const double high = static_cast<double>(words[2 * i + 1]) * 0x1p-32;
        const double low = static_cast<double>(words[2 * i] >> 11) * 0x1p-53;
        out[i] = high + low;
    }
}

template <class T>
void random_uniform(const random_uniform_args& a, int64_t begin, int64_t end) {
    constexpr int64_t WORDS = sizeof(T) / 4;  // words an element
    T* out = static_cast<T*>(a.out);
    for_words(a.address, a.offset * WORDS, begin * WORDS, end * WORDS,
              [=](const uint32_t* words, int64_t from, int64_t to) {
                  uniforms(out + from / WORDS, words, (to - from) / WORDS);
              });
}

template <class T>
void random_integers(const random_integers_args& a, int64_t begin, int64_t end) {
    for_words(a.address, a.offset * 2, begin * 2, end * 2, [=](const uint32_t* words, int64_t from, int64_t to) {
        for (int64_t i = 0; i < (to - from) / 2; ++i) {
            const uint64_t u = two_words(words + 2 * i);
            const uint64_t value = a.range == 0 ? u : below(u, a.range);
            a.out[from / 2 + i] = static_cast<int64_t>(static_cast<uint64_t>(a.low) + value);
        }
    });
}

}  // namespace
