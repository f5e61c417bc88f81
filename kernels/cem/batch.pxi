# Several problems of the cross-entropy method at once: one run of the pool for what each of them needs.

cdef fastopt_job* room_for_jobs(Py_ssize_t count) except NULL:
    cdef fastopt_job* jobs = <fastopt_job*>malloc(max(1, count) * sizeof(fastopt_job))
    if jobs == NULL:
        raise MemoryError
    return jobs


cdef ndarray chosen(ndarray found, ndarray scores, int64_t n, int64_t wanted, bint maximize):
    """The numbers of the elites of each row of scores, of which the first n count, as rows; found[k] of them in row k."""
    cdef int64_t rows = PyArray_DIMS(scores)[0]
    cdef npy_intp[2] dimensions = [rows, min(wanted, n)]
    cdef ndarray elites = PyArray_EMPTY(2, dimensions, NPY_INT64, 0)
    cdef elite_choice choice = elite_choice(
        elites=<int64_t*>PyArray_DATA(elites), found=<int64_t*>PyArray_DATA(found),
        scores=<const double*>PyArray_DATA(scores), n=n, stride=PyArray_DIMS(scores)[1], wanted=dimensions[1],
        maximize=maximize, work=<double*>malloc(max(1, rows * n) * sizeof(double)))
    if choice.work == NULL:
        raise MemoryError
    # A score takes about four times as long as a random number.
    run(fastopt_select_elites_of, &choice, rows, max(1, RANDOM_GRAIN // (4 * max(1, n))))
    free(choice.work)
    return elites


def cem_candidates_of(list distributions, int64_t first, int64_t count):
    """Return candidates first, first + 1, ... of each distribution, of one dtype and length: (problems, count, dimensions)."""
    cdef Py_ssize_t k, problems = len(distributions)
    cdef Distribution d = distributions[0]
    cdef npy_intp[3] dimensions = [problems, count, d.args.dimensions]
    cdef int64_t padded = cem_padded(d.args.dimensions)
    cdef ndarray out = PyArray_EMPTY(3, dimensions, PyArray_TYPE(d.mean), 0)
    cdef fastopt_kernel kernel = fastopt_kernels.cem.cem_candidates[element_type(d.mean)]
    cdef size_t step = count * d.args.dimensions * PyArray_ITEMSIZE(d.mean)
    cdef cem_candidates_args* args
    cdef fastopt_job* jobs
    if d.args.factor != NULL and padded > FASTOPT_CEM_SHORT:  # these need scratch: one after the other
        for k in range(problems):
            out[k] = cem_candidates(distributions[k], first, count)
        return out
    jobs = room_for_jobs(problems)
    args = <cem_candidates_args*>malloc(problems * sizeof(cem_candidates_args))
    if args == NULL:
        free(jobs)
        raise MemoryError
    for k in range(problems):
        d = <Distribution>distributions[k]
        args[k] = cem_candidates_args(out=<char*>PyArray_DATA(out) + k * step, distribution=d.args, indices=NULL,
                                      first=first, scratch=NULL)
        jobs[k] = cem_job(kernel, &args[k], count, padded)
    run_jobs(jobs, problems)
    free(args)
    free(jobs)
    return out


def cem_update_of(list distributions, scores, int64_t wanted, bint maximize, tuple options):
    """cem_update of each distribution, all of one population, with row k of the scores: a list."""
    cdef Py_ssize_t k, problems = len(distributions)
    cdef int64_t best, population = (<Distribution>distributions[0]).population
    cdef ndarray s = checked(scores, "scores")
    if PyArray_TYPE(s) != NPY_DOUBLE or not contiguous_order(s) & NPY_ARRAY_C_CONTIGUOUS or PyArray_NDIM(s) != 2 or \
            PyArray_DIMS(s)[0] != problems or PyArray_DIMS(s)[1] < population:
        raise TypeError(f"scores: expected a C-contiguous array of float64 and shape {(problems, population)} or wider, "
                        f"got {s.dtype} and {shape(s)}")
    cdef ndarray found = PyArray_EMPTY(1, <npy_intp*>&problems, NPY_INT64, 0)
    cdef ndarray elites = chosen(found, s, population, wanted, maximize)
    cdef const int64_t* counts = <const int64_t*>PyArray_DATA(found)
    cdef _Refit refit
    cdef double work = 0
    cdef list refits = [], results = []
    for k in range(problems):
        refit = _Refit.__new__(_Refit)
        refit.prepare(distributions[k], elites[k, :counts[k] if counts[k] >= 2 else 0], options)
        refits.append(refit)
    cdef fastopt_job* jobs = room_for_jobs(problems)
    for k in range(problems):
        work += (<_Refit>refits[k]).job(&jobs[k])
    run_jobs_of(jobs, problems, work)
    free(jobs)
    for k in range(problems):
        refit = <_Refit>refits[k]
        best = elites[k, 0] if counts[k] > 0 else -1
        results.append((refit.numbers, best, s[k, best] if best >= 0 else NAN, refit.following()))
    return results
