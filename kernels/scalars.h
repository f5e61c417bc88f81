/* What a call computes once and not once an element, in double, in one place for every caller: the door, compiled code, rules.
   The loops are given the results in their records, and do not include this. */
#ifndef FASTOPT_SCALARS_H
#define FASTOPT_SCALARS_H

#include "fastopt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The scalars of step t (>= 1, from the first in which the states moved) from a rule's hyper-parameters, all as double, in
   the order of NAME_hyper. Returned is 0; -1 where the step leaves the states alone; or the place, from 1, of a
   hyper-parameter that is too small for the arrays' type (0 float, 1 double). */
typedef struct {
    double lr;
    double beta1;
    double beta2;
    double eps;
    double weight_decay;
    double decoupled_weight_decay; /* 0 or 1 */
} adam_hyper;
typedef struct {
    double lr;
    double momentum;
    double dampening;
    double weight_decay;
    double nesterov; /* 0 or 1 */
} sgd_hyper;
typedef struct {
    double lr;
    double alpha;
    double eps;
    double weight_decay;
    double momentum;
} rmsprop_hyper;
int fastopt_adam_scalars(void *adam_scalars, int64_t t, const double *hyper, double grad_scale, int element_type);
int fastopt_sgd_scalars(void *sgd_scalars, int64_t t, const double *hyper, double grad_scale, int element_type);
int fastopt_rmsprop_scalars(void *rmsprop_scalars, int64_t t, const double *hyper, double grad_scale, int element_type);
/* For 0 < p < 1: threshold = round(65536 p) within 1..65535, scale = 1 / (1 - threshold / 65536). */
void fastopt_dropout_scalars(double p, uint32_t *threshold, double *scale);
/* Sums of squares, of the blocks of an array or of several arrays, added in order; and what is made of them, x having been
   multiplied by `scale` first: weight_decay / 2 times the sum; |multiplier| times its root; and of the norm
   min(1, max_norm / (norm + 1e-6)), NaN for a NaN. */
double fastopt_add_up(const double *sums, int64_t count);
double fastopt_penalty(double weight_decay, const double *sums, int64_t count, double scale);
double fastopt_norm(double multiplier, const double *sums, int64_t count, double scale);
double fastopt_clip(double norm, double max_norm);
double fastopt_clipped_scale(double grad_scale, double norm, double max_norm); /* grad_scale times fastopt_clip */
/* The rate of an average: 1 - decay, to be counted from the average; -decay (-0.0 for 0), from the value, where decay < 1/2.
   So the one with the larger share is never lost. */
double fastopt_average_rate(double decay);
/* x^n for 0 <= x < 1 and n >= 1, with the same bits everywhere. */
double fastopt_power(double x, int64_t n);
/* Whether a sum of squares has lost what matters: squares overflowed, or squares that are 2^-54 of it are below the smallest
   normal number; not a NaN. Then the numbers are multiplied first by a power of two, which brings the largest to about 1:
   the power for that largest magnitude (1 where it is 0 or infinite), the largest of n numbers or `most` (NaN are passed
   over), and the sum of the squares of n numbers times the power. Element type 0 is float, 1 double. */
int fastopt_lost_squares(double sum);
double fastopt_square_scale(double largest);
double fastopt_largest_magnitude(const void *x, int64_t n, int element_type, double most);
double fastopt_scaled_squares(const void *x, int64_t n, int element_type, double scale);
/* Block sums added in order and divided by `size`. */
double fastopt_mean(const double *sums, int64_t count, int64_t size);
/* Of `size` >= 1 numbers the first; the mean, with what its rounding leaves, from their sum less the first each; and
   1 / (their std + eps * scale) from the sum of squares about that mean, divided by size - ddof >= 1. */
