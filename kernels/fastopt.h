/* The contract between the kernels and their callers.

   A kernel does the elements [begin, end) of the arrays named in its argument record: outputs first, then inputs,
   then scalars. Several threads may run disjoint ranges of one record at the same time, and no result depends on
   where the ranges are cut. Arrays are aligned for their type and contiguous. An output may be the very same array
   as an input where its note says so; apart from that, nothing written may overlap anything else. Nothing is
   checked here and nothing can fail: whoever fills a record has checked it.

   Every kernel exists for float and double; scalars are passed as double and rounded once to the arrays' type.

   What a field of a record may be stands behind it, and what follows for all of the record behind its end. The door is
   made from this file by kernels/declarations.py, and the fuzzer's inputs from these notes (tests/promises/notes.py):
     [rows, columns]           how many elements a pointer has: this many in C order
     or NULL                   as the caller likes; also: NULL; not NULL; the last or NULL (of an array of pointers)
     NULL with lower           when `lower` is; also: NULL where stride = 0
     may be x, may be x or y   the very same array
     uint8_t, adam_scalars     what a void pointer has, if not the type of arrays; RULE is the beginning of a kernel's name
     0..columns - 1            what a number, or each of an array, may be; 1.. has no end; also: 0 or columns; without a note
                               a double, an array or an unsigned number may be anything, an int is 0 or 1
     distinct                  all numbers of an array; also: numbered as they come (each new one is the next: 0 0 1 0 2);
                               parts of columns (together they are that number)
     changes nothing           whatever this number is, the results are the same
     size = n * width          behind a record: what a name stands for inside, a term or a range. n is the end of the range,
                               `bytes` what an element of type T has
     cut at 256                behind the end of a record: ranges begin at multiples
     ... in *_8bit             any of these, for kernels of that name alone; a later note replaces one of its form
     (words)                   for readers, at the end
   In terms ^ is a power, and a quotient is rounded up. One declaration a line, with all its notes. */
#ifndef FASTOPT_H
#define FASTOPT_H

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

/* ---- argument records, one per kernel ---------------------------------------------------------------------------- */

/* y = f(x), element by element, of an activation with one parameter:
   leaky_relu   x where x > 0, else x * parameter (negative_slope)
   tanh         tanh x; there is no parameter */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    double parameter;
    int nontemporal; /* changes nothing (y is too large for the cache: write around it; alike below) */
} activation_args;

/* From this size on an output that is not also an input is written around the cache (kernels/core/stream.hpp). */
#define FASTOPT_NONTEMPORAL_BYTES (1 << 25)

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

/* Where the random numbers of a call live: element e of `stream` in `domain` under the key `seed`. */
typedef struct {
    uint64_t seed;
    uint64_t stream; /* 0..2^56 - 1 */
    uint32_t domain; /* 0..255 */
} random_address;

/* out[i] = the 32-bit word of element offset + i. Both element types have the same kernel. */
typedef struct {
    uint32_t *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^64 - n */
} random_raw_args;

/* out[i] = uniform in [0, 1) of element offset + i: 24 bits of word e (float), 53 bits of words 2e, 2e + 1 (double) */
typedef struct {
    void *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^66 / bytes - n */
} random_uniform_args;

/* out[i] = standard normal number of element offset + i (kernels/random/normal.hpp) */
typedef struct {
    void *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^66 / bytes - n */
} random_normal_args;

/* out[i] = low + floor(u * range / 2^64), u the 64 bits of words 2e (low) and 2e + 1 (high) of element e = offset + i. Both
   element types have the same kernel. */
typedef struct {
    int64_t *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^63 - n */
    int64_t low; /* -2^63..2^63 - 1 */
    uint64_t range; /* 0..2^64 - 1 (0: 2^64) */
} random_integers_args;

/* y = x * scale where the element's 16-bit value >= threshold, else +0.0 */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    random_address address;
    uint32_t threshold; /* 1..65535 */
    double scale;
    int nontemporal; /* changes nothing */
} dropout_args;

