/* Rules of the optimisers, averages, scaling and gradients of rows. */
#ifndef FASTOPT_OPTIMIZERS_H
#define FASTOPT_OPTIMIZERS_H

#include "core/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* g = grad * grad_scale;  p *= decay;  g += weight_decay * p
   m += rate * (g - m), g + rate * (g - m) where the rate is negative
   v = b2 * v + (1 - b2) * (g * g)
   AMSGrad: v_max = v > v_max or NaN ? v : v_max, below in place of v;  p -= lr * (m / (sqrt(v) + eps))
   where lr and eps carry the bias corrections of the step. A term whose coefficient, rounded to the arrays' type, is 0
   is skipped. A stored m below the smallest normal number is +0.0; v and v_max that are not 0 are twice it at least. */
typedef struct {
    double grad_scale; /* (grad_multiplier * clip, negative to maximize) */
    double decay; /* (1 - lr * weight_decay when decoupled, else 1) */
    double weight_decay; /* (0 when decoupled) */
    double rate; /* (fastopt_average_rate(b1)) */
    double beta2;
    double one_minus_beta2;
    double lr; /* (lr * sqrt(1 - b2^t) / (1 - b1^t)) */
    double eps; /* (eps * sqrt(1 - b2^t); eps counts as 2^-75 / sqrt(1 - b2) at least, 2^-537 for double) */
} adam_scalars;

/* g = grad * grad_scale;  g += weight_decay * p
   first step: b = g, after it: b = momentum * b + (1 - dampening) * g;   nesterov: g += momentum * b, else g = b
   p -= lr * g                     A momentum of 0 has no b. Skipped terms and small b as for Adam. */
typedef struct {
    double grad_scale;
    double weight_decay;
    double momentum;
    double one_minus_dampening;
    double lr;
    int first_step;
    int nesterov;
} sgd_scalars;

/* g = grad * grad_scale;  g += weight_decay * p
   v = alpha * v + (1 - alpha) * (g * g);   d = sqrt(v) + eps
   centred: m as Adam's, and d = sqrt(v - m^2) + eps, where v - m^2 below 0, as rounding makes it, is 0
   b = momentum * b + g / d;   p -= lr * b             A momentum of 0 has no b: p -= lr * (g / d).
   Skipped terms and small v, m and b as for Adam. */
typedef struct {
    double grad_scale;
    double weight_decay;
    double alpha;
    double one_minus_alpha;
    double rate; /* (fastopt_average_rate(alpha)) */
    double momentum;
    double lr;
    double eps; /* (counts as 2^-75 / sqrt(1 - alpha) at least, 2^-537 for double) */
} rmsprop_scalars;

/* One parameter array of an optimiser, updated in place with its states; in the same pass, where asked for,
   the average ema moves as in ema_args towards the new p, and grad = +0.0. States are in the order of the rule: momentum first (exp_avg of
   Adam, momentum_buffer of SGD and RMSprop: not touched while their momentum is 0), then exp_avg_sq and max_exp_avg_sq, or
   RMSprop's square_avg and grad_avg; NULL for those that a rule does not have. */
typedef struct {
    void *param; /* [size], uint16_t in *_bfloat16_params */
    void *states[3]; /* [size], the last or NULL, uint16_t in *_bfloat16, uint8_t in *_8bit, uint16_t in *_bfloat16_params */
    void *ema; /* [size], or NULL, float in *_bfloat16_params (no average) */
    void *grad; /* [gradients], uint16_t in *_bfloat16_params (only read unless zero_grad) */
    const void *scalars; /* [1], RULE_scalars */
    double ema_rate; /* (fastopt_average_rate(ema_decay)) */
    int zero_grad;
} optimizer_step;

/* A step on a whole array. In RULE_bfloat16_params p, the gradient and the states are bfloat16, widened to float, in which
   the step is, and each rounded once, to nearest; only ema is float, and moves towards the rounded p. Both element types
   have the same kernel. What follows `step` is for states of fewer bits alone (kernels/optimizers/small_states.hpp):
   bfloat16, or 8 bits with an exponent for each block of FASTOPT_STATE_BLOCK elements; ranges begin at multiples of the
   block. */
