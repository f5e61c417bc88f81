# The cross-entropy method: candidates from their numbers, the choice of elites, the refit of the distribution.


cdef const void* cem_vector(object x, str name, ndarray like) except NULL:
    cdef ndarray a = checked_like(x, name, like, "mean")
    if not contiguous_order(a) & NPY_ARRAY_C_CONTIGUOUS:
        raise ValueError(f"{name}: expected a C-contiguous array")
    return PyArray_DATA(a)


cdef ndarray cem_distribution(distribution, cem_distribution_args* args):
    """Fill the record from a fastopt._cem_workers.Distribution, which keeps the arrays alive; return its mean."""
    mean, std, factor, lower, upper, seed, stream, population, antithetic, reflect = distribution
    cdef ndarray m = checked(mean, "mean"), f
    if PyArray_NDIM(m) != 1 or PyArray_SIZE(m) == 0:
        raise ValueError(f"mean: expected a 1-D array that is not empty, got shape {shape(m)}")
    args.mean = cem_vector(mean, "mean", m)
    args.std = cem_vector(std, "std", m)
    args.lower = args.upper = args.factor = NULL
    if lower is not None:
        args.lower = cem_vector(lower, "lower", m)
        args.upper = cem_vector(upper, "upper", m)
    args.dimensions = PyArray_SIZE(m)
    if factor is not None:
        f = checked(factor, "factor")
        if (PyArray_TYPE(f) != PyArray_TYPE(m) or shape(f) != (args.dimensions, args.dimensions)
                or not contiguous_order(f) & NPY_ARRAY_C_CONTIGUOUS):
            raise ValueError(f"factor: expected a C-contiguous array of {m.dtype} and shape "
                             f"{(args.dimensions, args.dimensions)}, got {f.dtype} and {shape(f)}")
        args.factor = PyArray_DATA(f)
    set_address(&args.address, seed, stream, 3)
    args.population = population
    args.antithetic = antithetic
    args.reflect = reflect
    return m


cdef inline int64_t cem_padded(int64_t dimensions) noexcept:
    return (dimensions + 31) // 32 * 32


