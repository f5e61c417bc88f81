// The cross-entropy method without a stored population: candidate i of a generation is computed from its address
// (element i * padded + d of a stream, `padded` being the dimensions rounded up to whole groups of normal numbers), and
// the elites are computed again from their numbers when the distribution is refitted.
#pragma once

#include "core/math.hpp"
#include "cem/cem.h"
#include "random/normal.hpp"

namespace {

// GCC unrolls a loop over 16 elements before it comes to vectorising it.
#if defined(__clang__)
#define UNROLLED_NEVER
#else
#define UNROLLED_NEVER _Pragma("GCC unroll 1")
#endif

// z[0 .. 32 * groups) = the normal numbers of groups first, first + 1, ...; at most CEM_GROUPS of them.
constexpr int64_t CEM_GROUPS = 32, CEM_PIECE = CEM_GROUPS * NORMAL_GROUP;

template <class T>
inline void cem_normals(T* z, const philox_stream& s, uint64_t first, int64_t groups) {
    constexpr int64_t WORDS = sizeof(T) / 4;
    alignas(64) uint32_t words[CEM_PIECE * WORDS];
    philox_words(words, s, first * (NORMAL_GROUP * WORDS / 4), groups * NORMAL_GROUP * WORDS / 4);
    normal_groups(z, words, groups);
}

// What all candidates of one generation share, with its pointers typed.
template <class T>
struct cem_distribution {
    const T *mean, *std, *lower, *upper;
    int64_t dimensions, groups;  // groups of normal numbers a candidate
    bool antithetic, reflect;
    philox_stream stream;
    explicit cem_distribution(const cem_distribution_args& a)
        : mean(static_cast<const T*>(a.mean)),
          std(static_cast<const T*>(a.std)),
          lower(static_cast<const T*>(a.lower)),
          upper(static_cast<const T*>(a.upper)),
          dimensions(a.dimensions),
          groups((a.dimensions + NORMAL_GROUP - 1) / NORMAL_GROUP),
          antithetic(a.antithetic != 0),
          reflect(a.reflect != 0),
          stream(a.address) {}

    uint64_t first_group(int64_t index) const {
        return static_cast<uint64_t>(antithetic ? index & ~int64_t(1) : index) * static_cast<uint64_t>(groups);
    }
    T sign(int64_t index) const { return antithetic && (index & 1) != 0 ? T(-1) : T(1); }

    // out[d] = mean + std * (sign * z), brought within the bounds, for dimensions [from, to); z and out begin at `from`.
    // An output may be z itself.
    FASTOPT_INLINE void place(T* out, const T* z, T sign, int64_t from, int64_t to) const {
        const T *m = mean + from, *s = std + from;
        const int64_t n = to - from;
        if (lower == nullptr) {
            FASTOPT_INDEPENDENT UNROLLED_NEVER
            for (int64_t d = 0; d < n; ++d) out[d] = m[d] + s[d] * (sign * z[d]);
            return;
        }
        const T *low = lower + from, *high = upper + from;
        if (reflect) {
            FASTOPT_INDEPENDENT UNROLLED_NEVER
            for (int64_t d = 0; d < n; ++d) {
                T x = m[d] + s[d] * (sign * z[d]);
                x = x < low[d] ? low[d] + (low[d] - x) : x;
                x = x > high[d] ? high[d] - (x - high[d]) : x;
                out[d] = x < low[d] ? low[d] : x;
            }
        } else {
            FASTOPT_INDEPENDENT UNROLLED_NEVER
            for (int64_t d = 0; d < n; ++d) {
                T x = m[d] + s[d] * (sign * z[d]);
                x = x < low[d] ? low[d] : x;
                out[d] = x > high[d] ? high[d] : x;
            }
        }
    }
};

// Dimensions [from, from + n) of a distribution, followed by zeros: for loops over whole vectors alone.
template <class T, int64_t MOST>
struct cem_span : cem_distribution<T> {
    alignas(64) T values[4][MOST];
    cem_span(const cem_distribution<T>& p, int64_t from, int64_t n) : cem_distribution<T>(p) {
        const T** pointers[4] = {&this->mean, &this->std, &this->lower, &this->upper};
        const int64_t whole = (n + NORMAL_HALF - 1) / NORMAL_HALF * NORMAL_HALF;
        for (int64_t v = 0; v < 4; ++v) {
            if (*pointers[v] == nullptr) continue;
            for (int64_t d = 0; d < whole; ++d) values[v][d] = d < n ? (*pointers[v])[from + d] : T(0);
            *pointers[v] = values[v];
        }
    }
    cem_span(const cem_span&) = delete;
};

// The normal numbers of n dimensions, from the beginning of a group on, of several candidates at once: Philox is fastest in
// long runs. Of a group that they have no more than 12 elements of, these are made alone, in fours, those of the candidates
// together: for 100 dimensions 100 numbers and not 128.
template <class T>
struct cem_numbers {
    static constexpr int64_t BLOCKS = NORMAL_GROUP * sizeof(T) / 16, FOUR = BLOCKS / 8;  // of a group, of four elements
    static constexpr int64_t MOST = 64;                                                  // candidates
    const int64_t groups, fours;
    alignas(64) T whole[CEM_PIECE], rest[CEM_PIECE / 2 + NORMAL_HALF];

