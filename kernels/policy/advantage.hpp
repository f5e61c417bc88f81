// Returns and advantages. Generalised advantage estimation: Schulman, Moritz, Levine, Jordan and Abbeel, "High-dimensional
// continuous control using generalized advantage estimation", 2016.
//
// Time runs backwards and each step needs the one after it, so environments are worked on side by side: WIDTH columns of
// the (time, environments) arrays at once, whose last results stay in registers.
#pragma once

#include "core/math.hpp"
#include "core/registers.hpp"
#include "policy/policy.h"

namespace {

template <class Args, template <class, int> class Columns, class T, int WIDTH>
inline int64_t side_by_side(const Args& a, int64_t first, int64_t end) {
    for (; first + WIDTH <= end; first += WIDTH) Columns<T, WIDTH>::run(a, first);
    return first;
}

// The widths together do any range: those of 1 to 8 are for few environments, 64 for whole lines of many.
template <class Args, template <class, int> class Columns, class T>
inline void all_widths(const Args& a, int64_t begin, int64_t end) {
    begin = side_by_side<Args, Columns, T, 64>(a, begin, end);
    begin = side_by_side<Args, Columns, T, 16>(a, begin, end);
    begin = side_by_side<Args, Columns, T, 8>(a, begin, end);
    begin = side_by_side<Args, Columns, T, 4>(a, begin, end);
    side_by_side<Args, Columns, T, 1>(a, begin, end);
}

template <class T, int WIDTH>
struct gae_columns {
    static void run(const gae_args& a, int64_t first) {
        typedef typename integer_like<T>::type flag;
        const T *rewards = static_cast<const T*>(a.rewards), *values = static_cast<const T*>(a.values);
        const T* next_values = static_cast<const T*>(a.next_values);
        T *advantages = static_cast<T*>(a.advantages), *returns = static_cast<T*>(a.returns);
        const T gamma = static_cast<T>(a.gamma), gamma_lam = static_cast<T>(a.gamma_lam);
        const uint8_t *terminated = a.terminated, *truncated = a.truncated, *valid = a.valid;
        T following[WIDTH] = {};
        for (int64_t t = a.time - 1; t >= 0; --t) {
            const int64_t at = t * a.environments + first;
            FASTOPT_INDEPENDENT
            for (int j = 0; j < WIDTH; ++j) {
                const flag over = terminated[at + j], cut = truncated[at + j];
                const T reward = rewards[at + j], value = values[at + j];
                const T with_next = reward + gamma * next_values[at + j];
                const T delta = (over != 0 ? reward : with_next) - value;
                const T with_following = delta + gamma_lam * following[j];
                following[j] = (over | cut) != 0 ? delta : with_following;
                advantages[at + j] = following[j];
                returns[at + j] = following[j] + value;
            }
            for (int j = 0; j < WIDTH && valid != nullptr; ++j)
                if (valid[at + j] == 0) following[j] = advantages[at + j] = returns[at + j] = 0;
        }
    }
};

template <class T>
void gae(const gae_args& a, int64_t begin, int64_t end) {
    all_widths<gae_args, gae_columns, T>(a, begin, end);
}

// V-trace: Espeholt, Soyer, Munos, Simonyan, Mnih, Ward, Doron, Firoiu, Harley, Dunning, Legg and Kavukcuoglu, "IMPALA:
// scalable distributed deep-RL with importance weighted actor-learner architectures", 2018.
template <class T, int WIDTH>
struct vtrace_columns {
    static void run(const vtrace_args& a, int64_t first) {
        typedef typename integer_like<T>::type flag;
        const T *rewards = static_cast<const T*>(a.rewards), *values = static_cast<const T*>(a.values);
        const T *next_values = static_cast<const T*>(a.next_values), *log_ratios = static_cast<const T*>(a.log_ratios);
        T *targets = static_cast<T*>(a.targets), *advantages = static_cast<T*>(a.advantages);
        const T gamma = static_cast<T>(a.gamma), gamma_lam = static_cast<T>(a.gamma_lam);
        const T rho_clip = static_cast<T>(a.rho_clip), c_clip = static_cast<T>(a.c_clip);
        const uint8_t *terminated = a.terminated, *truncated = a.truncated;
        T following[WIDTH] = {}, ratio[WIDTH];  // what is corrected of the next step's value
        for (int64_t t = a.time - 1; t >= 0; --t) {
            const int64_t at = t * a.environments + first;
            elementwise<T>(WIDTH, [&](auto j) { j.store(ratio, exponential(j.load(log_ratios + at))); });
            FASTOPT_INDEPENDENT
            for (int j = 0; j < WIDTH; ++j) {
                const flag over = terminated[at + j], cut = truncated[at + j];
                const T reward = rewards[at + j], value = values[at + j], next_value = next_values[at + j];
                const T rho = ratio[j] > rho_clip ? rho_clip : ratio[j], c = ratio[j] > c_clip ? c_clip : ratio[j];
                const T after = cut != 0 ? T(0) : following[j];
                const T with_next = reward + gamma * next_value, with_target = reward + gamma * (next_value + after);
                const T delta = rho * ((over != 0 ? reward : with_next) - value);
                const T with_following = delta + (gamma_lam * c) * after;
                following[j] = over != 0 ? delta : with_following;
                advantages[at + j] = rho * ((over != 0 ? reward : with_target) - value);
                targets[at + j] = value + following[j];
            }
        }
    }
};

template <class T>
void vtrace(const vtrace_args& a, int64_t begin, int64_t end) {
    all_widths<vtrace_args, vtrace_columns, T>(a, begin, end);
}

template <class T, int WIDTH>
struct returns_columns {
    static void run(const discounted_returns_args& a, int64_t first) {
        if (a.next_values != nullptr) backwards<true>(a, first);
        else backwards<false>(a, first);
    }

