// Policies over few actions: categorical ones given by logits, diagonal Gaussian ones by mean and log_std.
//
// Rows are short, so they are worked on side by side, ROWS at once: a tile holds column k of its rows together, at
// [k * ROWS], and every operation is on whole registers however short the rows are. Rows of more than COLUMNS go through
// the tile in pieces, once for each pass. Sums along a row are taken column by column.

constexpr int64_t ROWS = 64, COLUMNS = 32, TILE = ROWS * COLUMNS;

// For what a kernel does once a tile: compiled once and not in every kernel, which took three times as long.
#define ONCE_A_TILE __attribute__((noinline))

inline int64_t at_most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

// Four rows of four columns to four columns of four rows, in registers (a tile of 18 columns takes 0.1 ns an element
// instead of 0.45 by single elements).
template <class T>
struct four_of;
template <>
struct four_of<float> {
    typedef float type __attribute__((vector_size(16), aligned(4), may_alias));
    typedef int32_t index __attribute__((vector_size(16)));
};
template <>
struct four_of<double> {
    typedef double type __attribute__((vector_size(32), aligned(8), may_alias));
    typedef int64_t index __attribute__((vector_size(32)));
};
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, index{__VA_ARGS__})
#endif

template <class T>
FASTOPT_INLINE void transpose_four(T* to, int64_t to_stride, const T* from, int64_t from_stride) {
    typedef typename four_of<T>::type four;
    typedef typename four_of<T>::index index [[maybe_unused]];
    const four r0 = *reinterpret_cast<const four*>(from), r1 = *reinterpret_cast<const four*>(from + from_stride);
    const four r2 = *reinterpret_cast<const four*>(from + 2 * from_stride);
    const four r3 = *reinterpret_cast<const four*>(from + 3 * from_stride);
    const four low02 = SHUFFLE(r0, r2, 0, 4, 1, 5), high02 = SHUFFLE(r0, r2, 2, 6, 3, 7);
    const four low13 = SHUFFLE(r1, r3, 0, 4, 1, 5), high13 = SHUFFLE(r1, r3, 2, 6, 3, 7);
    *reinterpret_cast<four*>(to) = SHUFFLE(low02, low13, 0, 4, 1, 5);
    *reinterpret_cast<four*>(to + to_stride) = SHUFFLE(low02, low13, 2, 6, 3, 7);
    *reinterpret_cast<four*>(to + 2 * to_stride) = SHUFFLE(high02, high13, 0, 4, 1, 5);
    *reinterpret_cast<four*>(to + 3 * to_stride) = SHUFFLE(high02, high13, 2, 6, 3, 7);
}

// Whole tiles of a number of columns that is known here are vectorised.
template <class T, int COUNT>
FASTOPT_INLINE void load_few(T* tile, const T* from) {
    for (int k = 0; k < COUNT; ++k)
        for (int64_t j = 0; j < ROWS; ++j) tile[k * ROWS + j] = from[j * COUNT + k];
}
template <class T, int COUNT>
FASTOPT_INLINE void store_few(T* to, const T* tile) {
    for (int64_t j = 0; j < ROWS; ++j)
        for (int k = 0; k < COUNT; ++k) to[j * COUNT + k] = tile[k * ROWS + j];
}

// Columns [0, columns) of `rows` <= ROWS rows, `stride` apart. The last row fills the tile up.
template <class T>
ONCE_A_TILE void load_tile(T* tile, const T* from, int64_t stride, int64_t rows, int64_t columns) {
    if (rows == ROWS && columns >= 4) {
        for (int64_t k = 0; k < columns; k += 4) {
            const int64_t at = at_most(k, columns - 4);  // the last four may overlap those before
            for (int64_t j = 0; j < ROWS; j += 4) transpose_four(tile + at * ROWS + j, ROWS, from + j * stride + at, stride);
        }
    } else if (rows == ROWS && stride == columns) {
        if (columns == 1) load_few<T, 1>(tile, from);
        else if (columns == 2) load_few<T, 2>(tile, from);
        else load_few<T, 3>(tile, from);
    } else {
        for (int64_t j = 0; j < ROWS; ++j)
            for (int64_t k = 0; k < columns; ++k) tile[k * ROWS + j] = from[at_most(j, rows - 1) * stride + k];
    }
}

