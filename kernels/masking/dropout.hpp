// Inverted dropout, forward and backward alike: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, JMLR 2014.
// The decision of element e is its 16-bit value of the stream, so no mask is stored; a dropped element is selected away,
// not multiplied, so that NaN and infinity become +0.0 there.
#pragma once

#include "core/stream.hpp"
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

template <class T>
void dropout(const dropout_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    const T scale = static_cast<T>(a.scale);
    const uint16_t threshold = static_cast<uint16_t>(a.threshold);
    const philox_stream s(a.address);
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=](T* y, int64_t from, int64_t to) {
        for_decisions(s, x, from, to, [=](const value16* values, int64_t i, int64_t n) {
            FASTOPT_INDEPENDENT
            for (int64_t k = 0; k < n; ++k) {
                const T kept = x[i + k] * scale;
                y[i - from + k] = values[k] >= threshold ? kept : T(0);
            }
        });
    });
}

}  // namespace
