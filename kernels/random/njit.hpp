// Random numbers for compiled callers: see core/njit.hpp.
#pragma once

#include "core/njit.hpp"

namespace {

int64_t random_raw_uint32(uint32_t* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, int64_t domain) {
    const random_raw_args args = {out, address(seed, stream, domain), offset};
    return run(fastopt_kernels.random->random_raw[0], &args, n);
}

template <class T>
int64_t random_uniform(T* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, int64_t domain) {
    const random_uniform_args args = {out, address(seed, stream, domain), offset};
    return run(fastopt_kernels.random->random_uniform[TYPE<T>], &args, n);
}

template <class T>
int64_t random_normal(T* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, int64_t domain) {
    const random_normal_args args = {out, address(seed, stream, domain), offset};
    return run(fastopt_kernels.random->random_normal[TYPE<T>], &args, n);
}

int64_t random_integers_int64(int64_t* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, int64_t domain,
                              int64_t low, uint64_t range) {
    const random_integers_args args = {out, address(seed, stream, domain), offset, low, range};
    return run(fastopt_kernels.random->random_integers[0], &args, n);
}

int64_t random_permutation_int64(int64_t* out, int64_t n, uint64_t seed, uint64_t stream, int64_t domain) {
    fastopt_permutation(out, n, address(seed, stream, domain));
    return DONE;
}

}  // namespace

#define FASTOPT_SYMBOLS_random \
    ONE(1, random_raw_uint32), \
    BOTH(1, random_uniform), \
    BOTH(1, random_normal), \
    ONE(1, random_integers_int64), \
    ONE(1, random_permutation_int64)
