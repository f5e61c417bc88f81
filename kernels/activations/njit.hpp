// Activations for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

namespace {

template <class T>
int64_t leaky_relu(T* y, const T* x, int64_t n, double negative_slope) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if (y != x && overlap(y, x, bytes)) return OVERLAP;
    const leaky_relu_args args = {y, x, negative_slope, around_cache(y, x, bytes)};
    return run(fastopt_kernels.activations->leaky_relu[TYPE<T>], &args, n);
}

template <class T>
int64_t leaky_relu_backward(T* dx, const T* grad, const T* x, int64_t n, double negative_slope) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if ((dx != grad && overlap(dx, grad, bytes)) || (dx != x && overlap(dx, x, bytes))) return OVERLAP;
    const leaky_relu_backward_args args = {dx, grad, x, negative_slope,
                                           around_cache(dx, grad, bytes) && around_cache(dx, x, bytes)};
    return run(fastopt_kernels.activations->leaky_relu_backward[TYPE<T>], &args, n);
}

}  // namespace

#define FASTOPT_SYMBOLS_activations \
    BOTH(1, leaky_relu), \
    BOTH(1, leaky_relu_backward)
