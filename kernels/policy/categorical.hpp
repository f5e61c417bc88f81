// Categorical policies, given by logits. Sums along a row are taken column by column.
#pragma once

#include "core/math.hpp"
#include "core/registers.hpp"
#include "core/tiles.hpp"
#include "policy/policy.h"
#include "policy/ppo.hpp"
#include "random/normal.hpp"

namespace {

// The largest of x[0, n) and `first`: `first` where that is NaN, and any other NaN is passed over. Which of two zeros is
// left open: what is made of the difference in sign is added to a zero or a logarithm, so that nothing shows it.
template <class T>
FASTOPT_INLINE T largest_of(const T* x, int64_t n, T first) {
    constexpr int64_t WIDTH = 32;
    int64_t i = 0;
    if (n >= WIDTH) {
        T most[WIDTH];
        for (int64_t j = 0; j < WIDTH; ++j) most[j] = first;
        for (; i + WIDTH <= n; i += WIDTH)
            for (int64_t j = 0; j < WIDTH; ++j) most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
        for (int64_t j = 0; j < WIDTH; ++j) first = most[j] > first ? most[j] : first;
    }
    for (; i < n; ++i) first = x[i] > first ? x[i] : first;
    return first;
}

// What threads share of few wide rows (softmax_args): both kernels do pieces of rows.
template <class T>
void row_largest(const row_largest_args& a, int64_t begin, int64_t end) {
    const int64_t pieces = (a.columns + a.piece - 1) / a.piece;
    for (int64_t i = begin; i < end; ++i) {
        const int64_t k = i % pieces * a.piece;
        const T* row = static_cast<const T*>(a.x) + i / pieces * a.columns;
        static_cast<T*>(a.largest)[i] = largest_of(row + k, at_most(a.columns - k, a.piece), row[0]);
    }
}

template <class T>
void row_exponentials(const row_exponentials_args& a, int64_t begin, int64_t end) {
    for (int64_t i = begin, n; i < end; i += n) {
        n = at_most(a.columns - i % a.columns, end - i);
        const T* x = static_cast<const T*>(a.x) + i;
        T *e = static_cast<T*>(a.e) + i, largest = static_cast<const T*>(a.largest)[i / a.columns];
        elementwise<T>(n, [&](auto at) { at.store(e, exponential(at.load(x) - largest)); });
    }
}

// So many sums in double stay in registers, with what they are compared with and what is counted (with 16 of them GCC 12
// takes short registers, and spills those).
constexpr int64_t SUMS_AT_ONCE = 8;

// sums[j] += the n columns of row j, in order.
template <class T>
FASTOPT_INLINE void add_columns(double* sums, const T* e, int64_t stride, int64_t n) {
    double sum[SUMS_AT_ONCE];
    for (int64_t j = 0; j < SUMS_AT_ONCE; ++j) sum[j] = sums[j];
    for (int64_t c = 0; c < n; ++c)
        for (int64_t j = 0; j < SUMS_AT_ONCE; ++j) sum[j] += static_cast<double>(e[c * stride + j]);
    for (int64_t j = 0; j < SUMS_AT_ONCE; ++j) sums[j] = sum[j];
}

// x = logits - the row's largest, e = e^x and their sum, of LANES rows side by side: ROWS, of which the last may be there
// several times, or one, in longer pieces. Column c of a piece is at [c * LANES]. The sum is of type Sum.
template <class T, int64_t LANES, class Sum = T>
struct softmax {
    static constexpr int64_t PIECE = LANES == 1 ? 512 : COLUMNS;
    const T *logits, *given = nullptr;  // e, where threads have shared it
    int64_t rows, columns, stride;
    T largest[LANES], log_total[LANES];  // the latter by take_logarithms
    Sum total[LANES];
    alignas(64) T x[PIECE * LANES], e[PIECE * LANES];

    softmax() = default;
    FASTOPT_INLINE softmax(const void* of_all, const softmax_args& shared, int64_t row, int64_t rows_, int64_t columns_) {
        take(static_cast<const T*>(of_all) + row * columns_, shared, row, rows_, columns_, columns_);
    }

