// Activations for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

namespace {

template <class T>
int64_t activation(const fastopt_kernel* kernels, T* y, const T* x, int64_t n, double parameter) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if (y != x && overlap(y, x, bytes)) return OVERLAP;
    const activation_args args = {y, x, parameter, around_cache(y, x, bytes)};
    return run(kernels[TYPE<T>], &args, n);
}

template <class T>
int64_t activation_backward(const fastopt_kernel* kernels, T* dx, const T* grad, const T* x, int64_t n, double parameter) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if ((dx != grad && overlap(dx, grad, bytes)) || (dx != x && overlap(dx, x, bytes))) return OVERLAP;
    const activation_backward_args args = {dx, grad, x, parameter,
                                           around_cache(dx, grad, bytes) && around_cache(dx, x, bytes)};
    return run(kernels[TYPE<T>], &args, n);
}

// The functions NAME and NAME_backward of an activation with one parameter.
#define ACTIVATION(NAME)                                                                                    \
    template <class T>                                                                                      \
    int64_t NAME(T* y, const T* x, int64_t n, double parameter) {                                           \
        return activation(fastopt_kernels.activations->NAME, y, x, n, parameter);                           \
    }                                                                                                       \
    template <class T>                                                                                      \
    int64_t NAME##_backward(T* dx, const T* grad, const T* x, int64_t n, double parameter) {                \
        return activation_backward(fastopt_kernels.activations->NAME##_backward, dx, grad, x, n, parameter); \
    }

ACTIVATION(leaky_relu)

}  // namespace

#define FASTOPT_SYMBOLS_activations \
    BOTH(1, leaky_relu), \
    BOTH(1, leaky_relu_backward)