    explicit cem_numbers(int64_t n)
        : groups((n + NORMAL_GROUP - 13) / NORMAL_GROUP),
          fours(n > groups * NORMAL_GROUP ? (n - groups * NORMAL_GROUP + 3) / 4 : 0) {}

    // How many at once, of `all`: batches of about one size, since a last one of a few would take as long as a whole one.
    int64_t at_once(int64_t all) const {
        const int64_t by_groups = groups > 0 ? CEM_GROUPS / groups : MOST;
        const int64_t by_fours = fours > 0 ? 4 * CEM_GROUPS / fours : MOST;
        int64_t rows = by_groups < by_fours ? by_groups : by_fours;
        rows = rows < MOST ? rows : MOST;
        const int64_t batches = (all + rows - 1) / rows;
        return batches > 0 ? (all + batches - 1) / batches : rows;
    }

    // `first` are the candidates' first groups.
    void make(const philox_stream& s, const uint64_t* first, int64_t rows) {
        alignas(64) uint32_t words[CEM_PIECE * sizeof(T) / 4];
        uint64_t group[CEM_GROUPS], block[CEM_GROUPS * BLOCKS];
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t g = 0; g < groups; ++g) group[r * groups + g] = first[r] + static_cast<uint64_t>(g);
        philox_groups<BLOCKS>(words, s, group, rows * groups);
        normal_groups(whole, words, rows * groups);
        if (fours == 0) return;
        int64_t k = 0;
        const auto add = [&](uint64_t from) {
            uint64_t* to = block + k / 4 * BLOCKS + k % 4 * FOUR;
            for (int64_t b = 0; b < FOUR; ++b) {
                to[b] = from + static_cast<uint64_t>(b);
                to[b + BLOCKS / 2] = to[b] + BLOCKS / 2;
            }
            ++k;
        };
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t f = 0; f < fours; ++f)
                add((first[r] + static_cast<uint64_t>(groups)) * BLOCKS + static_cast<uint64_t>(f * FOUR));
        while (k % 4 != 0) add(0);
        philox_blocks(words, s, block, k / 4 * BLOCKS);
        normal_first_halves(rest, words, k / 4);
        for (int64_t j = 0; j < NORMAL_HALF; ++j) rest[4 * k + j] = 0;
    }

    // Candidate r, as far as whole halves of groups; `span` is of the n dimensions.
    template <class Span>
    FASTOPT_INLINE void place(T* out, const Span& span, T sign, int64_t r) const {
        const int64_t to = groups * NORMAL_GROUP;
        if (to > 0) span.place(out, whole + r * to, sign, 0, to);
        if (fours > 0) span.place(out + to, rest + r * fours * 4, sign, to, to + NORMAL_HALF);
    }

    // Its numbers.
    void copy(T* out, int64_t r) const {
        const int64_t to = groups * NORMAL_GROUP;
        __builtin_memcpy(out, whole + r * to, static_cast<size_t>(to) * sizeof(T));
        __builtin_memcpy(out + to, rest + r * fours * 4, static_cast<size_t>(fours * 4) * sizeof(T));
    }
};

// The normal numbers of one candidate times the triangular factor: correlated[r] = sum of z[k] factor[k, r] over k <= r,
// added in order.
template <class T, class F>
inline void cem_correlate(T* correlated, const T* z, const F* factor, int64_t n) {
    for (int64_t r = 0; r < n; ++r) correlated[r] = 0;
    for (int64_t k = 0; k < n; ++k) {
        const F* row = factor + k * n;
        const T by = z[k];
        FASTOPT_INDEPENDENT
        for (int64_t r = k; r < n; ++r) correlated[r] += by * static_cast<T>(row[r]);
    }
}

