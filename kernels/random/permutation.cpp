// Random order: Fisher and Yates' shuffle, each exchange from its own address.
#include "runtime.h"

#include "random/below.hpp"

#include <utility>

extern "C" void fastopt_permutation(int64_t* out, int64_t n, random_address address) {
    constexpr int64_t PIECE = 512;
    uint32_t words[2 * PIECE];
    for (int64_t begin = 0; begin < n; begin += PIECE) {
        const int64_t end = n - begin < PIECE ? n : begin + PIECE;
        const random_raw_args args = {words, address, 2 * static_cast<uint64_t>(begin)};
        fastopt_kernels.random->random_raw[0](&args, 0, 2 * (end - begin));
        for (int64_t i = begin; i < end; ++i) {
            const uint64_t other = below(two_words(words + 2 * (i - begin)), static_cast<uint64_t>(i) + 1);
            out[i] = i;
            std::swap(out[i], out[other]);
        }
    }
}
