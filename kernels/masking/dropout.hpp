// Inverted dropout, forward and backward alike: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, JMLR 2014.
// The decision of element e is its 16-bit value of the stream, so no mask is stored; a dropped element is selected away,
// not multiplied, so that NaN and infinity become +0.0 there.
#pragma once

#include "core/stream.hpp"
#include "masking/masking.h"
#include "random/philox.hpp"

namespace {

constexpr int64_t DECISIONS_PIECE = 256;  // short, so that arithmetic and memory take turns often

// Runs loop(values, i, n) over pieces of [from, to), at most DECISIONS_PIECE long: values[k] decides element i + k. The
// elements x that the loop will read are fetched meanwhile: the memory would idle while the decisions are made.
template <class T, class Loop>
FASTOPT_INLINE void for_decisions(const philox_stream& s, const T* x, int64_t from, int64_t to, Loop loop) {
    constexpr int64_t BLOCK = 8;  // elements that a Philox block decides
    alignas(64) uint32_t words[DECISIONS_PIECE / 2 + 4];
    for (int64_t i = from; i < to;) {
        const int64_t skip = i % BLOCK;
        const int64_t n = to - i < DECISIONS_PIECE ? to - i : DECISIONS_PIECE;
        for (int64_t k = 0; k < n; k += 64 / sizeof(T)) __builtin_prefetch(x + i + k);
        philox_words(words, s, static_cast<uint64_t>(i / BLOCK), (skip + n + BLOCK - 1) / BLOCK);
        loop(reinterpret_cast<const value16*>(words) + skip, i, n);
        i += n;
    }
}

// y = x * scale where the value is at least the threshold, +0.0 elsewhere, a register at a time around the cache. n is a
// multiple of COUNT.
template <class T>
struct dropout_around_cache {
    static constexpr int64_t COUNT = REGISTER_BYTES / sizeof(T);
    typedef typename integer_like<T>::type integer;
    typedef T numbers __attribute__((vector_size(REGISTER_BYTES)));
    typedef integer integers __attribute__((vector_size(REGISTER_BYTES)));
    typedef uint16_t decisions __attribute__((vector_size(2 * COUNT)));

    static FASTOPT_INLINE integers widened(decisions value) {  // of which GCC makes four instructions, for one
#if defined(__AVX512F__)
        if constexpr (sizeof(T) == 4) return (integers)_mm512_cvtepu16_epi32((__m256i)value);
#elif defined(__AVX2__)
        if constexpr (sizeof(T) == 4) return (integers)_mm256_cvtepu16_epi32((__m128i)value);
#endif
        return __builtin_convertvector(value, integers);
    }

    static FASTOPT_INLINE void run(T* y, const T* x, const value16* values, int64_t n, T scale, integer threshold) {
        for (int64_t k = 0; k < n; k += COUNT) {
            numbers kept;
            decisions value;
            __builtin_memcpy(&kept, x + k, sizeof kept);
            __builtin_memcpy(&value, values + k, sizeof value);
            const integers keep = widened(value) >= threshold;  // all bits, or none
            store_register(y + k, bit_copy<integers>(kept * scale) & keep);
        }
    }
};

template <class T>
void dropout(const dropout_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    T* y = static_cast<T*>(a.y);
    const T scale = static_cast<T>(a.scale);
    const uint16_t threshold = static_cast<uint16_t>(a.threshold);
    const philox_stream s(a.address);
    const auto by_way_of_cache = [=](int64_t from, int64_t to) {
        for_decisions(s, x, from, to, [=](const value16* values, int64_t i, int64_t n) {
            FASTOPT_INDEPENDENT
            for (int64_t k = 0; k < n; ++k) {
                const T kept = x[i + k] * scale;
                y[i + k] = values[k] >= threshold ? kept : T(0);
            }
        });
    };
    if (!a.nontemporal) return by_way_of_cache(begin, end);
    constexpr int64_t COUNT = dropout_around_cache<T>::COUNT;
    static_assert(DECISIONS_PIECE % COUNT == 0, "pieces of whole registers");
    const int64_t first = first_line(y, begin, end), last = end - (end - first) % COUNT;
    by_way_of_cache(begin, first);
    for_decisions(s, x, first, last, [=](const value16* values, int64_t i, int64_t n) {
        dropout_around_cache<T>::run(y + i, x + i, values, n, scale, threshold);
    });
    by_way_of_cache(last, end);
    finish_lines();
}

}  // namespace
