/* Random numbers by address. */
#ifndef FASTOPT_RANDOM_H
#define FASTOPT_RANDOM_H

#include "core/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out[i] = the 32-bit word of element offset + i. Both element types have the same kernel. */
typedef struct {
    uint32_t *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^64 - n */
} random_raw_args;

/* out[i] = uniform in [0, 1) of element offset + i: 24 bits of word e (float), 53 bits of words 2e, 2e + 1 (double) */
typedef struct {
    void *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^66 / bytes - n */
} random_uniform_args;

/* out[i] = standard normal number of element offset + i (kernels/random/normal.hpp) */
typedef struct {
    void *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^66 / bytes - n */
} random_normal_args;

/* out[i] = low + floor(u * range / 2^64), u the 64 bits of words 2e (low) and 2e + 1 (high) of element e = offset + i. Both
   element types have the same kernel. */
typedef struct {
    int64_t *out; /* [n] */
    random_address address;
    uint64_t offset; /* 0..2^63 - n */
    int64_t low; /* -2^63..2^63 - 1 */
    uint64_t range; /* 0..2^64 - 1 (0: 2^64) */
} random_integers_args;

#define FASTOPT_KERNELS_random(KERNEL)          \
    KERNEL(random_raw, random_raw_args)         \
    KERNEL(random_uniform, random_uniform_args) \
    KERNEL(random_normal, random_normal_args)   \
    KERNEL(random_integers, random_integers_args)
FASTOPT_TABLE(random)

#ifdef __cplusplus
}
#endif
#endif
