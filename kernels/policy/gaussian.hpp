// Diagonal Gaussian policies over few actions, given by mean and log_std. What is elementwise is done in the order in which
// the arrays lie, and only sums along a row transpose their terms.
#pragma once

#include "core/math.hpp"
#include "core/registers.hpp"
#include "core/tiles.hpp"
#include "policy/policy.h"
#include "policy/ppo.hpp"
#include "random/normal.hpp"

namespace {

// As many rows at once, up to a tile, as 32 KiB of L1 hold of `arrays` arrays (4096 x 18 float32: the gradient takes
// 0.52 ns an element by 32 rows, 0.56 by 64; log-probabilities take 0.43 by 32, 0.41 by 64).
template <class T>
inline int64_t rows_at_once(int64_t arrays, int64_t columns) {
    const int64_t row_bytes = arrays * at_most(columns, COLUMNS) * static_cast<int64_t>(sizeof(T));
    int64_t rows = ROWS;
    while (rows > 16 && rows * row_bytes > (1 << 15)) rows /= 2;
    return rows;
}

// Runs run(j, length) for runs of elements that begin with row j of a tile: all of it at once where it is `joined`, one
// row after the other.
template <class Run>
FASTOPT_INLINE void in_runs(bool joined, int64_t rows, int64_t columns, Run run) {
    const int64_t runs = joined ? 1 : rows, length = joined ? rows * columns : columns;
    for (int64_t j = 0; j < runs; ++j) run(j, length);
}

// Repeats what has been computed for one row.
template <class T>
inline void repeat_row(T* x, int64_t columns, int64_t length) {
    for (int64_t done = columns, n; done < length; done += n) {
        n = at_most(done, length - done);
        __builtin_memcpy(x + done, x, static_cast<size_t>(n) * sizeof(T));
    }
}

// f * e^x is (f * low) * high with low = e^x and high = 1, but beyond BOUND, where e^x may be 0 or infinite and the product
// not, both are e^(x / 2). Beyond FURTHEST no product with a number but 0 stays within the range of what is made of it.
template <class T>
constexpr T BOUND = sizeof(T) == 4 ? T(64) : T(512);
template <class T>
constexpr T FURTHEST = sizeof(T) == 4 ? T(176) : T(1416);

template <class T>
FASTOPT_INLINE bool is_beyond(T x) { return static_cast<int>(x > BOUND<T>) | static_cast<int>(x < -BOUND<T>); }

template <class T>
struct two_factors {
    T low, high;
    FASTOPT_INLINE explicit two_factors(T x) {
        x = x > FURTHEST<T> ? FURTHEST<T> : x < -FURTHEST<T> ? -FURTHEST<T> : x;
        low = exponential(is_beyond(x) ? T(0.5) * x : x);
        high = is_beyond(x) ? low : T(1);
    }
    FASTOPT_INLINE T rest(T product) const { return product * high; }
};
template <class V>
struct one_factor {
    V low;
    FASTOPT_INLINE V rest(V product) const { return product; }
};

// Whether any of `rows` rows of n numbers, `stride` apart, is beyond that bound.
template <class T>
ONCE_A_TILE bool any_beyond(const T* x, int64_t stride, int64_t rows, int64_t n) {
    typename integer_like<T>::type found = 0;
    if (stride == n) stride = n *= rows;  // they are one
    if (stride == n || stride == 0) rows = 1;
    for (int64_t j = 0; j < rows; ++j)
        for (int64_t k = 0; k < n; ++k) found |= is_beyond(x[j * stride + k]) ? 1 : 0;
    return found != 0;
}

// Runs one(at, factor) for the elements [0, n), with e^-log_std as the factor.
template <class T, class One>
FASTOPT_INLINE void with_inverse(const T* log_std, bool beyond, int64_t n, One one) {
    if (beyond)
        for (int64_t i = 0; i < n; ++i) one(one_element<T>{i}, two_factors<T>(-log_std[i]));
    else
        elementwise<T>(n, [&](auto at) {
            auto inverse = exponential(-at.load(log_std));
            one(at, one_factor<decltype(inverse)>{inverse});
        });
}

// exp(2 d) - 1 - 2 d
template <class T, class V>
FASTOPT_INLINE V kl_of_spreads(V d) {
    return (exponential(d + d) - T(1)) - (d + d);
}

template <class T>
void gaussian_kl(const gaussian_kl_args& a, int64_t begin, int64_t end) {
    const T *old_mean = static_cast<const T*>(a.old_mean), *old_log_std = static_cast<const T*>(a.old_log_std);
    const T *new_mean = static_cast<const T*>(a.new_mean), *new_log_std = static_cast<const T*>(a.new_log_std);
    const bool for_all = a.columns <= COLUMNS && a.old_stride == 0 && a.new_stride == 0 &&
                         !any_beyond(new_log_std, 0, 1, a.columns);
    const bool joined = for_all || (a.columns <= COLUMNS && a.old_stride != 0 && a.new_stride != 0);
    const int64_t step = rows_at_once<T>(5, a.columns);
    alignas(64) T terms[TILE], of_spreads[TILE], inverse[TILE];
    if (for_all) {
        elementwise<T>(a.columns, [&](auto at) {
            at.store(of_spreads, kl_of_spreads<T>(at.load(old_log_std) - at.load(new_log_std)));
            at.store(inverse, exponential(-at.load(new_log_std)));
        });
        repeat_row(of_spreads, a.columns, at_most(end - begin, step) * a.columns);
        repeat_row(inverse, a.columns, at_most(end - begin, step) * a.columns);
    }
    for (int64_t row = begin; row < end; row += step) {
        const int64_t rows = at_most(end - row, step);
        T kl[ROWS] = {};
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = at_most(a.columns - k, COLUMNS);
            const bool beyond = !for_all && any_beyond(new_log_std + row * a.new_stride + k, a.new_stride, rows, n);
            in_runs(joined, rows, n, [&](int64_t j, int64_t length) {
                const T *before = old_mean + (row + j) * a.columns + k, *after = new_mean + (row + j) * a.columns + k;
                const T* old_spread = old_log_std + (row + j) * a.old_stride + k;
                const T* new_spread = new_log_std + (row + j) * a.new_stride + k;
                T* to = terms + j * n;
                if (for_all)
                    elementwise<T>(length, [&](auto at) {
                        const auto t = (at.load(before) - at.load(after)) * at.load(inverse);
                        at.store(to, T(0.5) * (at.load(of_spreads) + t * t));
                    });
                else
                    with_inverse(new_spread, beyond, length, [&](auto at, auto inverse) __attribute__((always_inline)) {
                        const auto t = inverse.rest((at.load(before) - at.load(after)) * inverse.low);
                        at.store(to, T(0.5) * (kl_of_spreads<T>(at.load(old_spread) - at.load(new_spread)) + t * t));
                    });
            });
            sum_rows(kl, terms, n, rows, n);
        }
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.kl)[row + j] = kl[j];
    }
}

