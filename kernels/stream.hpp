// Stores that go around the cache, and the traffic of any kernel without its arithmetic.

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

// Runs loop(out, from, to) over pieces of [begin, end), where the loop writes element i to out[i - from]: straight into
// y, or by way of a small buffer and non-temporal stores.
template <class T, class Loop>
inline void write_elements(T* y, int64_t begin, int64_t end, bool nontemporal, Loop loop) {
    if (!nontemporal) {
        loop(y + begin, begin, end);
        return;
    }
    constexpr int64_t PIECE = 4096 / sizeof(T);
    alignas(64) T buffer[PIECE];
    int64_t i = begin;
    const int64_t misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(y + begin) % 64 / sizeof(T));
    if (misaligned != 0) {
        const int64_t line = begin + static_cast<int64_t>(64 / sizeof(T)) - misaligned;
        const int64_t stop = line < end ? line : end;
        loop(y + i, i, stop);
        i = stop;
    }
    for (; i + PIECE <= end; i += PIECE) {
        loop(buffer, i, i + PIECE);
        for (int64_t k = 0; k < PIECE; k += 64 / sizeof(T)) store_line(y + i + k, buffer + k);
    }
    if (i < end) loop(y + i, i, end);
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

template <class T, int INPUTS, int OUTPUTS>
void stream_arrays(const stream_args& a, int64_t begin, int64_t end) {
    T* out[OUTPUTS + 1];
    const T* in[INPUTS];
    for (int k = 0; k < INPUTS; ++k) in[k] = static_cast<const T*>(a.in[k]);
    for (int k = 0; k < OUTPUTS; ++k) out[k] = static_cast<T*>(a.out[k]);
    constexpr int64_t LINE = 64 / sizeof(T);
    typedef T line_of_T __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
    line_of_T unused = {};
    const bool nontemporal = a.nontemporal != 0;
    int64_t i = begin;
    for (; i + LINE <= end; i += LINE) {
#pragma GCC unroll 8
        for (int k = 0; k < INPUTS; ++k) {
            const line_of_T value = *reinterpret_cast<const line_of_T*>(in[k] + i);
            if (k >= OUTPUTS) {
                unused += value;  // keeps the compiler from dropping the read
            } else if (nontemporal && reinterpret_cast<uintptr_t>(out[k] + i) % 64 == 0) {
                alignas(64) const line_of_T aligned = value;
                store_line(out[k] + i, &aligned);
            } else {
                *reinterpret_cast<line_of_T*>(out[k] + i) = value;
            }
        }
    }
    for (; i < end; ++i)
        for (int k = 0; k < OUTPUTS; ++k) out[k][i] = in[k][i];
    asm volatile("" : : "m"(unused));
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

template <class T>
void stream(const stream_args& a, int64_t begin, int64_t end) {
    switch (a.inputs * 8 + a.outputs) {
#define STREAM_CASE(INPUTS, OUTPUTS) \
    case INPUTS * 8 + OUTPUTS: return stream_arrays<T, INPUTS, OUTPUTS>(a, begin, end);
        STREAM_CASE(1, 0) STREAM_CASE(1, 1) STREAM_CASE(2, 1) STREAM_CASE(2, 2) STREAM_CASE(3, 1) STREAM_CASE(3, 2)
        STREAM_CASE(3, 3) STREAM_CASE(4, 3) STREAM_CASE(4, 4) STREAM_CASE(5, 4) STREAM_CASE(5, 5) STREAM_CASE(6, 5)
#undef STREAM_CASE
    }
}
