// What the layers after a matrix product share: a bias for each column, and gradients with the sums of their columns.
#pragma once

#include "core/stream.hpp"

namespace {

// The biases of elements in C order. Of rows shorter than a piece they are repeated, so that a loop runs over row ends.
template <class T>
class repeated_bias {
  public:
    static constexpr int64_t PIECE = 256;  // elements that are asked for at once, at most

    repeated_bias(const T* bias, int64_t columns, int64_t elements)
        : columns_(columns), short_rows_(columns < PIECE), bias_(short_rows_ ? repeated_ : bias) {
        const int64_t n = short_rows_ ? columns + (elements < PIECE ? elements : PIECE) : 0;
        for (int64_t k = 0; k < n; ++k) repeated_[k] = k < columns ? bias[k] : repeated_[k - columns];
    }

    // Those of elements i, i + 1, ...; n is cut where the row ends unless rows are short.
    FASTOPT_INLINE const T* at(int64_t i, int64_t& n) const {
        const int64_t column = i % columns_;
        if (!short_rows_ && n > columns_ - column) n = columns_ - column;
        return bias_ + column;
    }

  private:
    T repeated_[2 * PIECE];
    const int64_t columns_;
    const bool short_rows_;
    const T* const bias_;
};

// dx = gradient(grad, y) and the sums of its columns over blocks of rows. The range is over items, blocks of FASTOPT_ROW_BLOCK
// rows times tiles of FASTOPT_COLUMN_TILE columns.
template <class T, class Args, class Gradient>
inline void layer_gradient(const Args& a, int64_t begin, int64_t end, Gradient gradient) {
    const T* grad = static_cast<const T*>(a.grad);
    const T* y = static_cast<const T*>(a.y);
    T* dx = static_cast<T*>(a.dx);
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
                    for (int64_t i = from; i < to; ++i) out[i - from] = gradient(grad[i], y[i]);
                    for (int64_t i = from; i < to; ++i, column = column + 1 == width ? 0 : column + 1)
                        sums[column] += static_cast<double>(out[i - from]);
                    return;
                }
                for (int64_t i = from, n; i < to; i += n, column = 0) {
                    n = to - i < width - column ? to - i : width - column;
                    double* sum = sums + column;
                    FASTOPT_INDEPENDENT
                    for (int64_t k = 0; k < n; ++k) {
                        const T g = gradient(grad[i + k], y[i + k]);
                        out[i - from + k] = g;
                        sum[k] += static_cast<double>(g);
                    }
                }
            });
        }
    }
}

}  // namespace