    // Of the `rows` rows from `from` on, `stride` apart, of which the first is number `row` of all.
    ONCE_A_TILE void take(const T* from, const softmax_args& shared, int64_t row, int64_t rows_, int64_t columns_,
                          int64_t stride_) {
        logits = from, rows = rows_, columns = columns_, stride = stride_;
        for (int64_t j = 0; j < LANES; ++j) total[j] = 0;
        if constexpr (LANES == 1) {
            if (shared.e != nullptr) given = static_cast<const T*>(shared.e) + row * columns;
            largest[0] = given != nullptr ? static_cast<const T*>(shared.largest)[row]
                                          : largest_of(logits, columns, logits[0]);
        } else {
            for (int64_t k = 0; k < columns; k += PIECE) {
                const int64_t n = at_most(columns - k, PIECE);
                load_tile(x, logits + k, stride, rows, n);
                if (k == 0)
                    for (int64_t j = 0; j < LANES; ++j) largest[j] = x[j];
                for (int64_t c = 0; c < n; ++c)
                    for (int64_t j = 0; j < LANES; ++j)
                        largest[j] = x[c * LANES + j] > largest[j] ? x[c * LANES + j] : largest[j];
            }
        }
        for (int64_t k = 0; k < columns; k += PIECE) {
            const int64_t n = at_most(columns - k, PIECE);
            if (LANES > 1 && columns > PIECE) load_tile(x, logits + k, stride, rows, n);
            exponentials(k, n, total);
        }
    }

    ONCE_A_TILE void take_logarithms() {
        for (int64_t j = 0; j < LANES; ++j) log_total[j] = logarithm(total[j]);
    }

    // Makes x and e hold the columns from k on; returns how many.
    ONCE_A_TILE int64_t piece(int64_t k) {
        const int64_t n = at_most(columns - k, PIECE);
        if (columns > PIECE) {
            Sum unused[LANES] = {};
            if (LANES > 1) load_tile(x, logits + k, stride, rows, n);
            exponentials(k, n, unused);
        }
        return n;
    }

  private:
    ONCE_A_TILE void exponentials(int64_t k, int64_t n, Sum* sums) {
        if constexpr (LANES == 1) {
            const T *from = logits + k, most = largest[0];
            if (given != nullptr)
                elementwise<T>(n, [&](auto at) {
                    at.store(x, at.load(from) - most);
                    at.store(e, at.load(given + k));
                });
            else
                elementwise<T>(n, [&](auto at) {
                    const auto difference = at.load(from) - most;
                    at.store(x, difference);
                    at.store(e, exponential(difference));
                });
            for (int64_t c = 0; c < n; ++c) sums[0] += static_cast<Sum>(e[c]);
            return;
        }
        for (int64_t c = 0; c < n; ++c) {
            T *xc = x + c * LANES, *ec = e + c * LANES;
            elementwise<T>(LANES, [&](auto at) {
                const auto difference = at.load(xc) - at.load(largest);
                const auto power = exponential(difference);
                at.store(xc, difference);
                at.store(ec, power);
                if constexpr (sizeof(Sum) == sizeof(T)) at.store(sums, at.load(sums) + power);
            });
        }
        if constexpr (sizeof(Sum) != sizeof(T))
            for (int64_t j = 0; j < LANES; j += SUMS_AT_ONCE) add_columns(sums + j, e + j, LANES, n);
    }
};

template <int64_t COUNT>
struct lanes {
    static constexpr int64_t LANES = COUNT;
};

// Runs rows_at(lanes, row, rows) for the rows [begin, end): ROWS at once, or one by one where there are few, or where
// threads have shared what can be.
template <class Run>
FASTOPT_INLINE void side_by_side(int64_t begin, int64_t end, bool shared, Run rows_at) {
    for (int64_t row = begin, rows; row < end; row += rows) {
        rows = at_most(end - row, ROWS);
        if (rows > FASTOPT_FEW_ROWS && !shared) rows_at(lanes<ROWS>(), row, rows);
        else
            for (int64_t j = 0; j < rows; ++j) rows_at(lanes<1>(), row + j, 1);
    }
}

// e * x, and 0 where e is 0: 0 log 0 = 0.
template <class T>
FASTOPT_INLINE T weighted(T e, T x) {
    return e == 0 ? T(0) : e * x;
}

template <class T, int64_t LANES>
ONCE_A_TILE void entropies(T* entropy, softmax<T, LANES>& t) {
    T sum[LANES] = {};
    for (int64_t k = 0; k < t.columns; k += t.PIECE) {
        const int64_t n = t.piece(k);
        for (int64_t c = 0; c < n; ++c)
            for (int64_t j = 0; j < LANES; ++j) sum[j] += weighted(t.e[c * LANES + j], t.x[c * LANES + j]);
    }
    for (int64_t j = 0; j < LANES; ++j) entropy[j] = t.log_total[j] - sum[j] / t.total[j];
}

template <class T>
void categorical_kl(const categorical_kl_args& a, int64_t begin, int64_t end) {
    const bool shared = a.old_softmax.e != nullptr || a.new_softmax.e != nullptr;
    side_by_side(begin, end, shared, [&](auto side, int64_t row, int64_t rows) {
        constexpr int64_t LANES = decltype(side)::LANES;
        softmax<T, LANES> before(a.old_logits, a.old_softmax, row, rows, a.columns);
        softmax<T, LANES> after(a.new_logits, a.new_softmax, row, rows, a.columns);
        T sum[LANES] = {}, kl[LANES];
        for (int64_t k = 0; k < a.columns; k += before.PIECE) {
            const int64_t n = before.piece(k);
            after.piece(k);
            for (int64_t c = 0; c < n; ++c)
                for (int64_t j = 0; j < LANES; ++j) {
                    const int64_t i = c * LANES + j;
                    sum[j] += weighted(before.e[i], before.x[i] - after.x[i]);
                }
        }
        for (int64_t j = 0; j < LANES; ++j)
            kl[j] = sum[j] / before.total[j] + logarithm(after.total[j] / before.total[j]);
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.kl)[row + j] = kl[j];
    });
}