template <class T>
void cem_candidates(const cem_candidates_args& a, int64_t begin, int64_t end) {
    const cem_distribution<T> p(a.distribution);
    const T* factor = static_cast<const T*>(a.distribution.factor);
    const int64_t n = p.dimensions, padded = p.groups * NORMAL_GROUP;
    const auto index_of = [&](int64_t row) { return a.indices != nullptr ? a.indices[row] : a.first + row; };
    T* out = static_cast<T*>(a.out);
    static_assert(FASTOPT_CEM_SHORT <= CEM_PIECE, "one candidate at least");
    if (padded <= FASTOPT_CEM_SHORT) {
        cem_numbers<T> numbers(n);
        const cem_span<T, FASTOPT_CEM_SHORT> span(p, 0, n);
        const int64_t at_once = numbers.at_once(end - begin);
        uint64_t first[cem_numbers<T>::MOST];
        for (int64_t row = begin, rows; row < end; row += rows) {
            for (rows = 0; rows < at_once && row + rows < end && index_of(row + rows) != a.distribution.population; ++rows)
                first[rows] = p.first_group(index_of(row + rows));
            numbers.make(p.stream, first, rows);
            for (int64_t k = 0; k < rows; ++k) {
                T *x = out + (row + k) * n, alone[FASTOPT_CEM_SHORT];
                const T sign = p.sign(index_of(row + k));
                if (factor != nullptr) {
                    numbers.copy(alone, k);
                    cem_correlate(x, alone, factor, n);
                    p.place(x, x, sign, 0, n);
                } else if ((end - (row + k)) * n >= padded) {
                    numbers.place(x, span, sign, k);  // what is written beyond the row's end is where the next one goes
                } else {
                    numbers.place(alone, span, sign, k);
                    __builtin_memcpy(x, alone, static_cast<size_t>(n) * sizeof(T));
                }
            }
            if (rows < at_once && row + rows < end) {  // the mean
                __builtin_memcpy(out + (row + rows) * n, p.mean, static_cast<size_t>(n) * sizeof(T));
                ++rows;
            }
        }
        return;
    }
    alignas(64) T z[CEM_PIECE];
    for (int64_t row = begin; row < end; ++row) {
        const int64_t index = index_of(row);
        T* x = out + row * n;
        if (index == a.distribution.population) {
            __builtin_memcpy(x, p.mean, static_cast<size_t>(n) * sizeof(T));
            continue;
        }
        T* numbers = factor == nullptr ? x : static_cast<T*>(a.scratch) + row * padded;
        for (int64_t g = 0; g < p.groups; g += CEM_GROUPS) {
            const int64_t groups = p.groups - g < CEM_GROUPS ? p.groups - g : CEM_GROUPS;
            const int64_t from = g * NORMAL_GROUP, whole = from + groups * NORMAL_GROUP, to = whole < n ? whole : n;
            cem_normals(z, p.stream, p.first_group(index) + static_cast<uint64_t>(g), groups);
            if (factor == nullptr) p.place(x + from, z, p.sign(index), from, to);
            else __builtin_memcpy(numbers + from, z, static_cast<size_t>(to - from) * sizeof(T));
        }
        if (factor != nullptr) {
            cem_correlate(x, numbers, factor, n);
            p.place(x, x, p.sign(index), 0, n);
        }
    }
}

constexpr double CEM_LEAST_RATIO = 0x1p-10;  // elites that all lie where the mean is would make the logarithm infinite

