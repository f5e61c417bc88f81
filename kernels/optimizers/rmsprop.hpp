// RMSprop (Hinton, Srivastava and Swersky, lecture 6e of "Neural networks for machine learning", 2012), with momentum and
// centred as torch.optim.RMSprop defines them (the latter after Graves, arXiv:1308.0850). One square root and one division
// per element; 20 bytes moved per float32 parameter, 8 more for momentum and 8 for the average of gradients.
#pragma once

#include "optimizers/optimizers.h"
#include "optimizers/small_states.hpp"

namespace {

template <class T, bool MOMENTUM, bool CENTERED>
struct rmsprop_rule {
    static constexpr int STATES = (MOMENTUM ? FIRST : 0) | SECOND | (CENTERED ? THIRD : 0);
    static constexpr int SIGNED = FIRST | THIRD;
    T grad_scale, weight_decay, alpha, one_minus_alpha, momentum, lr, eps;
    averaging<T> mean;
    gate<T> decays, steps;

    explicit rmsprop_rule(const void* scalars)
        : mean(static_cast<const rmsprop_scalars*>(scalars)->rate),
          decays(static_cast<T>(static_cast<const rmsprop_scalars*>(scalars)->alpha)),
          steps(static_cast<T>(static_cast<const rmsprop_scalars*>(scalars)->lr)) {
        const rmsprop_scalars& s = *static_cast<const rmsprop_scalars*>(scalars);
        grad_scale = static_cast<T>(s.grad_scale), weight_decay = static_cast<T>(s.weight_decay);
        alpha = static_cast<T>(s.alpha), one_minus_alpha = static_cast<T>(s.one_minus_alpha);
        momentum = static_cast<T>(s.momentum), lr = static_cast<T>(s.lr), eps = static_cast<T>(s.eps);
    }

    FASTOPT_INLINE T operator()(T p, T grad, T& buffer, T& square_avg, T& grad_avg) const {
        T g = grad * grad_scale;
        g = weight_decay != 0 ? g + weight_decay * p : g;
        T v = decays(alpha * square_avg) + one_minus_alpha * (g * g);
        square_avg = v;
        if constexpr (CENTERED) {
            grad_avg = mean(grad_avg, g);
            v = v - grad_avg * grad_avg;
            v = v < 0 ? T(0) : v;  // by rounding alone; NaN stays
        }
        T update = g / (square_root(v) + eps);
        if constexpr (MOMENTUM) {
            update = momentum * buffer + update;
            buffer = update;
        }
        return p - steps(lr * update);
    }
};

template <class T>
bool rmsprop_has_momentum(const optimizer_step& a) {
    return static_cast<T>(static_cast<const rmsprop_scalars*>(a.scalars)->momentum) != 0;
}

// States of few bits are never centred: see fastopt/optimizers/rmsprop.py.
template <class T, class States>
void rmsprop_in(const optimizer_args& a, int64_t begin, int64_t end) {
    constexpr bool WHOLE = ONCE_A_RANGE<States>;
    const bool momentum = rmsprop_has_momentum<T>(a.step);
    if (WHOLE && a.step.states[2] != nullptr) {
        if (momentum) step<T, rmsprop_rule<T, true, WHOLE>, States>(a, begin, end);
        else step<T, rmsprop_rule<T, false, WHOLE>, States>(a, begin, end);
    } else {
        if (momentum) step<T, rmsprop_rule<T, true, false>, States>(a, begin, end);
        else step<T, rmsprop_rule<T, false, false>, States>(a, begin, end);
    }
}

template <class T>
void rmsprop_rows(const optimizer_rows_args& a, int64_t begin, int64_t end) {
    if (rmsprop_has_momentum<T>(a.step)) step_rows<T, rmsprop_rule<T, true, false>>(a, begin, end);
    else step_rows<T, rmsprop_rule<T, false, false>>(a, begin, end);
}

FASTOPT_STATE_DTYPES(rmsprop)

}  // namespace