template <class T>
ONCE_A_TILE void store_tile(T* to, int64_t stride, int64_t rows, int64_t columns, const T* tile) {
    if (rows == ROWS && columns >= 4) {
        for (int64_t j = 0; j < ROWS; j += 4)
            for (int64_t k = 0; k < columns; k += 4) {
                const int64_t at = at_most(k, columns - 4);
                transpose_four(to + j * stride + at, stride, tile + at * ROWS + j, ROWS);
            }
    } else if (rows == ROWS && stride == columns) {
        if (columns == 1) store_few<T, 1>(to, tile);
        else if (columns == 2) store_few<T, 2>(to, tile);
        else store_few<T, 3>(to, tile);
    } else {
        for (int64_t j = 0; j < rows; ++j)
            for (int64_t k = 0; k < columns; ++k) to[j * stride + k] = tile[k * ROWS + j];
    }
}

// sums[j] += of row j
template <class T>
ONCE_A_TILE void add_columns(T* sums, const T* tile, int64_t columns) {
    for (int64_t k = 0; k < columns; ++k)
        for (int64_t j = 0; j < ROWS; ++j) sums[j] += tile[k * ROWS + j];
}

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
        if (columns <= COLUMNS) exponentials(columns);
        for (int64_t k = 0; k < columns; k += COLUMNS) add_columns(total, e, piece(k));
    }

    // Makes x and e hold the columns from k on; returns how many.
    ONCE_A_TILE int64_t piece(int64_t k) {
        const int64_t n = at_most(columns - k, COLUMNS);
        if (columns > COLUMNS) {
            load_tile(x, logits + k, columns, rows, n);
            exponentials(n);
        }
        return n;
    }

  private:
    ONCE_A_TILE void exponentials(int64_t n) {
        for (int64_t c = 0; c < n; ++c)
            for (int64_t j = 0; j < ROWS; ++j) x[c * ROWS + j] -= largest[j];
        for (int64_t i = 0; i < n * ROWS; ++i) e[i] = exponential(x[i]);
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

// As wide as T, so that a comparison selects.
template <class T>
struct index_of;
template <>
struct index_of<float> {
    typedef int32_t type;
};
template <>
struct index_of<double> {
    typedef int64_t type;
};

// u[i] is the uniform number of row first + i; it has room for ROWS more than there are rows.
template <class T>
void sample_rows(const categorical_sample_args& a, const T* u, int64_t first, int64_t last) {
    typedef typename index_of<T>::type index;
    for (int64_t row = first; row < last; row += ROWS) {
        softmax_tile<T> t(static_cast<const T*>(a.logits) + row * a.columns, at_most(last - row, ROWS), a.columns);
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
        for (int64_t j = 0; j < t.rows; ++j) a.actions[row + j] = t.total[j] == t.total[j] ? chosen[j] : -1;
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
    typedef typename index_of<T>::type index;
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

// ---- Gaussian policies ---------------------------------------------------------------------------------------------

// Whether a tile of log_std, and what is made of it, has to be made again: not where one row of it is for all and fits.
inline bool stale(bool first_tile, int64_t stride, int64_t columns) {
    return first_tile || stride != 0 || columns > COLUMNS;
}

template <class T>
void gaussian_kl(const gaussian_kl_args& a, int64_t begin, int64_t end) {
    const T *old_mean = static_cast<const T*>(a.old_mean), *old_log_std = static_cast<const T*>(a.old_log_std);
    const T *new_mean = static_cast<const T*>(a.new_mean), *new_log_std = static_cast<const T*>(a.new_log_std);
    alignas(64) T before[TILE], after[TILE], inverse[TILE], of_spread[TILE];
    for (int64_t row = begin; row < end; row += ROWS) {
        const int64_t rows = at_most(end - row, ROWS);
        T kl[ROWS] = {};
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = at_most(a.columns - k, COLUMNS), at = row * a.columns + k;
            if (stale(row == begin, a.old_stride | a.new_stride, a.columns)) {
                load_tile(before, old_log_std + row * a.old_stride + k, a.old_stride, rows, n);
                load_tile(after, new_log_std + row * a.new_stride + k, a.new_stride, rows, n);
                for (int64_t i = 0; i < n * ROWS; ++i) {
                    const T d = before[i] - after[i];
                    of_spread[i] = (exponential(d + d) - T(1)) - (d + d);
                    inverse[i] = exponential(-after[i]);
                }
            }
            load_tile(before, old_mean + at, a.columns, rows, n);
            load_tile(after, new_mean + at, a.columns, rows, n);
            for (int64_t i = 0; i < n * ROWS; ++i) {
                const T t = (before[i] - after[i]) * inverse[i];
                before[i] = T(0.5) * (of_spread[i] + t * t);
            }
            add_columns(kl, before, n);
        }
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.kl)[row + j] = kl[j];
    }
}

template <class T>
void gaussian_log_prob(const gaussian_log_prob_args& a, int64_t begin, int64_t end) {
    const T *mean = static_cast<const T*>(a.mean), *actions = static_cast<const T*>(a.actions);
    const T* log_std = static_cast<const T*>(a.log_std);
    const T constant = static_cast<T>(a.constant);
    alignas(64) T x[TILE], y[TILE], spread[TILE], inverse[TILE];
    for (int64_t row = begin; row < end; row += ROWS) {
        const int64_t rows = at_most(end - row, ROWS);
        T sum[ROWS] = {};
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = at_most(a.columns - k, COLUMNS), at = row * a.columns + k;
            if (stale(row == begin, a.stride, a.columns)) {
                load_tile(spread, log_std + row * a.stride + k, a.stride, rows, n);
                for (int64_t i = 0; i < n * ROWS; ++i) inverse[i] = exponential(-spread[i]);
            }
            load_tile(x, mean + at, a.columns, rows, n);
            load_tile(y, actions + at, a.columns, rows, n);
            for (int64_t i = 0; i < n * ROWS; ++i) {
                const T t = (y[i] - x[i]) * inverse[i];
                x[i] = T(0.5) * (t * t) + spread[i];
            }
            add_columns(sum, x, n);
        }
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.log_prob)[row + j] = -sum[j] - constant;
    }
}

