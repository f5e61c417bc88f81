// Activations; exponential, logarithm and hyperbolic tangent as polynomials of correctly rounded operations, written the same way in
// fastopt/reference/core.py, so the bits are the same everywhere. Coefficients: Chebyshev fits on the reduced
// ranges; relative errors of the logarithm's below 3e-8 (float) and 5e-17 (double), of the exponential's 1.1e-8 and 1.8e-17.
#pragma once

#include "core/kernel.hpp"

namespace {

// ln u for a positive normal u: u = m * 2^e with m in [sqrt(1/2), sqrt(2)). `below_one` is 1 - u, to its own precision: next
// to 1 a float32 u made of random words has lost their last bits, which are all that the logarithm is made of there.
FASTOPT_INLINE float natural_log(float u, float below_one) {
    const int32_t bits = bit_copy<int32_t>(u);
    const int32_t e = (bits - 0x3F3504F3) >> 23;  // the bits of sqrt(1/2)
    const float f = e == 0 ? -below_one : bit_copy<float>(bits - e * (1 << 23)) - 1.0f;
    const float ff = f * f;
    float p = 0.0697161147f;
    p = p * f + -0.114797338f;
    p = p * f + 0.116854199f;
    p = p * f + -0.124256873f;
    p = p * f + 0.142490576f;
    p = p * f + -0.166678023f;
    p = p * f + 0.200007157f;
    p = p * f + -0.249999970f;
    p = p * f + 0.333333312f;
    const float k = static_cast<float>(e);
    const float low = (f * ff) * p + k * -2.12194440e-4f;  // ln 2 in two parts, the first of 9 bits
    return k * 0.693359375f + (f - (0.5f * ff - low));
}

FASTOPT_INLINE double natural_log(double u, double) {
    const int64_t bits = bit_copy<int64_t>(u);
    // The exponent in 32 bits: AVX2 has no shift of signed 64-bit numbers and no conversion of them to double.
    const int32_t e = (static_cast<int32_t>(bits >> 32) - 0x3FE6A09E) >> 20;
    const double f = bit_copy<double>(bits - static_cast<int64_t>(e) * (int64_t(1) << 52)) - 1.0;
    const double s = f / (2.0 + f), z = s * s;
    double p = 0.1461644968504340586;
    p = p * z + 0.15331721600556041269;
    p = p * z + 0.1818288912526172208;
    p = p * z + 0.22222211134795079855;
    p = p * z + 0.28571428625975484921;
    p = p * z + 0.3999999999989950449;
    p = p * z + 0.66666666666666696862;
    const double k = static_cast<double>(e);
    return k * 0.6931471803691238165 + (2.0 * s + (s * (z * p) + k * 1.9082149292705877000e-10));
}

template <class T>
FASTOPT_INLINE T logarithm(T x) {
    const T y = natural_log(x, T(1) - x);
    return x != x ? x : y;
}

// What differs between float and double: the ends beyond which the result is 0 or infinity, ln 2 in two parts of which
// the first times any k is exact, and the polynomial of (e^r - 1 - r) / r^2. V is T or a register of them.
template <class T>
struct exponential_of;
template <>
struct exponential_of<float> {
    typedef uint32_t bits;
    static constexpr int MANTISSA = 23, BIAS2 = 256;  // BIAS2 = 2 * bias + 2
    static constexpr float LOW = -104.0f, HIGH = 89.0f, LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
    template <class V>
    static FASTOPT_INLINE V polynomial(V r) {
        V p = 0.001392621f * r + 0.008363203f;
        p = p * r + 0.041666556f;
        p = p * r + 0.16666576f;
        return p * r + 0.5f;
    }
};
template <>
struct exponential_of<double> {
    typedef uint64_t bits;
    static constexpr int MANTISSA = 52, BIAS2 = 2048;
    static constexpr double LOW = -746.0, HIGH = 710.0, LN2_HIGH = 0.6931471803691238165, LN2_LOW = 1.9082149292705877e-10;
    template <class V>
    static FASTOPT_INLINE V polynomial(V r) {
        V p = 2.5100424157005067e-08 * r + 2.7620138719733994e-07;
        p = p * r + 2.7557268378684192e-06;
        p = p * r + 2.480152119021773e-05;
        p = p * r + 0.00019841269863105968;
        p = p * r + 0.0013888888917281794;
        p = p * r + 0.008333333333330051;
        p = p * r + 0.04166666666662399;
        p = p * r + 0.16666666666666669;
        return p * r + 0.5000000000000001;
    }
};

// e^r - 1, where x = k ln 2 + r
template <class T, class V>
FASTOPT_INLINE V exponential_less_one(V x, V k) {
    typedef exponential_of<T> of;
    const V r = (x - k * of::LN2_HIGH) - k * of::LN2_LOW;
    return r + (r * r) * of::polynomial(r);
}

// e^x = 2^k * e^r with k the integer nearest to x / ln 2: adding 1.5 * 2^MANTISSA rounds to it. 2^k is applied in two
// factors, for results below the smallest normal number and above the largest.
template <class T>
FASTOPT_INLINE T exponential(T x) {
    typedef exponential_of<T> of;
    typedef typename of::bits bits;
    constexpr T MAGIC = T(bits(3) << (of::MANTISSA - 1));
    x = x > of::HIGH ? of::HIGH : x;
    x = x < of::LOW ? of::LOW : x;
    const T shifted = x * T(1.4426950408889634) + MAGIC;
    const T y = T(1) + exponential_less_one<T>(x, shifted - MAGIC);
    const bits both = bit_copy<bits>(shifted) - (bit_copy<bits>(MAGIC) - bits(of::BIAS2));
    const bits half = both >> 1;
    return (y * bit_copy<T>((half - 1) << of::MANTISSA)) * bit_copy<T>((both - half - 1) << of::MANTISSA);
}

// The same of an x >= 0, but no more than e^40: its 2^k is one factor.
template <class T>
FASTOPT_INLINE T exponential_to_40(T x) {
    typedef exponential_of<T> of;
    typedef typename of::bits bits;
    constexpr T MAGIC = T(bits(3) << (of::MANTISSA - 1));
    x = x > T(40) ? T(40) : x;
    const T shifted = x * T(1.4426950408889634) + MAGIC;
    const T y = T(1) + exponential_less_one<T>(x, shifted - MAGIC);
    const bits k = bit_copy<bits>(shifted) - (bit_copy<bits>(MAGIC) - bits(of::BIAS2 / 2 - 1));
    return y * bit_copy<T>(k << of::MANTISSA);
}

#if defined(__AVX512F__)
// The same of a register: AVX-512 rounds to an integer and applies 2^k in one instruction each, and what is beyond the
// ends is put in place by masks, since minima would wait for the additions' units (0.22 ns a float32 instead of 0.37).
FASTOPT_INLINE __m512 exponential(__m512 x) {
    typedef exponential_of<float> of;
    const __m512 k = _mm512_roundscale_ps(x * 1.4426950408889634f, _MM_FROUND_TO_NEAREST_INT);
    const __mmask16 not_high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(of::HIGH), _CMP_NGT_UQ);
    const __mmask16 not_low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(of::LOW), _CMP_NLT_UQ);
    const __m512 infinity = _mm512_set1_ps(__builtin_inff()), less_one = exponential_less_one<float>(x, k);
    const __m512 y = _mm512_mask_add_ps(infinity, not_high, _mm512_set1_ps(1), less_one);
    return _mm512_maskz_scalef_ps(not_low, y, k);
}
FASTOPT_INLINE __m512 exponential_to_40(__m512 x) { return exponential(x); }
FASTOPT_INLINE __m512d exponential(__m512d x) {
    typedef exponential_of<double> of;
    const __m512d k = _mm512_roundscale_pd(x * 1.4426950408889634, _MM_FROUND_TO_NEAREST_INT);
    const __mmask8 not_high = _mm512_cmp_pd_mask(x, _mm512_set1_pd(of::HIGH), _CMP_NGT_UQ);
    const __mmask8 not_low = _mm512_cmp_pd_mask(x, _mm512_set1_pd(of::LOW), _CMP_NLT_UQ);
    const __m512d infinity = _mm512_set1_pd(__builtin_inf()), less_one = exponential_less_one<double>(x, k);
    const __m512d y = _mm512_mask_add_pd(infinity, not_high, _mm512_set1_pd(1), less_one);
    return _mm512_maskz_scalef_pd(not_low, y, k);
}
FASTOPT_INLINE __m512d exponential_to_40(__m512d x) { return exponential(x); }
#endif

