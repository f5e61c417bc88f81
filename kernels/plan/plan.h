/* Planning: candidates of many problems at once, and the refit. */
#ifndef FASTOPT_PLAN_H
#define FASTOPT_PLAN_H

#include "core/core.h"
#include "cem/cem.h"

#ifdef __cplusplus
extern "C" {
#endif

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
   A row of weight 0 counts for nothing, also where it is infinite. Where the weights' sum is not above 0 both stay. The
   range is over problems. */
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

#define FASTOPT_KERNELS_plan(KERNEL)              \
    KERNEL(plan_candidates, plan_candidates_args) \
    KERNEL(plan_refit, plan_refit_args)
FASTOPT_TABLE(plan)

#ifdef __cplusplus
}
#endif
#endif