/* How the cross-entropy method draws candidate i of a generation: x = mean + std * z, brought within the bounds (clipped, or
   reflected once and then clipped); z = the normal numbers i * padded + d of the address, padded being the dimensions
   rounded up to a multiple of 32; antithetic: an odd candidate has those of the one before, negated. With a factor, z is
   first replaced by z[r] = sum of z[k] * factor[k, r] over k <= r, in order: the factor is (dimensions, dimensions), zero
   below its diagonal. Candidate number `population` is the mean itself. Indices below 2^63 / padded. */
typedef struct {
    const void *mean; /* [dimensions] */
    const void *std; /* [dimensions] */
    const void *factor; /* [dimensions, dimensions], or NULL, not NULL in cem_refit_full */
    const void *lower; /* [dimensions], or NULL */
    const void *upper; /* [dimensions], NULL with lower */
    int64_t dimensions; /* 1.. */
    random_address address;
    int64_t population; /* 0..2^63 / padded */
    int antithetic;
    int reflect;
} cem_distribution_args; /* padded = dimensions / 32 * 32 */

#define FASTOPT_CEM_SHORT 512 /* padded dimensions of a candidate that needs no scratch */

/* out[k, :] = candidate indices[k], or first + k; the range is over k */
typedef struct {
    void *out; /* [n, dimensions] */
    cem_distribution_args distribution;
    const int64_t *indices; /* [n], 0..2^63 / padded - 1, or NULL */
    int64_t first; /* 0..2^63 / padded - n */
    void *scratch; /* [n, padded] (with a factor and padded > FASTOPT_CEM_SHORT; else it may be NULL) */
} cem_candidates_args;

/* In units u = (x - mean) / std of the elites, candidates x after bounds (std 0 counts as 1), all in float64, sums and means
   with the weights (NULL: 1 each), whose sum is total:
   m1 = mean of u;  v = mean of u^2 - m1^2 about the new mean, mean of u^2 about the old one
   mean += mean_lr * (std * m1), clipped;  std = max(std, min_std) after
   path NULL:  fitted = sqrt(std^2 * v + extra_variance);  std += std_lr * (fitted - std)
   else:       std *= (v * fair)^(std_lr / 2), v * fair at least 2^-10
   path = keep * before + push * m1, of the weight rank_one in the covariance; no kernel reads effective, total^2 / sum w^2
   `mean`, `std` and `path` are written; the range is over groups of 32 dimensions. With a
   factor (cem_refit_full, range [0, 1)) see fastopt/reference/cem.py; `work` has 2 n^2 + 3 n elements then. */
typedef struct {
    void *mean; /* [dimensions] */
    void *std; /* [dimensions] */
    void *factor; /* [dimensions, dimensions], or NULL in cem_refit */
    double *work; /* [2 * dimensions * dimensions + 3 * dimensions], NULL with factor */
    double *path; /* [dimensions], or NULL */
    const double *before; /* [dimensions], NULL with path */
    cem_distribution_args distribution;
    const int64_t *elites; /* [count], 0..2^63 / padded - 1 */
    const void *elite_candidates; /* [count, dimensions] (cem_refit_full only; else it may be NULL) */
    const double *weights; /* [count], or NULL */
    int64_t count; /* 1.. */
    double total;
    double effective;
    double fair;
    double keep;
    double push;
    double rank_one;
    double mean_lr;
    double std_lr;
    double extra_variance;
    double min_std;
    int about_new_mean;
} cem_refit_args; /* n = dimensions / 32, n = 1 in cem_refit_full */

/* Row r of the candidates of a plan, each (horizon, actions): below `drawn` it is x = mean + std * z, clipped to the bounds,
   where z is made of numbers of the stream under the problem's seed, padded meaning rounded up to a multiple of 32:
   factor NULL   z[d] = the normal number r * padded(dimensions) + d
   else          z[h, a] = sum of factor[h, k] * the normal number (r * actions + a) * padded(horizon) + k over k <= h, in order
   truncated     (with bounds, whatever the factor) z is cut at the bounds: its distribution function's inverse at the uniform
                 number of element r * padded(dimensions) + d, in double
   Then come the stored rows, and what is beyond them is the mean. The range is over problems times rows_each. */
