// What any op computes once a call and not once an element: sums of block sums.
#include "runtime.h"

#include "core/float_mode.hpp"

#include <cfenv>
#include <new>

static_assert(sizeof(default_float_mode) <= sizeof(fastopt_float_mode::state), "it has room there");

extern "C" void fastopt_enter_float_mode(fastopt_float_mode* own) {
    own->rounding = std::fegetround();
    new (own->state) default_float_mode;
    if (own->rounding != FE_TONEAREST) std::fesetround(FE_TONEAREST);
}

extern "C" void fastopt_leave_float_mode(fastopt_float_mode* own) {
    if (own->rounding != FE_TONEAREST) std::fesetround(own->rounding);
    reinterpret_cast<default_float_mode*>(own->state)->~default_float_mode();
}

extern "C" double fastopt_add_up(const double* terms, int64_t count) {
    default_float_mode mode;
    double total = 0;
    for (int64_t k = 0; k < count; ++k) total += terms[k];
    return in_mode(total);
}

extern "C" double fastopt_mean(const double* sums, int64_t count, int64_t size) {
    default_float_mode mode;
    return in_mode(fastopt_add_up(sums, count) / in_mode(static_cast<double>(size)));
}
