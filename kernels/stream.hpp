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
    constexpr int64_t LINE = 64 / sizeof(T), PIECE = 64 * LINE;
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
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

template <class T, int INPUTS, int OUTPUTS>
void stream_arrays(const stream_args& a, int64_t begin, int64_t end) {
    const T* in[INPUTS];
    T* out[OUTPUTS + 1];
    for (int k = 0; k < INPUTS; ++k) in[k] = static_cast<const T*>(a.in[k]);
    for (int k = 0; k < OUTPUTS; ++k) out[k] = static_cast<T*>(a.out[k]);
    // Array by array in small pieces; in long ones where the first and last line of each are not whole lines.
    const int64_t piece = (a.nontemporal ? 65536 : 4096) / static_cast<int64_t>(sizeof(T));
    T used = 0;  // of the inputs that are only read, so that the compiler keeps the reads
    for (int64_t i = begin; i < end; i += piece) {
        const int64_t stop = i + piece < end ? i + piece : end;
        for (int k = 0; k < INPUTS; ++k) {
            const T* x = in[k];
            if (k >= OUTPUTS) {
                T largest[64 / sizeof(T)] = {};
                int64_t j = i;
                for (; j + static_cast<int64_t>(64 / sizeof(T)) <= stop; j += 64 / sizeof(T))
                    for (int64_t lane = 0; lane < static_cast<int64_t>(64 / sizeof(T)); ++lane)
                        largest[lane] = x[j + lane] > largest[lane] ? x[j + lane] : largest[lane];
                for (T value : largest) used = value > used ? value : used;
            } else {
                write_elements(out[k], i, stop, a.nontemporal, [=](T* y, int64_t from, int64_t to) {
                    FASTOPT_INDEPENDENT
                    for (int64_t j = from; j < to; ++j) y[j - from] = x[j];
                });
            }
        }
    }
    asm volatile("" : : "r"(&used) : "memory");
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
