// Short rows are worked on side by side, ROWS at once: a tile holds column k of its rows together, at [k * ROWS], and
// every operation is on whole registers however short the rows are. Rows of more than COLUMNS go through the tile in
// pieces, once for each pass.
#pragma once

#include "core/kernel.hpp"

namespace {

constexpr int64_t ROWS = 64, COLUMNS = 32, TILE = ROWS * COLUMNS;

// For what a kernel does once a tile: compiled once and not in every kernel, which took three times as long.
#define ONCE_A_TILE __attribute__((noinline))

inline int64_t at_most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

// Rows become columns in registers, of which each part of 16 bytes holds elements of one row: four float or two double,
// and so many rows make a square. Registers of two parts do two squares at once (sums of rows of 18 float32 take 4.6
// cycles for 16 elements, 6.5 with one part).
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) && defined(__AVX__)
#define TWO_PARTS 1
#endif
#endif
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, index{__VA_ARGS__})
#endif

// low(a, b) takes the lower halves of each part in turns, high(a, b) the upper ones.
template <class T>
struct parts_of;
template <>
struct parts_of<float> {
    typedef float part __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(TWO_PARTS)
    typedef float type __attribute__((vector_size(32), aligned(4), may_alias));
    typedef int32_t index __attribute__((vector_size(32)));
    static FASTOPT_INLINE type low(type a, type b) { return SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
    static FASTOPT_INLINE type high(type a, type b) { return SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
    static FASTOPT_INLINE type join(part a, part b) { return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7); }
    static FASTOPT_INLINE part first(type x) { return __builtin_shufflevector(x, x, 0, 1, 2, 3); }
    static FASTOPT_INLINE part second(type x) { return __builtin_shufflevector(x, x, 4, 5, 6, 7); }
#else
    typedef part type;
    typedef int32_t index __attribute__((vector_size(16)));
    static FASTOPT_INLINE type low(type a, type b) { return SHUFFLE(a, b, 0, 4, 1, 5); }
    static FASTOPT_INLINE type high(type a, type b) { return SHUFFLE(a, b, 2, 6, 3, 7); }
#endif
};
template <>
struct parts_of<double> {
    typedef double part __attribute__((vector_size(16), aligned(8), may_alias));
#if defined(TWO_PARTS)
    typedef double type __attribute__((vector_size(32), aligned(8), may_alias));
    typedef int64_t index __attribute__((vector_size(32)));
    static FASTOPT_INLINE type low(type a, type b) { return SHUFFLE(a, b, 0, 4, 2, 6); }
    static FASTOPT_INLINE type high(type a, type b) { return SHUFFLE(a, b, 1, 5, 3, 7); }
    static FASTOPT_INLINE type join(part a, part b) { return __builtin_shufflevector(a, b, 0, 1, 2, 3); }
    static FASTOPT_INLINE part first(type x) { return __builtin_shufflevector(x, x, 0, 1); }
    static FASTOPT_INLINE part second(type x) { return __builtin_shufflevector(x, x, 2, 3); }
#else
    typedef part type;
    typedef int64_t index __attribute__((vector_size(16)));
    static FASTOPT_INLINE type low(type a, type b) { return SHUFFLE(a, b, 0, 2); }
    static FASTOPT_INLINE type high(type a, type b) { return SHUFFLE(a, b, 1, 3); }
#endif
};

// SIDE columns of DEEP rows: a register for each column, or before they are transposed, for each row of a square.
template <class T>
struct squares {
    typedef typename parts_of<T>::type type;
    typedef typename parts_of<T>::part part;
    static constexpr int64_t SIDE = 16 / sizeof(T), DEEP = sizeof(type) / sizeof(T);
    type x[SIDE];

