// Policies and advantages, one value a row where a function does not say otherwise; n is the size of the first array; for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

#include <cmath>

namespace {

template <class T>
int64_t categorical_kl(T* kl, const T* old_logits, const T* new_logits, int64_t rows, int64_t columns) {
    const categorical_kl_args args = {kl, old_logits, new_logits, columns, {}, {}};
    return run(fastopt_kernels.policy->categorical_kl[TYPE<T>], &args, rows);
}

template <class T>
int64_t gaussian_kl(T* kl, const T* old_mean, const T* old_log_std, const T* new_mean, const T* new_log_std, int64_t rows,
                    int64_t columns, int64_t old_stride, int64_t new_stride) {
    const gaussian_kl_args args = {kl, old_mean, old_log_std, new_mean, new_log_std, columns, old_stride, new_stride};
    return run(fastopt_kernels.policy->gaussian_kl[TYPE<T>], &args, rows);
}

// An action that is no column would be read past its row.
bool are_columns(const int64_t* actions, int64_t rows, int64_t columns) {
    for (int64_t k = 0; k < rows; ++k)
        if (actions[k] < 0 || actions[k] >= columns) return false;
    return true;
}

template <class T>
int64_t categorical_log_prob(T* log_prob, const T* logits, const int64_t* actions, int64_t rows, int64_t columns) {
    if (!are_columns(actions, rows, columns)) return NO_ACTION;
    const categorical_log_prob_args args = {log_prob, logits, actions, columns, {}};
    return run(fastopt_kernels.policy->categorical_log_prob[TYPE<T>], &args, rows);
}

template <class T>
int64_t categorical_entropy(T* entropy, const T* logits, int64_t rows, int64_t columns) {
    const categorical_entropy_args args = {entropy, logits, columns, {}};
    return run(fastopt_kernels.policy->categorical_entropy[TYPE<T>], &args, rows);
}

template <class T>
int64_t gaussian_log_prob(T* log_prob, const T* mean, const T* log_std, const T* actions, int64_t rows, int64_t columns,
                          int64_t stride) {
    const gaussian_log_prob_args args = {log_prob, mean,   log_std, actions, columns,
                                         stride,   fastopt_gaussian_log_prob_constant(columns)};
    return run(fastopt_kernels.policy->gaussian_log_prob[TYPE<T>], &args, rows);
}

template <class T>
int64_t gaussian_entropy(T* entropy, const T* log_std, int64_t rows, int64_t columns) {
    const gaussian_entropy_args args = {entropy, log_std, columns, fastopt_gaussian_entropy_constant(columns)};
    return run(fastopt_kernels.policy->gaussian_entropy[TYPE<T>], &args, rows);
}

template <class T>
double mean_over(const T* x, int64_t n, int64_t count) {
    default_float_mode mode;
    const double total = sum_about(fastopt_kernels.core->sum_values, x, n);
    return fastopt_mean(&total, 1, count);
}

template <class T>
double mean(const T* x, int64_t n) {
    return mean_over(x, n, n);
}

// `valid` is null where all rows are.
template <class T>
int64_t categorical_policy_gradient(T* losses, T* dlogits, const T* logits, const T* advantages, const int64_t* actions,
                                    const uint8_t* valid, double* loss, int64_t rows, int64_t columns, double entropy_coef) {
    const int64_t row_bytes = rows * static_cast<int64_t>(sizeof(T)), bytes = row_bytes * columns;
    if (dlogits != logits && overlap(dlogits, logits, bytes)) return OVERLAP;
    if (overlap(dlogits, bytes, advantages, row_bytes) || overlap(dlogits, bytes, actions, rows * 8) ||
        overlap(dlogits, bytes, valid, rows))
        return OVERLAP;
    if (!are_columns(actions, rows, columns)) return NO_ACTION;
    categorical_policy_gradient_args args = {dlogits, losses, logits, actions, advantages, valid, columns, 0, 0, 0, {}};
    const int64_t counted = fastopt_categorical_gradient_scalars(&args, rows, entropy_coef);
    if (counted == 0) return NONE_VALID;
    run(fastopt_kernels.policy->categorical_policy_gradient[TYPE<T>], &args, rows);
    *loss = mean_over(losses, rows, counted);
    return DONE;
}

template <class T>
int64_t categorical_policy_gradient_1(T* losses, T* dlogits, const T* logits, const T* advantages, const int64_t* actions,
                                      int64_t rows, int64_t columns, double entropy_coef) {
    double loss;
    return categorical_policy_gradient(losses, dlogits, logits, advantages, actions, nullptr, &loss, rows, columns,
                                       entropy_coef);
}

// n is the size of dlogits. `widths` of the lists of logits is null where there is one; old_values where they are not needed,
// and `valid` where all are. `sums` has FASTOPT_PPO_SUMS for each FASTOPT_ROW_BLOCK rows, `results` FASTOPT_PPO_RESULTS.
template <class T>
int64_t categorical_ppo_loss(T* dlogits, T* dvalues, const T* logits, const T* advantages, const T* old_log_prob,
                             const T* values, const T* returns, const T* old_values, const int64_t* actions,
                             const int64_t* widths, const uint8_t* valid, double* sums, double* results, int64_t n,
                             int64_t rows, int64_t lists, double clip_range, double clip_range_vf, double entropy_coef,
                             double value_coef) {
    const int64_t columns = n / rows;
    if (!are_columns(actions, rows * lists, columns)) return NO_ACTION;
    categorical_ppo_loss_args args = {dlogits, logits, actions, widths != nullptr ? widths : &columns, rows, columns, lists,
                                      {dvalues, sums, advantages, old_log_prob, values, returns, old_values, valid, 0, 0, 0,
                                       0, 0, 0, 0}};
    const int64_t counted = fastopt_ppo_scalars(&args.ppo, rows, clip_range, clip_range_vf, entropy_coef, value_coef);
    if (counted == 0) return NONE_VALID;
    run(fastopt_kernels.policy->categorical_ppo_loss[TYPE<T>], &args, (rows + FASTOPT_ROW_BLOCK - 1) / FASTOPT_ROW_BLOCK);
    fastopt_ppo_results(results, sums, rows, counted, entropy_coef, value_coef);
    return DONE;
}

// What both ops fill in of a Gaussian policy; column_sums has a row for each FASTOPT_ROW_BLOCK rows where one log_std is for
// all, else it is null.
template <class T, class Args>
void gaussian_policy(Args* args, T* dmean, T* dlog_std, const T* mean, const T* log_std, const T* actions,
                     double* column_sums, int64_t rows, int64_t columns) {
    args->dmean = dmean;
    args->dlog_std = column_sums == nullptr ? dlog_std : nullptr;
    args->column_sums = column_sums;
    args->mean = mean;
    args->log_std = log_std;
    args->actions = actions;
    args->rows = rows;
    args->columns = columns;
    args->stride = column_sums == nullptr ? columns : 0;
}

template <class T, class Args>
void run_gaussian(const fastopt_kernel* kernels, const Args& args, T* dlog_std) {
    const int64_t blocks = (args.rows + FASTOPT_ROW_BLOCK - 1) / FASTOPT_ROW_BLOCK;
    run(kernels[TYPE<T>], &args, blocks);
    if (args.column_sums == nullptr) return;
    const add_row_blocks_args total = {dlog_std, args.column_sums, blocks, args.columns};
    run(fastopt_kernels.core->add_row_blocks[TYPE<T>], &total, args.columns);
}

template <class T>
int64_t gaussian_policy_gradient(T* losses, T* dmean, T* dlog_std, const T* mean, const T* log_std, const T* actions,
                                 const T* advantages, const uint8_t* valid, double* column_sums, double* loss, int64_t rows,
                                 int64_t columns, double entropy_coef) {
    gaussian_policy_gradient_args args = {};
    gaussian_policy(&args, dmean, dlog_std, mean, log_std, actions, column_sums, rows, columns);
    args.losses = losses;
    args.advantages = advantages;
    args.valid = valid;
    const int64_t counted = fastopt_gaussian_gradient_scalars(&args, entropy_coef);
    if (counted == 0) return NONE_VALID;
    run_gaussian(fastopt_kernels.policy->gaussian_policy_gradient, args, dlog_std);
    *loss = mean_over(losses, rows, counted);
    return DONE;
}

template <class T>
int64_t gaussian_policy_gradient_1(T* losses, T* dmean, T* dlog_std, const T* mean, const T* log_std, const T* actions,
                                   const T* advantages, double* column_sums, int64_t rows, int64_t columns,
                                   double entropy_coef) {
    double loss;
    return gaussian_policy_gradient(losses, dmean, dlog_std, mean, log_std, actions, advantages, nullptr, column_sums, &loss,
                                    rows, columns, entropy_coef);
}

// n is the size of dvalues; the rest as for the others of these ops.
template <class T>
int64_t gaussian_ppo_loss(T* dvalues, T* dmean, T* dlog_std, const T* mean, const T* log_std, const T* actions,
                          const T* advantages, const T* old_log_prob, const T* values, const T* returns, const T* old_values,
                          const uint8_t* valid, double* column_sums, double* sums, double* results, int64_t rows,
                          int64_t columns, double clip_range, double clip_range_vf, double entropy_coef, double value_coef) {
    gaussian_ppo_loss_args args = {};
    gaussian_policy(&args, dmean, dlog_std, mean, log_std, actions, column_sums, rows, columns);
    args.log_prob_constant = fastopt_gaussian_log_prob_constant(columns);
    args.entropy_constant = fastopt_gaussian_entropy_constant(columns);
    args.ppo = {dvalues, sums, advantages, old_log_prob, values, returns, old_values, valid, 0, 0, 0, 0, 0, 0, 0};
    const int64_t counted = fastopt_ppo_scalars(&args.ppo, rows, clip_range, clip_range_vf, entropy_coef, value_coef);
    if (counted == 0) return NONE_VALID;
    run_gaussian(fastopt_kernels.policy->gaussian_ppo_loss, args, dlog_std);
    fastopt_ppo_results(results, sums, rows, counted, entropy_coef, value_coef);
    return DONE;
}

// The element type of a name is that of its first array, here of the input.
template <class T>
int64_t categorical_sample(const T* logits, int64_t* actions, int64_t n, int64_t columns, uint64_t seed, uint64_t stream,
                           int64_t domain) {
    const categorical_sample_args args = {actions, logits, columns, address(seed, stream, domain), {}};
    return run(fastopt_kernels.policy->categorical_sample[TYPE<T>], &args, n / columns);
}

template <class T>
int64_t gaussian_sample(T* actions, const T* mean, const T* log_std, int64_t n, int64_t columns, int64_t stride,
                        uint64_t seed, uint64_t stream, int64_t domain) {
    const gaussian_sample_args args = {actions, mean, log_std, columns, stride, address(seed, stream, domain)};
    return run(fastopt_kernels.policy->gaussian_sample[TYPE<T>], &args, n);
}

template <class T>
int64_t gae(T* advantages, T* returns, const T* rewards, const T* values, const T* next_values, const uint8_t* terminated,
            const uint8_t* truncated, const uint8_t* valid, int64_t n, int64_t time, double gamma, double lam) {
    const gae_args args = {advantages, returns, rewards, values, next_values, terminated, truncated, valid, time,
                           n / (time > 0 ? time : 1), gamma, fastopt_gamma_lam(gamma, lam)};
    return run(fastopt_kernels.policy->gae[TYPE<T>], &args, args.environments);
}

template <class T>
int64_t gae_1(T* advantages, T* returns, const T* rewards, const T* values, const T* next_values, const uint8_t* terminated,
              const uint8_t* truncated, int64_t n, int64_t time, double gamma, double lam) {
    return gae(advantages, returns, rewards, values, next_values, terminated, truncated, nullptr, n, time, gamma, lam);
}

template <class T>
int64_t vtrace(T* targets, T* advantages, const T* log_ratios, const T* rewards, const T* values, const T* next_values,
               const uint8_t* terminated, const uint8_t* truncated, int64_t n, int64_t time, double gamma, double lam,
               double rho_clip, double c_clip) {
    const vtrace_args args = {targets, advantages, log_ratios, rewards, values, next_values, terminated, truncated, time,
                              n / (time > 0 ? time : 1), gamma, fastopt_gamma_lam(gamma, lam), rho_clip, c_clip};
    return run(fastopt_kernels.policy->vtrace[TYPE<T>], &args, args.environments);
}

// next_values may be null.
template <class T>
int64_t discounted_returns(T* returns, const T* rewards, const T* next_values, const uint8_t* terminated,
                           const uint8_t* truncated, int64_t n, int64_t time, double gamma) {
    const discounted_returns_args args = {returns, rewards, terminated, truncated, next_values, time,
                                          n / (time > 0 ? time : 1), gamma};
    return run(fastopt_kernels.policy->discounted_returns[TYPE<T>], &args, args.environments);
}

// In the mode: fills in the scalars for numbers that have been multiplied by `scale`; returned is their sum of squares.
template <class T>
double standardize_scalars(standardize_args* args, const T* x, int64_t n, int64_t ddof, double eps, double scale) {
    const double first = fastopt_first(x, TYPE<T>);
    fastopt_standardize_mean(args, first, sum_about(fastopt_kernels.core->sum_values, x, n, first), n);
    const double squares = sum_about(fastopt_kernels.core->sum_squared_deviations, x, n, args->mean);
    fastopt_standardize_scale(args, squares, n, ddof, eps, scale);
    return squares;
}

// n - ddof >= 1. Numbers whose squares are beyond the range are multiplied first, in y: see fastopt_square_scale.
template <class T>
int64_t normalize_advantage(T* y, const T* x, int64_t n, int64_t ddof, double eps) {
    default_float_mode mode;
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if (y != x && overlap(y, x, bytes)) return OVERLAP;
    standardize_args args = {y, x, 0, 0, 0};
    const double squares = standardize_scalars(&args, x, n, ddof, eps, 1);
    const bool finite = std::isfinite(squares);
    double scale = 1;
    if (sizeof(T) == sizeof(double) && (fastopt_lost_squares(squares) || !finite))
        scale = fastopt_square_scale(fastopt_largest_magnitude(x, n, TYPE<T>, 0));
    if (scale > 1 || (scale < 1 && !finite)) {  // equal numbers of any size are right as they are
        if (y != x) std::memcpy(y, x, static_cast<size_t>(bytes));
        const scale_args multiplied = {y, scale};
        fastopt_kernels.optimizers->scale[TYPE<T>](&multiplied, 0, n);
        args.x = y;
        standardize_scalars(&args, static_cast<const T*>(y), n, ddof, eps, scale);
    }
    return run(fastopt_kernels.policy->standardize[TYPE<T>], &args, n);
}

template <class T>
int64_t normalize_advantage_1(T* y, const T* x, int64_t n, double eps) {
    return normalize_advantage(y, x, n, 0, eps);
}

template <class T>
int64_t dense(T* y, const T* x, const T* weight, const T* bias, int64_t n, int64_t inputs, int64_t outputs, int64_t activation,
              double negative_slope) {
    const dense_args args = {y, x, weight, bias, inputs, outputs, static_cast<int>(activation), negative_slope};
    return run(fastopt_kernels.policy->dense[TYPE<T>], &args, n / outputs);
}

template <class T>
int64_t dense_backward(T* dx, const T* dz, const T* weight, const T* x, int64_t n, int64_t inputs, int64_t outputs,
                       int64_t activation, double negative_slope) {
    const dense_backward_args args = {dx, dz, weight, x, inputs, outputs, static_cast<int>(activation), negative_slope};
    return run(fastopt_kernels.policy->dense_backward[TYPE<T>], &args, n / inputs);
}

template <class T>
int64_t dense_gradient(T* dweight, T* dbias, const T* dz, const T* x, int64_t n, int64_t rows, int64_t outputs) {
    const dense_gradient_args args = {dweight, dbias, dz, x, rows, n / outputs, outputs};
    return run(fastopt_kernels.policy->dense_gradient[TYPE<T>], &args, outputs);
}

// The choice number `list` of `lists`, whose logits are `columns` from number `first` of a row's on.
template <class T>
int64_t categorical_race(T* log_prob, int64_t* actions, const T* logits, const T* noise, int64_t rows, int64_t first,
                         int64_t columns, int64_t stride, int64_t list, int64_t lists) {
    const categorical_race_args args = {actions, log_prob, logits + first, noise + first, columns, stride, list, lists};
    return run(fastopt_kernels.policy->categorical_race[TYPE<T>], &args, rows);
}

template <class T>
int64_t gaussian_shift(T* actions, const T* mean, const T* log_std, const T* noise, int64_t n, int64_t columns) {
    const gaussian_shift_args args = {actions, mean, log_std, noise, columns};
    return run(fastopt_kernels.policy->gaussian_shift[TYPE<T>], &args, n);
}

}  // namespace

