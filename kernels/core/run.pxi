# How a kernel is run: on a record of its arguments, in chunks on the pool.

# The work worth a second thread, in items (fastopt_job): about 10 microseconds of each kernel in cache.
cdef enum:
    ELEMENTWISE_GRAIN = 1 << 16
    RANDOM_GRAIN = 1 << 14
    OPTIMIZER_GRAIN = 1 << 14
    SUM_GRAIN = 16  # blocks of FASTOPT_SUM_BLOCK


cdef inline double work_of(int64_t size, int64_t grain) noexcept:
    """The work of a job whose grain is worth a second thread, in such units."""
    return <double>size / <double>grain


cdef inline void run_jobs(fastopt_job* jobs, Py_ssize_t count) noexcept:
    cdef double work = 0
    cdef Py_ssize_t k
    for k in range(count):
        work += work_of(jobs[k].size, jobs[k].grain)
    run_jobs_of(jobs, count, work)


cdef inline void run_jobs_of(fastopt_job* jobs, Py_ssize_t count, double work) noexcept:
    if work < 1. / 32:  # over in a microsecond, before another thread could have taken the GIL
        fastopt_run(jobs, count, work)
    else:
        with nogil:
            fastopt_run(jobs, count, work)


cdef inline void run(fastopt_kernel kernel, const void* args, int64_t size, int64_t grain) noexcept:
    run_work(kernel, args, size, grain, work_of(size, grain))


cdef inline void run_work(fastopt_kernel kernel, const void* args, int64_t size, int64_t grain, double work) noexcept:
    """The same where a chunk may be much more or less than what is worth a second thread, of which there is `work`."""
    cdef fastopt_job job = fastopt_job(kernel=kernel, args=args, size=size, grain=grain, first_chunk=0)
    run_jobs_of(&job, 1, work)


cdef inline int element_type(ndarray a) noexcept:
    return 0 if PyArray_TYPE(a) == NPY_FLOAT else 1


cdef inline bint around_cache(ndarray y, ndarray x) noexcept:
    return PyArray_NBYTES(y) >= FASTOPT_NONTEMPORAL_BYTES and PyArray_DATA(y) != PyArray_DATA(x)


cdef inline random_address address_of(uint64_t seed, uint64_t stream, uint32_t domain) noexcept:
    return random_address(seed=seed, stream=stream, domain=domain)


# The (inputs, outputs) that kernels/core/stream.hpp has.
cdef object _streams = {(1, 0), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 3), (4, 4), (5, 4), (5, 5), (6, 5)}


def stream(list outs, list ins, bint nontemporal, grain=None):
    """Move the bytes of an op without its arithmetic: outs[k] takes ins[k], the other inputs are read. For benchmarks."""
    cdef stream_args args
    cdef int k
    memset(&args, 0, sizeof(args))
    if (len(ins), len(outs)) not in _streams:
        raise ValueError(f"ins, outs: expected as many as one of {sorted(_streams)}, got {(len(ins), len(outs))}")
    cdef ndarray first = checked(ins[0], "ins[0]")
    for k in range(len(ins)):
        args.in_[k] = PyArray_DATA(checked_like(ins[k], f"ins[{k}]", first, "ins[0]"))
    for k in range(len(outs)):
        args.out[k] = PyArray_DATA(checked_like(outs[k], f"outs[{k}]", first, "ins[0]"))
        writable(outs[k], f"outs[{k}]")
    if not all((<ndarray>a).flags.carray for a in outs) or not all((<ndarray>a).flags.c_contiguous for a in ins):
        raise ValueError("ins, outs: expected C-contiguous arrays")
    args.inputs = len(ins)
    args.outputs = len(outs)
    args.nontemporal = nontemporal
    run(fastopt_kernels.core.stream[element_type(first)], &args, PyArray_SIZE(first),
        ELEMENTWISE_GRAIN if grain is None else <int64_t>grain)