    // Without next_values an episode that was cut ends like one that is over, and so does the last step. (A choice of two
    // pointers in the loop instead is not vectorised for the baseline.)
    template <bool VALUED>
    static FASTOPT_INLINE void backwards(const discounted_returns_args& a, int64_t first) {
        typedef typename integer_like<T>::type flag;
        const T *rewards = static_cast<const T*>(a.rewards), *next_values = static_cast<const T*>(a.next_values);
        const uint8_t *terminated = a.terminated, *truncated = a.truncated;
        T* returns = static_cast<T*>(a.returns);
        const T gamma = static_cast<T>(a.gamma);
        T following[WIDTH] = {};
        if (VALUED && a.time > 0)
            __builtin_memcpy(following, next_values + (a.time - 1) * a.environments + first, sizeof following);
        flag last = VALUED ? 0 : 1;
        for (int64_t t = a.time - 1; t >= 0; --t, last = 0) {
            const int64_t at = t * a.environments + first;
            FASTOPT_INDEPENDENT
            for (int j = 0; j < WIDTH; ++j) {
                const flag over = terminated[at + j], cut = truncated[at + j];
                const T reward = rewards[at + j];
                const T next = VALUED ? next_values[at + j] : following[j];
                const T with_next = reward + gamma * (cut != 0 ? next : following[j]);
                following[j] = (VALUED ? over : over | cut | last) != 0 ? reward : with_next;
                returns[at + j] = following[j];
            }
        }
    }
};

template <class T>
void discounted_returns(const discounted_returns_args& a, int64_t begin, int64_t end) {
    all_widths<discounted_returns_args, returns_columns, T>(a, begin, end);
}

template <class T>
void standardize(const standardize_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x) + begin;
    T* y = static_cast<T*>(a.y) + begin;
    const double mean = a.mean, rest = a.rest, scale = a.scale;
    elementwise<double>(end - begin, [=](auto at) { at.store(y, ((at.load(x) - mean) - rest) * scale); });
}

}  // namespace