// log_std and exp(-log_std) for the rows of a tile, where one is for all, fits it and is within the bound; returns whether.
template <class T>
ONCE_A_TILE bool spread_for_all(T* log_std, T* inverse, const T* of_all, int64_t stride, int64_t columns,
                                int64_t rows) {
    if (stride != 0 || columns > COLUMNS || any_beyond(of_all, 0, 1, columns)) return false;
    elementwise<T>(columns, [&](auto at) {
        at.store(log_std, at.load(of_all));
        at.store(inverse, exponential(-at.load(of_all)));
    });
    repeat_row(log_std, columns, rows * columns);
    repeat_row(inverse, columns, rows * columns);
    return true;
}

// What is computed along the rows of a tile: whether log_std is one for all, and whether the rows' elements are one run.
template <class T>
struct spread_of_rows {
    bool for_all, joined;
    alignas(64) T log_std[TILE], inverse[TILE];

    ONCE_A_TILE spread_of_rows(const void* of_all, int64_t stride, int64_t columns, int64_t rows)
        : for_all(spread_for_all(log_std, inverse, static_cast<const T*>(of_all), stride, columns, rows)),
          joined(for_all || (columns <= COLUMNS && stride != 0)) {}
};

// log_prob[j] of `rows` rows from `row` on; `terms` is a tile to work in.
template <class T, class Args>
FASTOPT_INLINE void log_densities(T* log_prob, T* terms, const Args& a, T constant, const spread_of_rows<T>& spreads,
                                  int64_t row, int64_t rows) {
    const T *mean = static_cast<const T*>(a.mean), *actions = static_cast<const T*>(a.actions);
    const T* log_std = static_cast<const T*>(a.log_std);
    T sum[ROWS] = {};
    for (int64_t k = 0; k < a.columns; k += COLUMNS) {
        const int64_t n = at_most(a.columns - k, COLUMNS);
        const bool beyond = !spreads.for_all && any_beyond(log_std + row * a.stride + k, a.stride, rows, n);
        in_runs(spreads.joined, rows, n, [&](int64_t j, int64_t length) {
            const T *x = actions + (row + j) * a.columns + k, *of_x = mean + (row + j) * a.columns + k;
            const T* spread = spreads.for_all ? spreads.log_std : log_std + (row + j) * a.stride + k;
            T* to = terms + j * n;
            if (spreads.for_all)
                elementwise<T>(length, [&](auto at) {
                    const auto t = (at.load(x) - at.load(of_x)) * at.load(spreads.inverse);
                    at.store(to, T(0.5) * (t * t) + at.load(spread));
                });
            else
                with_inverse(spread, beyond, length, [&](auto at, auto inverse_of) __attribute__((always_inline)) {
                    const auto t = inverse_of.rest((at.load(x) - at.load(of_x)) * inverse_of.low);
                    at.store(to, T(0.5) * (t * t) + at.load(spread));
                });
        });
        sum_rows(sum, terms, n, rows, n);
    }
    for (int64_t j = 0; j < rows; ++j) log_prob[j] = -sum[j] - constant;
}

