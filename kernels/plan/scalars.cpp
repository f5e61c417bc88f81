// What a plan computes once a planner, and once an iteration: the noise's factor, and whose candidates weigh how much.
// fastopt/reference/plan.py has the same steps.
#include "scalars.h"

#include "core/float_mode.hpp"
#include "core/math.hpp"
#include "random/normal.hpp"

#include <cmath>

namespace {

// cos(2 pi m / n), 0 <= m < n.
double cosine_of(int64_t m, int64_t n) {
    const int64_t quarter = (8 * m + n) / (2 * n);
    double sine, cosine;
    sine_cosine(static_cast<double>(4 * m - quarter * n) / static_cast<double>(4 * n), sine, cosine);
    const double x = quarter % 2 != 0 ? sine : cosine;
    return quarter % 4 == 1 || quarter % 4 == 2 ? -x : x;
}

// Functions of their own, not inlined: what is computed here must not be computed before the mode is set.
__attribute__((noinline)) void fill_factor(double* factor, double* work, int64_t n, double beta) {
    double *power = work, *covariance = work + n, total = 0;
    for (int64_t k = 0; k < n; ++k) {
        const int64_t frequency = k < n - k ? k : n - k;
        const double f = static_cast<double>(frequency > 0 ? frequency : 1);
        power[k] = exponential(-beta * natural_log(f, 1 - f));
        total += power[k];
    }
    for (int64_t lag = 0; lag < n; ++lag) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k) sum += power[k] * cosine_of(k * lag % n, n);
        covariance[lag] = sum / total;
    }
    for (int64_t i = 0; i < n; ++i) {
        double *row = factor + i * n, left = covariance[0];
        for (int64_t j = 0; j < n; ++j) row[j] = 0;
        for (int64_t j = 0; j < i; ++j) {
            double sum = covariance[i - j];
            for (int64_t k = 0; k < j; ++k) sum -= row[k] * factor[j * n + k];
            row[j] = sum / factor[j * n + j];
            left -= row[j] * row[j];
        }
        row[i] = square_root(left);
    }
}

__attribute__((noinline)) void weigh_one(const plan_choice& c, int64_t p) {
    const double* scores = c.scores + p * c.n;
    int64_t* rows = c.rows + p * c.wanted;
    double* weights = c.weights + p * c.wanted;
    const bool all = c.rule == FASTOPT_PLAN_MPPI;
    int64_t found = 0, best = -1;
    if (all) {
        for (int64_t i = 0; i < c.n; ++i) {
            rows[i] = i;
            if (!std::isfinite(scores[i])) continue;
            ++found;
            if (best < 0 || scores[i] < scores[best]) best = i;
        }
    } else {
        found = fastopt_select_elites(rows, scores, c.n, c.wanted, 0, c.work + p * c.n);
        best = found > 0 ? rows[0] : -1;
    }
    for (int64_t e = 0; e < c.wanted; ++e) {
        const bool counts = found >= 2 && (all ? std::isfinite(scores[e]) : e < found);
        if (!all && e >= found) rows[e] = 0;
        const double behind = counts ? scores[rows[e]] - scores[best] : 0;
        const double power = c.rule == FASTOPT_PLAN_SOFTMAX ? behind * c.temperature : behind / c.temperature;
        weights[e] = !counts ? 0 : c.rule == FASTOPT_PLAN_ELITES ? 1 : exponential(-power);
    }
    c.best[p] = found < 2 ? -1 : best;
}

}  // namespace

extern "C" void fastopt_noise_factor(double* factor, double* work, int64_t horizon, double beta) {
    default_float_mode mode;
    fill_factor(factor, work, horizon, beta);
}

extern "C" void fastopt_plan_weigh(const void* choice, int64_t begin, int64_t end) {
    default_float_mode mode;
    for (int64_t p = begin; p < end; ++p) weigh_one(*static_cast<const plan_choice*>(choice), p);
}
