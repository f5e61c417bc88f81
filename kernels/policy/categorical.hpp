// Categorical policies over few actions, given by logits. Sums along a row are taken column by column.
#pragma once

#include "core/math.hpp"
#include "core/registers.hpp"
#include "core/tiles.hpp"
#include "random/normal.hpp"

namespace {

// x = logits - the row's largest, e = e^x and their sum, of the rows of a tile.
template <class T>
struct softmax_tile {
    const T* logits;
    int64_t rows, columns;
    T largest[ROWS], total[ROWS] = {};
    alignas(64) T x[TILE], e[TILE];

    ONCE_A_TILE softmax_tile(const T* logits_, int64_t rows_, int64_t columns_) : logits(logits_), rows(rows_), columns(columns_) {
        for (int64_t k = 0; k < columns; k += COLUMNS) {
            const int64_t n = at_most(columns - k, COLUMNS);
            load_tile(x, logits + k, columns, rows, n);
            if (k == 0)
                for (int64_t j = 0; j < ROWS; ++j) largest[j] = x[j];
            for (int64_t c = 0; c < n; ++c)
                for (int64_t j = 0; j < ROWS; ++j) largest[j] = x[c * ROWS + j] > largest[j] ? x[c * ROWS + j] : largest[j];
        }
        for (int64_t k = 0; k < columns; k += COLUMNS) {
            const int64_t n = at_most(columns - k, COLUMNS);
            if (columns > COLUMNS) load_tile(x, logits + k, columns, rows, n);
            exponentials(n, total);
        }
    }

    // Makes x and e hold the columns from k on; returns how many.
    ONCE_A_TILE int64_t piece(int64_t k) {
        const int64_t n = at_most(columns - k, COLUMNS);
        if (columns > COLUMNS) {
            T unused[ROWS] = {};
            load_tile(x, logits + k, columns, rows, n);
            exponentials(n, unused);
        }
        return n;
    }

  private:
    ONCE_A_TILE void exponentials(int64_t n, T* sums) {
        for (int64_t c = 0; c < n; ++c) {
            T *xc = x + c * ROWS, *ec = e + c * ROWS;
            elementwise<T>(ROWS, [&](auto at) {
                const auto difference = at.load(xc) - at.load(largest);
                const auto power = exponential(difference);
                at.store(xc, difference);
                at.store(ec, power);
                at.store(sums, at.load(sums) + power);
            });
        }
    }
};

// e * x, and 0 where e is 0: 0 log 0 = 0.
template <class T>
FASTOPT_INLINE T weighted(T e, T x) {
    return e == 0 ? T(0) : e * x;
}

template <class T>
ONCE_A_TILE void entropies(T* entropy, softmax_tile<T>& t) {
    T sum[ROWS] = {};
    for (int64_t k = 0; k < t.columns; k += COLUMNS) {
        const int64_t n = t.piece(k);
        for (int64_t c = 0; c < n; ++c)
            for (int64_t j = 0; j < ROWS; ++j) sum[j] += weighted(t.e[c * ROWS + j], t.x[c * ROWS + j]);
    }
    for (int64_t j = 0; j < ROWS; ++j) entropy[j] = logarithm(t.total[j]) - sum[j] / t.total[j];
}

template <class T>
void categorical_kl(const categorical_kl_args& a, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += ROWS) {
        const int64_t rows = at_most(end - row, ROWS), first = row * a.columns;
        softmax_tile<T> before(static_cast<const T*>(a.old_logits) + first, rows, a.columns);
        softmax_tile<T> after(static_cast<const T*>(a.new_logits) + first, rows, a.columns);
        T sum[ROWS] = {}, kl[ROWS];
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = before.piece(k);
            after.piece(k);
            for (int64_t c = 0; c < n; ++c)
                for (int64_t j = 0; j < ROWS; ++j) {
                    const int64_t i = c * ROWS + j;
                    sum[j] += weighted(before.e[i], before.x[i] - after.x[i]);
                }
        }
        for (int64_t j = 0; j < ROWS; ++j)
            kl[j] = sum[j] / before.total[j] + logarithm(after.total[j] / before.total[j]);
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.kl)[row + j] = kl[j];
    }
}

// log p of the action of each row.
template <class T>
ONCE_A_TILE void action_log_probs(T* log_prob, const softmax_tile<T>& t, const int64_t* actions) {
    T x[ROWS] = {};
    for (int64_t j = 0; j < t.rows; ++j) x[j] = t.logits[j * t.columns + actions[j]];
    for (int64_t j = 0; j < ROWS; ++j) log_prob[j] = (x[j] - t.largest[j]) - logarithm(t.total[j]);
}

template <class T>
void categorical_log_prob(const categorical_log_prob_args& a, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += ROWS) {
        softmax_tile<T> t(static_cast<const T*>(a.logits) + row * a.columns, at_most(end - row, ROWS), a.columns);
        T log_prob[ROWS];
        action_log_probs(log_prob, t, a.actions + row);
        for (int64_t j = 0; j < t.rows; ++j) static_cast<T*>(a.log_prob)[row + j] = log_prob[j];
    }
}

