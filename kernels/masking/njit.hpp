// Dropout and the fused layer for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

namespace {

template <class T>
int64_t dropout(T* y, const T* x, int64_t n, double p, uint64_t seed, uint64_t stream, int64_t domain) {
    default_float_mode mode;  // p may be subnormal
    p = in_mode(p);
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if (y != x && overlap(y, x, bytes)) return OVERLAP;
    if (p == 0 || p == 1) {
        if (p == 1) std::memset(y, 0, static_cast<size_t>(bytes));
        else if (y != x) std::memcpy(y, x, static_cast<size_t>(bytes));
        return DONE;
    }
    dropout_args args = {y, x, address(seed, stream, domain), 0, 0, around_cache(y, x, bytes)};
    fastopt_dropout_scalars(p, &args.threshold, &args.scale);
    return run(fastopt_kernels.masking->dropout[TYPE<T>], &args, n);
}

template <class T>
int64_t bias_leaky_relu_dropout(T* y, const T* x, const T* bias, int64_t n, int64_t columns, double negative_slope,
                                double p, uint64_t seed, uint64_t stream, int64_t domain) {
    default_float_mode mode;
    p = in_mode(p);
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T)), bias_bytes = columns * static_cast<int64_t>(sizeof(T));
    if ((y != x && overlap(y, x, bytes)) || overlap(y, bytes, bias, bias_bytes)) return OVERLAP;
    if (p == 1) {
        std::memset(y, 0, static_cast<size_t>(bytes));
        return DONE;
    }
    bias_leaky_relu_dropout_args args = {};
    args.y = y;
    args.x = x;
    args.bias = bias;
    args.columns = columns;
    args.address = address(seed, stream, domain);
    args.scale = 1;
    args.negative_slope = negative_slope;
    args.nontemporal = around_cache(y, x, bytes);
    if (p > 0) fastopt_dropout_scalars(p, &args.threshold, &args.scale);
    return run(fastopt_kernels.masking->bias_leaky_relu_dropout[TYPE<T>], &args, n);
}

template <class T>
int64_t bias_leaky_relu_dropout_backward(T* dx, T* dbias, const T* grad, const T* y, int64_t n, int64_t columns, double p,
                                         double negative_slope) {
    default_float_mode mode;
    p = in_mode(p);
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if ((dx != grad && overlap(dx, grad, bytes)) || (dx != y && overlap(dx, y, bytes))) return OVERLAP;
    if (p == 1) {
        std::memset(dx, 0, static_cast<size_t>(bytes));
        std::memset(dbias, 0, static_cast<size_t>(columns) * sizeof(T));
        return DONE;
    }
    uint32_t threshold;
    bias_leaky_relu_dropout_backward_args args = {};
    args.scale = 1;
    args.negative_slope = negative_slope;
    if (p > 0) fastopt_dropout_scalars(p, &threshold, &args.scale);
    return layer_gradient(fastopt_kernels.masking->bias_leaky_relu_dropout_backward, dx, dbias, grad, y, n, columns, args);
}

}  // namespace

#define FASTOPT_SYMBOLS_masking \
    BOTH(1, dropout), \
    BOTH(1, bias_leaky_relu_dropout), \
    BOTH(1, bias_leaky_relu_dropout_backward)
