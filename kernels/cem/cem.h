/* The cross-entropy method: candidates from their numbers, and the refit. */
#ifndef FASTOPT_CEM_H
#define FASTOPT_CEM_H

#include "core/core.h"

#ifdef __cplusplus
extern "C" {
#endif

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

#define FASTOPT_KERNELS_cem(KERNEL)             \
    KERNEL(cem_candidates, cem_candidates_args) \
    KERNEL(cem_refit, cem_refit_args)           \
    KERNEL(cem_refit_full, cem_refit_args)
FASTOPT_TABLE(cem)

#ifdef __cplusplus
}
#endif
#endif