// The range is over groups of 32 dimensions.
template <class T>
void cem_refit(const cem_refit_args& a, int64_t begin, int64_t end) {
    constexpr int64_t GROUPS = 8, PIECE = GROUPS * NORMAL_GROUP;
    const cem_distribution<T> p(a.distribution);
    T *mean = static_cast<T*>(a.mean), *std = static_cast<T*>(a.std);
    const double total = a.total, fair = a.fair, keep = a.keep, push = a.push;
    double* const path = a.path;
    const double mean_lr = a.mean_lr, std_lr = a.std_lr, extra_variance = a.extra_variance, min_std = a.min_std;
    alignas(64) T x[PIECE];
    alignas(64) double centre[PIECE], unit[PIECE], first[PIECE], second[PIECE];
    uint64_t first_group[cem_numbers<T>::MOST];
    for (int64_t g = begin; g < end; g += GROUPS) {
        const int64_t from = g * NORMAL_GROUP, whole = (end - g < GROUPS ? end : g + GROUPS) * NORMAL_GROUP;
        const int64_t n = (whole < p.dimensions ? whole : p.dimensions) - from;
        const cem_span<T, PIECE> span(p, from, n);
        cem_numbers<T> numbers(n);
        const int64_t at_once = numbers.at_once(a.count), halves = (n + NORMAL_HALF - 1) / NORMAL_HALF * NORMAL_HALF;
        for (int64_t d = 0; d < halves; ++d) {
            centre[d] = d < n ? static_cast<double>(span.mean[d]) : 0.0;
            unit[d] = d < n && span.std[d] > 0 ? static_cast<double>(span.std[d]) : 1.0;
            first[d] = second[d] = 0;
        }
        for (int64_t e = 0, elites; e < a.count; e += elites) {
            elites = at_once < a.count - e ? at_once : a.count - e;
            for (int64_t k = 0; k < elites; ++k) first_group[k] = p.first_group(a.elites[e + k]) + static_cast<uint64_t>(g);
            numbers.make(p.stream, first_group, elites);
            for (int64_t k = 0; k < elites; ++k) {
                const double weight = a.weights != nullptr ? a.weights[e + k] : 1.0;
                numbers.place(x, span, p.sign(a.elites[e + k]), k);
                FASTOPT_INDEPENDENT
                for (int64_t d = 0; d < halves; ++d) {
                    const double u = (static_cast<double>(x[d]) - centre[d]) / unit[d], weighed = weight * u;
                    first[d] += weighed;
                    second[d] += weighed * u;
                }
            }
        }
        for (int64_t d = 0; d < n; ++d) {
            const double m1 = first[d] / total, m2 = second[d] / total;
            const double variance = a.about_new_mean != 0 ? m2 - m1 * m1 : m2, before = static_cast<double>(span.std[d]);
            double moved;
            if (path == nullptr) {
                double fitted = unit[d] * square_root(variance > 0 ? variance : 0);
                if (extra_variance > 0) fitted = square_root(fitted * fitted + extra_variance);
                moved = before + std_lr * (fitted - before);
            } else {
                double ratio = variance * fair;
                ratio = ratio > CEM_LEAST_RATIO ? ratio : CEM_LEAST_RATIO;
                moved = before * exponential(0.5 * std_lr * natural_log(ratio, 1 - ratio));
                path[from + d] = keep * a.before[from + d] + push * m1;
            }
            T centred = static_cast<T>(centre[d] + mean_lr * (unit[d] * m1));
            if (p.lower != nullptr) {
                centred = centred < p.lower[from + d] ? p.lower[from + d] : centred;
                centred = centred > p.upper[from + d] ? p.upper[from + d] : centred;
            }
            mean[from + d] = centred;
            std[from + d] = static_cast<T>(moved > min_std ? moved : min_std);
        }
    }
}

// The z with z * factor = step. No mean of normal numbers is beyond 8, only what roundings were divided by.
template <class T>
inline void cem_whiten(double* z, const double* step, const T* factor, int64_t n) {
    for (int64_t k = 0; k < n; ++k) z[k] = step[k];
    for (int64_t k = 0; k < n; ++k) {
        const T* row = factor + k * n;
        double by = z[k] / static_cast<double>(row[k]);
        by = by < 8 ? by : 8;
        by = by > -8 ? by : -8;
        z[k] = by;
        FASTOPT_INDEPENDENT
        for (int64_t d = k + 1; d < n; ++d) z[d] -= by * static_cast<double>(row[d]);
    }
}

