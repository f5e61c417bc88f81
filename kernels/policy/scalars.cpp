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

extern "C" void fastopt_standardize_scale(standardize_args* args, double squares, int64_t size, int64_t ddof, double eps,
                                          double scale) {
    default_float_mode mode;
    const double of_all = in_mode(static_cast<double>(size)), counted = in_mode(static_cast<double>(size - ddof));
    const double variance = (fastopt_mean(&squares, 1, size) - in_mode(args->rest) * args->rest) * (of_all / counted);
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

namespace {

int64_t count_valid(const uint8_t* valid, int64_t rows) {
    int64_t count = valid == nullptr ? rows : 0;
    for (int64_t k = 0; k < rows && valid != nullptr; ++k) count += valid[k] != 0;
    return count;
}

}  // namespace

extern "C" int64_t fastopt_categorical_gradient_scalars(categorical_policy_gradient_args* args, int64_t rows,
                                                        double entropy_coef) {
    default_float_mode mode;
    const int64_t valid = count_valid(args->valid, rows);
    args->scale = in_mode(1 / in_mode(static_cast<double>(valid)));
    args->entropy_coef = entropy_coef;
    args->entropy_scale = in_mode(entropy_coef / in_mode(static_cast<double>(valid)));
    return valid;
}

extern "C" int64_t fastopt_ppo_scalars(ppo_args* args, int64_t rows, double clip_range, double clip_range_vf,
                                       double entropy_coef, double value_coef) {
    default_float_mode mode;
    const int64_t valid = count_valid(args->valid, rows);
    const double count = in_mode(static_cast<double>(valid)), range = in_mode(clip_range);
    args->scale = in_mode(1 / count);
    args->low = in_mode(1 - range);
    args->high = in_mode(1 + range);
    args->clip_range = clip_range;
    args->clip_range_vf = clip_range_vf;
    args->entropy_scale = in_mode(entropy_coef / count);
    args->value_scale = in_mode(2 * in_mode(value_coef) / count);
    return valid;
}

extern "C" void fastopt_ppo_results(double* results, const double* sums, int64_t rows, int64_t valid, double entropy_coef,
                                    double value_coef) {
    default_float_mode mode;
    double mean[FASTOPT_PPO_SUMS] = {};
    const double count = in_mode(static_cast<double>(valid));
    const int64_t blocks = (rows + FASTOPT_ROW_BLOCK - 1) / FASTOPT_ROW_BLOCK;
    for (int64_t block = 0; block < blocks; ++block)
        for (int64_t c = 0; c < FASTOPT_PPO_SUMS; ++c) mean[c] += sums[block * FASTOPT_PPO_SUMS + c];
    for (double& x : mean) x = in_mode(x) / count;
    mean[FASTOPT_PPO_SURROGATE] = -mean[FASTOPT_PPO_SURROGATE];
    mean[FASTOPT_PPO_ENTROPY] = -mean[FASTOPT_PPO_ENTROPY];
    const double with_entropy = mean[FASTOPT_PPO_SURROGATE] + in_mode(entropy_coef) * mean[FASTOPT_PPO_ENTROPY];
    results[0] = in_mode(with_entropy + in_mode(value_coef) * mean[FASTOPT_PPO_SQUARED_ERROR]);
    for (int64_t c = 0; c < FASTOPT_PPO_SUMS; ++c) results[1 + c] = in_mode(mean[c]);
}

extern "C" int64_t fastopt_gaussian_gradient_scalars(gaussian_policy_gradient_args* args, double entropy_coef) {
    default_float_mode mode;
    const int64_t valid = count_valid(args->valid, args->rows);
    args->scale = in_mode(1 / in_mode(static_cast<double>(valid)));
    args->log_prob_constant = fastopt_gaussian_log_prob_constant(args->columns);
    args->entropy_coef = entropy_coef;
    args->entropy_constant = fastopt_gaussian_entropy_constant(args->columns);
    args->entropy_scale = in_mode(entropy_coef / in_mode(static_cast<double>(valid)));
    return valid;
}

extern "C" double fastopt_gamma_lam(double gamma, double lam) {
    default_float_mode mode;
    return in_mode(in_mode(gamma) * lam);
}
