// What the ops of policies compute once a call.
#include "fastopt.h"

#include "core/float_mode.hpp"

#include <cmath>

extern "C" double fastopt_first(const void* x, int element_type) {
    default_float_mode mode;
    return in_mode(element_type == 0 ? *static_cast<const float*>(x) : *static_cast<const double*>(x));
}

extern "C" void fastopt_standardize_mean(standardize_args* args, double first, const double* sums, int64_t count,
                                         int64_t size) {
    default_float_mode mode;
    args->mean = in_mode(in_mode(first) + fastopt_mean(sums, count, size));
}

extern "C" double fastopt_standardize_scalars(standardize_args* args, const double* sums, const double* squares,
                                              int64_t count, int64_t size, double eps, double scale) {
    default_float_mode mode;
    args->rest = fastopt_mean(sums, count, size);
    const double variance = fastopt_mean(squares, count, size) - in_mode(args->rest) * args->rest;
    args->scale = in_mode(1 / (std::sqrt(variance < 0 ? 0 : variance) + in_mode(eps) * scale));
    return fastopt_add_up(squares, count);
}

extern "C" double fastopt_gaussian_log_prob_constant(int64_t columns) {
    default_float_mode mode;
    return in_mode(in_mode(static_cast<double>(columns)) * 0.9189385332046727);
}

extern "C" double fastopt_gaussian_entropy_constant(int64_t columns) {
    default_float_mode mode;
    return in_mode(in_mode(static_cast<double>(columns)) * 1.4189385332046727);
}

extern "C" void fastopt_categorical_gradient_scalars(categorical_policy_gradient_args* args, int64_t rows,
                                                     double entropy_coef) {
    default_float_mode mode;
    args->scale = in_mode(1 / in_mode(static_cast<double>(rows)));
    args->entropy_coef = entropy_coef;
    args->entropy_scale = in_mode(entropy_coef / in_mode(static_cast<double>(rows)));
}

extern "C" void fastopt_gaussian_gradient_scalars(gaussian_policy_gradient_args* args, double entropy_coef) {
    default_float_mode mode;
    args->scale = in_mode(1 / in_mode(static_cast<double>(args->rows)));
    args->log_prob_constant = fastopt_gaussian_log_prob_constant(args->columns);
    args->entropy_coef = entropy_coef;
    args->entropy_constant = fastopt_gaussian_entropy_constant(args->columns);
    args->entropy_scale = in_mode(entropy_coef / in_mode(static_cast<double>(args->rows)));
}

extern "C" void fastopt_gae_scalars(gae_args* args, double gamma, double lam) {
    default_float_mode mode;
    args->gamma = gamma;
    args->gamma_lam = in_mode(in_mode(gamma) * lam);
}
