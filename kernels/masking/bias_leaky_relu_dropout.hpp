// A hidden layer after its matrix product, and the gradient of that: bias, leaky ReLU and dropout in one pass each.
// The output is its own mask: a dropped element is +0.0, a kept zero is stored as -0.0, so backward needs y alone.
#pragma once

#include "core/stream.hpp"
#include "masking/dropout.hpp"

namespace {

template <class T>
FASTOPT_INLINE T bias_leaky_relu(T x, T bias, T slope, T scale) {
    const T z = x + bias;
    const T y = (z > 0 ? z : z * slope) * scale;
    return y == 0 ? T(-0.0) : y;
}

template <class T>
void bias_leaky_relu_dropout(const bias_leaky_relu_dropout_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    const T* bias = static_cast<const T*>(a.bias);
    const T slope = static_cast<T>(a.negative_slope), scale = static_cast<T>(a.scale);
    const uint16_t threshold = static_cast<uint16_t>(a.threshold);
    const int64_t columns = a.columns;
    const philox_stream s(a.address);
    // Rows shorter than a piece: their biases again and again, so that the loop below runs over row ends.
    constexpr int64_t PIECE = DECISIONS_PIECE;
    T repeated[2 * PIECE];
    const bool short_rows = columns < PIECE;
    if (short_rows) {
        const int64_t n = columns + (end - begin < PIECE ? end - begin : PIECE);
        for (int64_t k = 0; k < n; ++k) repeated[k] = k < columns ? bias[k] : repeated[k - columns];
        bias = repeated;
    }
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=](T* y, int64_t from, int64_t to) {
        // bias_at(i, n) gives the biases of elements i, i + 1, ...; n is cut where the row ends unless rows are short.
        const auto bias_at = [=](int64_t i, int64_t& n) {
            const int64_t column = i % columns;
            if (!short_rows && n > columns - column) n = columns - column;
            return bias + column;
        };
        if (threshold == 0) {
            for (int64_t i = from, n; i < to; i += n) {
                n = to - i < PIECE ? to - i : PIECE;
                const T* b = bias_at(i, n);
                FASTOPT_INDEPENDENT
                for (int64_t k = 0; k < n; ++k) y[i - from + k] = bias_leaky_relu(x[i + k], b[k], slope, scale);
            }
            return;
        }
        for_decisions(s, x, from, to, [=](const value16* values, int64_t first, int64_t count) {
            for (int64_t i = first, n; i < first + count; i += n) {
                n = first + count - i;
                const T* b = bias_at(i, n);
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
    const T kept = grad * scale;
    return bits == 0 ? T(0) : y > 0 ? kept : kept * slope;
}

// The range is over items, blocks of FASTOPT_ROW_BLOCK rows times tiles of FASTOPT_COLUMN_TILE columns.
template <class T>
void bias_leaky_relu_dropout_backward(const bias_leaky_relu_dropout_backward_args& a, int64_t begin, int64_t end) {
    const T* grad = static_cast<const T*>(a.grad);
    const T* y = static_cast<const T*>(a.y);
    T* dx = static_cast<T*>(a.dx);
    const T slope = static_cast<T>(a.negative_slope), scale = static_cast<T>(a.scale);
    constexpr int64_t NARROW = 16;  // columns, below which the loops along a row are not worth vectorising
    const int64_t columns = a.columns, tiles = (columns + FASTOPT_COLUMN_TILE - 1) / FASTOPT_COLUMN_TILE;
    for (int64_t item = begin; item < end; ++item) {
        const int64_t first_row = item / tiles * FASTOPT_ROW_BLOCK, first_column = item % tiles * FASTOPT_COLUMN_TILE;
        const int64_t rows = a.rows - first_row < FASTOPT_ROW_BLOCK ? a.rows - first_row : FASTOPT_ROW_BLOCK;
        const int64_t width =
            columns - first_column < FASTOPT_COLUMN_TILE ? columns - first_column : FASTOPT_COLUMN_TILE;
        double* sums = a.block_sums + item / tiles * columns + first_column;
        for (int64_t j = 0; j < width; ++j) sums[j] = 0;
        // A tile as wide as the array is one range; else each of its rows is.
        const int64_t length = tiles == 1 ? rows * width : width;
        for (int64_t row = 0; row < (tiles == 1 ? 1 : rows); ++row) {
            const int64_t start = (first_row + row) * columns + first_column;
            write_elements(dx, start, start + length, a.nontemporal, [=](T* out, int64_t from, int64_t to) {
                int64_t column = (from - start) % width;
                if (width < NARROW) {
                    FASTOPT_INDEPENDENT
                    for (int64_t i = from; i < to; ++i)
                        out[i - from] = bias_leaky_relu_dropout_gradient(grad[i], y[i], slope, scale);
                    for (int64_t i = from; i < to; ++i, column = column + 1 == width ? 0 : column + 1)
                        sums[column] += static_cast<double>(out[i - from]);
                    return;
                }
                for (int64_t i = from, n; i < to; i += n, column = 0) {
                    n = to - i < width - column ? to - i : width - column;
                    double* sum = sums + column;
                    FASTOPT_INDEPENDENT
                    for (int64_t k = 0; k < n; ++k) {
                        const T g = bias_leaky_relu_dropout_gradient(grad[i + k], y[i + k], slope, scale);
                        out[i - from + k] = g;
                        sum[k] += static_cast<double>(g);
                    }
                }
            });
        }
    }
}

}  // namespace
