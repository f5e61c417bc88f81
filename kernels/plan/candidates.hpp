// Candidates of plans: each is an array (horizon, actions), drawn about its problem's mean, or taken from what is stored.
#pragma once

#include "cem/cem.hpp"
#include "plan/plan.h"
#include "plan/truncated.hpp"

namespace {

template <class T>
struct plan_problem {
    const T *mean, *std, *stored;
    random_address address;
    plan_problem(const plan_candidates_args& a, int64_t k)
        : mean(static_cast<const T*>(a.mean) + k * a.horizon * a.actions),
          std(static_cast<const T*>(a.std) + k * a.horizon * a.actions),
          stored(static_cast<const T*>(a.stored) + k * a.stored_rows * a.horizon * a.actions),
          address{a.seeds[k], a.stream, a.domain} {}

    cem_candidates_args drawn(const plan_candidates_args& a, T* out, const int64_t* rows, int64_t first) const {
        cem_candidates_args c{};
        c.out = out;
        c.distribution.mean = mean;
        c.distribution.std = std;
        c.distribution.lower = a.lower;
        c.distribution.upper = a.upper;
        c.distribution.dimensions = a.horizon * a.actions;
        c.distribution.address = address;
        c.distribution.population = a.drawn;
        c.indices = rows;
        c.first = first;
        return c;
    }
};

// Noise of a given spectrum along the horizon: series s = row * actions + action is the lower triangular factor times normal
// numbers s * padded, ... Series lie side by side in two registers, and two steps of them are summed at a time, so that four
// sums overlap and a number of the factor is read once for all series. (GCC makes no registers of arrays that hold the sums.)
#if defined(__AVX512F__)
#define SERIES_REGISTER 64
#elif defined(__AVX__)
#define SERIES_REGISTER 32
#else
#define SERIES_REGISTER 16
#endif

template <class T>
struct plan_tile {
    typedef T numbers __attribute__((vector_size(SERIES_REGISTER)));
    static constexpr int64_t LANES = SERIES_REGISTER / sizeof(T), SIDE = 2 * LANES;
    numbers z[FASTOPT_CEM_SHORT][2];

