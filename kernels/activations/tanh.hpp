// The hyperbolic tangent and its gradient, also of a layer after its matrix product.
#pragma once

#include "core/layers.hpp"
#include "core/math.hpp"
#include "core/registers.hpp"
#include "activations/activations.h"

namespace {

template <class T>
void tanh(const activation_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=](T* y, int64_t from, int64_t to) {
        elementwise<T>(to - from, [=](auto at) { at.store(y, hyperbolic_tangent(at.load(x + from))); });
    });
}

template <class T>
void tanh_backward(const activation_backward_args& a, int64_t begin, int64_t end) {
    const T* grad = static_cast<const T*>(a.grad);
    const T* y = static_cast<const T*>(a.x);
    write_elements(static_cast<T*>(a.dx), begin, end, a.nontemporal, [=](T* dx, int64_t from, int64_t to) {
        FASTOPT_INDEPENDENT
        for (int64_t i = from; i < to; ++i) dx[i - from] = tanh_gradient(grad[i], y[i]);
    });
}

template <class T>
void bias_tanh(const bias_tanh_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    const repeated_bias<T> biases(static_cast<const T*>(a.bias), a.columns, end - begin);
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=, &biases](T* y, int64_t from, int64_t to) {
        for (int64_t i = from, n; i < to; i += n) {
            n = to - i < biases.PIECE ? to - i : biases.PIECE;
            const T* b = biases.at(i, n);
            elementwise<T>(n, [=](auto at) {
                at.store(y + (i - from), hyperbolic_tangent(at.load(x + i) + at.load(b)));
            });
        }
    });
}

template <class T>
void bias_tanh_backward(const bias_tanh_backward_args& a, int64_t begin, int64_t end) {
    layer_gradient<T>(a, begin, end, [](T grad, T y) __attribute__((always_inline)) { return tanh_gradient(grad, y); });
}

}  // namespace