// The action of each row of a list of logits: every `apart` numbers one, counted from `origin`.
struct actions_of {
    const int64_t* actions;
    int64_t apart = 1, origin = 0;
    FASTOPT_INLINE int64_t operator[](int64_t row) const { return actions[row * apart] - origin; }
};

// log p of the action of each row.
template <class T, int64_t LANES>
ONCE_A_TILE void action_log_probs(T* log_prob, const softmax<T, LANES>& t, actions_of actions) {
    T x[LANES] = {};
    for (int64_t j = 0; j < t.rows; ++j) x[j] = t.logits[j * t.stride + actions[j]];
    for (int64_t j = 0; j < LANES; ++j) log_prob[j] = (x[j] - t.largest[j]) - t.log_total[j];
}

template <class T>
void categorical_log_prob(const categorical_log_prob_args& a, int64_t begin, int64_t end) {
    side_by_side(begin, end, a.softmax.e != nullptr, [&](auto side, int64_t row, int64_t rows) {
        constexpr int64_t LANES = decltype(side)::LANES;
        softmax<T, LANES> t(a.logits, a.softmax, row, rows, a.columns);
        t.take_logarithms();
        T log_prob[LANES];
        action_log_probs(log_prob, t, {a.actions + row});
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.log_prob)[row + j] = log_prob[j];
    });
}

template <class T>
void categorical_entropy(const categorical_entropy_args& a, int64_t begin, int64_t end) {
    side_by_side(begin, end, a.softmax.e != nullptr, [&](auto side, int64_t row, int64_t rows) {
        constexpr int64_t LANES = decltype(side)::LANES;
        softmax<T, LANES> t(a.logits, a.softmax, row, rows, a.columns);
        t.take_logarithms();
        T entropy[LANES];
        entropies(entropy, t);
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.entropy)[row + j] = entropy[j];
    });
}

// chosen[j] += how many cumulative sums along the n columns of row j are at most passed[j].
template <class T, int64_t ROWS_HERE>
FASTOPT_INLINE void count_passed(int64_t* chosen, double* cumulative, const double* passed, const T* e, int64_t stride,
                                 int64_t n) {
    double sum[ROWS_HERE], limit[ROWS_HERE];
    int64_t count[ROWS_HERE];
    for (int64_t j = 0; j < ROWS_HERE; ++j) sum[j] = cumulative[j], limit[j] = passed[j], count[j] = chosen[j];
    for (int64_t c = 0; c < n; ++c)
        for (int64_t j = 0; j < ROWS_HERE; ++j) {
            sum[j] += static_cast<double>(e[c * stride + j]);
            count[j] += sum[j] <= limit[j] ? 1 : 0;
        }
    for (int64_t j = 0; j < ROWS_HERE; ++j) cumulative[j] = sum[j], chosen[j] = count[j];
}