    static FASTOPT_INLINE squares rows_at(const T* from, int64_t stride) {
        squares s;
        for (int64_t j = 0; j < SIDE; ++j) {
            const part row = *reinterpret_cast<const part*>(from + j * stride);
#if defined(TWO_PARTS)
            s.x[j] = parts_of<T>::join(row, *reinterpret_cast<const part*>(from + (SIDE + j) * stride));
#else
            s.x[j] = row;
#endif
        }
        return s;
    }
    FASTOPT_INLINE void store_rows(T* to, int64_t stride) const {
        for (int64_t j = 0; j < SIDE; ++j) {
#if defined(TWO_PARTS)
            *reinterpret_cast<part*>(to + j * stride) = parts_of<T>::first(x[j]);
            *reinterpret_cast<part*>(to + (SIDE + j) * stride) = parts_of<T>::second(x[j]);
#else
            *reinterpret_cast<part*>(to + j * stride) = x[j];
#endif
        }
    }
    static FASTOPT_INLINE squares columns_at(const T* from, int64_t stride) {
        squares s;
        for (int64_t k = 0; k < SIDE; ++k) s.x[k] = *reinterpret_cast<const type*>(from + k * stride);
        return s;
    }
    FASTOPT_INLINE void store_columns(T* to, int64_t stride) const {
        for (int64_t k = 0; k < SIDE; ++k) *reinterpret_cast<type*>(to + k * stride) = x[k];
    }
    FASTOPT_INLINE squares transposed() const {
        typedef parts_of<T> of;
        if constexpr (SIDE == 2) return {{of::low(x[0], x[1]), of::high(x[0], x[1])}};
        else {
            const type low02 = of::low(x[0], x[2]), high02 = of::high(x[0], x[2]);
            const type low13 = of::low(x[1], x[3]), high13 = of::high(x[1], x[3]);
            return {{of::low(low02, low13), of::high(low02, low13), of::low(high02, high13), of::high(high02, high13)}};
        }
    }
};

// Whole tiles of a number of columns that is known here are vectorised.
template <class T, int COUNT>
FASTOPT_INLINE void load_few(T* tile, const T* from) {
    for (int k = 0; k < COUNT; ++k)
        for (int64_t j = 0; j < ROWS; ++j) tile[k * ROWS + j] = from[j * COUNT + k];
}
template <class T, int COUNT>
FASTOPT_INLINE void store_few(T* to, const T* tile) {
    for (int64_t j = 0; j < ROWS; ++j)
        for (int k = 0; k < COUNT; ++k) to[j * COUNT + k] = tile[k * ROWS + j];
}

// Columns [0, columns) of `rows` <= ROWS rows, `stride` apart. The last row fills the tile up.
template <class T>
ONCE_A_TILE void load_tile(T* tile, const T* from, int64_t stride, int64_t rows, int64_t columns) {
    typedef squares<T> of;
    if (rows == ROWS && columns >= of::SIDE) {
        for (int64_t k = 0; k < columns; k += of::SIDE) {
            const int64_t at = at_most(k, columns - of::SIDE);  // the last ones may overlap those before
            for (int64_t j = 0; j < ROWS; j += of::DEEP)
                of::rows_at(from + j * stride + at, stride).transposed().store_columns(tile + at * ROWS + j, ROWS);
        }
    } else if (rows == ROWS && stride == columns) {
        if (columns == 1) load_few<T, 1>(tile, from);
        else if (columns == 2) load_few<T, 2>(tile, from);
        else load_few<T, 3>(tile, from);
    } else {
        for (int64_t j = 0; j < ROWS; ++j)
            for (int64_t k = 0; k < columns; ++k) tile[k * ROWS + j] = from[at_most(j, rows - 1) * stride + k];
    }
}

template <class T>
ONCE_A_TILE void store_tile(T* to, int64_t stride, int64_t rows, int64_t columns, const T* tile) {
    typedef squares<T> of;
    if (rows == ROWS && columns >= of::SIDE) {
        for (int64_t j = 0; j < ROWS; j += of::DEEP)
            for (int64_t k = 0; k < columns; k += of::SIDE) {
                const int64_t at = at_most(k, columns - of::SIDE);
                of::columns_at(tile + at * ROWS + j, ROWS).transposed().store_rows(to + j * stride + at, stride);
            }
    } else if (rows == ROWS && stride == columns) {
        if (columns == 1) store_few<T, 1>(to, tile);
        else if (columns == 2) store_few<T, 2>(to, tile);
        else store_few<T, 3>(to, tile);
    } else {
        for (int64_t j = 0; j < rows; ++j)
            for (int64_t k = 0; k < columns; ++k) to[j * stride + k] = tile[k * ROWS + j];
    }
}

// sums[j] += of row j, its columns in order.
template <class T, int COUNT>
FASTOPT_INLINE void sum_few(T* sums, const T* x, int64_t rows) {
    for (int64_t j = 0; j < rows; ++j)
        for (int k = 0; k < COUNT; ++k) sums[j] += x[j * COUNT + k];
}
template <class T>
ONCE_A_TILE void sum_rows(T* sums, const T* x, int64_t stride, int64_t rows, int64_t columns) {
    typedef squares<T> of;
    if (stride == columns && columns == 1) return sum_few<T, 1>(sums, x, rows);
    if (stride == columns && columns == 2) return sum_few<T, 2>(sums, x, rows);
    if (stride == columns && columns == 3) return sum_few<T, 3>(sums, x, rows);
    int64_t j = 0;
    for (; j + of::DEEP <= rows && columns >= of::SIDE; j += of::DEEP) {
        typename of::type sum = *reinterpret_cast<const typename of::type*>(sums + j);
        for (int64_t k = 0; k < columns; k += of::SIDE) {
            const int64_t at = at_most(k, columns - of::SIDE);
            const of some = of::rows_at(x + j * stride + at, stride).transposed();
            for (int64_t c = 0; c < of::SIDE; ++c)
                if (at + c >= k) sum += some.x[c];  // the last ones may overlap those before
        }
        *reinterpret_cast<typename of::type*>(sums + j) = sum;
    }
    for (; j < rows; ++j)
        for (int64_t k = 0; k < columns; ++k) sums[j] += x[j * stride + k];
}

constexpr int64_t EIGHT = 8;

// sums[c] += of column c, its rows in order: registers of neighbouring columns, of which the last reads past its row.
template <class T, int WIDTH>
FASTOPT_INLINE void sum_few_columns(double* sums, const T* x, int64_t rows, int64_t columns) {
    double total[WIDTH] = {};
    for (int64_t c = 0; c < columns; ++c) total[c] = sums[c];
    for (int64_t j = 0; j < rows; ++j)
        for (int c = 0; c < WIDTH; ++c) total[c] += static_cast<double>(x[j * columns + c]);
    for (int64_t c = 0; c < columns; ++c) sums[c] = total[c];
}
template <class T>
ONCE_A_TILE void sum_columns(double* sums, const T* x, int64_t rows, int64_t columns) {
    static_assert(COLUMNS == 4 * EIGHT, "all widths are there");
    switch ((columns + EIGHT - 1) / EIGHT) {
        case 1: return sum_few_columns<T, EIGHT>(sums, x, rows, columns);
        case 2: return sum_few_columns<T, 2 * EIGHT>(sums, x, rows, columns);
        case 3: return sum_few_columns<T, 3 * EIGHT>(sums, x, rows, columns);
        default: return sum_few_columns<T, 4 * EIGHT>(sums, x, rows, columns);
    }
}

}  // namespace
