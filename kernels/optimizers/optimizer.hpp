// What the optimisers share: the loop over a parameter, its gradient and its states. A rule (adam.hpp, sgd.hpp, rmsprop.hpp)
// says how one element moves; the states are plain arrays here, or codes of fewer bits (small_states.hpp).
#pragma once

#include "core/kernel.hpp"
#include "optimizers/optimizers.h"

namespace {

template <class T>
constexpr T SMALLEST_NORMAL = sizeof(T) == 4 ? static_cast<T>(__FLT_MIN__) : static_cast<T>(__DBL_MIN__);

template <class T>
FASTOPT_INLINE T magnitude_of(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_fabsf(x);
    else return __builtin_fabs(x);
}

// Lets numbers through where another one is not 0, and gives +0.0 instead of them where it is.
template <class T>
struct gate {
    typedef typename integer_like<T>::type bits;
    bits mask;

    FASTOPT_INLINE explicit gate(T x) : mask(x != 0 ? bits(-1) : bits(0)) {}
    FASTOPT_INLINE T operator()(T x) const { return bit_copy<T>(static_cast<bits>(bit_copy<bits>(x) & mask)); }
};

// A state that has decayed below the smallest normal number is stored as 0: arithmetic on subnormal numbers costs
// 10-50 times as much, and a parameter that has been idle for long must not slow the step. NaN stays. (With the
// magnitude it is one comparison; with two, an Adam step in cache takes 0.36 ns instead of 0.29.)
template <class T>
FASTOPT_INLINE T flush_subnormal(T x) {
    return magnitude_of(x) < SMALLEST_NORMAL<T> ? T(0) : x;
}

// An average of squares, which stands in a denominator, is 0 only where it is 0; else at least twice the smallest normal
// number, so that what b2 >= 1/2 leaves of it is a normal number too, at every step of an idle parameter.
template <class T>
constexpr T LEAST_SQUARE = 2 * SMALLEST_NORMAL<T>;

template <class T>
FASTOPT_INLINE T raise_square(T x, T smallest) {
    const T least = gate<T>(x)(smallest);
    return x < least ? least : x;  // NaN stays
}

// Which of its three states a rule reads and writes (STATES), and which have a sign (SIGNED); the others are averages of
// squares. In fewer bits the first alone may have one.
constexpr int FIRST = 1, SECOND = 2, THIRD = 4;

template <int STATES, int K>
constexpr bool AMONG = (STATES >> K & 1) != 0;

// A state as it is stored, in its own type or in fewer bits of a float.
template <bool SIGNED, class Stored, class T>
FASTOPT_INLINE Stored stored(T x) {
    if constexpr (SIGNED) return flush_subnormal(static_cast<Stored>(x));
    else return static_cast<Stored>(raise_square(x, static_cast<T>(LEAST_SQUARE<Stored>)));
}

template <class T>
struct plain_states {
    typedef int64_t index;
    static constexpr int64_t BLOCK = INT64_MAX;
    T *whole[3], *array[3];

