# Random numbers: arrays filled from an address.


def fill_random_raw(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain, uint64_t offset):
    """Fill C-contiguous uint32 `out` with words offset, offset + 1, ... of a stream."""
    cdef random_raw_args args = random_raw_args(
        out=<uint32_t*>PyArray_DATA(out), address=address_of(seed, stream, domain), offset=offset)
    run(fastopt_kernels.random.random_raw[0], &args, PyArray_SIZE(out), RANDOM_GRAIN)


def fill_random_uniform(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain, uint64_t offset):
    """Fill C-contiguous float `out` with uniforms offset, offset + 1, ... of a stream."""
    cdef random_uniform_args args = random_uniform_args(
        out=PyArray_DATA(out), address=address_of(seed, stream, domain), offset=offset)
    run(fastopt_kernels.random.random_uniform[element_type(out)], &args, PyArray_SIZE(out), RANDOM_GRAIN)


def fill_random_normal(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain, uint64_t offset):
    """Fill C-contiguous float `out` with standard normal numbers offset, offset + 1, ... of a stream."""
    cdef random_normal_args args = random_normal_args(
        out=PyArray_DATA(out), address=address_of(seed, stream, domain), offset=offset)
    run(fastopt_kernels.random.random_normal[element_type(out)], &args, PyArray_SIZE(out), RANDOM_GRAIN)
