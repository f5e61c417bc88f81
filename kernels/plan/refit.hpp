// The next distribution of each problem, from its weighted candidates.
#pragma once

#include "core/kernel.hpp"
#include "plan/plan.h"

namespace {

template <class T>
void plan_refit(const plan_refit_args& a, int64_t begin, int64_t end) {
    constexpr int64_t PIECE = 64;
    const int64_t n = a.dimensions;
    alignas(64) double centre[PIECE], square[PIECE];
    for (int64_t p = begin; p < end; ++p) {
        const T *rows = static_cast<const T*>(a.rows) + p * a.count * n, *lower = static_cast<const T*>(a.lower);
        const T *mean = static_cast<const T*>(a.before_mean) + p * n, *std = static_cast<const T*>(a.before_std) + p * n;
        const T* upper = static_cast<const T*>(a.upper);
        T *new_mean = static_cast<T*>(a.mean) + p * n, *new_std = static_cast<T*>(a.std) + p * n;
        const double* weights = a.weights + p * a.count;
        double total = 0;
        for (int64_t e = 0; e < a.count; ++e) total += weights[e];
        if (!(total > 0)) {
            __builtin_memcpy(new_mean, mean, static_cast<size_t>(n) * sizeof(T));
            __builtin_memcpy(new_std, std, static_cast<size_t>(n) * sizeof(T));
            continue;
        }
        for (int64_t from = 0; from < n; from += PIECE) {
            const int64_t size = n - from < PIECE ? n - from : PIECE;
            for (int64_t d = 0; d < size; ++d) centre[d] = square[d] = 0;
            for (int64_t e = 0; e < a.count; ++e) {
                const T* x = rows + e * n + from;
                const double weight = weights[e];
                if (weight == 0) continue;
                FASTOPT_INDEPENDENT
                for (int64_t d = 0; d < size; ++d) centre[d] += weight * static_cast<double>(x[d]);
            }
            for (int64_t d = 0; d < size; ++d) centre[d] /= total;
            for (int64_t e = 0; e < a.count; ++e) {
                const T* x = rows + e * n + from;
                const double weight = weights[e];
                if (weight == 0) continue;
                FASTOPT_INDEPENDENT
                for (int64_t d = 0; d < size; ++d) {
                    const double u = static_cast<double>(x[d]) - centre[d];
                    square[d] += weight * (u * u);
                }
            }
            for (int64_t d = 0; d < size; ++d) {
                const int64_t at = from + d;
                const double m = static_cast<double>(mean[at]), s = static_cast<double>(std[at]);
                T moved = static_cast<T>(m + a.mean_lr[at] * (centre[d] - m));
                if (lower != nullptr) {
                    moved = moved < lower[at] ? lower[at] : moved;
                    moved = moved > upper[at] ? upper[at] : moved;
                }
                double wide = s + a.std_lr[at] * (square_root(square[d] / total) - s);
                wide = wide > a.min_std ? wide : a.min_std;
                wide = wide < a.max_std ? wide : a.max_std;
                new_mean[at] = moved;
                new_std[at] = static_cast<T>(wide);
            }
        }
    }
}

}  // namespace
