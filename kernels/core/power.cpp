// Powers for bias corrections, with the same bits everywhere; the C library's differ in their last bit between machines.
// fastopt/reference/core.py says what this is. All of it is exact or done with integers but the rounding at the end.
#include "runtime.h"

#include "core/float_mode.hpp"

#include <cmath>

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