template <class T>
void gaussian_entropy(const gaussian_entropy_args& a, int64_t begin, int64_t end) {
    const T* log_std = static_cast<const T*>(a.log_std);
    alignas(64) T x[TILE];
    for (int64_t row = begin; row < end; row += ROWS) {
        const int64_t rows = at_most(end - row, ROWS);
        T sum[ROWS] = {};
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = at_most(a.columns - k, COLUMNS);
            load_tile(x, log_std + row * a.columns + k, a.columns, rows, n);
            add_columns(sum, x, n);
        }
        for (int64_t j = 0; j < rows; ++j) static_cast<T*>(a.entropy)[row + j] = sum[j] + static_cast<T>(a.constant);
    }
}

template <class T>
void gaussian_sample(const gaussian_sample_args& a, int64_t begin, int64_t end) {
    const T *mean = static_cast<const T*>(a.mean), *log_std = static_cast<const T*>(a.log_std);
    T* actions = static_cast<T*>(a.actions);
    constexpr int64_t PIECE = 512;
    alignas(64) T z[PIECE], spread[PIECE];
    for (int64_t i = begin; i < end; i += PIECE) {
        const int64_t n = at_most(end - i, PIECE);
        random_normal<T>({z, a.address, static_cast<uint64_t>(i)}, 0, n);
        int64_t column = i % a.columns;
        for (int64_t k = 0; k < n && a.stride == 0; ++k) {
            spread[k] = log_std[column];
            if (++column == a.columns) column = 0;
        }
        const T* of_element = a.stride == 0 ? spread : log_std + i;
        FASTOPT_INDEPENDENT
        for (int64_t k = 0; k < n; ++k) actions[i + k] = mean[i + k] + exponential(of_element[k]) * z[k];
    }
}