template <class T>
void gaussian_log_prob(const gaussian_log_prob_args& a, int64_t begin, int64_t end) {
    const int64_t step = rows_at_once<T>(4, a.columns);
    alignas(64) T terms[TILE];
    const spread_of_rows<T> spreads(a.log_std, a.stride, a.columns, at_most(end - begin, step));
    for (int64_t row = begin; row < end; row += step)
        log_densities(static_cast<T*>(a.log_prob) + row, terms, a, static_cast<T>(a.constant), spreads, row,
                      at_most(end - row, step));
}

template <class T>
void gaussian_entropy(const gaussian_entropy_args& a, int64_t begin, int64_t end) {
    const T *log_std = static_cast<const T*>(a.log_std), constant = static_cast<T>(a.constant);
    T* entropy = static_cast<T*>(a.entropy);
    for (int64_t row = begin; row < end; ++row) entropy[row] = 0;
    sum_rows(entropy + begin, log_std + begin * a.columns, a.columns, end - begin, a.columns);
    for (int64_t row = begin; row < end; ++row) entropy[row] += constant;
}

// actions = mean + exp(log_std) * z, element by element. Of a log_std that is for all rows and within the bound, the
// exponentials are made once.
template <class T>
class scaled_noise {
  public:
    static constexpr int64_t PIECE = 512;  // elements that are asked for at once, at most

    ONCE_A_TILE scaled_noise(const void* log_std, int64_t columns, int64_t stride, int64_t elements)
        : log_std_(static_cast<const T*>(log_std)), columns_(columns), stride_(stride),
          for_all_(stride == 0 && columns <= COLUMNS && !any_beyond(log_std_, 0, 1, columns)) {
        if (!for_all_) return;
        elementwise<T>(columns, [&](auto at) { at.store(std_, exponential(at.load(log_std_))); });
        repeat_row(std_, columns, at_most(elements, PIECE) + columns);
    }

    // Of n elements from number i on, of which z has the first at [0].
    ONCE_A_TILE void add(T* actions, const T* mean, const T* z, int64_t i, int64_t n) const {
        actions += i, mean += i;
        if (for_all_) {
            const T* of_row = std_ + i % columns_;
            elementwise<T>(n, [&](auto at) { at.store(actions, at.load(mean) + at.load(of_row) * at.load(z)); });
            return;
        }
        T of_columns[PIECE];
        for (int64_t k = 0, column = i % columns_; k < n && stride_ == 0; ++k) {
            of_columns[k] = log_std_[column];
            if (++column == columns_) column = 0;
        }
        const T* spread = stride_ != 0 ? log_std_ + i : of_columns;
        if (any_beyond(spread, n, 1, n)) {
            for (int64_t k = 0; k < n; ++k) {
                const two_factors<T> power(spread[k]);
                actions[k] = mean[k] + power.rest(power.low * z[k]);
            }
            return;
        }
        elementwise<T>(n, [&](auto at) {
            at.store(actions, at.load(mean) + exponential(at.load(spread)) * at.load(z));
        });
    }

  private:
    const T* const log_std_;
    const int64_t columns_, stride_;
    const bool for_all_;
    alignas(64) T std_[PIECE + COLUMNS];
};

template <class T>
void gaussian_sample(const gaussian_sample_args& a, int64_t begin, int64_t end) {
    constexpr int64_t PIECE = scaled_noise<T>::PIECE;
    const scaled_noise<T> noise(a.log_std, a.columns, a.stride, end - begin);
    alignas(64) T z[PIECE];
    for (int64_t i = begin; i < end; i += PIECE) {
        const int64_t n = at_most(end - i, PIECE);
        random_normal<T>({z, a.address, static_cast<uint64_t>(i)}, 0, n);
        noise.add(static_cast<T*>(a.actions), static_cast<const T*>(a.mean), z, i, n);
    }
}

