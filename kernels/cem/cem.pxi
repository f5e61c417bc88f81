# The cross-entropy method: candidates from their numbers, the choice of elites, the refit of the distribution.

cdef enum:
    DOMAIN_CEM = 3


cdef ndarray cem_vector(object x, str name, ndarray like):
    return checked_like(np.require(x, requirements="CA"), name, like, "mean")


_FIELDS = ("mean", "std", "factor", "lower", "upper", "seed", "stream", "population", "antithetic", "reflect", "path")


cdef class Distribution:
    """All that determines the candidates of one generation: candidate i is a function of this and of i.

    Arrays are of one dtype, float32 or float64, and are not to be changed: `mean`, `std`, `lower` and `upper` (None: no
    bounds) have one element for each dimension, `factor` (None: the identity) is upper triangular. `stream` is
    generation | restart << 32 under the run's key `seed`. Candidates 0 .. population - 1 are drawn; number `population`
    is the mean itself. `path` is of float64, or None, which is the textbook's method: refits alone read it, and a pickle, which workers are sent, goes without.
    """

    cdef readonly ndarray mean, std
    cdef readonly object factor, lower, upper, path
    cdef readonly uint64_t seed, stream
    cdef readonly int64_t population
    cdef readonly bint antithetic, reflect
    cdef readonly double largest_mean, largest_std  # of their absolute values
    cdef cem_distribution_args args  # all of it, for the kernels

    def __init__(self, mean, std, factor, lower, upper, seed, stream, population, antithetic, reflect, path=None):
        # Aligned: engines may hand over arrays as they lie in a message (Dask does).
        self.mean = checked(np.require(mean, requirements="CA"), "mean")
        if PyArray_NDIM(self.mean) != 1 or PyArray_SIZE(self.mean) == 0:
            raise ValueError(f"mean: expected a 1-D array that is not empty, got shape {shape(self.mean)}")
        self.std = cem_vector(std, "std", self.mean)
        self.lower = None if lower is None else cem_vector(lower, "lower", self.mean)
        self.upper = None if upper is None else cem_vector(upper, "upper", self.mean)
        self.seed, self.stream, self.population = seed, stream, population
        self.antithetic, self.reflect = antithetic, reflect
        cdef int64_t n = PyArray_SIZE(self.mean)
        cdef ndarray f
        self.factor = None
        if factor is not None:
            f = checked(np.require(factor, requirements="CA"), "factor")
            if PyArray_TYPE(f) != PyArray_TYPE(self.mean) or shape(f) != (n, n):
                raise ValueError(f"factor: expected an array of {self.mean.dtype} and shape {(n, n)}, "
                                 f"got {f.dtype} and {shape(f)}")
            self.factor = f
        self.path = None
        if path is not None:
            f = checked(np.require(path, requirements="CA"), "path")
            if PyArray_TYPE(f) != NPY_DOUBLE or shape(f) != (n,):
                raise ValueError(f"path: expected an array of float64 and shape {(n,)}, got {f.dtype} and {shape(f)}")
            self.path = f
        self.args.lower = NULL if lower is None else PyArray_DATA(<ndarray>self.lower)
        self.args.upper = NULL if upper is None else PyArray_DATA(<ndarray>self.upper)
        self.args.dimensions = n
        self.args.population = population
        self.args.antithetic = antithetic
        self.args.reflect = reflect
        self.point_to_what_moves()

    cdef void point_to_what_moves(self) noexcept:
        cdef int element = element_type(self.mean)
        self.args.mean = PyArray_DATA(self.mean)
        self.args.std = PyArray_DATA(self.std)
        self.args.factor = NULL if self.factor is None else PyArray_DATA(<ndarray>self.factor)
        self.args.address = address_of(self.seed, self.stream, DOMAIN_CEM)
        self.largest_mean = fastopt_largest_magnitude(self.args.mean, self.args.dimensions, element, 0)
        self.largest_std = fastopt_largest_magnitude(self.args.std, self.args.dimensions, element, 0)

    cdef Distribution following(self, ndarray mean, ndarray std, object factor, object path):
        """The next generation's, of arrays that fit."""
        cdef Distribution d = Distribution.__new__(Distribution)
        d.mean, d.std, d.factor, d.lower, d.upper, d.path = mean, std, factor, self.lower, self.upper, path
        d.seed, d.stream, d.population = self.seed, self.stream + 1, self.population
        d.antithetic, d.reflect = self.antithetic, self.reflect
        d.args = self.args
        d.point_to_what_moves()
        return d

    def __reduce__(self):
        return Distribution, tuple([getattr(self, name) for name in _FIELDS if name != "path"])

    def replaced(self, **changes):
        """Return a copy of which these fields are others."""
        return Distribution(**{name: getattr(self, name) for name in _FIELDS} | changes)

    @property
    def where(self):
        return f"generation {self.stream & 0xFFFFFFFF}, restart {self.stream >> 32}"


