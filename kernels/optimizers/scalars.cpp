// What a step computes once and not once an element: bias corrections, norms, and what clipping makes of them.
#include "scalars.h"

#include "core/float_mode.hpp"

#include <cmath>

#include <cstddef>

namespace {

// The gradient whose share (1 - b2) * g^2 (of RMSprop (1 - alpha) * g^2) is just rounded to 0: so what has no denominator is no long step.
double least_eps(double decay, int element_type) {
    return (element_type == 0 ? 0x1p-75 : 0x1p-537) / std::sqrt(1 - decay);
}

// Half of the last place of the root of the smallest normal number: a smaller eps changes no denominator but 0.
double smallest_eps(int element_type) { return element_type == 0 ? 0x1p-87 : 0x1p-564; }

// Whether a number is 0 in the arrays' type.
bool vanishes(double x, int element_type) { return (element_type == 0 ? static_cast<float>(x) : x) == 0; }

}  // namespace

extern "C" int fastopt_adam_scalars(void* scalars, int64_t t, const double* hyper, double grad_scale, int element_type) {
    default_float_mode mode;
    adam_scalars* out = static_cast<adam_scalars*>(scalars);
    const adam_hyper& h = *reinterpret_cast<const adam_hyper*>(hyper);
    const bool decoupled = h.decoupled_weight_decay != 0;
    const double correction1 = 1 - in_mode(fastopt_power(h.beta1, t));
    const double correction2 = std::sqrt(1 - in_mode(fastopt_power(h.beta2, t)));
    const double least = least_eps(in_mode(h.beta2), element_type);
    out->grad_scale = grad_scale;
    out->decay = decoupled ? 1 - h.lr * h.weight_decay : 1;
    out->weight_decay = decoupled ? 0 : h.weight_decay;
    out->rate = fastopt_average_rate(h.beta1);
    out->beta2 = h.beta2;
    out->one_minus_beta2 = 1 - h.beta2;
    out->lr = h.lr * correction2 / correction1;
    out->eps = (h.eps > least ? h.eps : least) * correction2;
    return in_mode(h.eps) < smallest_eps(element_type) ? offsetof(adam_hyper, eps) / sizeof(double) + 1 : 0;
}

extern "C" int fastopt_sgd_scalars(void* scalars, int64_t t, const double* hyper, double grad_scale, int element_type) {
    default_float_mode mode;
    sgd_scalars* out = static_cast<sgd_scalars*>(scalars);
    const sgd_hyper& h = *reinterpret_cast<const sgd_hyper*>(hyper);
    out->grad_scale = grad_scale;
    out->weight_decay = h.weight_decay;
    out->momentum = h.momentum;
    out->one_minus_dampening = 1 - h.dampening;
    out->lr = h.lr;
    out->first_step = t == 1;
    out->nesterov = h.nesterov != 0;
    return vanishes(h.momentum, element_type) ? -1 : 0;
}

extern "C" int fastopt_rmsprop_scalars(void* scalars, int64_t, const double* hyper, double grad_scale, int element_type) {
    default_float_mode mode;
    rmsprop_scalars* out = static_cast<rmsprop_scalars*>(scalars);
    const rmsprop_hyper& h = *reinterpret_cast<const rmsprop_hyper*>(hyper);
    const double least = least_eps(in_mode(h.alpha), element_type);
    out->grad_scale = grad_scale;
    out->weight_decay = h.weight_decay;
    out->alpha = h.alpha;
    out->one_minus_alpha = in_mode(1 - in_mode(h.alpha));
    out->rate = fastopt_average_rate(h.alpha);
    out->momentum = h.momentum;
    out->lr = h.lr;
    out->eps = in_mode(h.eps) > least ? h.eps : least;
    return in_mode(h.eps) < smallest_eps(element_type) ? offsetof(rmsprop_hyper, eps) / sizeof(double) + 1 : 0;
}

// In the order in which nothing overflows that the result does not.
extern "C" double fastopt_penalty(double weight_decay, const double* sums, int64_t count, double scale) {
    default_float_mode mode;
    const double unit = 1 / in_mode(scale);
    return in_mode(0.5 * in_mode(weight_decay) * unit * fastopt_add_up(sums, count) * unit);
}

extern "C" double fastopt_norm(double multiplier, const double* sums, int64_t count, double scale) {
    default_float_mode mode;
    return in_mode(std::fabs(multiplier) / in_mode(scale) * std::sqrt(fastopt_add_up(sums, count)));
}

extern "C" double fastopt_clip(double norm, double max_norm) {
    default_float_mode mode;
    const double factor = in_mode(max_norm) / (in_mode(norm) + 1e-6);
    return in_mode(factor > 1 ? 1 : factor);  // NaN for a NaN
}

extern "C" double fastopt_clipped_scale(double grad_scale, double norm, double max_norm) {
    default_float_mode mode;
    return in_mode(in_mode(grad_scale) * fastopt_clip(norm, max_norm));
}

extern "C" double fastopt_average_rate(double decay) {
    default_float_mode mode;
    return decay < 0.5 ? -decay : in_mode(1 - in_mode(decay));
}
