// Adam, algorithm 1 of Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015 (arXiv:1412.6980), with
// the bias corrections moved into two scalars; decoupled weight decay after Loshchilov and Hutter, ICLR 2019
// (arXiv:1711.05101); AMSGrad after Reddi, Kale and Kumar, ICLR 2018. One square root and one division per element; 28
// bytes moved per float32 parameter, 8 more for AMSGrad, 8 for the average of weights, 4 for zeroing the gradient.
#pragma once

#include "optimizers/optimizers.h"
#include "optimizers/small_states.hpp"

namespace {

// USUAL: no scalar skips a term but weight decay, and b1 >= 1/2. It takes 28 instructions for 8 elements instead of 35:
// GCC makes a loop of its own without weight decay, as it does not where there is more to choose.
template <class T, bool AMSGRAD, bool USUAL>
struct adam_rule {
    static constexpr int STATES = FIRST | SECOND | (AMSGRAD ? THIRD : 0), SIGNED = FIRST;
    T grad_scale, decay, weight_decay, beta2, one_minus_beta2, lr, eps;
    averaging<T> first_average;
    gate<T> decays, steps;

    explicit adam_rule(const void* scalars)
        : first_average(static_cast<const adam_scalars*>(scalars)->rate),
          decays(static_cast<T>(static_cast<const adam_scalars*>(scalars)->beta2)),
          steps(static_cast<T>(static_cast<const adam_scalars*>(scalars)->lr)) {
        const adam_scalars& s = *static_cast<const adam_scalars*>(scalars);
        grad_scale = static_cast<T>(s.grad_scale), decay = static_cast<T>(s.decay);
        weight_decay = static_cast<T>(s.weight_decay);
        beta2 = static_cast<T>(s.beta2), one_minus_beta2 = static_cast<T>(s.one_minus_beta2);
        lr = static_cast<T>(s.lr), eps = static_cast<T>(s.eps);
    }

    FASTOPT_INLINE T operator()(T p, T grad, T& exp_avg, T& exp_avg_sq, T& max_exp_avg_sq) const {
        p = p * decay;
        T g = grad * grad_scale;
        g = weight_decay != 0 ? g + weight_decay * p : g;
        exp_avg = USUAL ? exp_avg + first_average.rate * (g - exp_avg) : first_average(exp_avg, g);
        const T gg = one_minus_beta2 * (g * g);
        const T decayed = beta2 * exp_avg_sq;
        exp_avg_sq = (USUAL ? decayed : decays(decayed)) + gg;
        T v = exp_avg_sq;
        if constexpr (AMSGRAD) {
            const T largest = max_exp_avg_sq;
            v = largest > v || largest != largest ? largest : v;
            max_exp_avg_sq = v;
        }
        const T update = lr * (exp_avg / (square_root(v) + eps));
        return p - (USUAL ? update : steps(update));
    }

    static bool usual(const void* scalars) {
        const adam_rule rule(scalars);
        return rule.first_average.from_value == 0 && rule.first_average.rate != 0 && rule.beta2 != 0 && rule.lr != 0;
    }
};

template <class T, class States>
void adam_in(const optimizer_args& a, int64_t begin, int64_t end) {
    const bool usual = adam_rule<T, false, true>::usual(a.step.scalars);
    if (a.step.states[2] == nullptr) {
        if (usual) step<T, adam_rule<T, false, true>, States>(a, begin, end);
        else step<T, adam_rule<T, false, false>, States>(a, begin, end);
    } else {
        if (usual && ONCE_A_RANGE<States>) step<T, adam_rule<T, true, ONCE_A_RANGE<States>>, States>(a, begin, end);
        else step<T, adam_rule<T, true, false>, States>(a, begin, end);
    }
}

template <class T>
void adam_rows(const optimizer_rows_args& a, int64_t begin, int64_t end) {
    if (adam_rule<T, false, true>::usual(a.step.scalars)) step_rows<T, adam_rule<T, false, true>>(a, begin, end);
    else step_rows<T, adam_rule<T, false, false>>(a, begin, end);
}

FASTOPT_STATE_DTYPES(adam)

}  // namespace
