// What a refit of the cross-entropy method computes once a generation: weights by rank, rates, and the one scale of all
// dimensions. fastopt/reference/cem.py has the same steps.
#include "scalars.h"

#include "core/math.hpp"

#include "core/float_mode.hpp"

namespace {

// exp(log(k) - digamma(k) - 9 / 4 * skew), k = effective / 2.
double fair_factor(double effective, double skew) {
    const double k = 0.5 * effective, y = k + 8, z = 1 / (y * y), ratio = k / y;
    double excess = 0;
    for (int j = 0; j < 8; ++j) excess += 1 / (k + j);
    const double series = 0.5 / y + z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z / 240)));
    return exponential(natural_log(ratio, 1 - ratio) + (excess + series) - 2.25 * skew);
}

double age_of(const cem_refit_args& a) {
    return (a.effective + 2) / (static_cast<double>(a.distribution.dimensions) + a.effective + 5);
}

// Not inlined: what is computed here must not be computed before the mode is set.
__attribute__((noinline)) void fill(cem_refit_args& a, double* weights) {
    const double n = static_cast<double>(a.distribution.dimensions), count = static_cast<double>(a.count);
    a.total = a.effective = count;
    if (weights != nullptr) {
        double total = 0, squares = 0, cubes = 0;
        for (int64_t i = 0; i < a.count; ++i) {
            const double ratio = (count + 0.5) / static_cast<double>(i + 1);
            weights[i] = natural_log(ratio, 1 - ratio);
        }
        for (int64_t i = 0; i < a.count; ++i) {
            const double square = weights[i] * weights[i];
            total += weights[i], squares += square, cubes += square * weights[i];
        }
        a.total = total;
        a.effective = total * total / squares;
        a.fair = fair_factor(a.effective, cubes / (total * total * total) - 1 / (a.effective * a.effective));
        a.keep = 1 - age_of(a);
        a.push = square_root(age_of(a) * (2 - age_of(a)) * a.effective);
    }
    const double mu = a.effective;
    if (a.std_lr == 0) {
        const double rate = 2 * (mu - 1.75 + 1 / mu) / ((n + 2) * (n + 2) + mu);
        a.std_lr = rate < 1 ? rate : 1;
    }
    const double most = 1 - a.std_lr, rate = 2 * (n - 1) / (n * ((n + 1.3) * (n + 1.3) + mu));
    a.rank_one = rate < most ? rate : most;
}

template <class T>
__attribute__((noinline)) void scale(const cem_refit_args& a) {
    const int64_t dimensions = a.distribution.dimensions;
    double squares = 0, moving = 0;
    for (int64_t d = 0; d < dimensions; ++d) {
        squares += a.path[d] * a.path[d];
        moving += a.path[d] != 0 ? 1 : 0;
    }
    const double share = (a.effective - 1) / static_cast<double>(dimensions + 1), age = age_of(a);
    const double beyond = square_root(share > 0 ? share : 0) - 1, damping = 1 + 2 * (beyond > 0 ? beyond : 0) + age;
    const double by_chance = square_root(moving) * (1 - 1 / (4 * moving) + 1 / (21 * moving * moving));
    double growth = age / damping * (square_root(squares) / by_chance - 1);
    growth = growth < 1 ? growth : 1;
    growth = growth > -1 ? growth : -1;
    const double factor = moving > 0 ? exponential(growth) : 1.0;
    T* std = static_cast<T*>(a.std);
    for (int64_t d = 0; d < dimensions; ++d) {
        double moved = static_cast<double>(std[d]) * factor;
        if (a.extra_variance > 0) moved = square_root(moved * moved + a.extra_variance);
        std[d] = static_cast<T>(moved > a.min_std ? moved : a.min_std);
    }
}

}  // namespace

extern "C" void fastopt_cem_scalars(cem_refit_args* args, double* weights) {
    default_float_mode mode;
    fill(*args, weights);
}

extern "C" void fastopt_cem_scale(const cem_refit_args* args, int element_type) {
    default_float_mode mode;
    element_type == 0 ? scale<float>(*args) : scale<double>(*args);
}
