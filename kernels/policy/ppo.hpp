// What the losses of PPO share: from log-probabilities and entropies to the terms of the loss and what they weigh in its
// gradient. Schulman, Wolski, Dhariwal, Radford and Klimov, "Proximal policy optimization algorithms", 2017.
#pragma once

#include "core/math.hpp"
#include "core/registers.hpp"
#include "core/tiles.hpp"
#include "policy/policy.h"

namespace {

template <class T>
FASTOPT_INLINE T clipped(T x, T low, T high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

// A block of rows after the other; each of its rows is weighed before it is added up.
template <class T>
class ppo_block {
  public:
    int64_t rows = 0;

    FASTOPT_INLINE explicit ppo_block(const ppo_args& args) : args_(args) {}

    FASTOPT_INLINE void begin(int64_t first, int64_t rows_of_block) { first_ = first, rows = rows_of_block; }

    // weight = dloss / dlog_prob with its sign turned round, for `count` rows from number `row` of the block on.
    ONCE_A_TILE void weigh(T* weight, const T* log_prob, const T* entropy, int64_t row, int64_t count) {
        const ppo_args a = args_;
        const T *advantages = in_block(a.advantages) + row, *old_log_prob = in_block(a.old_log_prob) + row;
        const T scale = static_cast<T>(a.scale), low = static_cast<T>(a.low), high = static_cast<T>(a.high);
        const T range = static_cast<T>(a.clip_range);
        T log_ratio[ROWS], ratio[ROWS], *terms = terms_ + row;
        elementwise<T>(count, [&](auto at) {
            const auto difference = at.load(log_prob) - at.load(old_log_prob);
            at.store(log_ratio, difference);
            at.store(ratio, exponential(difference));
        });
        FASTOPT_INDEPENDENT
        for (int64_t j = 0; j < count; ++j) {
            const T whole = advantages[j] * ratio[j], cut = advantages[j] * clipped(ratio[j], low, high);
            const T beyond = ratio[j] - T(1), distance = beyond < 0 ? -beyond : beyond;
            weight[j] = whole > cut ? T(0) : whole * scale;
            terms[FASTOPT_PPO_SURROGATE * ROWS + j] = whole > cut ? cut : whole;
            terms[FASTOPT_PPO_ENTROPY * ROWS + j] = entropy[j];
            terms[FASTOPT_PPO_KL * ROWS + j] = beyond - log_ratio[j];
            terms[FASTOPT_PPO_CLIPPED * ROWS + j] = distance > range ? T(1) : T(0);
        }
        values(terms + FASTOPT_PPO_SQUARED_ERROR * ROWS, row, count);
        for (int64_t j = 0; j < count && a.valid != nullptr; ++j) {
            if (a.valid[first_ + row + j] != 0) continue;
            for (int64_t c = 0; c < FASTOPT_PPO_SUMS; ++c) terms[c * ROWS + j] = 0;
            weight[j] = static_cast<T*>(a.dvalues)[first_ + row + j] = 0;
        }
    }

    // sums = those of the terms, in double, the rows in order.
    ONCE_A_TILE void add_up(double* sums) {
        T of_rows[ROWS * FASTOPT_PPO_SUMS + EIGHT];
        for (int64_t c = 0; c < EIGHT; ++c) of_rows[rows * FASTOPT_PPO_SUMS + c] = 0;
        store_tile(of_rows, FASTOPT_PPO_SUMS, rows, FASTOPT_PPO_SUMS, terms_);
        for (int64_t c = 0; c < FASTOPT_PPO_SUMS; ++c) sums[c] = 0;
        sum_columns(sums, of_rows, rows, FASTOPT_PPO_SUMS);
    }

  private:
    FASTOPT_INLINE const T* in_block(const void* x) const { return static_cast<const T*>(x) + first_; }

    FASTOPT_INLINE void values(T* squared_error, int64_t row, int64_t count) {
        const T *values = in_block(args_.values) + row, *returns = in_block(args_.returns) + row;
        const T *old_values = static_cast<const T*>(args_.old_values), range = static_cast<T>(args_.clip_range_vf);
        const T scale = static_cast<T>(args_.value_scale);
        T* dvalues = static_cast<T*>(args_.dvalues) + first_ + row;
        if (args_.old_values == nullptr) {
            FASTOPT_INDEPENDENT
            for (int64_t j = 0; j < count; ++j) {
                const T error = values[j] - returns[j];
                squared_error[j] = error * error;
                dvalues[j] = error * scale;
            }
        } else {
            old_values += first_ + row;
            FASTOPT_INDEPENDENT
            for (int64_t j = 0; j < count; ++j) {
                const T moved = values[j] - old_values[j], allowed = clipped(moved, -range, range);
                const T error = (old_values[j] + allowed) - returns[j];
                squared_error[j] = error * error;
                dvalues[j] = (moved < -range) | (moved > range) ? T(0) : error * scale;
            }
        }
    }

    const ppo_args& args_;
    int64_t first_ = 0;
    alignas(64) T terms_[FASTOPT_PPO_SUMS * ROWS];  // column c of row j at [c * ROWS + j]
};

}  // namespace