// tanh a of a magnitude, below TANH_NEAR by a polynomial of (tanh a / a - 1) / a^2 in a^2, else 1 - 2 / (e^2a + 1): no larger
// than 1, and of errors up to 1.1 units in the last place. From 2a = 40 on it is 1.
template <class T>
constexpr T TANH_NEAR = T(0.75);
template <class T, class V>
FASTOPT_INLINE V tanh_near(V a) {
    const V z = a * a;
    V p;
    if constexpr (sizeof(T) == 4) {
        p = 0.0019095024f * z + -0.007933808f;
        p = p * z + 0.02161532f;
        p = p * z + -0.053935852f;
        p = p * z + 0.1333318f;
        p = p * z + -0.33333331f;
    } else {
        p = -1.6408599646831444e-06 * z + 1.0048053928129499e-05;
        p = p * z + -3.449472469998217e-05;
        p = p * z + 9.42476297649358e-05;
        p = p * z + -0.00023809406936979282;
        p = p * z + 0.0005897469986953327;
        p = p * z + -0.0014557818253310693;
        p = p * z + 0.0035921213885060418;
        p = p * z + -0.008863234987439102;
        p = p * z + 0.021869488509711037;
        p = p * z + -0.05396825396758208;
        p = p * z + 0.13333333333332661;
        p = p * z + -0.3333333333333333;
    }
    return a + a * (z * p);
}
template <class T, class V>
FASTOPT_INLINE V tanh_far(V a) {
    return T(1) - T(2) / (exponential_to_40(a + a) + T(1));
}