typedef struct {
    void *out; /* [n, dimensions] */
    const void *mean; /* [problems, dimensions] */
    const void *std; /* [problems, dimensions] */
    const void *lower; /* [dimensions], or NULL */
    const void *upper; /* [dimensions], NULL with lower */
    const void *factor; /* [horizon, horizon], or NULL */
    const void *stored; /* [problems, stored_rows, dimensions] */
    const uint64_t *seeds; /* [problems] */
    uint64_t stream; /* 0..2^56 - 1 */
    uint32_t domain; /* 0..255 */
    const int64_t *rows; /* [n], 0..drawn + stored_rows, or NULL (each problem's 0, 1, ...) */
    int64_t rows_each; /* 1.. */
    int64_t drawn; /* 0.. */
    int64_t stored_rows; /* 0.. */
    int64_t horizon; /* 1.. (at most FASTOPT_CEM_SHORT with a factor) */
    int64_t actions; /* 1.. */
    int truncated;
} plan_candidates_args; /* dimensions = horizon * actions, problems = n / rows_each */

/* m = sum of w x / sum of w;  v = sum of w (x - m)^2 / sum of w, of each dimension, in double and in order
   mean += mean_lr * (m - mean), clipped;  std += std_lr * (sqrt(v) - std), within [min_std, max_std]
   Where the weights' sum is not above 0 both stay. The range is over problems. */
typedef struct {
    void *mean; /* [n, dimensions] */
    void *std; /* [n, dimensions] */
    const void *rows; /* [n, count, dimensions] */
    const double *weights; /* [n, count] */
    const void *before_mean; /* [n, dimensions] */
    const void *before_std; /* [n, dimensions] */
    const void *lower; /* [dimensions], or NULL */
    const void *upper; /* [dimensions], NULL with lower */
    const double *mean_lr; /* [dimensions] */
    const double *std_lr; /* [dimensions] */
    int64_t count; /* 1.. */
    int64_t dimensions; /* 1.. */
    double min_std;
    double max_std;
} plan_refit_args;

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
#define FASTOPT_ROW_BLOCK 64
#define FASTOPT_COLUMN_TILE 2048
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

/* out[j] = block_sums[0, j] + block_sums[1, j] + ..., added in double and rounded once; the range is over columns */
typedef struct {
    void *out; /* [n] */
    const double *block_sums; /* [blocks, columns] */
    int64_t blocks; /* 1.. */
    int64_t columns; /* 0.. */
} add_row_blocks_args; /* n = columns */

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

/* y = ((x - mean) - rest) * scale, in double, rounded once */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    double mean;
    double rest; /* (what the rounding of the mean has left) */
    double scale;
} standardize_args;

/* ---- policies: the ranges are over the rows of a batch; kernels/policy/ ------------------------------------------ */

/* Up to so many rows of logits are worked on one by one, along each row; from there on 64 at once, side by side. (Entropies
   of float32 with AVX-512, in microseconds with the call: 16 rows of 6 take 1.9 either way, of 64 columns 5.9 one by one
   and 22 side by side, of 3,000 columns 353 and 989; of 2 columns 1.7 and 1.4.) */
#define FASTOPT_FEW_ROWS 16

/* largest[i, k] = the largest of row i within its k-th `piece` of columns, and of its first element: NaN where that is,
   while other NaN are passed over. The range is over pieces. */
typedef struct {
    void *largest; /* [rows, pieces] */
    const void *x; /* [rows, columns] */
    int64_t rows; /* 0.. */
    int64_t columns; /* 1.. */
    int64_t piece; /* 1.. */
} row_largest_args; /* pieces = columns / piece, n = rows * pieces */

/* e = exp(x - largest[i]) in row i; the range is over elements */
typedef struct {
    void *e; /* [n] */
    const void *x; /* [n] */
    const void *largest; /* [n / columns] */
    int64_t columns; /* 1.. */
} row_exponentials_args;

/* What the threads have shared of logits of few wide rows, by the two kernels above: what is NULL the op makes itself. */
typedef struct {
    const void *e; /* [n, columns], or NULL (exp(logits - largest)) */
    const void *largest; /* [n], NULL with e */
} softmax_args;

/* kl[i] = sum_k p_old (log p_old - log p_new), where log p = logits - logsumexp(logits) and 0 log 0 = 0 */
typedef struct {
    void *kl; /* [n] */
    const void *old_logits; /* [n, columns] */
    const void *new_logits; /* [n, columns] */
    int64_t columns; /* 1.. */
    softmax_args old_softmax;
    softmax_args new_softmax;
} categorical_kl_args;

