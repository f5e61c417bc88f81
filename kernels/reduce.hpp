// Sums in a fixed order, so that no thread count and no vector width shows in the result: blocks of FASTOPT_SUM_BLOCK
// elements; inside a block, lane j of 16 adds elements j, j + 16, ...; the lanes fold 16 -> 8 -> 4 -> 2 -> 1 by adding
// the upper half. The caller adds the block sums in order.

constexpr int SUM_LANES = 16;

template <class T>
void sum_squares(const sum_squares_args& a, int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
        const T* x = static_cast<const T*>(a.x) + block * FASTOPT_SUM_BLOCK;
        const int64_t rest = a.size - block * FASTOPT_SUM_BLOCK;
        const int64_t n = rest < FASTOPT_SUM_BLOCK ? rest : FASTOPT_SUM_BLOCK;
        double lane[SUM_LANES] = {};
        int64_t i = 0;
        for (; i + SUM_LANES <= n; i += SUM_LANES) {
            for (int j = 0; j < SUM_LANES; ++j) {
                const double value = static_cast<double>(x[i + j]);
                lane[j] += value * value;
            }
        }
        for (int j = 0; i + j < n; ++j) {
            const double value = static_cast<double>(x[i + j]);
            lane[j] += value * value;
        }
        for (int half = SUM_LANES / 2; half > 0; half /= 2)
            for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
        a.block_sums[block] = lane[0];
    }
}
