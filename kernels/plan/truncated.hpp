// The normal distribution's tail and its inverse as polynomials of correctly rounded operations, in double, written the
// same way in fastopt/reference/plan.py, so the bits are the same everywhere. Coefficients: Chebyshev fits; errors below
// 3e-14 of the tail, and 1e-14 of the quantile.
#pragma once

#include "core/math.hpp"

namespace {

// The probability of a normal number above x, for 0 <= x <= 9 (what is beyond counts as the end): exp(-x^2 / 2) / (1 + x)
// times a polynomial in (x - 3) / (x + 3).
FASTOPT_INLINE double normal_tail(double x) {
    x = x > 0 ? x : 0;
    x = x < 9 ? x : 9;
    const double t = (x - 3) / (x + 3);
    double p = -1.669310425140691e-08;
    p = p * t + 6.387067094510967e-08;
    p = p * t + 8.47510270146804e-07;
    p = p * t + 2.4049374023585774e-06;
    p = p * t + 1.0001054168660365e-06;
    p = p * t + -9.207287600295531e-06;
    p = p * t + -1.8095675772930367e-05;
    p = p * t + 1.746244304207638e-05;
    p = p * t + 0.00010398441487851663;
    p = p * t + 1.739640930816913e-05;
    p = p * t + -0.0005196575998471988;
    p = p * t + -0.0003546871944128728;
    p = p * t + 0.003009268487517038;
    p = p * t + 0.0011607917443270668;
    p = p * t + -0.02272958639497457;
    p = p * t + 0.045163889898354403;
    p = p * t + -0.016432180656093857;
    p = p * t + -0.09652675790055293;
    p = p * t + 0.48605579342224864;
    return exponential(-0.5 * (x * x)) * (p / (1 + x));
}

// The x >= 0 above which a normal number is with this probability, 2^-56 <= tail <= 1/2: with w = sqrt(-2 ln tail) it is w less
// a polynomial in (w - 3) / (w + 3).
FASTOPT_INLINE double normal_quantile(double tail) {
    const double w = square_root(-2 * natural_log(tail, 1 - tail));
    const double t = (w - 3) / (w + 3);
    double p = 0.04355348420929574;
    p = p * t + -0.07561644392652647;
    p = p * t + 0.03471393801680286;
    p = p * t + -0.01050085953343628;
    p = p * t + 0.02918905791671063;
    p = p * t + -0.044377270771781684;
    p = p * t + 0.04164083372000992;
    p = p * t + -0.0444823576700882;
    p = p * t + 0.047150865227309574;
    p = p * t + -0.05505737004068653;
    p = p * t + 0.058054353662424805;
    p = p * t + -0.06928076831313643;
    p = p * t + 0.07421932716242603;
    p = p * t + -0.0928851534366409;
    p = p * t + 0.10194496782583602;
    p = p * t + -0.13703008985160717;
    p = p * t + 0.15794447844976425;
    p = p * t + -0.2564587320468669;
    p = p * t + 0.33991278760430566;
    p = p * t + -0.845740106667539;
    p = p * t + 0.713379661821386;
    return w - p;
}

// The uniform number in (0, 1) of element j: of 32 bits for float, of 52 for double.
template <class T>
FASTOPT_INLINE double inner_uniform(const uint32_t* words, int64_t j) {
    if constexpr (sizeof(T) == 4) return (static_cast<double>(words[j]) + 0.5) * 0x1p-32;
    const double low = static_cast<double>(static_cast<int32_t>(words[2 * j] >> 12));
    return ((static_cast<double>(words[2 * j + 1]) * 0x1p20 + low) + 0.5) * 0x1p-52;
}

}  // namespace
