// The kernels for compiled callers: flat functions on whole arrays, reached by name (fastopt/_numba.py). Always serial: the
// caller's own loop is what runs in parallel.
//
// Numba's cache outlives an upgrade of this package: code that was compiled with an older one calls these functions by
// their names, which carry a contract number. So a name keeps its arguments and its meaning for ever. What changes gets
// the next number, and the old function stays in the table, as a shim.
//
// Arguments: the arrays, outputs first; the number of elements that each has; scalars (int64_t, uint64_t, double). The
// caller has checked kinds, shapes and ranges. Returned is 0, or what only shows here, before anything is written.
#include "fastopt.h"
#include "float_mode.hpp"

#include <cstring>

namespace {

enum status : int64_t { DONE = 0, OVERLAP = 1, EPS_IS_ZERO = 2, NO_ACTION = 3 };

template <class T>
constexpr int TYPE = sizeof(T) == 4 ? 0 : 1;

int64_t run(fastopt_kernel kernel, const void* args, int64_t size) {
    default_float_mode mode;
    if (size > 0) kernel(args, 0, size);
    return DONE;
}

bool overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(a), second = reinterpret_cast<uintptr_t>(b);
    return first < second + static_cast<uintptr_t>(b_bytes) && second < first + static_cast<uintptr_t>(a_bytes) &&
           a != nullptr && b != nullptr;
}

bool overlap(const void* a, const void* b, int64_t bytes) { return overlap(a, bytes, b, bytes); }

template <size_t COUNT>
bool any_overlap(const void* const (&arrays)[COUNT], int64_t bytes) {
    for (size_t k = 1; k < COUNT; ++k)
        for (size_t other = 0; other < k; ++other)
            if (overlap(arrays[k], arrays[other], bytes)) return true;
    return false;
}

random_address address(uint64_t seed, uint64_t stream, int64_t domain) {
    return {seed, stream, static_cast<uint32_t>(domain)};
}

int around_cache(const void* y, const void* x, int64_t bytes) { return bytes >= FASTOPT_NONTEMPORAL_BYTES && y != x; }

template <class T>
int64_t leaky_relu(T* y, const T* x, int64_t n, double negative_slope) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if (y != x && overlap(y, x, bytes)) return OVERLAP;
    const leaky_relu_args args = {y, x, negative_slope, around_cache(y, x, bytes)};
    return run(fastopt_kernels->leaky_relu[TYPE<T>], &args, n);
}

template <class T>
int64_t leaky_relu_backward(T* dx, const T* grad, const T* x, int64_t n, double negative_slope) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if ((dx != grad && overlap(dx, grad, bytes)) || (dx != x && overlap(dx, x, bytes))) return OVERLAP;
    const leaky_relu_backward_args args = {dx, grad, x, negative_slope,
                                           around_cache(dx, grad, bytes) && around_cache(dx, x, bytes)};
    return run(fastopt_kernels->leaky_relu_backward[TYPE<T>], &args, n);
}

template <class T>
int64_t dropout(T* y, const T* x, int64_t n, double p, uint64_t seed, uint64_t stream, int64_t domain) {
    const int64_t bytes = n * static_cast<int64_t>(sizeof(T));
    if (y != x && overlap(y, x, bytes)) return OVERLAP;
    if (p == 0 || p == 1) {
        if (p == 1) std::memset(y, 0, static_cast<size_t>(bytes));
        else if (y != x) std::memcpy(y, x, static_cast<size_t>(bytes));
        return DONE;
    }
    dropout_args args = {y, x, address(seed, stream, domain), 0, 0, around_cache(y, x, bytes)};
    fastopt_dropout_scalars(p, &args.threshold, &args.scale);
    return run(fastopt_kernels->dropout[TYPE<T>], &args, n);
}

int64_t random_raw_uint32(uint32_t* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, int64_t domain) {
    const random_raw_args args = {out, address(seed, stream, domain), offset};
    return run(fastopt_kernels->random_raw[0], &args, n);
}

template <class T>
int64_t random_uniform(T* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, int64_t domain) {
    const random_uniform_args args = {out, address(seed, stream, domain), offset};
    return run(fastopt_kernels->random_uniform[TYPE<T>], &args, n);
}

template <class T>
int64_t random_normal(T* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, int64_t domain) {
    const random_normal_args args = {out, address(seed, stream, domain), offset};
    return run(fastopt_kernels->random_normal[TYPE<T>], &args, n);
}

