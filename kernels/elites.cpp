// What the cross-entropy method computes once a generation: the choice of elites (no sort, and equal scores go by their
// number), and the largest std.
#include "fastopt.h"
#include "float_mode.hpp"

#include <algorithm>
#include <cmath>

namespace {

// Bring those of x that satisfy `first` to the front; return how many they are. Without a branch on the numbers: half of
// such branches are mispredicted, and std::nth_element takes three times as long for that on scores it has not seen before.
template <class Condition>
int64_t bring_to_front(double* x, int64_t n, Condition first) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
        const double value = x[i];
        x[i] = x[count];
        x[count] = value;
        count += first(value) ? 1 : 0;
    }
    return count;
}

// Rearrange x so that x[k] is what it would be if x were sorted, nothing before it is greater and nothing after it less.
void select(double* x, int64_t n, int64_t k) {
    constexpr int64_t SAMPLE = 15;
    for (int round = 0; n > 2 * SAMPLE; ++round) {
        if (round == 32) break;  // the samples were misleading time and again
        double sample[SAMPLE];
        for (int64_t j = 0; j < SAMPLE; ++j) sample[j] = x[(2 * j + 1) * n / (2 * SAMPLE)];
        std::sort(sample, sample + SAMPLE);
        // A little beyond where k would be in the sample: the part that is gone through again is mostly the shorter one.
        const double pivot = sample[std::min(SAMPLE - 1, k * SAMPLE / n + 1)];
        const int64_t below = bring_to_front(x, n, [=](double value) { return value < pivot; });
        if (k < below) {
            n = below;
            continue;
        }
        x += below, n -= below, k -= below;
        const int64_t equal = bring_to_front(x, n, [=](double value) { return value <= pivot; });
        if (k < equal) return;
        x += equal, n -= equal, k -= equal;
    }
    std::nth_element(x, x + k, x + n);
}

}  // namespace

extern "C" int64_t fastopt_select_elites(int64_t* elites, int64_t* best, const double* scores, int64_t n, int64_t wanted,
                                         int maximize, double* work) {
    default_float_mode mode;
    const double sign = maximize ? -1 : 1;
    int64_t finite = 0;
    for (int64_t i = 0; i < n; ++i) {
        work[finite] = sign * scores[i];
        finite += std::isfinite(scores[i]) ? 1 : 0;
    }
    *best = -1;
    const int64_t count = std::min(wanted, finite);
    if (count == 0) return 0;
    select(work, finite, count - 1);
    const double last = work[count - 1];
    int64_t equal = count - std::count_if(work, work + count, [=](double x) { return x < last; });
    for (int64_t i = 0, k = 0; k < count; ++i) {
        const double score = sign * scores[i];
        const int tie = (score == last) & (equal > 0);
        elites[k] = i;
        k += (std::isfinite(score) & (score < last)) | tie;
        equal -= tie;
    }
    *best = elites[0];
    for (int64_t k = 1; k < count; ++k)
        if (sign * scores[elites[k]] < sign * scores[*best]) *best = elites[k];
    return count;
}

extern "C" double fastopt_largest(const void* x, int64_t n, int element_type) {
    if (element_type == 0) return *std::max_element(static_cast<const float*>(x), static_cast<const float*>(x) + n);
    return *std::max_element(static_cast<const double*>(x), static_cast<const double*>(x) + n);
}