/* log_prob[i] = log p[i, actions[i]] */
typedef struct {
    void *log_prob; /* [n] */
    const void *logits; /* [n, columns] */
    const int64_t *actions; /* [n], 0..columns - 1 */
    int64_t columns; /* 1.. */
    softmax_args softmax;
} categorical_log_prob_args;

/* entropy[i] = - sum_k p log p */
typedef struct {
    void *entropy; /* [n] */
    const void *logits; /* [n, columns] */
    int64_t columns; /* 1.. */
    softmax_args softmax;
} categorical_entropy_args;

/* actions[i] = the first k with e_0 + ... + e_k > u * (their sum), e = exp(logits - largest), the sums in double; u is
   (word i + 1/2) 2^-32 for float, for double the uniform number of element i as in random_uniform; -1 where the sum is NaN */
typedef struct {
    int64_t *actions; /* [n] */
    const void *logits; /* [n, columns] */
    int64_t columns; /* 1.. */
    random_address address;
    softmax_args softmax;
} categorical_sample_args;

/* losses[i] = - advantages[i] * log p[i, actions[i]] - entropy_coef * entropy[i]
   dlogits = (advantages * scale) * (p - [k = actions]) + entropy_scale * p (log p + entropy)
   Both are 0 where a row is not valid, here and below. */
typedef struct {
    void *dlogits; /* [n, columns], may be logits */
    void *losses; /* [n] */
    const void *logits; /* [n, columns] */
    const int64_t *actions; /* [n], 0..columns - 1 */
    const void *advantages; /* [n] */
    const uint8_t *valid; /* [n], or NULL (true where not 0; all are) */
    int64_t columns; /* 1.. */
    double scale; /* (1 / how many are valid) */
    double entropy_coef;
    double entropy_scale; /* (entropy_coef / how many are valid) */
    softmax_args softmax;
} categorical_policy_gradient_args;

/* The terms of the loss of PPO, and their sums over a block of FASTOPT_ROW_BLOCK rows, in double, the rows in order. With
   ratio = exp(log_prob - old_log_prob) and predicted = values, or old_values + clip(values - old_values, -+clip_range_vf):
   surrogate = min(advantages * ratio, advantages * clip(ratio, low, high));   squared error = (predicted - returns)^2;
   entropy;   KL = (ratio - 1) - (log_prob - old_log_prob);   clipped = [|ratio - 1| > clip_range]
   weight = (advantages * ratio) * scale, 0 where the clipped one is less: what dloss / dlog_prob is, with its sign turned
   dvalues = (predicted - returns) * value_scale, 0 where values are clipped */
#define FASTOPT_PPO_SURROGATE 0
#define FASTOPT_PPO_SQUARED_ERROR 1
#define FASTOPT_PPO_ENTROPY 2
#define FASTOPT_PPO_KL 3
#define FASTOPT_PPO_CLIPPED 4
#define FASTOPT_PPO_SUMS 5
typedef struct {
    void *dvalues; /* [rows], may be values */
    double *sums; /* [rows / FASTOPT_ROW_BLOCK, FASTOPT_PPO_SUMS] */
    const void *advantages; /* [rows] */
    const void *old_log_prob; /* [rows] */
    const void *values; /* [rows] */
    const void *returns; /* [rows] */
    const void *old_values; /* [rows], or NULL (values are not clipped) */
    const uint8_t *valid; /* [rows], or NULL (true where not 0; all are) */
    double scale; /* (1 / how many are valid) */
    double low; /* (1 - clip_range) */
    double high; /* (1 + clip_range) */
    double clip_range;
    double clip_range_vf;
    double entropy_scale; /* (entropy_coef / how many are valid) */
    double value_scale; /* (2 value_coef / how many are valid) */
} ppo_args;

/* log_prob and entropy are sums over lists of logits, of which a row has one or several beside each other:
   dlogits = weight * (p - [k = actions]) + entropy_scale * p (log p + entropy of the list) */
