// Leaky ReLU, its gradient, and the count of inactive units. Maas, Hannun and Ng, "Rectifier nonlinearities improve
// neural network acoustic models", 2013.
#pragma once

#include "core/math.hpp"
#include "core/stream.hpp"
#include "activations/activations.h"

namespace {

template <class T>
void leaky_relu(const activation_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    const T slope = static_cast<T>(a.parameter);
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=](T* y, int64_t from, int64_t to) {
        FASTOPT_INDEPENDENT
        for (int64_t i = from; i < to; ++i) y[i - from] = leaky(x[i], slope);
    });
}

template <class T>
void leaky_relu_backward(const activation_backward_args& a, int64_t begin, int64_t end) {
    const T* grad = static_cast<const T*>(a.grad);
    const T* x = static_cast<const T*>(a.x);
    const T slope = static_cast<T>(a.parameter);
    write_elements(static_cast<T*>(a.dx), begin, end, a.nontemporal, [=](T* dx, int64_t from, int64_t to) {
        FASTOPT_INDEPENDENT
        for (int64_t i = from; i < to; ++i) dx[i - from] = leaky_gradient(grad[i], x[i], slope);
    });
}

// The comparison counts in lanes as wide as the elements, for as many rows as they can hold.
template <class T>
void count_inactive(const count_inactive_args& a, int64_t begin, int64_t end) {
    typedef typename integer_like<T>::type lane;
    constexpr int64_t WIDTH = 1024, MOST_ROWS = 1 << 30;
    for (int64_t row = begin; row < end; row += MOST_ROWS) {
        const int64_t stop = row + MOST_ROWS < end ? row + MOST_ROWS : end;
        for (int64_t column = 0; column < a.columns; column += WIDTH) {
            const int64_t width = a.columns - column < WIDTH ? a.columns - column : WIDTH;
            lane counts[WIDTH] = {};
            if (width == 1) {  // one unit: along the batch
                const T* x = static_cast<const T*>(a.x) + column;
                for (int64_t r = row; r < stop; ++r) counts[0] += x[r * a.columns] <= 0 ? 1 : 0;
            } else {
                for (int64_t r = row; r < stop; ++r) {
                    const T* x = static_cast<const T*>(a.x) + r * a.columns + column;
                    FASTOPT_INDEPENDENT
                    for (int64_t j = 0; j < width; ++j) counts[j] += x[j] <= 0 ? 1 : 0;
                }
            }
            for (int64_t j = 0; j < width; ++j) __atomic_fetch_add(a.counts + column + j, counts[j], __ATOMIC_RELAXED);
        }
    }
}

}  // namespace