template <class T>
void gaussian_shift(const gaussian_shift_args& a, int64_t begin, int64_t end) {
    constexpr int64_t PIECE = scaled_noise<T>::PIECE;
    const scaled_noise<T> noise(a.log_std, a.columns, 0, end - begin);
    for (int64_t i = begin; i < end; i += PIECE)
        noise.add(static_cast<T*>(a.actions), static_cast<const T*>(a.mean), static_cast<const T*>(a.noise) + i, i,
                  at_most(end - i, PIECE));
}

// to[j, :] = x[j]; writes up to a register past its end.
template <class T, int COUNT>
FASTOPT_INLINE void repeat_few(T* to, const T* x, int64_t rows) {
    for (int64_t j = 0; j < rows; ++j)
        for (int k = 0; k < COUNT; ++k) to[j * COUNT + k] = x[j];
}
template <class T>
ONCE_A_TILE void repeat_each(T* to, const T* x, int64_t rows, int64_t columns) {
    if (columns == 1) return repeat_few<T, 1>(to, x, rows);
    if (columns == 2) return repeat_few<T, 2>(to, x, rows);
    if (columns == 3) return repeat_few<T, 3>(to, x, rows);
    typedef typename squares<T>::type type;
    constexpr int64_t COUNT = squares<T>::DEEP;
    for (int64_t j = 0; j < rows; ++j) {
        const type value = x[j] - type{};  // x - 0 is x
        for (int64_t k = 0; k < columns; k += COUNT) *reinterpret_cast<type*>(to + j * columns + k) = value;
    }
}

// What the gradient computes in. Loads wait for stores at the same place within another page: what is stored to comes
// first, so that no load is where the turn before has stored.
template <class T>
struct gradient_buffers {
    static constexpr int64_t LINE = 64 / sizeof(T);
    alignas(64) T terms[TILE], of_log_std[TILE + LINE];
    spread_of_rows<T> spreads;
    alignas(64) T weights[TILE + LINE];

    FASTOPT_INLINE gradient_buffers(const void* log_std, int64_t stride, int64_t columns, int64_t rows)
        : spreads(log_std, stride, columns, rows) {}
};

// entropy[j] of `rows` rows from `row` on.
template <class T, class Args>
FASTOPT_INLINE void gaussian_entropies(T* entropy, const Args& a, int64_t row, int64_t rows) {
    const T constant = static_cast<T>(a.entropy_constant);
    for (int64_t j = 0; j < rows; ++j) entropy[j] = 0;
    for (int64_t k = 0; k < a.columns; k += COLUMNS)
        sum_rows(entropy, static_cast<const T*>(a.log_std) + row * a.stride + k, a.stride, rows,
                 at_most(a.columns - k, COLUMNS));
    for (int64_t j = 0; j < rows; ++j) entropy[j] += constant;
}

