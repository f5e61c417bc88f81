// The layers of a perceptron, forward and backward, over products of matrices whose sums have an order of their own: so
// the bits are the same everywhere, which those of a BLAS are not. Products of 64 x 64 x 64 take as long as OpenBLAS's.
#pragma once

#include "core/math.hpp"
#include "core/registers.hpp"
#include "core/tiles.hpp"
#include "policy/categorical.hpp"
#include "policy/policy.h"

namespace {

// A register of neighbouring columns.
template <class T>
struct columns_of {
    typedef T type __attribute__((vector_size(REGISTER_BYTES), aligned(sizeof(T)), may_alias));
    static constexpr int64_t WIDTH = REGISTER_BYTES / sizeof(T);
};

// A block of the second matrix has BLOCK rows of up to BLOCK columns. It is packed as panels of PANEL registers of columns,
// in each of which its rows lie one after the other, the last panel filled up with zeros: a panel stays in the cache
// while all rows of the first matrix go through it.
constexpr int64_t BLOCK = FASTOPT_PRODUCT_BLOCK;
constexpr int PANEL = 2, TALL = 6;  // registers and rows of a tile of sums: with what they are made of they fill 16
static_assert(BLOCK % (PANEL * 64 / sizeof(float)) == 0, "whole panels");

// A matrix by the distance of its rows and that of its columns, of which one is 1.
template <class T>
struct matrix {
    const T* at;
    int64_t row, column;
    FASTOPT_INLINE matrix from(int64_t i, int64_t j) const { return {at + i * row + j * column, row, column}; }
};

template <class T>
ONCE_A_TILE void pack(T* block, matrix<T> b, int64_t rows, int64_t columns) {
    constexpr int64_t WIDTH = PANEL * columns_of<T>::WIDTH;
    typedef squares<T> of;
    for (int64_t first = 0; first < columns; first += WIDTH) {
        T* panel = block + first * BLOCK;
        const T* from = b.at + first * b.column;
        const int64_t n = at_most(columns - first, WIDTH);
        if (n < WIDTH) __builtin_memset(panel, 0, static_cast<size_t>(rows * WIDTH) * sizeof(T));
        int64_t j = 0;
        if (b.column == 1 && n == WIDTH) {
            for (int64_t i = 0; i < rows; ++i) __builtin_memcpy(panel + i * WIDTH, from + i * b.row, WIDTH * sizeof(T));
            continue;
        }
        for (; b.row == 1 && j + of::DEEP <= n && rows >= of::SIDE; j += of::DEEP)
            for (int64_t i = 0; i < rows; i += of::SIDE) {
                const int64_t at = at_most(i, rows - of::SIDE);  // the last ones may overlap those before
                of::rows_at(from + j * b.column + at, b.column).transposed().store_columns(panel + at * WIDTH + j, WIDTH);
            }
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t k = j; k < n; ++k) panel[i * WIDTH + k] = from[i * b.row + k * b.column];
    }
}

// c[i, j] = or += the sum over k of a[i, k] * b[k, j], of DOWN rows and ACROSS registers of columns, of which the first ones
// of a panel are at `panels`.
template <class T, int DOWN, int ACROSS>
FASTOPT_INLINE void sum_tile(T* c, int64_t stride, matrix<T> a, const T* panels, int64_t depth, int64_t columns, bool first) {
    typedef typename columns_of<T>::type type;
    constexpr int64_t WIDTH = columns_of<T>::WIDTH;
    type sum[DOWN][ACROSS] = {};
    for (int64_t k = 0; k < depth; ++k) {
        type b[ACROSS];
        for (int j = 0; j < ACROSS; ++j)
            b[j] = *reinterpret_cast<const type*>(panels + (j / PANEL * BLOCK + k) * PANEL * WIDTH + j % PANEL * WIDTH);
        for (int i = 0; i < DOWN; ++i) {
            // GCC's scheduler would load the numbers of all rows first, for which there are no registers left.
            asm volatile("" ::: "memory");
            const T x = a.at[i * a.row + k * a.column];
            for (int j = 0; j < ACROSS; ++j) sum[i][j] += x * b[j];
        }
    }
    if (columns >= ACROSS * WIDTH) {
        for (int i = 0; i < DOWN; ++i)
            for (int j = 0; j < ACROSS; ++j) {
                type& to = *reinterpret_cast<type*>(c + i * stride + j * WIDTH);
                to = first ? sum[i][j] : to + sum[i][j];
            }
        return;
    }
    T some[DOWN][ACROSS * WIDTH];
    __builtin_memcpy(some, sum, sizeof some);
    for (int i = 0; i < DOWN; ++i)
        for (int64_t l = 0; l < columns; ++l) c[i * stride + l] = first ? some[i][l] : c[i * stride + l] + some[i][l];
}