cdef inline int64_t cem_padded(int64_t dimensions) noexcept:
    return (dimensions + 31) // 32 * 32


cdef inline fastopt_job cem_job(fastopt_kernel kernel, const void* args, int64_t size, int64_t numbers_each) noexcept:
    """A job over `size` items that each need so many normal numbers. Where there are many, its chunks are small: all
    threads are to end together, with the scores that the caller waits for."""
    cdef int64_t numbers = size * numbers_each, grain = RANDOM_GRAIN
    if numbers >= 2 * RANDOM_GRAIN:
        grain = min(RANDOM_GRAIN, max(RANDOM_GRAIN // 4, numbers // 32))
    return fastopt_job(kernel=kernel, args=args, size=size, grain=max(1, grain // max(1, numbers_each)),
                       first_chunk=0)


cdef inline void cem_run(fastopt_kernel kernel, const void* args, int64_t size, int64_t numbers_each) noexcept:
    cdef fastopt_job job = cem_job(kernel, args, size, numbers_each)
    run_jobs(&job, 1)


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
    cdef int64_t padded = cem_padded(args.distribution.dimensions)
    if args.distribution.factor == NULL or padded <= FASTOPT_CEM_SHORT:
        return None
    scratch = np.empty((count, padded), mean.dtype)
    args.scratch = PyArray_DATA(<ndarray>scratch)
    return scratch


def cem_candidates(Distribution distribution not None, int64_t first, int64_t count, indices=None):
    """Return candidates first, first + 1, ..., or those of the int64 array `indices`, as rows of a new array."""
    cdef cem_candidates_args args = cem_candidates_args(
        out=NULL, distribution=distribution.args, indices=NULL, first=first, scratch=NULL)
    cdef ndarray mean = distribution.mean, numbers, out
    if indices is not None:
        numbers = cem_numbers(indices)
        args.indices = <const int64_t*>PyArray_DATA(numbers)
        count = PyArray_SIZE(numbers)
    out = cem_output(&args, mean, count)
    scratch = cem_scratch(&args, mean, count)
    cem_run(fastopt_kernels.cem.cem_candidates[element_type(mean)], &args, count, cem_padded(args.distribution.dimensions))
    return out


@cython.no_gc_clear  # the pool writes into the arrays until the end
cdef class CandidatesAhead:
    """Candidates first, first + 1, ... as rows of a new array, made by the pool while the caller scores the first of them.

    A context manager: within it a slice is an array of rows that are there."""

    cdef cem_candidates_args args
    cdef fastopt_ahead* ahead
    cdef object distribution, scratch
    cdef ndarray out

    def __cinit__(self, Distribution distribution not None, int64_t first, int64_t count):
        cdef ndarray mean = distribution.mean
        self.args = cem_candidates_args(
            out=NULL, distribution=distribution.args, indices=NULL, first=first, scratch=NULL)
        self.distribution = distribution
        self.out = cem_output(&self.args, mean, count)
        self.scratch = cem_scratch(&self.args, mean, count)
        cdef fastopt_job job = cem_job(fastopt_kernels.cem.cem_candidates[element_type(mean)], &self.args, count,
                                       cem_padded(self.args.distribution.dimensions))
        self.ahead = fastopt_begin(&job, work_of(job.size, job.grain), NULL)
        if self.ahead == NULL:
            raise MemoryError

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    def __dealloc__(self):
        self.end()

    cdef void end(self) noexcept:
        cdef fastopt_ahead* ahead = self.ahead
        self.ahead = NULL  # before the GIL goes to another thread
        if ahead != NULL:
            with nogil:
                fastopt_end(ahead)

    def __getitem__(self, rows):
        cdef int64_t stop = rows.stop
        if self.ahead == NULL:
            raise RuntimeError("the candidates were given up")
        with nogil:
            fastopt_wait(self.ahead, stop)
        return self.out[rows]


cdef class CompiledScore:
    """An objective that Numba has compiled: fastopt_score of kernels/runtime.h at that address.

    `owner` keeps the code alive; `calls_python` says whether it may take the GIL."""

    cdef readonly object owner
    cdef fastopt_score function
    cdef bint calls_python
    cdef int64_t nanoseconds_each

    def __init__(self, owner, uintptr_t address, bint calls_python):
        self.owner, self.function, self.calls_python = owner, <fastopt_score>address, calls_python


cdef extern from *:
    """
    static int fastopt_raise_current(void) { return -1; }  /* what the interpreter has been told already */
    """
    int fastopt_raise_current() except -1


def cem_score(Distribution distribution not None, int64_t first, int64_t count, CompiledScore score not None):
    """Return the scores of candidates first, first + 1, ...; None if the function raised in compiled code.

    What it raised in Python, and what the handler of a signal raised, is raised here."""
    cdef ndarray scores = PyArray_EMPTY(1, <npy_intp*>&count, NPY_DOUBLE, 0)
    cdef int64_t at, grain
    cdef int outcome, element = element_type(distribution.mean)
    cdef cem_score_args args = cem_score_args(
        scores=<double*>PyArray_DATA(scores),
        candidates=cem_candidates_args(out=NULL, distribution=distribution.args, indices=NULL, first=first, scratch=NULL),
        make_candidates=fastopt_kernels.cem.cem_candidates[element], element_bytes=PyArray_ITEMSIZE(distribution.mean),
        score=score.function, calls_python=score.calls_python, nanoseconds_each=&score.nanoseconds_each)
    grain = cem_job(NULL, NULL, count, cem_padded(distribution.args.dimensions)).grain
    with nogil:
        outcome = fastopt_score_candidates(&args, count, grain, &at)
    if outcome == FASTOPT_SCORE_NO_MEMORY:
        raise MemoryError
    if outcome == FASTOPT_SCORE_EXCEPTION:
        try:
            fastopt_raise_current()
        except Exception as error:
            if at >= 0:
                error.add_note(f"raised while scoring candidate {first + at} of {distribution.where}")
            raise
    return scores if outcome == FASTOPT_SCORED else None


cdef ndarray elites_of(ndarray scores, int64_t n, int64_t wanted, bint maximize):
    """cem_elites of the first n scores, a contiguous array of float64."""
    cdef int64_t found
    wanted = min(wanted, n)
    cdef ndarray elites = PyArray_EMPTY(1, <npy_intp*>&wanted, NPY_INT64, 0)
    cdef int64_t* numbers = <int64_t*>PyArray_DATA(elites)
    cdef const double* s = <const double*>PyArray_DATA(scores)
    cdef double* work = <double*>malloc(max(1, n) * sizeof(double))
    if work == NULL:
        raise MemoryError
    if n < 2048:  # over in microseconds: see run_jobs_of
        found = fastopt_select_elites(numbers, s, n, wanted, maximize, work)
    else:
        with nogil:
            found = fastopt_select_elites(numbers, s, n, wanted, maximize, work)
    free(work)
    return elites if found == wanted else elites[:found]


cdef ndarray checked_scores(scores, int64_t least):
    cdef ndarray s = checked(scores, "scores")
    if PyArray_TYPE(s) != NPY_DOUBLE or PyArray_NDIM(s) != 1 or not contiguous_order(s) or PyArray_SIZE(s) < least:
        raise TypeError(f"scores: expected a contiguous 1-D array of at least {least} float64, "
                        f"got {s.dtype} and shape {shape(s)}")
    return s


def cem_elites(scores, int64_t wanted, bint maximize):
    """Return the numbers of the best `wanted` of the finite scores, the best first."""
    cdef ndarray s = checked_scores(scores, 0)
    return elites_of(s, PyArray_SIZE(s), wanted, maximize)


def cem_scores(values, ndarray x):
    """Return an array with a score for each row of x as a new one of float64; None if `values` is something else."""
    if not PyArray_CheckExact(values):
        return None
    cdef ndarray given = values, scores
    cdef npy_intp count = PyArray_DIMS(x)[0]
    if PyArray_NDIM(given) != 1 or PyArray_SIZE(given) != count or PyArray_TYPE(given) not in (NPY_FLOAT, NPY_DOUBLE):
        return None
    scores = PyArray_EMPTY(1, &count, NPY_DOUBLE, 0)
    PyArray_CopyInto(scores, given)
    return scores


cdef class _Refit:
    """A refit that is to be run: its record, and the arrays of the next distribution."""

    cdef cem_refit_args args
    cdef Distribution distribution
    cdef ndarray mean, std, numbers, weights, candidates, work
    cdef object factor, path

    cdef int prepare(self, Distribution distribution, object elites, tuple options) except -1:
        cdef double mean_lr, std_lr, extra_variance, min_std
        cdef bint about_new_mean
        cdef npy_intp n = distribution.args.dimensions
        cdef int dtype = PyArray_TYPE(distribution.mean)
        self.distribution, self.factor, self.path = distribution, distribution.factor, distribution.path
        self.mean, self.std, self.numbers = distribution.mean, distribution.std, cem_numbers(elites)
        cdef int64_t count = PyArray_SIZE(self.numbers)
        if count == 0:
            return 0
        about_new_mean, mean_lr, std_lr, extra_variance, min_std = options
        self.mean, self.std = PyArray_EMPTY(1, &n, dtype, 0), PyArray_EMPTY(1, &n, dtype, 0)
        self.args = cem_refit_args(
            mean=PyArray_DATA(self.mean), std=PyArray_DATA(self.std), factor=NULL, work=NULL, path=NULL, before=NULL,
            distribution=distribution.args, elites=<const int64_t*>PyArray_DATA(self.numbers), elite_candidates=NULL,
            weights=NULL, count=count, total=0, effective=0, fair=0, keep=0, push=0, rank_one=0, mean_lr=mean_lr,
            std_lr=std_lr, extra_variance=extra_variance, min_std=min_std, about_new_mean=about_new_mean)
        if self.path is not None:
            self.weights = PyArray_EMPTY(1, <npy_intp*>&count, NPY_DOUBLE, 0)
            self.args.weights = <const double*>PyArray_DATA(self.weights)
            self.args.before = <const double*>PyArray_DATA(<ndarray>self.path)
            self.path = PyArray_EMPTY(1, &n, NPY_DOUBLE, 0)
            self.args.path = <double*>PyArray_DATA(<ndarray>self.path)
        fastopt_cem_scalars(&self.args, <double*>self.args.weights)
        if self.factor is not None:
            self.factor = np.empty((n, n), self.mean.dtype)
            self.candidates = cem_candidates(distribution, 0, 0, self.numbers)
            self.work = np.empty(2 * n * n + 3 * n)
            self.args.factor = PyArray_DATA(<ndarray>self.factor)
            self.args.elite_candidates = PyArray_DATA(self.candidates)
            self.args.work = <double*>PyArray_DATA(self.work)
        return 0

    cdef double job(self, fastopt_job* job) noexcept:
        """Fill in the job, which is empty without elites; return its work."""
        cdef int64_t n = self.distribution.args.dimensions
        cdef int element = element_type(self.mean)
        if self.args.count == 0:
            job[0] = fastopt_job(kernel=fastopt_kernels.cem.cem_refit[element], args=&self.args, size=0, grain=1, first_chunk=0)
        elif self.factor is None:
            # To draw a number and to take it into the moments costs about twice what drawing it does.
            job[0] = cem_job(fastopt_kernels.cem.cem_refit[element], &self.args, cem_padded(n) // 32, 64 * self.args.count)
        else:
            job[0] = fastopt_job(kernel=fastopt_kernels.cem.cem_refit_full[element], args=&self.args, size=1, grain=1,
                                 first_chunk=0)
            return <double>(n * n) * (self.args.count + n) / (1 << 16)
        return work_of(job.size, job.grain)

    cdef Distribution following(self):
        """The next generation's distribution, after the job. Without elites it is as it was."""
        if self.args.count > 0 and self.path is not None:
            fastopt_cem_scale(&self.args, element_type(self.mean))
        return self.distribution.following(self.mean, self.std, self.factor, self.path)


cdef Distribution refitted(Distribution distribution, object elites, tuple options):
    cdef _Refit refit = _Refit.__new__(_Refit)
    cdef fastopt_job job
    refit.prepare(distribution, elites, options)
    run_jobs_of(&job, 1, refit.job(&job))
    return refit.following()


def cem_refit(Distribution distribution not None, elites, bint about_new_mean, double mean_lr, double std_lr,
              double extra_variance, double min_std):
    """Return the distribution of the next generation, refitted to the candidates of these numbers, the best first.

    Without elites it stays as it is. A std_lr of 0 is chosen by their number."""
    return refitted(distribution, elites, (about_new_mean, mean_lr, std_lr, extra_variance, min_std))


def cem_update(Distribution distribution not None, scores, int64_t wanted, bint maximize, tuple options):
    """Refit to the best `wanted` of the candidates, whose scores are the first of `scores`; with fewer than two finite
    ones there are no elites.

    `options` are the last arguments of cem_refit. Return (elites, number of the best or -1, its score or NaN, the next
    distribution)."""
    cdef ndarray s = checked_scores(scores, distribution.population)
    cdef ndarray elites = elites_of(s, distribution.population, wanted, maximize)
    cdef int64_t k = (<int64_t*>PyArray_DATA(elites))[0] if PyArray_SIZE(elites) > 0 else -1
    if PyArray_SIZE(elites) < 2:
        elites = elites[:0]
    return elites, k, (<double*>PyArray_DATA(s))[k] if k >= 0 else NAN, refitted(distribution, elites, options)