double fastopt_first(const void *x, int element_type);
void fastopt_standardize_mean(standardize_args *args, double first, double sum, int64_t size);
void fastopt_standardize_scale(standardize_args *args, double squares, int64_t size, int64_t ddof, double eps, double scale);
/* The constants of policies: columns times log(2 pi) / 2, and times log(2 pi e) / 2. */
double fastopt_gaussian_log_prob_constant(int64_t columns);
double fastopt_gaussian_entropy_constant(int64_t columns);
/* gamma * lam */
double fastopt_gamma_lam(double gamma, double lam);
/* Fill in the scalars of a record whose sizes are there; returned is how many rows are valid: 0 of them leave nothing to divide by. */
int64_t fastopt_categorical_gradient_scalars(categorical_policy_gradient_args *args, int64_t rows, double entropy_coef);
int64_t fastopt_gaussian_gradient_scalars(gaussian_policy_gradient_args *args, double entropy_coef);
int64_t fastopt_ppo_scalars(ppo_args *args, int64_t rows, double clip_range, double clip_range_vf, double entropy_coef,
                            double value_coef);
/* From the sums of all blocks and that number: the loss, policy_loss, value_loss, entropy_loss, approx_kl, clip_fraction. */
#define FASTOPT_PPO_RESULTS 6
void fastopt_ppo_results(double *results, const double *sums, int64_t rows, int64_t valid, double entropy_coef,
                         double value_coef);
/* The numbers of the `wanted` lowest (maximize: highest) of n scores, the best first, lower numbers first among equals; fewer
   where fewer are finite: no other score is taken. Returns how many. `work` has n elements. */
int64_t fastopt_select_elites(int64_t *elites, const double *scores, int64_t n, int64_t wanted, int maximize, double *work);
/* The same of several rows of scores, of which the first n count: row k's numbers in row k of `elites`, found[k] of them.
   The range is over rows. `work` has rows * n elements. */
typedef struct {
    int64_t *elites;
    int64_t *found;
    const double *scores;
    int64_t n;
    int64_t stride; /* from row to row of scores */
    int64_t wanted; /* of a row; at most n */
    int maximize;
    double *work;
} elite_choice;
void fastopt_select_elites_of(const void *choice, int64_t begin, int64_t end);
/* Fill in the scalars from `total` to `rank_one`, a std_lr of 0, and `weights`, which has `count` elements, or is NULL. */
void fastopt_cem_scalars(cem_refit_args *args, double *weights);
/* What follows a refit's kernel where there is a path: the scale of all of std by the path's length;
   std = max(sqrt((std * scale)^2 + extra_variance), min_std). */
void fastopt_cem_scale(const cem_refit_args *args, int element_type);
/* The lower triangular factor (horizon, horizon) of the covariance of a series with the power f^-beta at the frequencies
   f = 1, 2, ... over the horizon, at 0 that of 1, and unit variance. `work` has 2 horizon elements. */
void fastopt_noise_factor(double *factor, double *work, int64_t horizon, double beta);
/* Of each problem's n scores: which rows weigh, and how much (kernels/plan/plan.pxi); its best row, or -1 with fewer
   than two finite scores. `wanted` is n with FASTOPT_PLAN_MPPI. `work` has as many elements as scores. The range is over
   problems. */
#define FASTOPT_PLAN_ELITES 0
#define FASTOPT_PLAN_SOFTMAX 1
#define FASTOPT_PLAN_MPPI 2
typedef struct {
    int64_t *rows;
    double *weights;
    int64_t *best;
    const double *scores;
    int64_t n;
    int64_t wanted;
    int rule;
    double temperature;
    double *work;
} plan_choice;
void fastopt_plan_weigh(const void *choice, int64_t begin, int64_t end);
/* out = 0 .. n - 1 in random order: element i changes places with floor(u * (i + 1) / 2^64), u the 64 bits of words 2i and
   2i + 1, for i = 1, 2, ... (Fisher and Yates). */
void fastopt_permutation(int64_t *out, int64_t n, random_address address);

#ifdef __cplusplus
}
#endif

#endif