// sums[c] = of the rows of column c, in order; four columns at once, since each addition waits for the one before.
template <class T>
ONCE_A_TILE void sum_columns(double* sums, const T* tile, int64_t rows, int64_t columns) {
    static_assert(ROWS == FASTOPT_ROW_BLOCK, "a tile is a block of the sum");
    double total[4];
    for (int64_t c = 0; c < columns; c += 4) {
        const int64_t first = columns < 4 ? 0 : at_most(c, columns - 4), n = at_most(columns, 4);
        const T *x0 = tile + first * ROWS, *x1 = x0 + (n > 1 ? ROWS : 0), *x2 = x0 + (n > 2 ? 2 * ROWS : 0),
                *x3 = x0 + (n > 3 ? 3 * ROWS : 0);
        for (double& sum : total) sum = 0;
        for (int64_t j = 0; j < rows; ++j) {
            total[0] += static_cast<double>(x0[j]);
            total[1] += static_cast<double>(x1[j]);
            total[2] += static_cast<double>(x2[j]);
            total[3] += static_cast<double>(x3[j]);
        }
        for (int64_t q = 0; q < n; ++q) sums[first + q] = total[q];
    }
}

template <class T>
void gaussian_policy_gradient(const gaussian_policy_gradient_args& a, int64_t begin, int64_t end) {
    const T *mean = static_cast<const T*>(a.mean), *actions = static_cast<const T*>(a.actions);
    const T *log_std = static_cast<const T*>(a.log_std), *advantages = static_cast<const T*>(a.advantages);
    const T scale = static_cast<T>(a.scale), coef = static_cast<T>(a.entropy_coef);
    const T entropy_scale = static_cast<T>(a.entropy_scale), entropy_constant = static_cast<T>(a.entropy_constant);
    const T log_prob_constant = static_cast<T>(a.log_prob_constant);
    alignas(64) T x[TILE], t[TILE], spread[TILE], inverse[TILE];
    const int64_t first = begin * FASTOPT_ROW_BLOCK, last = at_most(end * FASTOPT_ROW_BLOCK, a.rows);
    for (int64_t row = first; row < last; row += ROWS) {
        const int64_t rows = at_most(last - row, ROWS);
        T weight[ROWS] = {}, sum[ROWS] = {}, entropy[ROWS] = {};
        for (int64_t j = 0; j < rows; ++j) weight[j] = advantages[row + j] * scale;
        for (int64_t k = 0; k < a.columns; k += COLUMNS) {
            const int64_t n = at_most(a.columns - k, COLUMNS), at = row * a.columns + k;
            if (stale(row == first, a.stride, a.columns)) {
                load_tile(spread, log_std + row * a.stride + k, a.stride, rows, n);
                for (int64_t i = 0; i < n * ROWS; ++i) inverse[i] = exponential(-spread[i]);
            }
            load_tile(x, mean + at, a.columns, rows, n);
            load_tile(t, actions + at, a.columns, rows, n);
            for (int64_t i = 0; i < n * ROWS; ++i) {
                t[i] = (t[i] - x[i]) * inverse[i];
                x[i] = T(0.5) * (t[i] * t[i]) + spread[i];
            }
            add_columns(sum, x, n);
            add_columns(entropy, spread, n);
            for (int64_t c = 0; c < n; ++c)
                for (int64_t j = 0; j < ROWS; ++j) {
                    const int64_t i = c * ROWS + j;
                    x[i] = -(weight[j] * (t[i] * inverse[i]));
                    t[i] = weight[j] * (T(1) - t[i] * t[i]);
                }
            store_tile(static_cast<T*>(a.dmean) + at, a.columns, rows, n, x);
            if (a.entropy_coef != 0)
                for (int64_t i = 0; i < n * ROWS; ++i) t[i] -= entropy_scale;
            if (a.dlog_std != nullptr) store_tile(static_cast<T*>(a.dlog_std) + at, a.columns, rows, n, t);
            else sum_columns(a.column_sums + row / FASTOPT_ROW_BLOCK * a.columns + k, t, rows, n);
        }
        T* losses = static_cast<T*>(a.losses);
        for (int64_t j = 0; j < rows; ++j) {
            T loss = -(advantages[row + j] * (-sum[j] - log_prob_constant));
            if (a.entropy_coef != 0) loss -= coef * (entropy[j] + entropy_constant);
            losses[row + j] = loss;
        }
    }
}
