// Activations for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

#include <algorithm>

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

// And of one without.
template <class T>
int64_t tanh_1(T* y, const T* x, int64_t n) {  // the C++ library of LLVM has templates of the plain name
    return activation(fastopt_kernels.activations->tanh, y, x, n, 0);
}
template <class T>
int64_t tanh_backward(T* dx, const T* grad, const T* y, int64_t n) {
    return activation_backward(fastopt_kernels.activations->tanh_backward, dx, grad, y, n, 0);
}

template <class T>
int64_t bias_tanh(T* y, const T* x, const T* bias, int64_t n, int64_t columns) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T)), bias_bytes = columns * static_cast<int64_t>(sizeof(T));
    if ((y != x && overlap(y, x, bytes)) || overlap(y, bytes, bias, bias_bytes)) return OVERLAP;
    const bias_tanh_args args = {y, x, bias, columns, around_cache(y, x, bytes)};
    return run(fastopt_kernels.activations->bias_tanh[TYPE<T>], &args, n);
}

template <class T>
int64_t bias_tanh_backward(T* dx, T* dbias, const T* grad, const T* y, int64_t n, int64_t columns) {
    return layer_gradient(fastopt_kernels.activations->bias_tanh_backward, dx, dbias, grad, y, n, columns,
                          bias_tanh_backward_args());
}

// fractions and counts have a place for each of n / rows columns; the element type of a name is that of its first array.
template <class T>
int64_t inactive_fraction(const T* x, double* fractions, int64_t* counts, int64_t n, int64_t rows) {
    default_float_mode mode;
    const int64_t columns = n / rows;
    const double size = in_mode(static_cast<double>(rows));
    std::fill(counts, counts + columns, 0);
    const count_inactive_args args = {counts, x, columns};
    run(fastopt_kernels.activations->count_inactive[TYPE<T>], &args, rows);
    for (int64_t j = 0; j < columns; ++j) fractions[j] = in_mode(in_mode(static_cast<double>(counts[j])) / size);
    return DONE;
}

}  // namespace

#define FASTOPT_SYMBOLS_activations \
    BOTH(1, leaky_relu), \
    BOTH(1, leaky_relu_backward), \
    BOTH_OF(1, tanh, tanh_1), \
    BOTH(1, tanh_backward), \
    BOTH(1, bias_tanh), \
    BOTH(1, bias_tanh_backward), \
    BOTH(1, inactive_fraction)
