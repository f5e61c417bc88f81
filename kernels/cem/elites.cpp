// What the cross-entropy method computes once a generation: the choice of elites (of all scores, no sort; equal ones go by
// their number).
#include "scalars.h"
#include "core/float_mode.hpp"

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

// The k-th smallest of x, counted from 0, and how many are smaller than it.
struct ranked {
    double value;
    int64_t smaller;
};

// By counting, for the few.
ranked rank_among_few(const double* x, int64_t n, int64_t k) {
    for (int64_t i = 0;; ++i) {
        int64_t smaller = 0, not_greater = 0;
        for (int64_t j = 0; j < n; ++j) {
            smaller += x[j] < x[i] ? 1 : 0;
            not_greater += x[j] <= x[i] ? 1 : 0;
        }
        if (smaller <= k && k < not_greater) return {x[i], smaller};
    }
}

// x is rearranged.
ranked rank(double* x, int64_t n, int64_t k) {
    constexpr int64_t FEW = 16;
    int64_t smaller = 0;  // than all that is left
    for (int round = 0; n > FEW; ++round) {
        double sample[FEW];
        for (int64_t j = 0; j < FEW; ++j) sample[j] = x[j * n / FEW];
        // A little beyond where k would be in the sample: the part that is gone through again is mostly the shorter one.
        double pivot = rank_among_few(sample, FEW, std::min(FEW - 1, k * FEW / n + 1)).value;
        if (round >= 32) {  // the samples were misleading time and again
            std::nth_element(x, x + k, x + n);
            pivot = x[k];
        }
        const int64_t below = bring_to_front(x, n, [=](double value) { return value < pivot; });
        if (k < below) {
            n = below;
            continue;
        }
        x += below, n -= below, k -= below, smaller += below;
        const int64_t equal = bring_to_front(x, n, [=](double value) { return value <= pivot; });
        if (k < equal) return {pivot, smaller};
        x += equal, n -= equal, k -= equal, smaller += equal;
    }
    const ranked found = rank_among_few(x, n, k);
    return {found.value, smaller + found.smaller};
}

}  // namespace

extern "C" int64_t fastopt_select_elites(int64_t* elites, const double* scores, int64_t n, int64_t wanted, int maximize,
                                         double* work) {
    default_float_mode mode;
    const double sign = maximize ? -1 : 1;
    int64_t finite = 0;
    for (int64_t i = 0; i < n; ++i) {
        work[finite] = sign * scores[i];
        finite += std::isfinite(scores[i]) ? 1 : 0;
    }
    const int64_t count = std::min(wanted, finite);
    if (count == 0) return 0;
    const ranked last = rank(work, finite, count - 1);
    int64_t equal = count - last.smaller;  // of those that are as good as the last, so many are elites
    for (int64_t i = 0, k = 0; k < count; ++i) {
        const double score = sign * scores[i];
        const int tie = (score == last.value) & (equal > 0);
        elites[k] = i;
        k += (std::isfinite(score) & (score < last.value)) | tie;
        equal -= tie;
    }
    const auto better = [=](int64_t a, int64_t b) {
        const double of_a = sign * scores[a], of_b = sign * scores[b];
        return of_a != of_b ? of_a < of_b : a < b;
    };
    std::sort(elites, elites + count, better);
    return count;
}

extern "C" void fastopt_select_elites_of(const void* choice, int64_t begin, int64_t end) {
    const elite_choice& c = *static_cast<const elite_choice*>(choice);
    for (int64_t k = begin; k < end; ++k)
        c.found[k] = fastopt_select_elites(c.elites + k * c.wanted, c.scores + k * c.stride, c.n, c.wanted, c.maximize,
                                           c.work + k * c.n);
}