// The same of DOWN rows and all columns: as many registers at once as stay in registers.
template <class T, int DOWN, int ACROSS>
FASTOPT_INLINE void sum_rows_of(T* c, int64_t stride, matrix<T> a, const T* panels, int64_t depth, int64_t columns, bool first) {
    constexpr int64_t WIDTH = columns_of<T>::WIDTH;
    int64_t j = 0;
    for (; columns - j > (ACROSS - 1) * WIDTH; j += ACROSS * WIDTH)
        sum_tile<T, DOWN, ACROSS>(c + j, stride, a, panels + j * BLOCK, depth, columns - j, first);
    if constexpr (ACROSS > 1)
        if (j < columns) sum_rows_of<T, DOWN, ACROSS / 2>(c + j, stride, a, panels + j * BLOCK, depth, columns - j, first);
}

// One row against a matrix whose columns lie together: each square is transposed where it is used, since to pack a block
// costs more than to use it once.
template <class T>
FASTOPT_INLINE void row_product(T* c, matrix<T> a, matrix<T> b, int64_t depth, int64_t columns, bool first) {
    typedef squares<T> of;
    typedef typename of::type type;
    int64_t j = 0;
    for (; j + of::DEEP <= columns && depth >= of::SIDE; j += of::DEEP) {
        type sum = {};
        for (int64_t k = 0; k < depth; k += of::SIDE) {
            const int64_t at = at_most(k, depth - of::SIDE);  // the last ones may overlap those before
            const of some = of::rows_at(b.at + at + j * b.column, b.column).transposed();
            for (int64_t l = 0; l < of::SIDE; ++l)
                if (at + l >= k) sum += a.at[(at + l) * a.column] * some.x[l];
        }
        type& to = *reinterpret_cast<type*>(c + j);
        to = first ? sum : to + sum;
    }
    for (; j < columns; ++j) {
        T sum = 0;
        for (int64_t k = 0; k < depth; ++k) sum += a.at[k * a.column] * b.at[k + j * b.column];
        c[j] = first ? sum : c[j] + sum;
    }
}

// c = a b, of `rows` x `depth` and `depth` x `columns`. The depth goes in blocks of BLOCK, of which each sum begins at 0.
template <class T>
ONCE_A_TILE void product(T* c, int64_t stride, matrix<T> a, matrix<T> b, int64_t rows, int64_t depth, int64_t columns) {
    alignas(64) T block[BLOCK * BLOCK];
    for (int64_t j = 0; j < columns; j += BLOCK)
        for (int64_t k = 0; k < depth; k += BLOCK) {
            const int64_t across = at_most(columns - j, BLOCK), deep = at_most(depth - k, BLOCK);
            if (rows == 1 && b.row == 1) {
                row_product(c + j, a.from(0, k), b.from(k, j), deep, across, k == 0);
                continue;
            }
            pack(block, b.from(k, j), deep, across);
            const int64_t whole = rows / TALL * TALL;
            for (int64_t l = 0; l < across; l += PANEL * columns_of<T>::WIDTH)
                for (int64_t i = 0; i < whole; i += TALL)
                    sum_rows_of<T, TALL, PANEL>(c + i * stride + j + l, stride, a.from(i, k), block + l * BLOCK, deep,
                                                at_most(across - l, PANEL * columns_of<T>::WIDTH), k == 0);
            for (int64_t i = whole; i < rows; ++i)
                sum_rows_of<T, 1, 8>(c + i * stride + j, stride, a.from(i, k), block, deep, across, k == 0);
        }
}

template <class T>
void dense(const dense_args& a, int64_t begin, int64_t end) {
    const int64_t inputs = a.inputs, outputs = a.outputs;
    T* y = static_cast<T*>(a.y) + begin * outputs;
    const T *x = static_cast<const T*>(a.x) + begin * inputs, *bias = static_cast<const T*>(a.bias);
    const T slope = static_cast<T>(a.negative_slope);
    product<T>(y, outputs, {x, inputs, 1}, {static_cast<const T*>(a.weight), 1, inputs}, end - begin, inputs, outputs);
    for (int64_t i = 0; i < end - begin; ++i, y += outputs) {
        switch (a.activation) {
            case FASTOPT_TANH:
                elementwise<T>(outputs, [&](auto at) { at.store(y, hyperbolic_tangent(at.load(y) + at.load(bias))); });
                break;
            case FASTOPT_LEAKY_RELU:
                FASTOPT_INDEPENDENT
                for (int64_t j = 0; j < outputs; ++j) y[j] = leaky(y[j] + bias[j], slope);
                break;
            default:
                FASTOPT_INDEPENDENT
                for (int64_t j = 0; j < outputs; ++j) y[j] += bias[j];
        }
    }
}

