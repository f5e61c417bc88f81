// Stores that go around the cache, and the traffic of any kernel without its arithmetic.
#pragma once

#include "core/kernel.hpp"

namespace {

// An output that will not fit the cache is written with non-temporal stores: an ordinary store first reads the line it
// overwrites, a third of the traffic of y = f(x) (2^24 float32 leaky_relu: 0.35 ns an element with ordinary stores,
// 0.23 with these).
inline void store_line(void* to, const void* from) {  // 64 bytes, `to` aligned to 64
#if defined(__AVX512F__)
    _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_load_si512(from));
#elif defined(__AVX2__)
    for (int k = 0; k < 2; ++k)
        _mm256_stream_si256(static_cast<__m256i*>(to) + k, _mm256_load_si256(static_cast<const __m256i*>(from) + k));
#elif defined(__SSE2__)
    for (int k = 0; k < 4; ++k)
        _mm_stream_si128(static_cast<__m128i*>(to) + k, _mm_load_si128(static_cast<const __m128i*>(from) + k));
#else
    __builtin_memcpy(to, from, 64);
#endif
}

// The same of a register, a vector type of REGISTER_BYTES, `to` aligned to as many.
template <class Register>
FASTOPT_INLINE void store_register(void* to, Register x) {
#if defined(__AVX512F__)
    _mm512_stream_si512(static_cast<__m512i*>(to), bit_copy<__m512i>(x));
#elif defined(__AVX2__)
    _mm256_stream_si256(static_cast<__m256i*>(to), bit_copy<__m256i>(x));
#elif defined(__SSE2__)
    _mm_stream_si128(static_cast<__m128i*>(to), bit_copy<__m128i>(x));
#else
    __builtin_memcpy(to, &x, sizeof x);
#endif
}

// After the last of them: other threads see them before what is stored later.
inline void finish_lines() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// The first index from `begin` on at which a line of y begins; `end` if none does.
template <class T>
inline int64_t first_line(const T* y, int64_t begin, int64_t end) {
    const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(y + begin) % 64 / sizeof(T));
    const int64_t first = past > 0 ? begin + 64 / static_cast<int64_t>(sizeof(T)) - past : begin;
    return first < end ? first : end;
}

// Runs loop(out, from, to) over pieces of [begin, end), where the loop writes element i to out[i - from]: straight into
// y, or by way of a small buffer and non-temporal stores.
template <class T, class Loop>
inline void write_elements(T* y, int64_t begin, int64_t end, bool nontemporal, Loop loop) {
    if (!nontemporal) {
        loop(y + begin, begin, end);
        return;
    }
    constexpr int64_t LINE = 64 / sizeof(T), PIECE = 16 * LINE;
    alignas(64) T buffer[PIECE];
    const int64_t into_line = static_cast<int64_t>(reinterpret_cast<uintptr_t>(y + begin) % 64 / sizeof(T));
    int64_t i = begin;
    for (int64_t n; i < end; i += n) {
        n = i == begin && into_line > 0 ? LINE - into_line : PIECE;
        n = n < end - i ? n : end - i;
        if (n < LINE) {
            loop(y + i, i, i + n);
        } else {
            n -= n % LINE;
            loop(buffer, i, i + n);
            for (int64_t k = 0; k < n; k += LINE) store_line(y + i + k, buffer + k);
        }
    }
    finish_lines();
}

template <class T>
struct bits_of;
template <>
struct bits_of<float> {
    typedef uint32_t __attribute__((may_alias)) type;
};
template <>
struct bits_of<double> {
    typedef uint64_t __attribute__((may_alias)) type;
};

template <class T, int INPUTS, int OUTPUTS>
void stream_arrays(const stream_args& a, int64_t begin, int64_t end) {
    typedef typename bits_of<T>::type bits;
    bits read = 0;  // of the inputs that are only read, so that the compiler keeps the reads
    const bits *in0 = static_cast<const bits*>(a.in[0]), *in1 = static_cast<const bits*>(a.in[1]),
               *in2 = static_cast<const bits*>(a.in[2]), *in3 = static_cast<const bits*>(a.in[3]),
               *in4 = static_cast<const bits*>(a.in[4]), *in5 = static_cast<const bits*>(a.in[5]);
    bits *out0 = static_cast<bits*>(a.out[0]), *out1 = static_cast<bits*>(a.out[1]),
         *out2 = static_cast<bits*>(a.out[2]), *out3 = static_cast<bits*>(a.out[3]),
         *out4 = static_cast<bits*>(a.out[4]);
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
        if constexpr (OUTPUTS > 0) out0[i] = in0[i];
        else read |= in0[i];
        if constexpr (OUTPUTS > 1) out1[i] = in1[i];
        else if constexpr (INPUTS > 1) read |= in1[i];
        if constexpr (OUTPUTS > 2) out2[i] = in2[i];
        else if constexpr (INPUTS > 2) read |= in2[i];
        if constexpr (OUTPUTS > 3) out3[i] = in3[i];
        else if constexpr (INPUTS > 3) read |= in3[i];
        if constexpr (OUTPUTS > 4) out4[i] = in4[i];
        else if constexpr (INPUTS > 4) read |= in4[i];
        if constexpr (INPUTS > 5) read |= in5[i];
    }
    asm volatile("" : : "r"(read) : "memory");
}

// The same with non-temporal stores, array by array in long pieces.
template <class T>
void stream_around_cache(const stream_args& a, int64_t begin, int64_t end) {
    constexpr int64_t PIECE = 65536 / sizeof(T);
    for (int64_t i = begin; i < end; i += PIECE) {
        const int64_t stop = i + PIECE < end ? i + PIECE : end;
        for (int k = 0; k < a.outputs; ++k) {
            const T* x = static_cast<const T*>(a.in[k]);
            write_elements(static_cast<T*>(a.out[k]), i, stop, true, [=](T* y, int64_t from, int64_t to) {
                FASTOPT_INDEPENDENT
                for (int64_t j = from; j < to; ++j) y[j - from] = x[j];
            });
        }
        for (int k = a.outputs; k < a.inputs; ++k) {
            stream_args one = {};
            one.in[0] = a.in[k];
            stream_arrays<T, 1, 0>(one, i, stop);
        }
    }
}

template <class T>
void stream(const stream_args& a, int64_t begin, int64_t end) {
    if (a.nontemporal) return stream_around_cache<T>(a, begin, end);
    switch (a.inputs * 8 + a.outputs) {
#define STREAM_CASE(INPUTS, OUTPUTS) \
    case INPUTS * 8 + OUTPUTS: return stream_arrays<T, INPUTS, OUTPUTS>(a, begin, end);
        STREAM_CASE(1, 0) STREAM_CASE(1, 1) STREAM_CASE(2, 1) STREAM_CASE(2, 2) STREAM_CASE(3, 1) STREAM_CASE(3, 2)
        STREAM_CASE(3, 3) STREAM_CASE(4, 3) STREAM_CASE(4, 4) STREAM_CASE(5, 4) STREAM_CASE(5, 5) STREAM_CASE(6, 5)
#undef STREAM_CASE
    }
}

}  // namespace
