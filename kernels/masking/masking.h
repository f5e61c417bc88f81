/* Dropout, and a hidden layer's bias, leaky ReLU and dropout in one pass. */
#ifndef FASTOPT_MASKING_H
#define FASTOPT_MASKING_H

#include "core/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = x * scale where the element's 16-bit value >= threshold, else +0.0 */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    random_address address;
    uint32_t threshold; /* 1..65535 */
    double scale;
    int nontemporal; /* changes nothing */
} dropout_args;

/* z = x + bias;  y = (z where z > 0, else z * negative_slope) * scale, as -0.0 where it is zero; +0.0 where the element's
   16-bit value < threshold. Rows of `columns` >= 1 elements; the range is over elements. */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    const void *bias; /* [columns] */
    int64_t columns; /* 1.. */
    random_address address;
    uint32_t threshold; /* 0..65535 (0 to drop nothing; then no random number is made) */
    double scale;
    double negative_slope; /* 0.. */
    int nontemporal; /* changes nothing */
} bias_leaky_relu_dropout_args;

/* dx = +0.0 where y is +0.0 to the bit; grad * scale where y > 0, else (grad * scale) * negative_slope
   block_sums[b, j] = sum of dx[r, j] over the rows r of block b in order, in double. The range is over items: block by
   block of FASTOPT_ROW_BLOCK rows, tile by tile of FASTOPT_COLUMN_TILE columns. */
typedef struct {
    void *dx; /* [rows, columns], may be grad or y */
    double *block_sums; /* [blocks, columns] */
    const void *grad; /* [rows, columns] */
    const void *y; /* [rows, columns] */
    int64_t rows; /* 0.. */
    int64_t columns; /* 1.. */
    double scale;
    double negative_slope; /* 0.. */
    int nontemporal; /* changes nothing */
} bias_leaky_relu_dropout_backward_args; /* blocks = rows / FASTOPT_ROW_BLOCK, n = columns / FASTOPT_COLUMN_TILE * blocks */

#define FASTOPT_KERNELS_masking(KERNEL)                           \
    KERNEL(dropout, dropout_args)                                 \
    KERNEL(bias_leaky_relu_dropout, bias_leaky_relu_dropout_args) \
    KERNEL(bias_leaky_relu_dropout_backward, bias_leaky_relu_dropout_backward_args)
FASTOPT_TABLE(masking)

#ifdef __cplusplus
}
#endif
#endif
