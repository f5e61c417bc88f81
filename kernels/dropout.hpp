// Inverted dropout, forward and backward alike: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, JMLR 2014.
// The decision of element e is its 16-bit value of the stream, so no mask is stored; a dropped element is selected away,
// not multiplied, so that NaN and infinity become +0.0 there.

template <class T>
void dropout(const dropout_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    const T scale = static_cast<T>(a.scale);
    const uint16_t threshold = static_cast<uint16_t>(a.threshold);
    const philox_stream s(a.address);
    constexpr int64_t PIECE = 1024, BLOCK = 8;  // a Philox block decides eight elements; ranges begin at multiples of it
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=](T* y, int64_t from, int64_t to) {
        alignas(64) uint32_t words[PIECE / 2 + 4];
        for (int64_t i = from; i < to;) {
            const int64_t skip = i % BLOCK;
            const int64_t n = to - i < PIECE ? to - i : PIECE;
            philox_words(words, s, static_cast<uint64_t>(i / BLOCK), (skip + n + BLOCK - 1) / BLOCK);
            const value16* value = reinterpret_cast<const value16*>(words) + skip;
            FASTOPT_INDEPENDENT
            for (int64_t k = 0; k < n; ++k) {
                const T kept = x[i + k] * scale;
                y[i - from + k] = value[k] >= threshold ? kept : T(0);
            }
            i += n;
        }
    });
}