// The refit with a full covariance, from the elites themselves. In units of the std the old covariance is factor^T factor.
// One call does all of it: the range is [0, 1).
template <class T>
void cem_refit_full(const cem_refit_args& a, int64_t begin, int64_t end) {
    if (begin >= end) return;
    const cem_distribution<T> p(a.distribution);
    const int64_t n = p.dimensions;
    const T *x = static_cast<const T*>(a.elite_candidates), *old_factor = static_cast<const T*>(a.distribution.factor);
    T *mean = static_cast<T*>(a.mean), *std = static_cast<T*>(a.std), *factor = static_cast<T*>(a.factor);
    double *c = a.work, *old = c + n * n, *u = old + n * n, *m1 = u + n, *unit = m1 + n;
    for (int64_t d = 0; d < n; ++d) unit[d] = p.std[d] > 0 ? static_cast<double>(p.std[d]) : 1.0, m1[d] = 0;
    for (int64_t k = 0; k < 2 * n * n; ++k) c[k] = 0;
    // Second moments about the old mean; only the upper triangle is used.
    for (int64_t e = 0; e < a.count; ++e) {
        const double weight = a.weights != nullptr ? a.weights[e] : 1.0;
        for (int64_t d = 0; d < n; ++d) {
            u[d] = (static_cast<double>(x[e * n + d]) - static_cast<double>(p.mean[d])) / unit[d];
            m1[d] += weight * u[d];
        }
        for (int64_t r = 0; r < n; ++r) {
            const double by = weight * u[r];
            FASTOPT_INDEPENDENT
            for (int64_t d = r; d < n; ++d) c[r * n + d] += by * u[d];
        }
    }
    for (int64_t k = 0; k < n; ++k) {
        for (int64_t r = k; r < n; ++r) {
            const double by = static_cast<double>(old_factor[k * n + r]);
            FASTOPT_INDEPENDENT
            for (int64_t d = r; d < n; ++d) old[r * n + d] += by * static_cast<double>(old_factor[k * n + d]);
        }
    }
    for (int64_t d = 0; d < n; ++d) m1[d] /= a.total;
    for (int64_t d = 0; d < n; ++d) u[d] = 0;
    if (a.path != nullptr) {
        cem_whiten(a.path, m1, old_factor, n);
        for (int64_t d = 0; d < n; ++d) a.path[d] = a.keep * a.before[d] + a.push * a.path[d];
        cem_correlate(u, a.path, old_factor, n);
        for (int64_t d = 0; d < n; ++d) u[d] = p.std[d] > 0 ? u[d] : 0.0;
    }
    for (int64_t r = 0; r < n; ++r) {
        for (int64_t d = r; d < n; ++d) {
            double fitted = c[r * n + d] / a.total;
            if (a.about_new_mean != 0) fitted -= m1[r] * m1[d];
            if (r == d && a.path == nullptr && a.extra_variance > 0) fitted += a.extra_variance / (unit[d] * unit[d]);
            const double before = p.std[r] > 0 && p.std[d] > 0 ? old[r * n + d] : 0.0;
            c[r * n + d] = before + a.std_lr * (fitted - before);
            if (a.path != nullptr) c[r * n + d] += a.rank_one * (u[r] * u[d] - before);
        }
    }
    // The scale of each dimension goes into std, what is left is a matrix with a diagonal of ones.
    for (int64_t d = 0; d < n; ++d) {
        u[d] = c[d * n + d] > 0 ? square_root(c[d * n + d]) : 0;
        const double moved = unit[d] * u[d];
        T centred = static_cast<T>(static_cast<double>(p.mean[d]) + a.mean_lr * (unit[d] * m1[d]));
        if (p.lower != nullptr) {
            centred = centred < p.lower[d] ? p.lower[d] : centred;
            centred = centred > p.upper[d] ? p.upper[d] : centred;
        }
        mean[d] = centred;
        std[d] = static_cast<T>(moved > a.min_std ? moved : a.min_std);
    }
    for (int64_t r = 0; r < n; ++r) {
        for (int64_t d = r; d < n; ++d) {
            const double product = u[r] * u[d];
            c[r * n + d] = product > 0 ? c[r * n + d] / product : 0.0;
        }
        c[r * n + r] = 1.0;
    }
    // Cholesky's factor, row after row. A pivot of nothing but roundings: the dimension is set apart from those after it.
    for (int64_t k = 0; k < n; ++k) {
        double* row = c + k * n;
        const bool sound = row[k] > 0x1p-40;
        const double pivot = square_root(sound ? row[k] : 0x1p-40);
        row[k] = pivot;
        for (int64_t d = k + 1; d < n; ++d) row[d] = sound ? row[d] / pivot : 0.0;
        for (int64_t r = k + 1; r < n; ++r) {
            const double by = row[r];
            double* below = c + r * n;
            FASTOPT_INDEPENDENT
            for (int64_t d = r; d < n; ++d) below[d] -= by * row[d];
        }
    }
    for (int64_t k = 0; k < n; ++k)
        for (int64_t d = 0; d < n; ++d) factor[k * n + d] = d < k ? T(0) : static_cast<T>(c[k * n + d]);
}

}  // namespace