FASTOPT_INLINE float with_sign_of(float x, float y) { return __builtin_copysignf(y, x); }
FASTOPT_INLINE double with_sign_of(double x, double y) { return __builtin_copysign(y, x); }

template <class T>
FASTOPT_INLINE T hyperbolic_tangent(T x) {
    const T a = with_sign_of(T(1), x);
    const T near = tanh_near<T>(a), far = tanh_far<T>(a);
    return with_sign_of(x, a < TANH_NEAR<T> ? near : far);
}

#if defined(__AVX512F__)
FASTOPT_INLINE __m512 hyperbolic_tangent(__m512 x) {
    const __m512i signs = _mm512_set1_epi32(INT32_MIN), bits = _mm512_castps_si512(x);
    const __m512 a = _mm512_castsi512_ps(_mm512_andnot_si512(signs, bits));
    const __mmask16 is_near = _mm512_cmp_ps_mask(a, _mm512_set1_ps(TANH_NEAR<float>), _CMP_LT_OQ);
    const __m512 y = _mm512_mask_blend_ps(is_near, tanh_far<float>(a), tanh_near<float>(a));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(y), _mm512_and_si512(signs, bits)));
}
FASTOPT_INLINE __m512d hyperbolic_tangent(__m512d x) {
    const __m512i signs = _mm512_set1_epi64(INT64_MIN), bits = _mm512_castpd_si512(x);
    const __m512d a = _mm512_castsi512_pd(_mm512_andnot_si512(signs, bits));
    const __mmask8 is_near = _mm512_cmp_pd_mask(a, _mm512_set1_pd(TANH_NEAR<double>), _CMP_LT_OQ);
    const __m512d y = _mm512_mask_blend_pd(is_near, tanh_far<double>(a), tanh_near<double>(a));
    return _mm512_castsi512_pd(_mm512_or_si512(_mm512_castpd_si512(y), _mm512_and_si512(signs, bits)));
}
#endif

// The gradient of tanh from its output y; leaky ReLU, and its gradient from its input or, of a slope >= 0, its output.
template <class T>
FASTOPT_INLINE T tanh_gradient(T grad, T y) { return grad * (T(1) - y * y); }
template <class T>
FASTOPT_INLINE T leaky(T x, T slope) { return x > 0 ? x : x * slope; }
template <class T>
FASTOPT_INLINE T leaky_gradient(T grad, T x, T slope) { return x > 0 ? grad : grad * slope; }

}  // namespace
