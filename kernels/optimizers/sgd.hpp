// Stochastic gradient descent with momentum, dampening and Nesterov's variant, as torch.optim.SGD defines them
// (Sutskever, Martens, Dahl and Hinton, ICML 2013).
#pragma once

#include "optimizers/optimizers.h"
#include "optimizers/small_states.hpp"

namespace {

template <class T, bool MOMENTUM>
struct sgd_rule {
    static constexpr int STATES = MOMENTUM ? FIRST : 0, SIGNED = FIRST;
    T grad_scale, weight_decay, momentum, one_minus_dampening, lr;
    bool first_step, nesterov;

    explicit sgd_rule(const void* scalars) {
        const sgd_scalars& s = *static_cast<const sgd_scalars*>(scalars);
        grad_scale = static_cast<T>(s.grad_scale), weight_decay = static_cast<T>(s.weight_decay);
        momentum = static_cast<T>(s.momentum), one_minus_dampening = static_cast<T>(s.one_minus_dampening);
        lr = static_cast<T>(s.lr), first_step = s.first_step, nesterov = s.nesterov;
    }

    FASTOPT_INLINE T operator()(T p, T grad, T& buffer, T&, T&) const {
        T g = grad * grad_scale;
        g = weight_decay != 0 ? g + weight_decay * p : g;
        if constexpr (MOMENTUM) {
            T b = momentum * buffer;
            b = one_minus_dampening != 0 ? b + one_minus_dampening * g : b;
            b = first_step ? g : b;
            g = nesterov ? g + momentum * b : b;
            buffer = b;
        }
        return lr != 0 ? p - lr * g : p;
    }
};

template <class T>
bool has_momentum(const optimizer_step& a) {
    return static_cast<T>(static_cast<const sgd_scalars*>(a.scalars)->momentum) != 0;
}

template <class T, class States>
void sgd_in(const optimizer_args& a, int64_t begin, int64_t end) {
    if (has_momentum<T>(a.step)) step<T, sgd_rule<T, true>, States>(a, begin, end);
    else step<T, sgd_rule<T, false>, plain_states<T>>(a, begin, end);
}

template <class T>
void sgd_rows(const optimizer_rows_args& a, int64_t begin, int64_t end) {
    if (has_momentum<T>(a.step)) step_rows<T, sgd_rule<T, true>>(a, begin, end);
    else step_rows<T, sgd_rule<T, false>>(a, begin, end);
}

FASTOPT_STATE_DTYPES(sgd)

}  // namespace
