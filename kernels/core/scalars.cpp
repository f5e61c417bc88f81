// What any op computes once a call and not once an element: sums of block sums.
#include "runtime.h"

#include "core/float_mode.hpp"

#include <algorithm>
#include <cfenv>
#include <cmath>
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

namespace {

template <class T>
double largest_magnitude(const T* x, int64_t n) {
    constexpr int64_t LANES = 16;
    T lanes[LANES] = {};
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t count = std::min(LANES, n - i);
        for (int64_t j = 0; j < count; ++j) lanes[j] = std::max(lanes[j], std::fabs(x[i + j]));
    }
    return *std::max_element(lanes, lanes + LANES);
}

}  // namespace

extern "C" double fastopt_largest_magnitude(const void* x, int64_t n, int element_type, double most) {
    default_float_mode mode;
    return in_mode(std::max(most, element_type == 0 ? largest_magnitude(static_cast<const float*>(x), n)
                                                    : largest_magnitude(static_cast<const double*>(x), n)));
}

extern "C" int fastopt_lost_squares(double sum) {
    default_float_mode mode;
    return in_mode(sum) < 0x1p-968 || std::isinf(sum) ? 1 : 0;
}

extern "C" double fastopt_square_scale(double largest) {
    default_float_mode mode;
    largest = in_mode(largest);
    if (!(largest > 0) || std::isinf(largest)) return 1;
    int exponent;
    std::frexp(largest, &exponent);
    return std::ldexp(1.0, -std::clamp(exponent, -1022, 1022));  // a normal number, and so is its inverse
}

extern "C" double fastopt_scaled_squares(const void* x, int64_t n, int element_type, double scale) {
    default_float_mode mode;
    double block[FASTOPT_SUM_BLOCK], total = 0, sum;
    for (int64_t begin = 0; begin < n; begin += FASTOPT_SUM_BLOCK) {
        const int64_t size = std::min<int64_t>(FASTOPT_SUM_BLOCK, n - begin);
        for (int64_t i = 0; i < size; ++i)
            block[i] = scale * (element_type == 0 ? static_cast<double>(static_cast<const float*>(x)[begin + i])
                                                  : static_cast<const double*>(x)[begin + i]);
        const sum_args args = {&sum, block, size, 0};
        fastopt_kernels.core->sum_squares[1](&args, 0, 1);
        total += sum;
    }
    return in_mode(total);
}
