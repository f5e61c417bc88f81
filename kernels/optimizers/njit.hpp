// Optimisers and sums for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

#include <algorithm>

namespace {

// ---- arrays, and nests of them --------------------------------------------------------------------------------------

// What one update reads and writes: arrays of one size and element type, 0 float and 1 double; those that are not there are
// null. In which the first is written, the second is read, and the others are written.
struct group {
    void* arrays[4];
    int64_t size;
    int64_t element_type;
};

// As many groups as a nest has leaves, and behind them room to order their arrays: a table that compiled code fills in.
struct groups {
    group* first;
    int64_t count;
    int64_t* room;

    static constexpr int64_t ROW = sizeof(group) / sizeof(int64_t), ARRAYS = 4;

    groups(int64_t* table, int64_t n)
        : first(reinterpret_cast<group*>(table)), count(n / (ROW + ARRAYS)), room(table + count * ROW) {}

    uintptr_t begin(int64_t array) const { return reinterpret_cast<uintptr_t>(first[array / ARRAYS].arrays[array % ARRAYS]); }
    uintptr_t end(int64_t array) const {
        const group& of = first[array / ARRAYS];
        return begin(array) + static_cast<uintptr_t>(of.size * (of.element_type == 0 ? 4 : 8));
    }

    bool any_of(int64_t element_type) const {
        for (int64_t k = 0; k < count; ++k)
            if (first[k].element_type == element_type) return true;
        return false;
    }

    // Whether an array that is written shares memory with another one.
    bool overlap() const {
        int64_t arrays = 0;
        for (int64_t k = 0; k < count * ARRAYS; ++k)
            if (begin(k) != 0 && end(k) > begin(k)) room[arrays++] = k;
        std::sort(room, room + arrays, [this](int64_t a, int64_t b) { return begin(a) < begin(b); });
        uintptr_t reach = 0, reach_of_written = 0;
        for (int64_t k = 0; k < arrays; ++k) {
            const bool written = room[k] % ARRAYS != 1;
            if (begin(room[k]) < (written ? reach : reach_of_written)) return true;
            reach = std::max(reach, end(room[k]));
            if (written) reach_of_written = std::max(reach_of_written, end(room[k]));
        }
        return false;
    }
};

int64_t run_step(const fastopt_kernel* kernels, const group& of, const void* scalars) {
    optimizer_args args = {};
    args.step.param = of.arrays[0];
    args.step.grad = of.arrays[1];
    args.step.states[0] = of.arrays[2];
    args.step.states[1] = of.arrays[3];
    args.step.scalars = scalars;
    return run(kernels[of.element_type], &args, of.size);
}

template <class T>
int64_t adam_step(T* param, const T* grad, T* exp_avg, T* exp_avg_sq, int64_t n, int64_t step, double lr, double beta1,
                  double beta2, double eps, double weight_decay, int64_t decoupled_weight_decay, double grad_scale) {
    if (any_overlap({param, grad, exp_avg, exp_avg_sq}, n * static_cast<int64_t>(sizeof(T)))) return OVERLAP;
    const double hyper[] = {lr, beta1, beta2, eps, weight_decay, decoupled_weight_decay != 0 ? 1.0 : 0.0};
    adam_scalars scalars;
    if (fastopt_adam_scalars(&scalars, step, hyper, grad_scale, TYPE<T>) != 0) return EPS_TOO_SMALL;
    return run_step(fastopt_kernels.optimizers->adam, {{param, const_cast<T*>(grad), exp_avg, exp_avg_sq}, n, TYPE<T>},
                    &scalars);
}

int64_t adam_steps_int64(int64_t* table, int64_t n, int64_t step, double lr, double beta1, double beta2, double eps,
                         double weight_decay, int64_t decoupled_weight_decay, double grad_scale) {
    const groups all(table, n);
    if (all.overlap()) return OVERLAP;
    const double hyper[] = {lr, beta1, beta2, eps, weight_decay, decoupled_weight_decay != 0 ? 1.0 : 0.0};
    adam_scalars scalars[2];
    for (int type = 0; type < 2; ++type)
        if (all.any_of(type) && fastopt_adam_scalars(&scalars[type], step, hyper, grad_scale, type) != 0)
            return EPS_TOO_SMALL;
    for (int64_t k = 0; k < all.count; ++k)
        run_step(fastopt_kernels.optimizers->adam, all.first[k], &scalars[all.first[k].element_type]);
    return DONE;
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
    return run_step(fastopt_kernels.optimizers->sgd, {{param, const_cast<T*>(grad), momentum_buffer}, n, TYPE<T>}, &scalars);
}

int64_t sgd_steps_int64(int64_t* table, int64_t n, int64_t step, double lr, double momentum, double dampening,
                        double weight_decay, int64_t nesterov, double grad_scale) {
    const groups all(table, n);
    if (all.overlap()) return OVERLAP;
    const double hyper[] = {lr, momentum, dampening, weight_decay, nesterov != 0 ? 1.0 : 0.0};
    sgd_scalars scalars[2];
    for (int type = 0; type < 2; ++type) fastopt_sgd_scalars(&scalars[type], step, hyper, grad_scale, type);
    for (int64_t k = 0; k < all.count; ++k)
        run_step(fastopt_kernels.optimizers->sgd, all.first[k], &scalars[all.first[k].element_type]);
    return DONE;
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

int64_t ema_updates_int64(int64_t* table, int64_t n, double decay) {
    const groups all(table, n);
    if (all.overlap()) return OVERLAP;
    for (int64_t k = 0; k < all.count; ++k) {
        const ema_args args = {all.first[k].arrays[0], all.first[k].arrays[1], fastopt_average_rate(decay)};
        run(fastopt_kernels.optimizers->ema[all.first[k].element_type], &args, all.first[k].size);
    }
    return DONE;
}

// Gradients whose common norm is `norm`, the first array of each group, scaled so that it is max_norm at most.
int64_t clip_grads_int64(int64_t* table, int64_t n, double norm, double max_norm) {
    const groups all(table, n);
    if (all.overlap()) return OVERLAP;
    const double factor = fastopt_clip(norm, max_norm);
    for (int64_t k = 0; k < all.count && factor != 1; ++k) {
        const scale_args args = {all.first[k].arrays[0], factor};
        run(fastopt_kernels.optimizers->scale[all.first[k].element_type], &args, all.first[k].size);
    }
    return DONE;
}

// ---- sums -----------------------------------------------------------------------------------------------------------

// total + the sum of squares of x * scale; with a scale of 0 the larger of `total` and the largest magnitude: for a sum that
// has lost what matters (lost_squares). The sums of several arrays are added up one by one, as fastopt_norm does.
template <class T>
double add_squares(const T* x, int64_t n, double total, double scale) {
    if (scale == 0) return fastopt_largest_magnitude(x, n, TYPE<T>, total);
    default_float_mode mode;
    const double sum = scale == 1 ? sum_about(fastopt_kernels.core->sum_squares, x, n)
                                  : fastopt_scaled_squares(x, n, TYPE<T>, scale);
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
    ONE(1, adam_steps_int64), \
    ONE(1, sgd_steps_int64), \
    ONE(1, ema_updates_int64), \
    ONE(1, clip_grads_int64), \
    BOTH(1, add_squares), \
    ONE(1, lost_squares), \
    ONE(1, square_scale), \
    ONE(1, norm), \
    ONE(1, penalty)
