// Sums in a fixed order, so that no thread count and no vector width shows in the result: blocks of FASTOPT_SUM_BLOCK
// elements; inside a block, lane j of 16 adds elements j, j + 16, ...; the lanes fold 16 -> 8 -> 4 -> 2 -> 1 by adding
// the upper half. The caller adds the block sums in order.
#pragma once

#include "core/bfloat16.hpp"
#include "core/registers.hpp"

namespace {

constexpr int SUM_LANES = 16;

// block_sums[k] = the sum over the k-th block of term(x), which takes and returns a double, or a register of them.
template <class T, class Term>
inline void sum_blocks(double* block_sums, const void* data, int64_t size, int64_t begin, int64_t end, Term term) {
    for (int64_t block = begin; block < end; ++block) {
        const T* x = static_cast<const T*>(data) + block * FASTOPT_SUM_BLOCK;
        const int64_t rest = size - block * FASTOPT_SUM_BLOCK;
        const int64_t n = rest < FASTOPT_SUM_BLOCK ? rest : FASTOPT_SUM_BLOCK;
        double lane[SUM_LANES] = {};
        int64_t i = 0;
        typedef whole_register<double> at;
        if constexpr (2 * at::COUNT == SUM_LANES) {
            auto low = at{0}.load(lane), high = low;
            for (; i + SUM_LANES <= n; i += SUM_LANES) {
                low += term(at{i}.load(x));
                high += term(at{i + at::COUNT}.load(x));
            }
            at{0}.store(lane, low);
            at{at::COUNT}.store(lane, high);
        }
        for (; i + SUM_LANES <= n; i += SUM_LANES)
            for (int j = 0; j < SUM_LANES; ++j) lane[j] += term(static_cast<double>(x[i + j]));
        for (int j = 0; i + j < n; ++j) lane[j] += term(static_cast<double>(x[i + j]));
        for (int half = SUM_LANES / 2; half > 0; half /= 2)
            for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
        block_sums[block] = lane[0];
    }
}

template <class T>
void sum_squares(const sum_args& a, int64_t begin, int64_t end) {
    sum_blocks<T>(a.block_sums, a.x, a.size, begin, end, [](auto x) { return x * x; });
}

template <class>
void sum_squares_bfloat16(const sum_args& a, int64_t begin, int64_t end) {
    float wide[FASTOPT_SUM_BLOCK];
    for (int64_t block = begin; block < end; ++block) {
        const uint16_t* codes = static_cast<const uint16_t*>(a.x) + block * FASTOPT_SUM_BLOCK;
        const int64_t rest = a.size - block * FASTOPT_SUM_BLOCK;
        const int64_t n = rest < FASTOPT_SUM_BLOCK ? rest : FASTOPT_SUM_BLOCK;
        for (int64_t i = 0; i < n; ++i) wide[i] = widened(codes[i]);
        sum_squares<float>({a.block_sums + block, wide, n, 0}, 0, 1);
    }
}

template <class T>
void sum_values(const sum_args& a, int64_t begin, int64_t end) {
    const double mean = a.mean;
    sum_blocks<T>(a.block_sums, a.x, a.size, begin, end, [mean](auto x) { return x - mean; });
}

template <class T>
void sum_squared_deviations(const sum_args& a, int64_t begin, int64_t end) {
    const double mean = a.mean;
    sum_blocks<T>(a.block_sums, a.x, a.size, begin, end, [mean](auto x) { return (x - mean) * (x - mean); });
}

template <class T>
void add_row_blocks(const add_row_blocks_args& a, int64_t begin, int64_t end) {
    constexpr int64_t PIECE = 512;
    double total[PIECE];
    for (int64_t first = begin; first < end; first += PIECE) {
        const int64_t n = end - first < PIECE ? end - first : PIECE;
        const double* sums = a.block_sums + first;
        for (int64_t j = 0; j < n; ++j) total[j] = sums[j];
        for (int64_t block = 1; block < a.blocks; ++block)
            for (int64_t j = 0; j < n; ++j) total[j] += sums[block * a.columns + j];
        T* out = static_cast<T*>(a.out) + first;
        for (int64_t j = 0; j < n; ++j) out[j] = static_cast<T>(total[j]);
    }
}

}  // namespace