typedef struct {
    void *dlogits; /* [rows, columns], may be logits */
    const void *logits; /* [rows, columns] */
    const int64_t *actions; /* [rows, lists], 0..columns - 1 (columns of the row, not of the list) */
    const int64_t *widths; /* [lists], 1.., parts of columns */
    int64_t rows; /* 0.. */
    int64_t columns; /* 1.. */
    int64_t lists; /* 1..columns */
    ppo_args ppo;
} categorical_ppo_loss_args; /* n = rows / FASTOPT_ROW_BLOCK */

/* A log_std belongs to each row when its stride is `columns`, and to all rows when it is 0. Where x * exp(y) stands below
   with |y| beyond a bound, it is (x * exp(y / 2)) * exp(y / 2): exp(y) would be 0 or infinite before the product is.
   kl[i] = sum_k 1/2 (exp(2 d) - 1 - 2 d + ((old_mean - new_mean) exp(-new_log_std))^2), d = old_log_std - new_log_std */
typedef struct {
    void *kl; /* [n] */
    const void *old_mean; /* [n, columns] */
    const void *old_log_std; /* [n * old_stride + columns - old_stride] */
    const void *new_mean; /* [n, columns] */
    const void *new_log_std; /* [n * new_stride + columns - new_stride] */
    int64_t columns; /* 1.. */
    int64_t old_stride; /* 0 or columns */
    int64_t new_stride; /* 0 or columns */
} gaussian_kl_args;

/* log_prob[i] = - sum_k (t^2 / 2 + log_std) - constant, t = (actions - mean) exp(-log_std) */
typedef struct {
    void *log_prob; /* [n] */
    const void *mean; /* [n, columns] */
    const void *log_std; /* [n * stride + columns - stride] */
    const void *actions; /* [n, columns] */
    int64_t columns; /* 1.. */
    int64_t stride; /* 0 or columns */
    double constant; /* (columns * log(2 pi) / 2) */
} gaussian_log_prob_args;

/* entropy[i] = sum_k log_std + constant */
typedef struct {
    void *entropy; /* [n] */
    const void *log_std; /* [n, columns] */
    int64_t columns; /* 1.. */
    double constant; /* (columns * log(2 pi e) / 2) */
} gaussian_entropy_args;

/* actions = mean + exp(log_std) * the standard normal number of the element as in random_normal; the range is over
   elements */
typedef struct {
    void *actions; /* [n], may be mean */
    const void *mean; /* [n] */
    const void *log_std; /* [n * stride / columns + columns - stride] */
    int64_t columns; /* 1.. */
    int64_t stride; /* 0 or columns */
    random_address address;
} gaussian_sample_args;

/* losses[i] = - advantages[i] * log_prob[i] - entropy_coef * entropy[i];   w = advantages * scale
   dmean = - w t exp(-log_std);   dlog_std = w (1 - t^2) - entropy_scale, for each row; where one log_std is for all,
   column_sums[block] = their sum over a block of FASTOPT_ROW_BLOCK rows, in double, the rows in order (add_row_blocks).
   The range is over these blocks. */
typedef struct {
    void *dmean; /* [rows, columns], may be mean */
    void *dlog_std; /* [rows, columns], NULL where stride = 0, may be log_std */
    double *column_sums; /* [n, columns], NULL where stride = columns */
    void *losses; /* [rows] */
    const void *mean; /* [rows, columns] */
    const void *log_std; /* [rows * stride + columns - stride] */
    const void *actions; /* [rows, columns] */
    const void *advantages; /* [rows] */
    const uint8_t *valid; /* [rows], or NULL (true where not 0; all are) */
    int64_t rows; /* 0.. */
    int64_t columns; /* 1.. */
    int64_t stride; /* 0 or columns */
    double scale; /* (1 / how many are valid) */
    double log_prob_constant;
    double entropy_coef;
    double entropy_constant;
    double entropy_scale; /* (entropy_coef / how many are valid) */
} gaussian_policy_gradient_args; /* n = rows / FASTOPT_ROW_BLOCK */

/* The gradients as above, with the weight of ppo_args as w. */
typedef struct {
    void *dmean; /* [rows, columns], may be mean */
    void *dlog_std; /* [rows, columns], NULL where stride = 0, may be log_std */
    double *column_sums; /* [n, columns], NULL where stride = columns */
    const void *mean; /* [rows, columns] */
    const void *log_std; /* [rows * stride + columns - stride] */
    const void *actions; /* [rows, columns] */
    int64_t rows; /* 0.. */
    int64_t columns; /* 1.. */
    int64_t stride; /* 0 or columns */
    double log_prob_constant;
    double entropy_constant;
    ppo_args ppo;
} gaussian_ppo_loss_args; /* n = rows / FASTOPT_ROW_BLOCK */