template <class T>
int64_t adam_step(T* param, const T* grad, T* exp_avg, T* exp_avg_sq, int64_t n, int64_t step, double lr, double beta1,
                  double beta2, double eps, double weight_decay, int64_t decoupled_weight_decay, double grad_scale) {
    if (any_overlap({param, grad, exp_avg, exp_avg_sq}, n * static_cast<int64_t>(sizeof(T)))) return OVERLAP;
    adam_scalars scalars;
    fastopt_adam_scalars(&scalars, static_cast<double>(step), lr, beta1, beta2, eps, weight_decay,
                         decoupled_weight_decay != 0, grad_scale);
    if (static_cast<T>(scalars.eps) == 0) return EPS_IS_ZERO;
    adam_args args = {};
    args.step.param = param;
    args.step.grad = const_cast<T*>(grad);
    args.step.momentum = exp_avg;
    args.step.exp_avg_sq = exp_avg_sq;
    args.step.scalars = &scalars;
    return run(fastopt_optimizers->adam[TYPE<T>], &args, n);
}

template <class T>
int64_t sgd_step(T* param, const T* grad, T* momentum_buffer, int64_t n, int64_t step, double lr, double momentum,
                 double dampening, double weight_decay, int64_t nesterov, double grad_scale) {
    if (any_overlap({param, grad, momentum_buffer}, n * static_cast<int64_t>(sizeof(T)))) return OVERLAP;
    sgd_scalars scalars;
    fastopt_sgd_scalars(&scalars, static_cast<double>(step), lr, momentum, dampening, weight_decay, nesterov != 0,
                        grad_scale);
    sgd_args args = {};
    args.step.param = param;
    args.step.grad = const_cast<T*>(grad);
    args.step.momentum = momentum_buffer;
    args.step.scalars = &scalars;
    return run(fastopt_optimizers->sgd[TYPE<T>], &args, n);
}

template <class T>
int64_t ema_update(T* average, const T* value, int64_t n, double decay) {
    if (overlap(average, value, n * static_cast<int64_t>(sizeof(T)))) return OVERLAP;
    const ema_args args = {average, value, 1 - decay};
    return run(fastopt_optimizers->ema[TYPE<T>], &args, n);
}

// total + the sum of squares of x. The sums of several arrays are added up one by one, as fastopt_norm does.
template <class T>
double add_squares(const T* x, int64_t n, double total) {
    constexpr int64_t BLOCKS = 64;
    default_float_mode mode;
    double sums[BLOCKS], sum = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCKS * FASTOPT_SUM_BLOCK) {
        const sum_squares_args args = {sums, x + begin, n - begin};
        const int64_t rest = (n - begin + FASTOPT_SUM_BLOCK - 1) / FASTOPT_SUM_BLOCK;
        const int64_t blocks = rest < BLOCKS ? rest : BLOCKS;
        fastopt_kernels->sum_squares[TYPE<T>](&args, 0, blocks);
        for (int64_t k = 0; k < blocks; ++k) sum += sums[k];
    }
    return total + sum;
}

double norm(double total) { return fastopt_norm(1, &total, 1); }

double penalty(double total, double weight_decay) { return fastopt_penalty(weight_decay, &total, 1); }

// ---- policies: one value a row where a function does not say otherwise; n is the size of the first array -----------

template <class T>
int64_t categorical_kl(T* kl, const T* old_logits, const T* new_logits, int64_t rows, int64_t columns) {
    const categorical_kl_args args = {kl, old_logits, new_logits, columns};
    return run(fastopt_kernels->categorical_kl[TYPE<T>], &args, rows);
}

template <class T>
int64_t gaussian_kl(T* kl, const T* old_mean, const T* old_log_std, const T* new_mean, const T* new_log_std, int64_t rows,
                    int64_t columns, int64_t old_stride, int64_t new_stride) {
    const gaussian_kl_args args = {kl, old_mean, old_log_std, new_mean, new_log_std, columns, old_stride, new_stride};
    return run(fastopt_kernels->gaussian_kl[TYPE<T>], &args, rows);
}

// The actions have to be checked here: an action that is no column would be read past its row.
template <class T>
int64_t categorical_policy_gradient(T* losses, T* dlogits, const T* logits, const T* advantages, const int64_t* actions,
                                    int64_t rows, int64_t columns, double entropy_coef) {
    const int64_t row_bytes = rows * static_cast<int64_t>(sizeof(T)), bytes = row_bytes * columns;
    if (dlogits != logits && overlap(dlogits, logits, bytes)) return OVERLAP;
    if (overlap(dlogits, bytes, advantages, row_bytes) || overlap(dlogits, bytes, actions, rows * 8)) return OVERLAP;
    for (int64_t k = 0; k < rows; ++k)
        if (actions[k] < 0 || actions[k] >= columns) return NO_ACTION;
    categorical_policy_gradient_args args = {dlogits, losses, logits, actions, advantages, columns, 0, 0, 0};
    fastopt_categorical_gradient_scalars(&args, rows, entropy_coef);
    return run(fastopt_kernels->categorical_policy_gradient[TYPE<T>], &args, rows);
}

