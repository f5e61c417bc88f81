// What the ops of policies compute once a call.
#include "scalars.h"

#include "core/float_mode.hpp"

#include <cmath>

extern "C" double fastopt_first(const void* x, int element_type) {
    default_float_mode mode;
    return in_mode(element_type == 0 ? *static_cast<const float*>(x) : *static_cast<const double*>(x));
}

extern "C" void fastopt_standardize_mean(standardize_args* args, double first, double sum, int64_t size) {
    default_float_mode mode;
    first = in_mode(first);
    const double shift = fastopt_mean(&sum, 1, size), mean = first + shift, of_shift = mean - first;
    args->mean = in_mode(mean);
    args->rest = in_mode((first - (mean - of_shift)) + (shift - of_shift));  // exactly first + shift - mean
}

extern "C" void fastopt_standardize_scale(standardize_args* args, double squares, int64_t size, double eps, double scale) {
    default_float_mode mode;
    const double variance = fastopt_mean(&squares, 1, size) - in_mode(args->rest) * args->rest;
    args->scale = in_mode(1 / (std::sqrt(variance < 0 ? 0 : variance) + in_mode(eps) * in_mode(scale)));
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
