// What any op computes once a call and not once an element: sums of block sums.
#include "fastopt.h"

#include "core/float_mode.hpp"

extern "C" double fastopt_add_up(const double* terms, int64_t count) {
    default_float_mode mode;
    double total = 0;
    for (int64_t k = 0; k < count; ++k) total += terms[k];
    return total;
}

extern "C" double fastopt_mean(const double* sums, int64_t count, int64_t size) {
    default_float_mode mode;
    return fastopt_add_up(sums, count) / static_cast<double>(size);
}

extern "C" void fastopt_in_default_float_mode(fastopt_callback function, void* data) {
    default_float_mode mode;
    function(data);
}