/* returns[t] = rewards[t] where terminated; else rewards[t] + gamma * (next_values[t] where truncated or last, else
   returns[t + 1]); without next_values rewards[t] there. (time, environments); the range is over environments. */
typedef struct {
    void *returns; /* [time, environments] */
    const void *rewards; /* [time, environments] */
    const uint8_t *terminated; /* [time, environments] (true where not 0) */
    const uint8_t *truncated; /* [time, environments] (true where not 0) */
    const void *next_values; /* [time, environments], or NULL */
    int64_t time; /* 0.. */
    int64_t environments; /* 0.. */
    double gamma;
} discounted_returns_args; /* n = environments */

/* delta[t] = (rewards[t] where terminated, else rewards[t] + gamma * next_values[t]) - values[t]
   advantages[t] = delta[t] where terminated or truncated, else delta[t] + gamma_lam * advantages[t + 1], 0 past the end
   returns = advantages + values; both 0 where not valid */
typedef struct {
    void *advantages; /* [time, environments] */
    void *returns; /* [time, environments] */
    const void *rewards; /* [time, environments] */
    const void *values; /* [time, environments] */
    const void *next_values; /* [time, environments] */
    const uint8_t *terminated; /* [time, environments] (true where not 0) */
    const uint8_t *truncated; /* [time, environments] (true where not 0) */
    const uint8_t *valid; /* [time, environments], or NULL (true where not 0; all are) */
    int64_t time; /* 0.. */
    int64_t environments; /* 0.. */
    double gamma;
    double gamma_lam;
} gae_args; /* n = environments */

/* rho = min(rho_clip, exp(log_ratios)), c = min(c_clip, exp(log_ratios));  after[t] = 0 where truncated or past the end, else
   correction[t + 1];  next[t] = 0 where terminated, else gamma * next_values[t]
   correction[t] = rho (rewards[t] + next[t] - values[t]) + (0 where terminated, else (gamma_lam * c) * after[t])
   targets = values + correction
   advantages[t] = rho (rewards[t] + (0 where terminated, else gamma * (next_values[t] + after[t])) - values[t]) */
typedef struct {
    void *targets; /* [time, environments] */
    void *advantages; /* [time, environments] */
    const void *log_ratios; /* [time, environments] */
    const void *rewards; /* [time, environments] */
    const void *values; /* [time, environments] */
    const void *next_values; /* [time, environments] */
    const uint8_t *terminated; /* [time, environments] (true where not 0) */
    const uint8_t *truncated; /* [time, environments] (true where not 0) */
    int64_t time; /* 0.. */
    int64_t environments; /* 0.. */
    double gamma;
    double gamma_lam;
    double rho_clip;
    double c_clip;
} vtrace_args; /* n = environments */

/* A layer of a perceptron: y = f(x weight^T + bias), by activation f: 0 none, 1 tanh, 2 leaky ReLU. A sum of products goes in
   blocks of FASTOPT_PRODUCT_BLOCK, each begun at 0 and added up in order, and these are added up in order. */
typedef struct {
    void *y; /* [n, outputs] */
    const void *x; /* [n, inputs] */
    const void *weight; /* [outputs, inputs] */
    const void *bias; /* [outputs] */
    int64_t inputs; /* 1.. */
    int64_t outputs; /* 1.. */
    int activation; /* 0..2 */
    double negative_slope;
} dense_args;

#define FASTOPT_PRODUCT_BLOCK 64
#define FASTOPT_TANH 1
#define FASTOPT_LEAKY_RELU 2

/* dx = (dz weight) * f'(x): the gradient before the activation of the layer before, whose output is x */
typedef struct {
    void *dx; /* [n, inputs] */
    const void *dz; /* [n, outputs] */
    const void *weight; /* [outputs, inputs] */
    const void *x; /* [n, inputs] */
    int64_t inputs; /* 1.. */
    int64_t outputs; /* 1.. */
    int activation; /* 0..2 */
    double negative_slope;
} dense_backward_args;

