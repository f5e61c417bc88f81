// What any op computes once a call and not once an element: sums of block sums, powers.
#include "runtime.h"

#include "core/float_mode.hpp"

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

// fastopt/reference/core.py says what this is. All of it is exact or done with integers but the rounding at the end.
namespace {

__extension__ typedef unsigned __int128 wide;

// significand * 2^(exponent - 128), where the top bit of the significand is 1
struct long_number {
    wide significand;
    int64_t exponent;
};

uint64_t upper(wide x) { return static_cast<uint64_t>(x >> 64); }

long_number product(const long_number& a, const long_number& b) {
    const wide a_low = static_cast<uint64_t>(a.significand), b_low = static_cast<uint64_t>(b.significand);
    const wide a_high = upper(a.significand), b_high = upper(b.significand);
    const wide c = a_high * b_high + upper(a_high * b_low) + upper(a_low * b_high);
    const int less = c >> 127 ? 0 : 1;
    return {c << less, a.exponent + b.exponent - less};
}

}  // namespace

extern "C" double fastopt_power(double x, int64_t n) {
    constexpr int64_t LOWEST = -1100;
    constexpr double TWO_64 = 18446744073709551616.0;
    if (x == 0) return 0;
    int exponent;
    const double fraction = std::frexp(x, &exponent);
    long_number square = {static_cast<wide>(static_cast<uint64_t>(fraction * TWO_64)) << 64, exponent};
    long_number result = {static_cast<wide>(1) << 127, 1};
    for (;; n >>= 1) {
        if (square.exponent < LOWEST) return 0;
        if (n & 1) result = product(result, square);
        if (n == 1) break;
        square = product(square, square);
    }
    const uint64_t top = upper(result.significand) | (static_cast<uint64_t>(result.significand) != 0);
    default_float_mode mode;
    const double rounded = static_cast<double>(top);
    return std::ldexp(in_mode(rounded), static_cast<int>(result.exponent) - 64);
}
