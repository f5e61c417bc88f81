/* Policies: the ranges are over the rows of a batch. */
#ifndef FASTOPT_POLICY_H
#define FASTOPT_POLICY_H

#include "core/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = ((x - mean) - rest) * scale, in double, rounded once */
typedef struct {
    void *y; /* [n], may be x */
    const void *x; /* [n] */
    double mean;
    double rest; /* (what the rounding of the mean has left) */
    double scale;
} standardize_args;

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

/* dweight = dz^T x; dbias = the sum of the rows of dz, in double, in blocks of FASTOPT_ROW_BLOCK rows, the rows and the blocks in
   order; the range is over outputs */
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

/* actions = mean + exp(log_std) * noise, one log_std for all rows; the range is over elements */
typedef struct {
    void *actions; /* [n] */
    const void *mean; /* [n] */
    const void *log_std; /* [columns] */
    const void *noise; /* [n] */
    int64_t columns; /* 1.. */
} gaussian_shift_args;

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
FASTOPT_TABLE(policy)

#ifdef __cplusplus
}
#endif
#endif