/* dweight = dz^T x, dbias = the sum of the rows of dz; the range is over outputs */
typedef struct {
    void *dweight; /* [n, inputs] */
    void *dbias; /* [n] */
    const void *dz; /* [rows, outputs] */
    const void *x; /* [rows, inputs] */
    int64_t rows; /* 1.. */
    int64_t inputs; /* 1.. */
    int64_t outputs; /* 1.. */
} dense_gradient_args; /* n = outputs */

/* The action of each row that wins a race, whose time is noise / p, of exponentially distributed noise: actions[i, list] = the
   first k whose p / noise is largest, -1 where the row is no distribution; log_prob = its log p, added to what is there but
   for the first of several lists of logits. */
typedef struct {
    int64_t *actions; /* [n, lists] */
    void *log_prob; /* [n] */
    const void *logits; /* [n * stride + columns - stride] */
    const void *noise; /* [n * stride + columns - stride] */
    int64_t columns; /* 1.. */
    int64_t stride; /* columns.. (of the rows of all lists) */
    int64_t list; /* 0..lists - 1 */
    int64_t lists; /* 1.. */
} categorical_race_args;

/* actions = mean + exp(log_std) * noise, one log_std for all rows */
typedef struct {
    void *actions; /* [n, columns] */
    const void *mean; /* [n, columns] */
    const void *log_std; /* [columns] */
    const void *noise; /* [n, columns] */
    int64_t columns; /* 1.. */
} gaussian_shift_args;

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

/* ---- the one list of kernels ---------------------------------------------------------------------------------------- */

typedef void (*fastopt_kernel)(const void *args, int64_t begin, int64_t end);

/* A family is a folder of kernels/, and compiled by itself. A line a kernel: KERNEL(NAME, RECORD), where NAME is a template
   over the element type that takes a RECORD. The door, the tests of equal bits and golden hashes, and the fuzzer follow
   this list. */
#define FASTOPT_FAMILIES(FAMILY) \
    FAMILY(core)                 \
    FAMILY(activations)          \
    FAMILY(masking)              \
    FAMILY(random)               \
    FAMILY(optimizers)           \
    FAMILY(policy)               \
    FAMILY(cem)                  \
    FAMILY(plan)

#define FASTOPT_KERNELS_core(KERNEL)           \
    KERNEL(stream, stream_args)                \
    KERNEL(add_row_blocks, add_row_blocks_args) \
    KERNEL(sum_squares, sum_args)              \
    KERNEL(sum_squares_bfloat16, sum_args)     \
    KERNEL(sum_values, sum_args)               \
    KERNEL(sum_squared_deviations, sum_args)

#define FASTOPT_KERNELS_activations(KERNEL)               \
    KERNEL(leaky_relu, activation_args)                   \
    KERNEL(leaky_relu_backward, activation_backward_args) \
    KERNEL(tanh, activation_args)                         \
    KERNEL(tanh_backward, activation_backward_args)       \
    KERNEL(bias_tanh, bias_tanh_args)                     \
    KERNEL(bias_tanh_backward, bias_tanh_backward_args)   \
    KERNEL(count_inactive, count_inactive_args)

#define FASTOPT_KERNELS_masking(KERNEL)                           \
    KERNEL(dropout, dropout_args)                                 \
    KERNEL(bias_leaky_relu_dropout, bias_leaky_relu_dropout_args) \
    KERNEL(bias_leaky_relu_dropout_backward, bias_leaky_relu_dropout_backward_args)

#define FASTOPT_KERNELS_random(KERNEL)          \
    KERNEL(random_raw, random_raw_args)         \
    KERNEL(random_uniform, random_uniform_args) \
    KERNEL(random_normal, random_normal_args)   \
    KERNEL(random_integers, random_integers_args)