template <class T>
void categorical_entropy(const categorical_entropy_args& a, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += ROWS) {
        softmax_tile<T> t(static_cast<const T*>(a.logits) + row * a.columns, at_most(end - row, ROWS), a.columns);
        T entropy[ROWS];
        entropies(entropy, t);
        for (int64_t j = 0; j < t.rows; ++j) static_cast<T*>(a.entropy)[row + j] = entropy[j];
    }
}

// u[i] is the uniform number of row first + i; it has room for ROWS more than there are rows.
template <class T>
void sample_rows(const categorical_sample_args& a, const T* u, int64_t first, int64_t last) {
    typedef typename integer_like<T>::type index;
    for (int64_t row = first; row < last; row += ROWS) {
        const int64_t rows = at_most(last - row, ROWS);
        softmax_tile<T> t(static_cast<const T*>(a.logits) + row * a.columns, rows, a.columns);
        T passed[ROWS], cumulative[ROWS] = {};
        for (int64_t j = 0; j < ROWS; ++j) passed[j] = u[row - first + j] * t.total[j];
        int64_t chosen[ROWS] = {};
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = t.piece(k);
            index of_piece[ROWS] = {};
            for (int64_t c = 0; c < n; ++c)
                for (int64_t j = 0; j < ROWS; ++j) {
                    cumulative[j] += t.e[c * ROWS + j];
                    of_piece[j] += cumulative[j] <= passed[j] ? 1 : 0;
                }
            for (int64_t j = 0; j < ROWS; ++j) chosen[j] += of_piece[j];
        }
        for (int64_t j = 0; j < rows; ++j) a.actions[row + j] = t.total[j] == t.total[j] ? chosen[j] : -1;
    }
}

template <class T>
void categorical_sample(const categorical_sample_args& a, int64_t begin, int64_t end) {
    constexpr int64_t WORDS = sizeof(T) / 4;  // of a row
    for_words(a.address, 0, begin * WORDS, end * WORDS, [&](const uint32_t* words, int64_t from, int64_t to) {
        T u[WORDS_PIECE / WORDS + ROWS] = {};
        uniforms(u, words, (to - from) / WORDS);
        sample_rows(a, u, from / WORDS, to / WORDS);
    });
}

template <class T>
void categorical_policy_gradient(const categorical_policy_gradient_args& a, int64_t begin, int64_t end) {
    typedef typename integer_like<T>::type index;
    const T scale = static_cast<T>(a.scale), coef = static_cast<T>(a.entropy_coef);
    const T entropy_scale = static_cast<T>(a.entropy_scale);
    for (int64_t row = begin; row < end; row += ROWS) {
        softmax_tile<T> t(static_cast<const T*>(a.logits) + row * a.columns, at_most(end - row, ROWS), a.columns);
        const int64_t* actions = a.actions + row;
        T advantage[ROWS] = {}, loss[ROWS], weight[ROWS], entropy[ROWS], inverse[ROWS], log_total[ROWS];
        for (int64_t j = 0; j < t.rows; ++j) advantage[j] = static_cast<const T*>(a.advantages)[row + j];
        action_log_probs(loss, t, actions);
        if (a.entropy_coef != 0) entropies(entropy, t);
        for (int64_t j = 0; j < ROWS; ++j) {
            loss[j] = -(advantage[j] * loss[j]);
            if (a.entropy_coef != 0) loss[j] -= coef * entropy[j];
            weight[j] = advantage[j] * scale;
            inverse[j] = T(1) / t.total[j];
            log_total[j] = logarithm(t.total[j]);
        }
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = t.piece(k);
            index chosen[ROWS];  // in this piece, or none
            for (int64_t j = 0; j < ROWS; ++j) {
                const int64_t action = actions[j < t.rows ? j : t.rows - 1] - k;
                chosen[j] = static_cast<index>(action >= 0 && action < COLUMNS ? action : -1);
            }
            for (int64_t c = 0; c < n; ++c)
                for (int64_t j = 0; j < ROWS; ++j) {
                    const int64_t i = c * ROWS + j;
                    const T p = t.e[i] * inverse[j];
                    const T grad = weight[j] * (chosen[j] == static_cast<index>(c) ? p - T(1) : p);
                    if (a.entropy_coef != 0)
                        t.e[i] = grad + entropy_scale * weighted(p, (t.x[i] - log_total[j]) + entropy[j]);
                    else
                        t.e[i] = grad;
                }
            store_tile(static_cast<T*>(a.dlogits) + row * a.columns + k, a.columns, t.rows, n, t.e);
        }
        for (int64_t j = 0; j < t.rows; ++j) static_cast<T*>(a.losses)[row + j] = loss[j];
    }
}

}  // namespace
