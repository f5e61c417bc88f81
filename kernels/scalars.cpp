// What an op computes once a call and not once an element.
#include "fastopt.h"

#include "float_mode.hpp"

#include <cmath>

extern "C" void fastopt_adam_scalars(adam_scalars* out, double t, double lr, double beta1, double beta2, double eps,
                                     double weight_decay, int decoupled_weight_decay, double grad_scale) {
    default_float_mode mode;
    const double correction1 = 1 - std::pow(beta1, t);
    const double correction2 = std::sqrt(1 - std::pow(beta2, t));
    out->grad_scale = grad_scale;
    out->decay = decoupled_weight_decay ? 1 - lr * weight_decay : 1;
    out->weight_decay = decoupled_weight_decay ? 0 : weight_decay;
    out->one_minus_beta1 = 1 - beta1;
    out->beta2 = beta2;
    out->one_minus_beta2 = 1 - beta2;
    out->lr = lr * correction2 / correction1;
    out->eps = eps * correction2;
}

extern "C" void fastopt_sgd_scalars(sgd_scalars* out, double t, double lr, double momentum, double dampening,
                                    double weight_decay, int nesterov, double grad_scale) {
    default_float_mode mode;
    out->grad_scale = grad_scale;
    out->weight_decay = weight_decay;
    out->momentum = momentum;
    out->one_minus_dampening = 1 - dampening;
    out->lr = lr;
    out->first_step = t == 1;
    out->nesterov = nesterov;
}

extern "C" void fastopt_dropout_scalars(double p, uint32_t* threshold, double* scale) {
    default_float_mode mode;
    const double rounded = std::nearbyint(65536 * p);
    const double kept_within = rounded < 1 ? 1 : rounded > 65535 ? 65535 : rounded;
    *threshold = static_cast<uint32_t>(kept_within);
    *scale = 1 / (1 - kept_within / 65536);
}

extern "C" double fastopt_add_up(const double* terms, int64_t count) {
    default_float_mode mode;
    double total = 0;
    for (int64_t k = 0; k < count; ++k) total += terms[k];
    return total;
}

extern "C" double fastopt_penalty(double weight_decay, const double* sums, int64_t count) {
    default_float_mode mode;
    return 0.5 * weight_decay * fastopt_add_up(sums, count);
}

extern "C" double fastopt_norm(double multiplier, const double* sums, int64_t count) {
    default_float_mode mode;
    return std::fabs(multiplier) * std::sqrt(fastopt_add_up(sums, count));
}

extern "C" double fastopt_clip(double norm, double max_norm) {
    default_float_mode mode;
    const double factor = max_norm / (norm + 1e-6);
    return factor < 1 ? factor : 1;  // 1 for a NaN
}

extern "C" double fastopt_mean(const double* sums, int64_t count, int64_t size) {
    default_float_mode mode;
    return fastopt_add_up(sums, count) / static_cast<double>(size);
}

extern "C" double fastopt_standardize_scale(const double* sums, int64_t count, int64_t size, double eps) {
    default_float_mode mode;
    return 1 / (std::sqrt(fastopt_mean(sums, count, size)) + eps);
}

extern "C" double fastopt_gaussian_log_prob_constant(int64_t columns) {
    return static_cast<double>(columns) * 0.9189385332046727;
}

extern "C" double fastopt_gaussian_entropy_constant(int64_t columns) {
    return static_cast<double>(columns) * 1.4189385332046727;
}

extern "C" void fastopt_categorical_gradient_scalars(categorical_policy_gradient_args* args, int64_t rows,
                                                     double entropy_coef) {
    default_float_mode mode;
    args->scale = 1 / static_cast<double>(rows);
    args->entropy_coef = entropy_coef;
    args->entropy_scale = entropy_coef / static_cast<double>(rows);
}

extern "C" void fastopt_gaussian_gradient_scalars(gaussian_policy_gradient_args* args, double entropy_coef) {
    default_float_mode mode;
    args->scale = 1 / static_cast<double>(args->rows);
    args->log_prob_constant = fastopt_gaussian_log_prob_constant(args->columns);
    args->entropy_coef = entropy_coef;
    args->entropy_constant = fastopt_gaussian_entropy_constant(args->columns);
    args->entropy_scale = entropy_coef / static_cast<double>(args->rows);
}