#define FASTOPT_KERNELS_optimizers(KERNEL)    \
    KERNEL(adam, optimizer_args)              \
    KERNEL(adam_bfloat16, optimizer_args)     \
    KERNEL(adam_bfloat16_params, optimizer_args) \
    KERNEL(adam_8bit, optimizer_args)         \
    KERNEL(adam_rows, optimizer_rows_args)    \
    KERNEL(sgd, optimizer_args)               \
    KERNEL(sgd_bfloat16, optimizer_args)      \
    KERNEL(sgd_bfloat16_params, optimizer_args) \
    KERNEL(sgd_8bit, optimizer_args)          \
    KERNEL(sgd_rows, optimizer_rows_args)     \
    KERNEL(rmsprop, optimizer_args)           \
    KERNEL(rmsprop_bfloat16, optimizer_args)  \
    KERNEL(rmsprop_bfloat16_params, optimizer_args) \
    KERNEL(rmsprop_8bit, optimizer_args)      \
    KERNEL(rmsprop_rows, optimizer_rows_args) \
    KERNEL(sum_rows, sum_rows_args)           \
    KERNEL(ema, ema_args)                     \
    KERNEL(scale, scale_args)

#define FASTOPT_KERNELS_policy(KERNEL)                                    \
    KERNEL(row_largest, row_largest_args)                                 \
    KERNEL(row_exponentials, row_exponentials_args)                       \
    KERNEL(categorical_kl, categorical_kl_args)                           \
    KERNEL(categorical_log_prob, categorical_log_prob_args)               \
    KERNEL(categorical_entropy, categorical_entropy_args)                 \
    KERNEL(categorical_sample, categorical_sample_args)                   \
    KERNEL(categorical_policy_gradient, categorical_policy_gradient_args) \
    KERNEL(categorical_ppo_loss, categorical_ppo_loss_args)               \
    KERNEL(gaussian_kl, gaussian_kl_args)                                 \
    KERNEL(gaussian_log_prob, gaussian_log_prob_args)                     \
    KERNEL(gaussian_entropy, gaussian_entropy_args)                       \
    KERNEL(gaussian_sample, gaussian_sample_args)                         \
    KERNEL(gaussian_policy_gradient, gaussian_policy_gradient_args)       \
    KERNEL(gaussian_ppo_loss, gaussian_ppo_loss_args)                     \
    KERNEL(discounted_returns, discounted_returns_args)                   \
    KERNEL(dense, dense_args)                                             \
    KERNEL(dense_backward, dense_backward_args)                           \
    KERNEL(dense_gradient, dense_gradient_args)                           \
    KERNEL(categorical_race, categorical_race_args)                       \
    KERNEL(gaussian_shift, gaussian_shift_args)                           \
    KERNEL(gae, gae_args)                                                 \
    KERNEL(vtrace, vtrace_args)                                           \
    KERNEL(standardize, standardize_args)

#define FASTOPT_KERNELS_cem(KERNEL)             \
    KERNEL(cem_candidates, cem_candidates_args) \
    KERNEL(cem_refit, cem_refit_args)           \
    KERNEL(cem_refit_full, cem_refit_args)

#define FASTOPT_KERNELS_plan(KERNEL)              \
    KERNEL(plan_candidates, plan_candidates_args) \
    KERNEL(plan_refit, plan_refit_args)

/* The rules of the optimisers: each has the kernels NAME, NAME_bfloat16, NAME_8bit, NAME_rows and NAME_bfloat16_params above,
   NAME_scalars, and fastopt_NAME_scalars. */
#define FASTOPT_RULES(RULE) \
    RULE(adam)              \
    RULE(sgd)               \
    RULE(rmsprop)

/* A table a family and instruction set, indexed by element type: 0 float, 1 double. */
#define FASTOPT_TABLE_OF(FAMILY) fastopt_##FAMILY##_table
#define FASTOPT_TABLE_NAME(FAMILY, ISA) fastopt_##FAMILY##_##ISA
#define FASTOPT_TABLE_ENTRY(NAME, RECORD) fastopt_kernel NAME[2];
#define FASTOPT_TABLE(FAMILY)                         \
    typedef struct {                                  \
        FASTOPT_KERNELS_##FAMILY(FASTOPT_TABLE_ENTRY) \
    } fastopt_##FAMILY##_table;
FASTOPT_FAMILIES(FASTOPT_TABLE)

/* Those of the instruction set in use, set by fastopt_select_isa. */
#define FASTOPT_TABLE_POINTER(FAMILY) const fastopt_##FAMILY##_table *FAMILY;
typedef struct {
    FASTOPT_FAMILIES(FASTOPT_TABLE_POINTER)
} fastopt_tables;
extern fastopt_tables fastopt_kernels;

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