#define FASTOPT_SYMBOLS_policy \
    BOTH(1, categorical_kl), \
    BOTH(1, gaussian_kl), \
    BOTH(1, categorical_log_prob), \
    BOTH(1, categorical_entropy), \
    BOTH(1, gaussian_log_prob), \
    BOTH(1, gaussian_entropy), \
    BOTH_OF(1, categorical_policy_gradient, categorical_policy_gradient_1), \
    BOTH(2, categorical_policy_gradient), \
    BOTH_OF(1, gaussian_policy_gradient, gaussian_policy_gradient_1), \
    BOTH(2, gaussian_policy_gradient), \
    BOTH(1, categorical_ppo_loss), \
    BOTH(1, gaussian_ppo_loss), \
    BOTH(1, categorical_sample), \
    BOTH(1, gaussian_sample), \
    BOTH(1, discounted_returns), \
    BOTH_OF(1, gae, gae_1), \
    BOTH(2, gae), \
    BOTH(1, vtrace), \
    BOTH_OF(1, normalize_advantage, normalize_advantage_1), \
    BOTH(2, normalize_advantage), \
    BOTH(1, mean), \
    BOTH(1, dense), \
    BOTH(1, dense_backward), \
    BOTH(1, dense_gradient), \
    BOTH(1, categorical_race), \
    BOTH(1, gaussian_shift)