    // z = factor z, from the last step back: a step reads those before it.
    FASTOPT_INLINE void correlate(const T* factor, int64_t horizon) {
        int64_t h = horizon - 1;
        for (; h > 0; h -= 2) {
            const T *later = factor + h * horizon, *earlier = later - horizon;
            numbers a0{}, a1{}, b0{}, b1{};
            for (int64_t k = 0; k < h; ++k) {
                a0 += later[k] * z[k][0], a1 += later[k] * z[k][1];
                b0 += earlier[k] * z[k][0], b1 += earlier[k] * z[k][1];
            }
            z[h][0] = a0 + later[h] * z[h][0], z[h][1] = a1 + later[h] * z[h][1];
            z[h - 1][0] = b0, z[h - 1][1] = b1;
        }
        if (h == 0) z[0][0] = numbers{} + factor[0] * z[0][0], z[0][1] = numbers{} + factor[0] * z[0][1];
    }
};

template <class T, class Row>
void plan_series(T* out, const plan_candidates_args& a, const plan_problem<T>& problem, Row row_of, int64_t count) {
    constexpr int64_t SIDE = plan_tile<T>::SIDE;
    const int64_t horizon = a.horizon, actions = a.actions, n = horizon * actions, all = count * actions;
    const uint64_t groups = static_cast<uint64_t>((horizon + NORMAL_GROUP - 1) / NORMAL_GROUP);
    const philox_stream stream(problem.address);
    cem_numbers<T> numbers(horizon);
    const int64_t at_once = numbers.at_once(all);
    uint64_t first[cem_numbers<T>::MOST];
    plan_tile<T> tile;
    T *z = reinterpret_cast<T*>(tile.z), alone[FASTOPT_CEM_SHORT + NORMAL_GROUP];
    __builtin_memset(z, 0, static_cast<size_t>(horizon * SIDE) * sizeof(T));
    for (int64_t s = 0, made; s < all; s += made) {
        made = at_once < all - s ? at_once : all - s;
        for (int64_t k = 0; k < made; ++k)
            first[k] = (static_cast<uint64_t>(row_of((s + k) / actions)) * static_cast<uint64_t>(actions) +
                        static_cast<uint64_t>((s + k) % actions)) * groups;
        numbers.make(stream, first, made);
        for (int64_t k = 0; k < made; k += SIDE) {
            const int64_t side = made - k < SIDE ? made - k : SIDE;
            for (int64_t j = 0; j < side; ++j) {
                numbers.copy(alone, k + j);
                for (int64_t h = 0; h < horizon; ++h) z[h * SIDE + j] = alone[h];
            }
            tile.correlate(static_cast<const T*>(a.factor), horizon);
            for (int64_t j = 0; j < side; ++j) {
                T* x = out + (s + k + j) / actions * n + (s + k + j) % actions;
                for (int64_t h = 0; h < horizon; ++h) x[h * actions] = z[h * SIDE + j];
            }
        }
    }
    const cem_candidates_args c = problem.drawn(a, out, nullptr, 0);
    const cem_distribution<T> p(c.distribution);
    for (int64_t k = 0; k < count; ++k) p.place(out + k * n, out + k * n, T(1), 0, n);
}

// Normal numbers cut at the bounds, by the inverse of their distribution function. `below` and `above` are the probabilities
// beyond the bounds; the mean lies within them, so neither is more than a half.
template <class T, class Row>
void plan_truncated(T* out, const plan_candidates_args& a, const plan_problem<T>& problem, Row row_of, int64_t count) {
    constexpr int64_t PIECE = 8 * NORMAL_GROUP, WORDS = sizeof(T) / 4;
    const int64_t n = a.horizon * a.actions;
    const uint64_t padded = static_cast<uint64_t>((n + NORMAL_GROUP - 1) / NORMAL_GROUP * NORMAL_GROUP);
    const T *lower = static_cast<const T*>(a.lower), *upper = static_cast<const T*>(a.upper);
    const philox_stream stream(problem.address);
    alignas(64) double below[PIECE], above[PIECE];
    alignas(64) uint32_t words[PIECE * WORDS];
    for (int64_t from = 0; from < n; from += PIECE) {
        const int64_t size = n - from < PIECE ? n - from : PIECE;
        const T *mean = problem.mean + from, *std = problem.std + from, *low = lower + from, *high = upper + from;
        for (int64_t d = 0; d < size; ++d) {
            const double m = static_cast<double>(mean[d]), s = static_cast<double>(std[d]), unit = s > 0 ? s : 1.0;
            below[d] = normal_tail((m - static_cast<double>(low[d])) / unit);
            above[d] = normal_tail((static_cast<double>(high[d]) - m) / unit);
        }
        for (int64_t k = 0; k < count; ++k) {
            T* x = out + k * n + from;
            const uint64_t first = static_cast<uint64_t>(row_of(k)) * padded + static_cast<uint64_t>(from);
            philox_words(words, stream, first * WORDS / 4, (size * WORDS + 3) / 4);
            FASTOPT_INDEPENDENT
            for (int64_t d = 0; d < size; ++d) {
                const double u = inner_uniform<T>(words, d), within = (1 - above[d]) - below[d];
                const double p = below[d] + u * within, rest = above[d] + (1 - u) * within;
                const double z = normal_quantile(p < rest ? p : rest);
                const T y = static_cast<T>(static_cast<double>(mean[d]) + static_cast<double>(std[d]) * (p < rest ? -z : z));
                const T cut = y < low[d] ? low[d] : y;
                x[d] = cut > high[d] ? high[d] : cut;
            }
        }
    }
}

template <class T>
void plan_candidates(const plan_candidates_args& a, int64_t begin, int64_t end) {
    const int64_t n = a.horizon * a.actions;
    for (int64_t at = begin, count; at < end; at += count) {
        const int64_t problem = at / a.rows_each, until = (problem + 1) * a.rows_each;
        const plan_problem<T> p(a, problem);
        const int64_t base = problem * a.rows_each, stop = until < end ? until : end;
        const auto row_of = [&](int64_t k) { return a.rows != nullptr ? a.rows[at + k] : at + k - base; };
        T* out = static_cast<T*>(a.out) + at * n;
        count = 0;
        while (at + count < stop && row_of(count) < a.drawn) ++count;
        if (count == 0) {
            const int64_t stored = row_of(0) - a.drawn;
            __builtin_memcpy(out, stored < a.stored_rows ? p.stored + stored * n : p.mean, static_cast<size_t>(n) * sizeof(T));
            count = 1;
        } else if (a.truncated != 0 && a.lower != nullptr) {
            plan_truncated<T>(out, a, p, row_of, count);
        } else if (a.factor != nullptr) {
            plan_series<T>(out, a, p, row_of, count);
        } else {
            const int64_t* rows = a.rows != nullptr ? a.rows + at : nullptr;
            const cem_candidates_args c = p.drawn(a, out, rows, rows != nullptr ? 0 : at - base);
            cem_candidates<T>(c, 0, count);
        }
    }
}

}  // namespace