// Of each row a number between 0 and 1: to 32 bits, with as much room at either end, or to 53.
inline void draws(double* u, const uint32_t* words, int64_t n, float) {
    for (int64_t i = 0; i < n; ++i) u[i] = (static_cast<double>(words[i]) + 0.5) * 0x1p-32;
}
inline void draws(double* u, const uint32_t* words, int64_t n, double) { uniforms(u, words, n); }

// u[i] is the number of row first + i; it has room for ROWS more than there are rows.
template <class T>
void sample_rows(const categorical_sample_args& a, const double* u, int64_t first, int64_t last) {
    side_by_side(first, last, a.softmax.e != nullptr, [&](auto side, int64_t row, int64_t rows) {
        constexpr int64_t LANES = decltype(side)::LANES;
        softmax<T, LANES, double> t(a.logits, a.softmax, row, rows, a.columns);
        constexpr int64_t FEW = LANES < SUMS_AT_ONCE ? LANES : SUMS_AT_ONCE;
        double passed[LANES], cumulative[LANES] = {};
        for (int64_t j = 0; j < LANES; ++j) passed[j] = u[row - first + j] * t.total[j];
        int64_t chosen[LANES] = {};
        for (int64_t k = 0; k < a.columns; k += t.PIECE) {
            const int64_t n = t.piece(k);
            for (int64_t j = 0; j < LANES; j += FEW)
                count_passed<T, FEW>(chosen + j, cumulative + j, passed + j, t.e + j, LANES, n);
        }
        for (int64_t j = 0; j < rows; ++j) a.actions[row + j] = t.total[j] == t.total[j] ? chosen[j] : -1;
    });
}

template <class T>
void categorical_sample(const categorical_sample_args& a, int64_t begin, int64_t end) {
    constexpr int64_t WORDS = sizeof(T) / 4;  // of a row
    for_words(a.address, 0, begin * WORDS, end * WORDS, [&](const uint32_t* words, int64_t from, int64_t to) {
        double u[WORDS_PIECE / WORDS + ROWS] = {};
        draws(u, words, (to - from) / WORDS, T());
        sample_rows<T>(a, u, from / WORDS, to / WORDS);
    });
}

// Rows that are worked on one by one are stored as they are.
template <class T, int64_t LANES>
FASTOPT_INLINE void store_piece(T* to, const softmax<T, LANES>& t, int64_t n) {
    if constexpr (LANES == 1) __builtin_memcpy(to, t.e, static_cast<size_t>(n) * sizeof(T));
    else store_tile(to, t.stride, t.rows, n, t.e);
}

// dlogits = weight * (p - [k = action]) + entropy_scale * p (log p + entropy), the latter where there are entropies, and 0
// where a row is not valid. What is in t is lost.
template <class T, int64_t LANES>
ONCE_A_TILE void logits_gradient(T* dlogits, softmax<T, LANES>& t, actions_of actions, const T* weight, const T* entropy,
                                 T entropy_scale, const uint8_t* valid) {
    typedef typename integer_like<T>::type index;
    const bool with_entropy = entropy != nullptr;
    T inverse[LANES], log_total[LANES], weights[LANES], of_entropy[LANES] = {};  // no store to t can change these
    for (int64_t j = 0; j < LANES; ++j) {
        inverse[j] = T(1) / t.total[j];
        log_total[j] = t.log_total[j];
        weights[j] = weight[j];
        if (with_entropy) of_entropy[j] = entropy[j];
    }
    for (int64_t k = 0; k < t.columns; k += t.PIECE) {
        const int64_t n = t.piece(k);
        index chosen[LANES];  // in this piece, or none
        for (int64_t j = 0; j < LANES; ++j) {
            const int64_t action = actions[j < t.rows ? j : t.rows - 1] - k;
            chosen[j] = static_cast<index>(action >= 0 && action < t.PIECE ? action : -1);
        }
        for (int64_t c = 0; c < n; ++c)
            for (int64_t j = 0; j < LANES; ++j) {
                const int64_t i = c * LANES + j;
                const T p = t.e[i] * inverse[j];
                const T grad = weights[j] * (chosen[j] == static_cast<index>(c) ? p - T(1) : p);
                if (with_entropy)
                    t.e[i] = grad + entropy_scale * weighted(p, (t.x[i] - log_total[j]) + of_entropy[j]);
                else
                    t.e[i] = grad;
            }
        for (int64_t j = 0; j < t.rows && valid != nullptr; ++j)
            for (int64_t c = 0; c < n && valid[j] == 0; ++c) t.e[c * LANES + j] = 0;
        store_piece(dlogits + k, t, n);
    }
}

