/* What the records of all families are made with, and the kernels that they share. What the notes behind fields mean: the top
   of fastopt.h. */
#ifndef FASTOPT_CORE_H
#define FASTOPT_CORE_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fastopt reads two 16-bit random values out of one 32-bit word in memory order: little-endian machines only"
#endif

#if UINTPTR_MAX < UINT64_MAX
#error "fastopt needs a 64-bit machine: powers are made of integers of 128 bits"
#endif

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "fastopt promises the bits of its definitions: compile it without -ffast-math and -ffinite-math-only"
#endif

#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "fastopt promises the bits of its definitions: float and double have to be evaluated as such (FLT_EVAL_METHOD 0)"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A family's list has a line a kernel: KERNEL(NAME, RECORD), where NAME is a template over the element type that takes a
   RECORD. From it comes the table of an instruction set, indexed by element type: 0 float, 1 double. */
typedef void (*fastopt_kernel)(const void *args, int64_t begin, int64_t end);
#define FASTOPT_TABLE_OF(FAMILY) fastopt_##FAMILY##_table
#define FASTOPT_TABLE_NAME(FAMILY, ISA) fastopt_##FAMILY##_##ISA
#define FASTOPT_TABLE_ENTRY(NAME, RECORD) fastopt_kernel NAME[2];
#define FASTOPT_TABLE(FAMILY)                         \
    typedef struct {                                  \
        FASTOPT_KERNELS_##FAMILY(FASTOPT_TABLE_ENTRY) \
    } fastopt_##FAMILY##_table;

/* From this size on an output that is not also an input is written around the cache (kernels/core/stream.hpp). */
#define FASTOPT_NONTEMPORAL_BYTES (1 << 25)

/* Where the random numbers of a call live: element e of `stream` in `domain` under the key `seed`. */
typedef struct {
    uint64_t seed;
    uint64_t stream; /* 0..2^56 - 1 */
    uint32_t domain; /* 0..255 */
} random_address;

/* Sums over rows go by blocks of rows, and of wide ones by tiles of columns. */
#define FASTOPT_ROW_BLOCK 64
#define FASTOPT_COLUMN_TILE 2048

/* out[j] = block_sums[0, j] + block_sums[1, j] + ..., added in double and rounded once; the range is over columns */
typedef struct {
    void *out; /* [n] */
    const double *block_sums; /* [blocks, columns] */
    int64_t blocks; /* 1.. */
    int64_t columns; /* 0.. */
} add_row_blocks_args; /* n = columns */

/* block_sums[k] = sum of x * x (sum_squares), x - mean (sum_values) or (x - mean)^2 (sum_squared_deviations) over the k-th
   block of FASTOPT_SUM_BLOCK elements, in double and in the fixed order of kernels/core/reduce.hpp; the range is over blocks.
   sum_squares_bfloat16 is of bfloat16, and the same for both element types. */
#define FASTOPT_SUM_BLOCK 4096
typedef struct {
    double *block_sums; /* [n] */
    const void *x; /* [size], uint16_t in sum_squares_bfloat16 */
    int64_t size; /* 0.. */
    double mean;
} sum_args; /* n = size / FASTOPT_SUM_BLOCK */

/* The traffic of a kernel without its arithmetic: out[k] = in[k], the other inputs are only read. For benchmarks.
   A case for each traffic that an op here has: see kernels/core/stream.hpp. */
#define FASTOPT_STREAM_ARRAYS 6
typedef struct {
    void *out[FASTOPT_STREAM_ARRAYS]; /* [n], may be in */
    const void *in[FASTOPT_STREAM_ARRAYS]; /* [n] */
    int outputs; /* 0..FASTOPT_STREAM_ARRAYS */
    int inputs; /* 0..FASTOPT_STREAM_ARRAYS */
    int nontemporal;
} stream_args;

#define FASTOPT_KERNELS_core(KERNEL)            \
    KERNEL(stream, stream_args)                 \
    KERNEL(add_row_blocks, add_row_blocks_args) \
    KERNEL(sum_squares, sum_args)               \
    KERNEL(sum_squares_bfloat16, sum_args)      \
    KERNEL(sum_values, sum_args)                \
    KERNEL(sum_squared_deviations, sum_args)
FASTOPT_TABLE(core)

#ifdef __cplusplus
}
#endif
#endif
