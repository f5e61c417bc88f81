// What the cross-entropy method computes once a generation: the choice of elites (no sort, and equal scores go by their
// number), and the largest std.
#include "fastopt.h"
#include "float_mode.hpp"

#include <algorithm>
#include <cmath>

extern "C" int64_t fastopt_select_elites(int64_t* elites, int64_t* best, const double* scores, int64_t n, int64_t wanted,
                                         int maximize, double* work) {
    default_float_mode mode;
    const double sign = maximize ? -1 : 1;
    int64_t finite = 0;
    *best = -1;
    for (int64_t i = 0; i < n; ++i) {
        if (!std::isfinite(scores[i])) continue;
        work[finite++] = sign * scores[i];
        if (*best < 0 || sign * scores[i] < sign * scores[*best]) *best = i;
    }
    const int64_t count = std::min(wanted, finite);
    if (count == 0) return 0;
    std::nth_element(work, work + count - 1, work + finite);
    const double last = work[count - 1];
    int64_t equal = count - std::count_if(work, work + count, [=](double x) { return x < last; });
    for (int64_t i = 0, k = 0; k < count; ++i) {
        if (!std::isfinite(scores[i])) continue;
        const double score = sign * scores[i];
        if (score < last || (score == last && equal-- > 0)) elites[k++] = i;
    }
    return count;
}

extern "C" double fastopt_largest(const void* x, int64_t n, int element_type) {
    if (element_type == 0) return *std::max_element(static_cast<const float*>(x), static_cast<const float*>(x) + n);
    return *std::max_element(static_cast<const double*>(x), static_cast<const double*>(x) + n);
}