template <class T>
void categorical_policy_gradient(const categorical_policy_gradient_args& a, int64_t begin, int64_t end) {
    side_by_side(begin, end, a.softmax.e != nullptr, [&](auto side, int64_t row, int64_t rows) {
        constexpr int64_t LANES = decltype(side)::LANES;
        softmax<T, LANES> t(a.logits, a.softmax, row, rows, a.columns);
        t.take_logarithms();
        const T scale = static_cast<T>(a.scale), coef = static_cast<T>(a.entropy_coef);
        const uint8_t* valid = a.valid != nullptr ? a.valid + row : nullptr;
        const bool with_entropy = a.entropy_scale != 0;
        T advantage[LANES] = {}, loss[LANES], weight[LANES], entropy[LANES];
        for (int64_t j = 0; j < rows; ++j) advantage[j] = static_cast<const T*>(a.advantages)[row + j];
        action_log_probs(loss, t, {a.actions + row});
        if (with_entropy) entropies(entropy, t);
        for (int64_t j = 0; j < LANES; ++j) {
            loss[j] = -(advantage[j] * loss[j]);
            if (with_entropy) loss[j] -= coef * entropy[j];
            weight[j] = advantage[j] * scale;
        }
        logits_gradient(static_cast<T*>(a.dlogits) + row * a.columns, t, {a.actions + row}, weight,
                        with_entropy ? entropy : nullptr, static_cast<T>(a.entropy_scale), valid);
        for (int64_t j = 0; j < rows; ++j)
            static_cast<T*>(a.losses)[row + j] = valid == nullptr || valid[j] != 0 ? loss[j] : T(0);
    });
}

// Each block of rows adds up its own terms of the loss; what a row has several lists of logits of is summed over them.
template <class T>
void categorical_ppo_loss(const categorical_ppo_loss_args& a, int64_t begin, int64_t end) {
    const T entropy_scale = static_cast<T>(a.ppo.entropy_scale);
    ppo_block<T> terms(a.ppo);
    for (int64_t block = begin; block < end; ++block) {
        const int64_t first = block * FASTOPT_ROW_BLOCK, last = at_most(first + FASTOPT_ROW_BLOCK, a.rows);
        terms.begin(first, last - first);
        side_by_side(first, last, false, [&](auto side, int64_t row, int64_t rows) {
            constexpr int64_t LANES = decltype(side)::LANES;
            const T* logits = static_cast<const T*>(a.logits) + row * a.columns;
            T* dlogits = static_cast<T*>(a.dlogits) + row * a.columns;
            const uint8_t* valid = a.ppo.valid != nullptr ? a.ppo.valid + row : nullptr;
            softmax<T, LANES> t;
            T log_prob[LANES], entropy[LANES], log_probs[LANES] = {}, all_entropies[LANES] = {}, weight[LANES];
            const auto take = [&](int64_t list, int64_t at) {
                t.take(logits + at, {}, row, rows, a.widths[list], a.columns);
                t.take_logarithms();
                entropies(entropy, t);
                return actions_of{a.actions + row * a.lists + list, a.lists, at};
            };
            int64_t list = 0, at = 0;
            for (; list < a.lists; at += a.widths[list++]) {
                action_log_probs(log_prob, t, take(list, at));
                for (int64_t j = 0; j < LANES; ++j) {
                    log_probs[j] += log_prob[j];
                    all_entropies[j] += entropy[j];
                }
            }
            terms.weigh(weight, log_probs, all_entropies, row - first, rows);
            for (actions_of actions{}; list > 0;) {  // backwards: the last one is still there
                at -= a.widths[--list];
                actions = list < a.lists - 1 ? take(list, at) : actions_of{a.actions + row * a.lists + list, a.lists, at};
                logits_gradient(dlogits + at, t, actions, weight, a.ppo.entropy_scale != 0 ? entropy : nullptr,
                                entropy_scale, valid);
            }
        });
        terms.add_up(a.ppo.sums + block * FASTOPT_PPO_SUMS);
    }
}

}  // namespace