// Both gradients where a log-probability weighs `weight`, a row's number that weigh(weight, buffers, row, rows) fills in for
// a few rows; done(sums, row, rows) takes the sums of their log-densities. Rows that are not valid get zeros.
template <class T, class Args, class Weigh, class Done>
FASTOPT_INLINE void gaussian_gradients(const Args& a, const uint8_t* valid, T entropy_scale, int64_t begin, int64_t end,
                                       Weigh weigh, Done done) {
    const T *mean = static_cast<const T*>(a.mean), *actions = static_cast<const T*>(a.actions);
    const T* log_std = static_cast<const T*>(a.log_std);
    T *dmean = static_cast<T*>(a.dmean), *dlog_std = static_cast<T*>(a.dlog_std);
    const int64_t first = begin * FASTOPT_ROW_BLOCK, last = at_most(end * FASTOPT_ROW_BLOCK, a.rows);
    const int64_t step = rows_at_once<T>(8, a.columns);
    gradient_buffers<T> run(a.log_std, a.stride, a.columns, at_most(last - first, step));
    const spread_of_rows<T>& spreads = run.spreads;
    for (int64_t row = first; row < last; row += step) {
        const int64_t rows = at_most(last - row, step);
        T weight[ROWS], sum[ROWS] = {};
        weigh(weight, run, row, rows);
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = at_most(a.columns - k, COLUMNS);
            repeat_each(run.weights, weight, rows, n);
            const bool beyond = !spreads.for_all && any_beyond(log_std + row * a.stride + k, a.stride, rows, n);
            in_runs(spreads.joined, rows, n, [&](int64_t j, int64_t length) {
                const int64_t from = (row + j) * a.columns + k, in_run = j * n;
                const T* spread = spreads.for_all ? spreads.log_std : log_std + (row + j) * a.stride + k;
                T* of_log_std = dlog_std != nullptr ? dlog_std + from : run.of_log_std + in_run;
                const auto one = [&](auto at, auto inverse) __attribute__((always_inline)) {
                    const auto t = inverse.rest((at.load(actions + from) - at.load(mean + from)) * inverse.low);
                    const auto w = at.load(run.weights + in_run);
                    const auto log_density = T(0.5) * (t * t) + at.load(spread);
                    at.store(run.terms + in_run, log_density);
                    at.store(dmean + from, -inverse.rest(w * (t * inverse.low)));
                    at.store(of_log_std, w * (T(1) - t * t) - entropy_scale);
                };
                if (spreads.for_all)
                    elementwise<T>(length, [&](auto at) {
                        auto of_all = at.load(spreads.inverse);
                        one(at, one_factor<decltype(of_all)>{of_all});
                    });
                else with_inverse(spread, beyond, length, one);
            });
            sum_rows(sum, run.terms, n, rows, n);
            for (int64_t j = 0; j < rows && valid != nullptr; ++j) {
                if (valid[row + j] != 0) continue;
                T* of_log_std = dlog_std != nullptr ? dlog_std + (row + j) * a.columns + k : run.of_log_std + j * n;
                for (int64_t c = 0; c < n; ++c) dmean[(row + j) * a.columns + k + c] = of_log_std[c] = 0;
            }
            if (dlog_std == nullptr) {
                double* sums = a.column_sums + row / FASTOPT_ROW_BLOCK * a.columns + k;
                for (int64_t c = 0; c < n && row % FASTOPT_ROW_BLOCK == 0; ++c) sums[c] = 0;
                for (int64_t c = 0; c < EIGHT; ++c) run.of_log_std[rows * n + c] = 0;
                sum_columns(sums, run.of_log_std, rows, n);
            }
        }
        done(sum, row, rows);
    }
}

template <class T>
void gaussian_policy_gradient(const gaussian_policy_gradient_args& a, int64_t begin, int64_t end) {
    const T *advantages = static_cast<const T*>(a.advantages), scale = static_cast<T>(a.scale);
    const T coef = static_cast<T>(a.entropy_coef), constant = static_cast<T>(a.log_prob_constant);
    const bool with_entropy = a.entropy_scale != 0;
    T *losses = static_cast<T*>(a.losses), entropy[ROWS];
    const auto weigh = [&](T* weight, auto&, int64_t row, int64_t rows) {
        for (int64_t j = 0; j < rows; ++j) weight[j] = advantages[row + j] * scale;
    };
    const auto done = [&](const T* sum, int64_t row, int64_t rows) {
        if (with_entropy && (row == begin * FASTOPT_ROW_BLOCK || a.stride != 0)) gaussian_entropies(entropy, a, row, rows);
        for (int64_t j = 0; j < rows; ++j) {
            T loss = -(advantages[row + j] * (-sum[j] - constant));
            if (with_entropy) loss -= coef * entropy[j];
            losses[row + j] = a.valid == nullptr || a.valid[row + j] != 0 ? loss : T(0);
        }
    };
    gaussian_gradients<T>(a, a.valid, static_cast<T>(a.entropy_scale), begin, end, weigh, done);  // x - 0 is x
}

// The gradients need the ratios, so that log-densities are made twice: their loop is short where the spreads are for all.
template <class T>
void gaussian_ppo_loss(const gaussian_ppo_loss_args& a, int64_t begin, int64_t end) {
    ppo_block<T> block(a.ppo);
    const auto weigh = [&](T* weight, auto& buffers, int64_t row, int64_t rows) {
        T log_prob[ROWS], entropy[ROWS];
        const int64_t in_block = row % FASTOPT_ROW_BLOCK;
        if (in_block == 0) block.begin(row, at_most(a.rows - row, FASTOPT_ROW_BLOCK));
        log_densities(log_prob, buffers.terms, a, static_cast<T>(a.log_prob_constant), buffers.spreads, row, rows);
        gaussian_entropies(entropy, a, row, rows);
        block.weigh(weight, log_prob, entropy, in_block, rows);
        if (in_block + rows == block.rows) block.add_up(a.ppo.sums + row / FASTOPT_ROW_BLOCK * FASTOPT_PPO_SUMS);
    };
    gaussian_gradients<T>(a, a.ppo.valid, static_cast<T>(a.ppo.entropy_scale), begin, end, weigh,
                          [](const T*, int64_t, int64_t) {});
}

}  // namespace