    explicit plain_states(const optimizer_args& a)
        : whole{static_cast<T*>(a.step.states[0]), static_cast<T*>(a.step.states[1]), static_cast<T*>(a.step.states[2])} {}
    template <int STATES>
    FASTOPT_INLINE void begin(int64_t first, index) {
        for (int k = 0; k < 3; ++k)
            if (STATES >> k & 1) array[k] = whole[k] + first;
    }
    template <int K>
    FASTOPT_INLINE T load(index i) const { return array[K][i]; }
    template <int K, bool SIGNED>
    FASTOPT_INLINE void store(index i, T x) { array[K][i] = stored<SIGNED, T>(x); }
    template <int STATES>
    FASTOPT_INLINE void finish(int64_t, index) {}
};

template <class States>
constexpr bool ONCE_A_RANGE = States::BLOCK == INT64_MAX;

// Small states are decoded, stepped and encoded block by block, and the memory idles meanwhile: with AVX-512, where a block
// takes as long as its memory, blocks are asked for two ahead. (Without, arithmetic is the limit, and asking costs 5 %.)
#if defined(__AVX512F__)
constexpr bool PREFETCHES = true;
#else
constexpr bool PREFETCHES = false;
#endif

template <class T>
FASTOPT_INLINE void prefetch(const T* x, int64_t n) {
    for (int64_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(x + i, 1);
}

// How an average moves towards a value: counted from the one that has the larger share (fastopt_average_rate).
template <class T>
struct averaging {
    T rate;
    T from_value;  // 1 or 0: a bool is no operand of a vectorised loop
    gate<T> moves;

    explicit averaging(double rate_)
        : rate(static_cast<T>(rate_)), from_value(__builtin_signbit(rate_) ? T(1) : T(0)), moves(rate) {}
    FASTOPT_INLINE T operator()(T average, T value) const {
        const T from = from_value != 0 ? value : average;
        return from - moves(-rate * (value - average));  // a difference: that of -0.0 and +0.0 is -0.0
    }
};

template <class T>
FASTOPT_INLINE void move_averages(T* average, const T* value, averaging<T> moved, int64_t n) {
    FASTOPT_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) average[i] = moved(average[i], value[i]);
}

template <class T, class Rule, class States, bool EMA, bool ZERO>
void step_loop(const optimizer_args& a, int64_t begin, int64_t end) {
    const averaging<T> moved(a.step.ema_rate);
    const Rule rule(a.step.scalars);
    States states(a);
    for (int64_t first = begin; first < end; first += States::BLOCK < end - first ? States::BLOCK : end - first) {
        typedef typename States::index index;
        const index n = static_cast<index>(States::BLOCK < end - first ? States::BLOCK : end - first);
        T* param = static_cast<T*>(a.step.param) + first;
        T* grad = static_cast<T*>(a.step.grad) + first;
        T* ema = EMA ? static_cast<T*>(a.step.ema) + first : nullptr;
        if constexpr (!ONCE_A_RANGE<States>) {
            if (constexpr int64_t AHEAD = 2 * States::BLOCK; PREFETCHES && end - first >= AHEAD + States::BLOCK) {
                prefetch(param + AHEAD, States::BLOCK);
                prefetch(grad + AHEAD, States::BLOCK);
                states.template prefetch_states<Rule::STATES>(first + AHEAD);
            }
        }
        states.template begin<Rule::STATES>(first, n);
        FASTOPT_INDEPENDENT
        for (index i = 0; i < n; ++i) {
            T s0 = 0, s1 = 0, s2 = 0;
            if constexpr (AMONG<Rule::STATES, 0>) s0 = states.template load<0>(i);
            if constexpr (AMONG<Rule::STATES, 1>) s1 = states.template load<1>(i);
            if constexpr (AMONG<Rule::STATES, 2>) s2 = states.template load<2>(i);
            const T p = rule(param[i], grad[i], s0, s1, s2);
            param[i] = p;
            if constexpr (AMONG<Rule::STATES, 0>) states.template store<0, AMONG<Rule::SIGNED, 0>>(i, s0);
            if constexpr (AMONG<Rule::STATES, 1>) states.template store<1, AMONG<Rule::SIGNED, 1>>(i, s1);
            if constexpr (AMONG<Rule::STATES, 2>) states.template store<2, AMONG<Rule::SIGNED, 2>>(i, s2);
            if constexpr (EMA) ema[i] = moved(ema[i], p);
            if constexpr (ZERO) grad[i] = 0;
        }
        states.template finish<Rule::STATES>(first, n);
        if constexpr (!ONCE_A_RANGE<States>) {
            if (a.step.ema != nullptr) move_averages(static_cast<T*>(a.step.ema) + first, param, moved, n);
            if (a.step.zero_grad) __builtin_memset(grad, 0, static_cast<size_t>(n) * sizeof(T));
        }
    }
}

// What adds traffic is chosen here, once a range; what only adds arithmetic is a select inside the loop. Where states are
// decoded block by block it is done after each block instead, whose elements are still in L1: four loops in one, half of
// the optimisers' code.
template <class T, class Rule, class States>
void step(const optimizer_args& a, int64_t begin, int64_t end) {
    if constexpr (!ONCE_A_RANGE<States>) return step_loop<T, Rule, States, false, false>(a, begin, end);
    switch ((a.step.ema != nullptr) * 2 + (a.step.zero_grad != 0)) {
        case 0: return step_loop<T, Rule, States, false, false>(a, begin, end);
        case 1: return step_loop<T, Rule, States, false, true>(a, begin, end);
        case 2: return step_loop<T, Rule, States, true, false>(a, begin, end);
        case 3: return step_loop<T, Rule, States, true, true>(a, begin, end);
    }
}

// Single rows are far apart in memory: the rows that come some iterations later are asked for in advance (1,000 rows of 64
// in a table out of cache: 0.11 us a row instead of 0.2).
template <class T, class Rule>
void step_rows(const optimizer_rows_args& a, int64_t begin, int64_t end) {
    constexpr int64_t AHEAD = 8, LINE = 64 / sizeof(T);
    constexpr int PREFETCHED = Rule::STATES << 1 | 1;  // the parameter too
    const Rule rule(a.step.scalars);
    T* const arrays[3] = {static_cast<T*>(a.step.param), static_cast<T*>(a.step.states[0]),
                          static_cast<T*>(a.step.states[1])};
    for (int64_t k = begin; k < end; ++k) {
        if (k + AHEAD < end) {
            for (int array = 0; array < 3; ++array)
                if (PREFETCHED >> array & 1)
                    for (int64_t j = 0; j < a.width; j += LINE)
                        __builtin_prefetch(arrays[array] + a.rows[k + AHEAD] * a.width + j, 1);
        }
        const int64_t first = a.rows[k] * a.width;
        const T* grad = static_cast<const T*>(a.step.grad) + k * a.width;
        T *param = arrays[0] + first, *state0 = arrays[1] + first, *state1 = arrays[2] + first;
        FASTOPT_INDEPENDENT
        for (int64_t i = 0; i < a.width; ++i) {
            T s0 = 0, s1 = 0, s2 = 0;
            if constexpr (AMONG<Rule::STATES, 0>) s0 = state0[i];
            if constexpr (AMONG<Rule::STATES, 1>) s1 = state1[i];
            param[i] = rule(param[i], grad[i], s0, s1, s2);
            if constexpr (AMONG<Rule::STATES, 0>) state0[i] = stored<AMONG<Rule::SIGNED, 0>, T>(s0);
            if constexpr (AMONG<Rule::STATES, 1>) state1[i] = stored<AMONG<Rule::SIGNED, 1>, T>(s1);
        }
    }
}

}  // namespace