template <class T>
void dense_backward(const dense_backward_args& a, int64_t begin, int64_t end) {
    const int64_t inputs = a.inputs, outputs = a.outputs;
    T* dx = static_cast<T*>(a.dx) + begin * inputs;
    const T *dz = static_cast<const T*>(a.dz) + begin * outputs, *x = static_cast<const T*>(a.x) + begin * inputs;
    const T slope = static_cast<T>(a.negative_slope);
    product<T>(dx, inputs, {dz, outputs, 1}, {static_cast<const T*>(a.weight), inputs, 1}, end - begin, outputs, inputs);
    const int64_t n = (end - begin) * inputs;
    if (a.activation == FASTOPT_TANH) {
        FASTOPT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) dx[i] = tanh_gradient(dx[i], x[i]);
    } else if (a.activation == FASTOPT_LEAKY_RELU) {
        FASTOPT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) dx[i] = leaky_gradient(dx[i], x[i], slope);
    }
}

template <class T>
void dense_gradient(const dense_gradient_args& a, int64_t begin, int64_t end) {
    const int64_t inputs = a.inputs, outputs = a.outputs;
    const T* dz = static_cast<const T*>(a.dz) + begin;
    product<T>(static_cast<T*>(a.dweight) + begin * inputs, inputs, {dz, 1, outputs}, {static_cast<const T*>(a.x), inputs, 1},
               end - begin, a.rows, inputs);
    T* dbias = static_cast<T*>(a.dbias);
    for (int64_t j = begin; j < end; j += BLOCK) {
        const int64_t across = at_most(end - j, BLOCK);
        double total[BLOCK] = {};
        for (int64_t row = 0; row < a.rows; row += FASTOPT_ROW_BLOCK) {
            double sums[BLOCK] = {};
            for (int64_t i = row; i < at_most(a.rows, row + FASTOPT_ROW_BLOCK); ++i)
                for (int64_t l = 0; l < across; ++l) sums[l] += static_cast<double>(dz[i * outputs + (j - begin) + l]);
            for (int64_t l = 0; l < across; ++l) total[l] += sums[l];
        }
        for (int64_t l = 0; l < across; ++l) dbias[j + l] = static_cast<T>(total[l]);
    }
}

// The action that wins a race: see categorical_race_args.
template <class T>
void categorical_race(const categorical_race_args& a, int64_t begin, int64_t end) {
    typedef typename integer_like<T>::type index;
    side_by_side(begin, end, false, [&](auto side, int64_t row, int64_t rows) {
        constexpr int64_t LANES = decltype(side)::LANES;
        const T *logits = static_cast<const T*>(a.logits) + row * a.stride, *noise = static_cast<const T*>(a.noise) + row * a.stride;
        softmax<T, LANES> t;
        t.take(logits, {}, row, rows, a.columns, a.stride);
        t.take_logarithms();
        alignas(64) T tile[LANES == 1 ? 1 : TILE];
        T most[LANES] = {}, log_prob[LANES];
        int64_t chosen[LANES] = {};
        for (int64_t k = 0; k < a.columns; k += t.PIECE) {
            const int64_t n = t.piece(k);
            const T* waits = noise + k;
            if constexpr (LANES > 1) {
                load_tile(tile, waits, a.stride, rows, n);
                waits = tile;
            }
            index fastest[LANES];  // of this piece, or none
            for (int64_t j = 0; j < LANES; ++j) fastest[j] = -1;
            for (int64_t c = 0; c < n; ++c)
                for (int64_t j = 0; j < LANES; ++j) {
                    const T speed = t.e[c * LANES + j] / t.total[j] / waits[c * LANES + j];
                    fastest[j] = speed > most[j] ? static_cast<index>(c) : fastest[j];
                    most[j] = speed > most[j] ? speed : most[j];
                }
            for (int64_t j = 0; j < LANES; ++j) chosen[j] = fastest[j] < 0 ? chosen[j] : k + fastest[j];
        }
        action_log_probs(log_prob, t, {chosen});  // NaN where there is no distribution
        for (int64_t j = 0; j < rows; ++j) {
            T& to = static_cast<T*>(a.log_prob)[row + j];
            to = a.list == 0 ? log_prob[j] : to + log_prob[j];
            a.actions[(row + j) * a.lists + a.list] = t.total[j] == t.total[j] ? chosen[j] : -1;
        }
    });
}

}  // namespace