// column_sums has a row for each FASTOPT_ROW_BLOCK rows where one log_std is for all, else it is null.
template <class T>
int64_t gaussian_policy_gradient(T* losses, T* dmean, T* dlog_std, const T* mean, const T* log_std, const T* actions,
                                 const T* advantages, double* column_sums, int64_t rows, int64_t columns,
                                 double entropy_coef) {
    gaussian_policy_gradient_args args = {};
    args.dmean = dmean;
    args.dlog_std = column_sums == nullptr ? dlog_std : nullptr;
    args.column_sums = column_sums;
    args.losses = losses;
    args.mean = mean;
    args.log_std = log_std;
    args.actions = actions;
    args.advantages = advantages;
    args.rows = rows;
    args.columns = columns;
    args.stride = column_sums == nullptr ? columns : 0;
    fastopt_gaussian_gradient_scalars(&args, entropy_coef);
    const int64_t blocks = (rows + FASTOPT_ROW_BLOCK - 1) / FASTOPT_ROW_BLOCK;
    run(fastopt_kernels->gaussian_policy_gradient[TYPE<T>], &args, blocks);
    if (column_sums == nullptr) return DONE;
    const add_row_blocks_args total = {dlog_std, column_sums, blocks, columns};
    return run(fastopt_kernels->add_row_blocks[TYPE<T>], &total, columns);
}

// The element type of a name is that of its first array, here of the input.
template <class T>
int64_t categorical_sample(const T* logits, int64_t* actions, int64_t n, int64_t columns, uint64_t seed, uint64_t stream,
                           int64_t domain) {
    const categorical_sample_args args = {actions, logits, columns, address(seed, stream, domain)};
    return run(fastopt_kernels->categorical_sample[TYPE<T>], &args, n / columns);
}

template <class T>
int64_t gaussian_sample(T* actions, const T* mean, const T* log_std, int64_t n, int64_t columns, int64_t stride,
                        uint64_t seed, uint64_t stream, int64_t domain) {
    const gaussian_sample_args args = {actions, mean, log_std, columns, stride, address(seed, stream, domain)};
    return run(fastopt_kernels->gaussian_sample[TYPE<T>], &args, n);
}

template <class T>
int64_t gae(T* advantages, T* returns, const T* rewards, const T* values, const T* next_values, const uint8_t* terminated,
            const uint8_t* truncated, int64_t n, int64_t time, double gamma, double lam) {
    const gae_args args = {advantages, returns, rewards, values, next_values, terminated, truncated, time,
                           n / (time > 0 ? time : 1), gamma, gamma * lam};
    return run(fastopt_kernels->gae[TYPE<T>], &args, args.environments);
}

// Over blocks of FASTOPT_SUM_BLOCK elements, as fastopt_mean.
template <class T>
double mean(const T* x, int64_t n) {
    default_float_mode mode;
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += FASTOPT_SUM_BLOCK) {
        double sum;
        const sum_args args = {&sum, x + begin, n - begin, 0};
        fastopt_kernels->sum_values[TYPE<T>](&args, 0, 1);
        total += sum;
    }
    return fastopt_mean(&total, 1, n);
}

template <class Function>
const void* address_of(Function* function) {
    return reinterpret_cast<const void*>(function);
}

}  // namespace

#define ONE(CONTRACT, NAME) {"fastopt_" #CONTRACT "_" #NAME, address_of(NAME)}
#define BOTH(CONTRACT, NAME)                                             \
    {"fastopt_" #CONTRACT "_" #NAME "_float32", address_of(NAME<float>)}, \
    {"fastopt_" #CONTRACT "_" #NAME "_float64", address_of(NAME<double>)}

extern "C" const fastopt_symbol fastopt_symbols[] = {
    BOTH(1, leaky_relu),
    BOTH(1, leaky_relu_backward),
    BOTH(1, dropout),
    ONE(1, random_raw_uint32),
    BOTH(1, random_uniform),
    BOTH(1, random_normal),
    BOTH(1, adam_step),
    BOTH(1, sgd_step),
    BOTH(1, ema_update),
    BOTH(1, add_squares),
    ONE(1, norm),
    ONE(1, penalty),
    BOTH(1, categorical_kl),
    BOTH(1, gaussian_kl),
    BOTH(1, categorical_policy_gradient),
    BOTH(1, gaussian_policy_gradient),
    BOTH(1, categorical_sample),
    BOTH(1, gaussian_sample),
    BOTH(1, gae),
    BOTH(1, mean),
    {nullptr, nullptr},
};
