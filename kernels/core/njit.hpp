// The kernels for compiled callers: flat functions on whole arrays, reached by name (fastopt/_njit/). Always serial: the
// caller's own loop is what runs in parallel.
//
// Numba's cache outlives an upgrade of this package: code that was compiled with an older one calls these functions by
// their names, which carry a contract number. So a name keeps its arguments and its meaning for ever. What changes gets
// the next number, and the old function stays in the table, as a shim.
//
// Arguments: the arrays, outputs first; the number of elements of the first; scalars (int64_t, uint64_t, double). The
// caller has checked kinds, shapes and ranges. Returned is 0, or what only shows here, before anything is written.
#pragma once

#include "runtime.h"

#include "core/float_mode.hpp"

#include <cstring>

namespace {

enum status : int64_t { DONE = 0, OVERLAP = 1, EPS_TOO_SMALL = 2, NO_ACTION = 3, NONE_VALID = 4 };

template <class T>
constexpr int TYPE = sizeof(T) == 4 ? 0 : 1;

int64_t run(fastopt_kernel kernel, const void* args, int64_t size) {
    default_float_mode mode;
    if (size > 0) kernel(args, 0, size);
    return DONE;
}

bool overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(a), second = reinterpret_cast<uintptr_t>(b);
    return first < second + static_cast<uintptr_t>(b_bytes) && second < first + static_cast<uintptr_t>(a_bytes) &&
           a != nullptr && b != nullptr;
}

bool overlap(const void* a, const void* b, int64_t bytes) { return overlap(a, bytes, b, bytes); }

template <size_t COUNT>
bool any_overlap(const void* const (&arrays)[COUNT], int64_t bytes) {
    for (size_t k = 1; k < COUNT; ++k)
        for (size_t other = 0; other < k; ++other)
            if (overlap(arrays[k], arrays[other], bytes)) return true;
    return false;
}

random_address address(uint64_t seed, uint64_t stream, int64_t domain) {
    return {seed, stream, static_cast<uint32_t>(domain)};
}

int around_cache(const void* y, const void* x, int64_t bytes) { return bytes >= FASTOPT_NONTEMPORAL_BYTES && y != x; }

// The sum of all blocks, added in order to 0, by a kernel of block sums; `mean` is for deviations from it. The caller has
// set the mode.
template <class T>
double sum_about(const fastopt_kernel* kernels, const T* x, int64_t n, double mean = 0) {
    constexpr int64_t BLOCKS = 64;
    double sums[BLOCKS], sum = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCKS * FASTOPT_SUM_BLOCK) {
        const sum_args args = {sums, x + begin, n - begin, mean};
        const int64_t rest = (n - begin + FASTOPT_SUM_BLOCK - 1) / FASTOPT_SUM_BLOCK;
        const int64_t blocks = rest < BLOCKS ? rest : BLOCKS;
        kernels[TYPE<T>](&args, 0, blocks);
        for (int64_t k = 0; k < blocks; ++k) sum += sums[k];
    }
    return in_mode(sum);
}

// dx and dbias by a kernel of layers (core/layers.hpp), of which `args` has the scalars. One tile of columns after the other,
// so that its sums fit the stack; within a tile one block of rows after the other.
template <class T, class Args>
int64_t layer_gradient(const fastopt_kernel* kernels, T* dx, T* dbias, const T* grad, const T* y, int64_t n, int64_t columns,
                       Args args) {
    default_float_mode mode;
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if ((dx != grad && overlap(dx, grad, bytes)) || (dx != y && overlap(dx, y, bytes))) return OVERLAP;
    const int64_t rows = columns > 0 ? n / columns : 0;
    args.columns = columns;
    args.nontemporal = around_cache(dx, grad, bytes) && around_cache(dx, y, bytes);
    for (int64_t first = 0, tile = 0; first < columns; first += FASTOPT_COLUMN_TILE, ++tile) {
        const int64_t width = columns - first < FASTOPT_COLUMN_TILE ? columns - first : FASTOPT_COLUMN_TILE;
        double sums[FASTOPT_COLUMN_TILE], total[FASTOPT_COLUMN_TILE];
        // Where the kernel looks for those of the row's first column.
        args.block_sums = reinterpret_cast<double*>(reinterpret_cast<uintptr_t>(sums) - first * sizeof(double));
        for (int64_t j = 0; j < width; ++j) total[j] = 0;
        for (int64_t row = 0; row < rows; row += FASTOPT_ROW_BLOCK) {
            args.dx = dx + row * columns;
            args.grad = grad + row * columns;
            args.y = y + row * columns;
            args.rows = rows - row < FASTOPT_ROW_BLOCK ? rows - row : FASTOPT_ROW_BLOCK;
            kernels[TYPE<T>](&args, tile, tile + 1);
            for (int64_t j = 0; j < width; ++j) total[j] += sums[j];
        }
        for (int64_t j = 0; j < width; ++j) dbias[first + j] = static_cast<T>(total[j]);
    }
    return DONE;
}

template <class Function>
const void* address_of(Function* function) {
    return reinterpret_cast<const void*>(function);
}

}  // namespace

// A line of the table of symbols: for one function, and for one of both element types, of the name that it has or has had.
#define ONE(CONTRACT, NAME) {"fastopt_" #CONTRACT "_" #NAME, address_of(NAME)}
#define BOTH(CONTRACT, NAME) BOTH_OF(CONTRACT, NAME, NAME)
#define BOTH_OF(CONTRACT, NAME, FUNCTION)                                    \
    {"fastopt_" #CONTRACT "_" #NAME "_float32", address_of(FUNCTION<float>)}, \
    {"fastopt_" #CONTRACT "_" #NAME "_float64", address_of(FUNCTION<double>)}
