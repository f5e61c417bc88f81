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


def fill_random_integers(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain, uint64_t offset, int64_t low,
                         uint64_t range):
    """Fill C-contiguous int64 `out` with numbers offset, offset + 1, ... of a stream in [low, low + range)."""
    cdef random_integers_args args = random_integers_args(
        out=<int64_t*>PyArray_DATA(out), address=address_of(seed, stream, domain), offset=offset, low=low, range=range)
    run(fastopt_kernels.random.random_integers[0], &args, PyArray_SIZE(out), RANDOM_GRAIN)


def fill_permutation(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain):
    """Fill C-contiguous int64 `out` with 0, 1, ... in the order of a stream."""
    cdef int64_t n = PyArray_SIZE(out)
    cdef int64_t* numbers = <int64_t*>PyArray_DATA(out)
    cdef random_address address = address_of(seed, stream, domain)
    if n < 1 << 10:  # over in microseconds: see run_jobs_of
        fastopt_permutation(numbers, n, address)
    else:
        with nogil:
            fastopt_permutation(numbers, n, address)