#define FASTOPT_STATE_BLOCK 256
typedef struct {
    optimizer_step step; /* size = n, gradients = n */
    uint8_t *exponents[3]; /* [n / FASTOPT_STATE_BLOCK], 32..255 (of the 8-bit states) */
    random_address rounding; /* (the word of the element's block there and the step decide how it is rounded) */
    uint32_t step_number; /* (modulo 2^32) */
} optimizer_args; /* cut at FASTOPT_STATE_BLOCK in *_bfloat16, cut at FASTOPT_STATE_BLOCK in *_8bit */

/* A step on some rows of a 2-D parameter: row rows[k] with gradient row k; the range is over k. */
typedef struct {
    optimizer_step step; /* size = n * width + others * width, gradients = n * width */
    const int64_t *rows; /* [n], 0..n + others - 1, distinct */
    int64_t width; /* 0.. */
} optimizer_rows_args; /* others = 0.. (rows that stay) */

/* out[group[k]] += values[k] for k = 0, 1, ..., the first of a group being copied; groups are numbered as they come; rows
   of `width` elements, the range is over columns */
typedef struct {
    void *out; /* [rows, width] (of which as many as there are groups) */
    const void *values; /* [rows, width] */
    const int64_t *group; /* [rows], numbered as they come */
    int64_t rows; /* 0.. */
    int64_t width; /* 0.. */
} sum_rows_args; /* n = width */

/* average += rate * (value - average), value + rate * (value - average) where the rate is negative, -0.0 included */
typedef struct {
    void *average; /* [n] */
    const void *value; /* [n] */
    double rate;
} ema_args;

/* x *= factor */
typedef struct {
    void *x; /* [n] */
    double factor;
} scale_args;

#define FASTOPT_KERNELS_optimizers(KERNEL)          \
    KERNEL(adam, optimizer_args)                    \
    KERNEL(adam_bfloat16, optimizer_args)           \
    KERNEL(adam_bfloat16_params, optimizer_args)    \
    KERNEL(adam_8bit, optimizer_args)               \
    KERNEL(adam_rows, optimizer_rows_args)          \
    KERNEL(sgd, optimizer_args)                     \
    KERNEL(sgd_bfloat16, optimizer_args)            \
    KERNEL(sgd_bfloat16_params, optimizer_args)     \
    KERNEL(sgd_8bit, optimizer_args)                \
    KERNEL(sgd_rows, optimizer_rows_args)           \
    KERNEL(rmsprop, optimizer_args)                 \
    KERNEL(rmsprop_bfloat16, optimizer_args)        \
    KERNEL(rmsprop_bfloat16_params, optimizer_args) \
    KERNEL(rmsprop_8bit, optimizer_args)            \
    KERNEL(rmsprop_rows, optimizer_rows_args)       \
    KERNEL(sum_rows, sum_rows_args)                 \
    KERNEL(ema, ema_args)                           \
    KERNEL(scale, scale_args)
FASTOPT_TABLE(optimizers)

/* The rules of the optimisers: each has the kernels NAME, NAME_bfloat16, NAME_8bit, NAME_rows and NAME_bfloat16_params above,
   NAME_scalars, and fastopt_NAME_scalars. */
#define FASTOPT_RULES(RULE) \
    RULE(adam)              \
    RULE(sgd)               \
    RULE(rmsprop)

/* A rule by its name; NULL if there is none. The kernels of `form`, for both element types. */
#define FASTOPT_RULE_SCALARS(NAME) NAME##_scalars NAME;
typedef union {
    FASTOPT_RULES(FASTOPT_RULE_SCALARS)
} rule_scalars;
typedef int (*fastopt_scalars)(void *scalars, int64_t t, const double *hyper, double grad_scale, int element_type);
typedef struct {
    const char *name;
    fastopt_scalars scalars;
    int64_t hyper; /* how many hyper-parameters */
    int64_t offsets[5]; /* of its kernels in the table */
} fastopt_rule;
#define FASTOPT_WHOLE 0
#define FASTOPT_BFLOAT16 1
#define FASTOPT_8BIT 2
#define FASTOPT_ROWS 3
#define FASTOPT_BFLOAT16_PARAMS 4
const fastopt_rule *fastopt_find_rule(const char *name);
const fastopt_kernel *fastopt_rule_kernels(const fastopt_rule *rule, int form);

#ifdef __cplusplus
}
#endif
#endif
