// What goes with the optimisers and is no rule: averages, clipping, gradients of single rows.
#pragma once

#include "optimizers/optimizer.hpp"
#include "optimizers/optimizers.h"

namespace {

template <class T>
void sum_rows(const sum_rows_args& a, int64_t begin, int64_t end) {
    int64_t groups = 0;
    for (int64_t k = 0; k < a.rows; ++k) {
        const T* row = static_cast<const T*>(a.values) + k * a.width;
        T* out = static_cast<T*>(a.out) + a.group[k] * a.width;
        if (a.group[k] == groups) {
            ++groups;
            __builtin_memcpy(out + begin, row + begin, static_cast<size_t>(end - begin) * sizeof(T));
        } else {
            FASTOPT_INDEPENDENT
            for (int64_t j = begin; j < end; ++j) out[j] += row[j];
        }
    }
}

template <class T>
void ema(const ema_args& a, int64_t begin, int64_t end) {
    const T* value = static_cast<const T*>(a.value);
    move_averages(static_cast<T*>(a.average) + begin, value + begin, averaging<T>(a.rate), end - begin);
}

template <class T>
void scale(const scale_args& a, int64_t begin, int64_t end) {
    T* x = static_cast<T*>(a.x);
    const T factor = static_cast<T>(a.factor);
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) x[i] = x[i] * factor;
}

}  // namespace
