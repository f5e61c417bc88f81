// A hidden layer after its matrix product, and the gradient of that: bias, leaky ReLU and dropout in one pass each.
// The output is its own mask: a dropped element is +0.0, a kept zero is stored as -0.0, so backward needs y alone.
#pragma once

#include "core/layers.hpp"
#include "core/math.hpp"
#include "masking/dropout.hpp"
#include "masking/masking.h"

namespace {

template <class T>
FASTOPT_INLINE T bias_leaky_relu(T x, T bias, T slope, T scale) {
    const T y = leaky(x + bias, slope) * scale;
    return y == 0 ? T(-0.0) : y;
}

template <class T>
void bias_leaky_relu_dropout(const bias_leaky_relu_dropout_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    const T* bias = static_cast<const T*>(a.bias);
    const T slope = static_cast<T>(a.negative_slope), scale = static_cast<T>(a.scale);
    const uint16_t threshold = static_cast<uint16_t>(a.threshold);
    const philox_stream s(a.address);
    constexpr int64_t PIECE = DECISIONS_PIECE;
    static_assert(PIECE <= repeated_bias<T>::PIECE, "biases of a piece at once");
    const repeated_bias<T> biases(bias, a.columns, end - begin);
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=, &biases](T* y, int64_t from, int64_t to) {
        if (threshold == 0) {
            for (int64_t i = from, n; i < to; i += n) {
                n = to - i < PIECE ? to - i : PIECE;
                const T* b = biases.at(i, n);
                FASTOPT_INDEPENDENT
                for (int64_t k = 0; k < n; ++k) y[i - from + k] = bias_leaky_relu(x[i + k], b[k], slope, scale);
            }
            return;
        }
        for_decisions(s, x, from, to, [=, &biases](const value16* values, int64_t first, int64_t count) {
            for (int64_t i = first, n; i < first + count; i += n) {
                n = first + count - i;
                const T* b = biases.at(i, n);
                const value16* value = values + (i - first);
                FASTOPT_INDEPENDENT
                for (int64_t k = 0; k < n; ++k) {
                    const T kept = bias_leaky_relu(x[i + k], b[k], slope, scale);
                    y[i - from + k] = value[k] >= threshold ? kept : T(0);
                }
            }
        });
    });
}

// The gradient with respect to x + bias.
template <class T>
FASTOPT_INLINE T bias_leaky_relu_dropout_gradient(T grad, T y, T slope, T scale) {
    typename bits_of<T>::type bits;
    __builtin_memcpy(&bits, &y, sizeof y);
    return bits == 0 ? T(0) : leaky_gradient(grad * scale, y, slope);
}

template <class T>
void bias_leaky_relu_dropout_backward(const bias_leaky_relu_dropout_backward_args& a, int64_t begin, int64_t end) {
    const T slope = static_cast<T>(a.negative_slope), scale = static_cast<T>(a.scale);
    layer_gradient<T>(a, begin, end, [=](T grad, T y) __attribute__((always_inline)) {
        return bias_leaky_relu_dropout_gradient(grad, y, slope, scale);
    });
}

}  // namespace
