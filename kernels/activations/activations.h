/* Activations, and how many units are inactive. */
#ifndef FASTOPT_ACTIVATIONS_H
#define FASTOPT_ACTIVATIONS_H

#include "core/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = f(x), element by element, of an activation with one parameter:
   leaky_relu   x where x > 0, else x * parameter (negative_slope)
   tanh         tanh x; there is no parameter */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    double parameter;
    int nontemporal; /* changes nothing (y is too large for the cache: write around it; alike below) */
} activation_args;

/* dx = the gradient with respect to x, from that with respect to y, and from x or y:
   leaky_relu_backward   grad where x > 0, else grad * parameter
   tanh_backward         grad * (1 - y * y), where `x` is y */
typedef struct {
    void *dx; /* [n], may be grad or x */
    const void *grad; /* [n] */
    const void *x; /* [n] */
    double parameter;
    int nontemporal; /* changes nothing */
} activation_backward_args;

/* counts[j] += how many values x[begin:end, j] are <= 0; x is (rows, columns), the range is over rows */
typedef struct {
    int64_t *counts; /* [columns] */
    const void *x; /* [n, columns] */
    int64_t columns; /* 0.. */
} count_inactive_args;

/* y = tanh(x + bias). Rows of `columns` >= 1 elements; the range is over elements. */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    const void *bias; /* [columns] */
    int64_t columns; /* 1.. */
    int nontemporal; /* changes nothing */
} bias_tanh_args;

/* dx = grad * (1 - y * y), and block_sums and the range as for bias_leaky_relu_dropout_backward */
typedef struct {
    void *dx; /* [rows, columns], may be grad or y */
    double *block_sums; /* [blocks, columns] */
    const void *grad; /* [rows, columns] */
    const void *y; /* [rows, columns] */
    int64_t rows; /* 0.. */
    int64_t columns; /* 1.. */
    int nontemporal; /* changes nothing */
} bias_tanh_backward_args; /* blocks = rows / FASTOPT_ROW_BLOCK, n = columns / FASTOPT_COLUMN_TILE * blocks */

#define FASTOPT_KERNELS_activations(KERNEL)               \
    KERNEL(leaky_relu, activation_args)                   \
    KERNEL(leaky_relu_backward, activation_backward_args) \
    KERNEL(tanh, activation_args)                         \
    KERNEL(tanh_backward, activation_backward_args)       \
    KERNEL(bias_tanh, bias_tanh_args)                     \
    KERNEL(bias_tanh_backward, bias_tanh_backward_args)   \
    KERNEL(count_inactive, count_inactive_args)
FASTOPT_TABLE(activations)

#ifdef __cplusplus
}
#endif
#endif