cdef inline fastopt_job cem_job(fastopt_kernel kernel, const void* args, int64_t size, int64_t numbers_each) noexcept:
    """A job over `size` items that each need so many normal numbers. Where there are many, its chunks are small: all
    threads are to end together, with the scores that the caller waits for."""
    cdef fastopt_job job
    cdef int64_t numbers = size * numbers_each, grain = RANDOM_GRAIN
    if numbers >= 2 * RANDOM_GRAIN:
        grain = min(RANDOM_GRAIN, max(RANDOM_GRAIN // 4, numbers // 32))
    job.kernel = kernel
    job.args = args
    job.size = size
    job.grain = max(1, grain // max(1, numbers_each))
    return job


cdef inline void cem_run(fastopt_kernel kernel, const void* args, int64_t size, int64_t numbers_each) noexcept:
    cdef fastopt_job job = cem_job(kernel, args, size, numbers_each)
    run_jobs(&job, 1, size * numbers_each)


cdef ndarray cem_numbers(object indices):
    if PyArray_CheckExact(indices) and PyArray_TYPE(<ndarray>indices) == NPY_INT64 and contiguous_order(<ndarray>indices):
        return <ndarray>indices
    return np.ascontiguousarray(indices, np.int64)


cdef ndarray cem_output(cem_candidates_args* args, ndarray mean, int64_t count):
    cdef npy_intp[2] dimensions = [count, args.distribution.dimensions]
    cdef ndarray out = PyArray_EMPTY(2, dimensions, PyArray_TYPE(mean), 0)
    args.out = PyArray_DATA(out)
    return out


cdef object cem_scratch(cem_candidates_args* args, ndarray mean, int64_t count):
    args.scratch = NULL
    if args.distribution.factor == NULL:
        return None
    scratch = np.empty((count, cem_padded(args.distribution.dimensions)), mean.dtype)
    args.scratch = PyArray_DATA(<ndarray>scratch)
    return scratch


def cem_candidates(distribution, int64_t first, int64_t count, indices=None):
    """Return candidates first, first + 1, ..., or those of the int64 array `indices`, as rows of a new array."""
    cdef cem_candidates_args args
    cdef ndarray mean = cem_distribution(distribution, &args.distribution), numbers, out
    args.indices = NULL
    args.first = first
    if indices is not None:
        numbers = cem_numbers(indices)
        args.indices = <const int64_t*>PyArray_DATA(numbers)
        count = PyArray_SIZE(numbers)
    out = cem_output(&args, mean, count)
    scratch = cem_scratch(&args, mean, count)
    cem_run(fastopt_kernels.cem_candidates[element_type(mean)], &args, count, cem_padded(args.distribution.dimensions))
    return out


cdef class CandidatesAhead:
    """Candidates first, first + 1, ... as rows of a new array, made by the pool while the caller scores the first of them.

    A context manager: within it a slice is an array of rows that are there; the distribution must not change."""

    cdef cem_candidates_args args
    cdef fastopt_ahead* ahead
    cdef object distribution, scratch
    cdef ndarray out

    def __cinit__(self, distribution, int64_t first, int64_t count):
        cdef ndarray mean = cem_distribution(distribution, &self.args.distribution)
        self.args.indices = NULL
        self.args.first = first
        self.distribution = distribution
        self.out = cem_output(&self.args, mean, count)
        self.scratch = cem_scratch(&self.args, mean, count)
        cdef fastopt_job job = cem_job(fastopt_kernels.cem_candidates[element_type(mean)], &self.args, count,
                                       cem_padded(self.args.distribution.dimensions))
        self.ahead = fastopt_begin(&job)
        if self.ahead == NULL:
            raise MemoryError

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    def __dealloc__(self):
        self.end()

    cdef void end(self) noexcept:
        if self.ahead != NULL:
            with nogil:
                fastopt_end(self.ahead)
            self.ahead = NULL

    def __getitem__(self, rows):
        cdef int64_t stop = rows.stop
        if self.ahead == NULL:
            raise RuntimeError("the candidates were given up")
        with nogil:
            fastopt_wait(self.ahead, stop)
        return self.out[rows]


def cem_score(distribution, int64_t first, int64_t count, uintptr_t function):
    """Return the scores of candidates first, first + 1, ... by the compiled function at that address (fastopt.h).

    None if it failed, or if a candidate is too long to be scored where it is made."""
    cdef cem_score_args args
    cdef int failed = 0
    cdef ndarray mean = cem_distribution(distribution, &args.candidates.distribution)
    cdef int64_t padded = cem_padded(args.candidates.distribution.dimensions)
    if padded > FASTOPT_SCORE_ELEMENTS:
        return None
    cdef ndarray scores = PyArray_EMPTY(1, <npy_intp*>&count, NPY_DOUBLE, 0)
    args.candidates.indices = NULL
    args.candidates.first = first
    args.scores = <double*>PyArray_DATA(scores)
    args.score = <cem_score_function>function
    args.failed = &failed
    cem_run(fastopt_kernels.cem_score[element_type(mean)], &args, count, padded)
    return None if failed else scores


def cem_elites(scores, int64_t wanted, bint maximize):
    """Return (the numbers of the best `wanted` of the finite scores, rising; the number of the best, or -1)."""
    cdef ndarray s = checked(scores, "scores")
    if PyArray_TYPE(s) != NPY_DOUBLE or PyArray_NDIM(s) != 1 or not contiguous_order(s):
        raise TypeError(f"scores: expected a contiguous 1-D array of float64, got {s.dtype} and shape {shape(s)}")
    cdef int64_t n = PyArray_SIZE(s), best, found
    wanted = min(wanted, n)
    cdef ndarray elites = PyArray_EMPTY(1, <npy_intp*>&wanted, NPY_INT64, 0)
    cdef double* work = <double*>malloc(max(1, n) * sizeof(double))
    if work == NULL:
        raise MemoryError
    with nogil:
        found = fastopt_select_elites(<int64_t*>PyArray_DATA(elites), &best, <const double*>PyArray_DATA(s), n, wanted,
                                      maximize, work)
    free(work)
    return (elites if found == wanted else elites[:found]), best


def cem_refit(distribution, elites, bint about_new_mean, double mean_lr, double std_lr, double extra_variance,
              double min_std):
    """Refit the distribution to the candidates of these numbers: its mean, std and factor are written in place.

    Return the largest std."""
    cdef cem_refit_args args
    cdef ndarray mean = cem_distribution(distribution, &args.distribution), work, candidates
    cdef ndarray numbers = cem_numbers(elites)
    cdef int64_t n = args.distribution.dimensions
    writable(mean, "mean")
    writable(distribution[1], "std")
    if args.distribution.factor != NULL:
        writable(distribution[2], "factor")
    args.mean = <void*>args.distribution.mean
    args.std = <void*>args.distribution.std
    args.factor = <void*>args.distribution.factor
    args.elites = <const int64_t*>PyArray_DATA(numbers)
    args.count = PyArray_SIZE(numbers)
    args.mean_lr = mean_lr
    args.std_lr = std_lr
    args.extra_variance = extra_variance
    args.min_std = min_std
    args.about_new_mean = about_new_mean
    if args.distribution.factor == NULL:
        # To draw a number and to take it into the moments costs about twice what drawing it does.
        cem_run(fastopt_kernels.cem_refit[element_type(mean)], &args, cem_padded(n) // 32, 64 * args.count)
    else:
        candidates = cem_candidates(distribution, 0, 0, numbers)
        work = np.empty(2 * n * n + 3 * n)
        args.elite_candidates = PyArray_DATA(candidates)
        args.work = <double*>PyArray_DATA(work)
        run(fastopt_kernels.cem_refit_full[element_type(mean)], &args, 1, 1)
    return fastopt_largest(args.std, n, element_type(mean))
