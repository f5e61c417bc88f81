// Loops that GCC does not vectorise well by itself: what one turn does is written once, for one element and for a
// register of them with AVX-512, whose instructions for exponentials and conversions it does not choose.
#pragma once

#include "core/kernel.hpp"

namespace {

template <class T>
struct one_element {
    static constexpr int64_t COUNT = 1;
    int64_t i;
    template <class From>
    FASTOPT_INLINE T load(const From* x) const { return static_cast<T>(x[i]); }
    template <class To>
    FASTOPT_INLINE void store(To* y, T value) const { y[i] = static_cast<To>(value); }
};

#if defined(__AVX512F__)
template <class T>
struct whole_register;
template <>
struct whole_register<float> {
    static constexpr int64_t COUNT = 16;
    int64_t i;
    FASTOPT_INLINE __m512 load(const float* x) const { return _mm512_loadu_ps(x + i); }
    FASTOPT_INLINE void store(float* y, __m512 value) const { _mm512_storeu_ps(y + i, value); }
};
template <>
struct whole_register<double> {
    static constexpr int64_t COUNT = 8;
    int64_t i;
    FASTOPT_INLINE __m512d load(const double* x) const { return _mm512_loadu_pd(x + i); }
    FASTOPT_INLINE __m512d load(const float* x) const { return _mm512_cvtps_pd(_mm256_loadu_ps(x + i)); }
    FASTOPT_INLINE void store(double* y, __m512d value) const { _mm512_storeu_pd(y + i, value); }
    FASTOPT_INLINE void store(float* y, __m512d value) const { _mm256_storeu_ps(y + i, _mm512_cvtpd_ps(value)); }
};
#else
template <class T>
using whole_register = one_element<T>;
#endif

// Runs loop(at) for the elements [0, n), where at.load(x) and at.store(y, value) are those of arrays x and y. An output
// may be an input.
template <class T, class Loop>
FASTOPT_INLINE void elementwise(int64_t n, Loop loop) {
    int64_t i = 0;
    if constexpr (whole_register<T>::COUNT > 1)
        for (; i + whole_register<T>::COUNT <= n; i += whole_register<T>::COUNT) loop(whole_register<T>{i});
    FASTOPT_INDEPENDENT
    for (; i < n; ++i) loop(one_element<T>{i});
}

}  // namespace
