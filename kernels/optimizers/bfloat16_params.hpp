// Parameters, gradients and states in bfloat16: a block of each is widened, stepped as float by the very loop of that type,
// and rounded. So every rule and option is here as it is there, at no code of its own. The blocks stay in the L1 cache.
#pragma once

#include "core/bfloat16.hpp"
#include "optimizers/adam.hpp"
#include "optimizers/optimizers.h"
#include "optimizers/rmsprop.hpp"
#include "optimizers/sgd.hpp"

namespace {

template <void (*STEP)(const optimizer_args&, int64_t, int64_t)>
void step_bfloat16(const optimizer_args& a, int64_t begin, int64_t end) {
    constexpr int64_t ARRAYS = 5, BLOCK = 1024, APART = BLOCK + 208;  // see "4 KiB aliasing" in kernels/README.md
    alignas(64) float wide[ARRAYS][APART];
    const averaging<float> moved(a.step.ema_rate);
    optimizer_args own = {};
    void** const places[ARRAYS] = {&own.step.param, &own.step.states[0], &own.step.states[1], &own.step.states[2],
                                   &own.step.grad};
    void* const arrays[ARRAYS] = {a.step.param, a.step.states[0], a.step.states[1], a.step.states[2], a.step.grad};
    uint16_t* codes[ARRAYS];
    int64_t there = 0;
    for (int64_t k = 0; k < ARRAYS; ++k) {
        if (arrays[k] == nullptr) continue;
        *places[k] = wide[there];
        codes[there++] = static_cast<uint16_t*>(arrays[k]);
    }
    own.step.scalars = a.step.scalars;
    for (int64_t first = begin, n; first < end; first += n) {
        n = BLOCK < end - first ? BLOCK : end - first;
        for (int64_t k = 0; k < there; ++k) widen(wide[k], codes[k] + first, n);
        STEP(own, 0, n);
        for (int64_t k = 0; k < there - 1; ++k) narrow(codes[k] + first, wide[k], n);
        if (a.step.ema != nullptr) {
            float* ema = static_cast<float*>(a.step.ema) + first;
            FASTOPT_INDEPENDENT
            for (int64_t i = 0; i < n; ++i) ema[i] = moved(ema[i], widened(codes[0][first + i]));
        }
        if (a.step.zero_grad) __builtin_memset(codes[there - 1] + first, 0, static_cast<size_t>(n) * sizeof(uint16_t));
    }
}

// Both element types have the same kernel.
#define FASTOPT_BFLOAT16_PARAMS_OF(RULE)                                               \
    template <class>                                                                   \
    void RULE##_bfloat16_params(const optimizer_args& a, int64_t begin, int64_t end) { \
        step_bfloat16<RULE<float>>(a, begin, end);                                     \
    }
FASTOPT_BFLOAT16_PARAMS_OF(adam)
FASTOPT_BFLOAT16_PARAMS_OF(sgd)
FASTOPT_BFLOAT16_PARAMS_OF(rmsprop)

}  // namespace
