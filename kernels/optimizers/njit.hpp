// Optimisers and sums for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

namespace {

template <class T>
int64_t adam_step(T* param, const T* grad, T* exp_avg, T* exp_avg_sq, int64_t n, int64_t step, double lr, double beta1,
                  double beta2, double eps, double weight_decay, int64_t decoupled_weight_decay, double grad_scale) {
    if (any_overlap({param, grad, exp_avg, exp_avg_sq}, n * static_cast<int64_t>(sizeof(T)))) return OVERLAP;
    const double hyper[] = {lr, beta1, beta2, eps, weight_decay, decoupled_weight_decay != 0 ? 1.0 : 0.0};
    adam_scalars scalars;
    if (fastopt_adam_scalars(&scalars, step, hyper, grad_scale, TYPE<T>) != 0) return EPS_TOO_SMALL;
    optimizer_args args = {};
    args.step.param = param;
    args.step.grad = const_cast<T*>(grad);
    args.step.states[0] = exp_avg;
    args.step.states[1] = exp_avg_sq;
    args.step.scalars = &scalars;
    return run(fastopt_kernels.optimizers->adam[TYPE<T>], &args, n);
}

template <class T>
int64_t sgd_step(T* param, const T* grad, T* momentum_buffer, int64_t n, int64_t step, double lr, double momentum,
                 double dampening, double weight_decay, int64_t nesterov, double grad_scale) {
    if (any_overlap({param, grad, momentum_buffer}, n * static_cast<int64_t>(sizeof(T)))) return OVERLAP;
    // Without a buffer it is 0 for the caller, where a subnormal one may be that too.
    const double hyper[] = {lr, momentum_buffer == nullptr ? 0.0 : momentum, dampening, weight_decay,
                            nesterov != 0 ? 1.0 : 0.0};
    sgd_scalars scalars;
    fastopt_sgd_scalars(&scalars, step, hyper, grad_scale, TYPE<T>);
    optimizer_args args = {};
    args.step.param = param;
    args.step.grad = const_cast<T*>(grad);
    args.step.states[0] = momentum_buffer;
    args.step.scalars = &scalars;
    return run(fastopt_kernels.optimizers->sgd[TYPE<T>], &args, n);
}

// With momentum_buffer NULL the momentum is 0, as in sgd_step; with grad_avg it is centred.
template <class T>
int64_t rmsprop_step(T* param, const T* grad, T* square_avg, T* momentum_buffer, T* grad_avg, int64_t n, double lr,
                     double alpha, double eps, double weight_decay, double momentum, double grad_scale) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if (any_overlap({param, grad, square_avg, momentum_buffer, grad_avg}, bytes)) return OVERLAP;
    const double hyper[] = {lr, alpha, eps, weight_decay, momentum_buffer == nullptr ? 0.0 : momentum};
    rmsprop_scalars scalars;
    if (fastopt_rmsprop_scalars(&scalars, 1, hyper, grad_scale, TYPE<T>) != 0) return EPS_TOO_SMALL;
    optimizer_args args = {};
    args.step.param = param;
    args.step.grad = const_cast<T*>(grad);
    args.step.states[0] = momentum_buffer;
    args.step.states[1] = square_avg;
    args.step.states[2] = grad_avg;
    args.step.scalars = &scalars;
    return run(fastopt_kernels.optimizers->rmsprop[TYPE<T>], &args, n);
}

template <class T>
int64_t ema_update(T* average, const T* value, int64_t n, double decay) {
    if (overlap(average, value, n * static_cast<int64_t>(sizeof(T)))) return OVERLAP;
    const ema_args args = {average, value, fastopt_average_rate(decay)};
    return run(fastopt_kernels.optimizers->ema[TYPE<T>], &args, n);
}

template <class T>
double add_plain_squares(const T* x, int64_t n, double total) {
    constexpr int64_t BLOCKS = 64;
    default_float_mode mode;
    double sums[BLOCKS], sum = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCKS * FASTOPT_SUM_BLOCK) {
        const sum_args args = {sums, x + begin, n - begin, 0};
        const int64_t rest = (n - begin + FASTOPT_SUM_BLOCK - 1) / FASTOPT_SUM_BLOCK;
        const int64_t blocks = rest < BLOCKS ? rest : BLOCKS;
        fastopt_kernels.core->sum_squares[TYPE<T>](&args, 0, blocks);
        for (int64_t k = 0; k < blocks; ++k) sum += sums[k];
    }
    return in_mode(total + sum);
}

// total + the sum of squares of x * scale; with a scale of 0 the larger of `total` and the largest magnitude: for a sum that
// has lost what matters (lost_squares). The sums of several arrays are added up one by one, as fastopt_norm does.
template <class T>
double add_squares(const T* x, int64_t n, double total, double scale) {
    if (scale == 1) return add_plain_squares(x, n, total);
    if (scale == 0) return fastopt_largest_magnitude(x, n, TYPE<T>, total);
    const double sum = fastopt_scaled_squares(x, n, TYPE<T>, scale);
    default_float_mode mode;
    return in_mode(in_mode(total) + sum);
}

int64_t lost_squares(double sum) { return fastopt_lost_squares(sum); }

double square_scale(double largest) { return fastopt_square_scale(largest); }

double norm(double total, double scale) { return fastopt_norm(1, &total, 1, scale); }

double penalty(double total, double weight_decay, double scale) { return fastopt_penalty(weight_decay, &total, 1, scale); }

}  // namespace

#define FASTOPT_SYMBOLS_optimizers \
    BOTH(1, adam_step), \
    BOTH(1, sgd_step), \
    BOTH(1, rmsprop_step), \
    BOTH(1, ema_update), \
    BOTH(1, add_squares), \
    ONE(1, lost_squares), \
    ONE(1, square_scale), \
    ONE(1, norm), \
    ONE(1, penalty)
