# Planning: candidates of several problems, whose weigh how much, and the refit of each.

cdef enum:
    DOMAIN_PLAN = 11


cdef ndarray plan_state(object x, str name, ndarray like):
    """A C-contiguous array like that of the means."""
    cdef ndarray a = checked_like(x, name, like, "mean")
    return c_ordered(a)


cdef ndarray plan_bound(object x, str name, ndarray mean):
    cdef ndarray a = checked(x, name)
    if PyArray_TYPE(a) != PyArray_TYPE(mean) or PyArray_NDIM(a) != 1 or PyArray_SIZE(a) != PyArray_DIMS(mean)[1]:
        raise ValueError(f"{name}: expected an array of {mean.dtype} and shape {(shape(mean)[1],)}, "
                         f"got {a.dtype} and {shape(a)}")
    return c_ordered(a)


cdef ndarray plan_numbers(object x, str name, int type_number, tuple expected):
    """A C-contiguous array of this type and shape."""
    if not PyArray_CheckExact(x) or PyArray_TYPE(<ndarray>x) != type_number or shape(<ndarray>x) != expected or \
            not contiguous_order(<ndarray>x) & NPY_ARRAY_C_CONTIGUOUS:
        raise TypeError(f"{name}: expected a C-contiguous array of shape {expected}, got {x!r}")
    return <ndarray>x


def plan_noise_factor(int64_t horizon, double beta):
    """Return the lower triangular matrix by which normal numbers become a series of the power 1 / f**beta."""
    cdef npy_intp[2] dimensions = [horizon, horizon]
    cdef ndarray factor = PyArray_EMPTY(2, dimensions, NPY_DOUBLE, 0), work = np.empty(2 * horizon)
    fastopt_noise_factor(<double*>PyArray_DATA(factor), <double*>PyArray_DATA(work), horizon, beta)
    return factor


def plan_candidates(mean, std, lower, upper, factor, stored, seeds, uint64_t stream, rows, int64_t count, int64_t drawn,
                    int64_t horizon, int64_t actions, bint truncated):
    """Return rows of candidates, (problems, count, horizon, actions): 0 .. count - 1, or those of `rows`, (problems, count).

    Rows below `drawn` are drawn, then come those of `stored`, (problems, stored, horizon, actions), and then the mean.
    mean and std are (problems, horizon * actions), bounds (horizon * actions,) or None, `factor` (horizon, horizon) or
    None, seeds (problems,) of uint64."""
    cdef ndarray m = c_ordered(checked(mean, "mean")), s, low, high, f, kept, numbers, out
    if PyArray_NDIM(m) != 2 or PyArray_DIMS(m)[1] != horizon * actions or horizon < 1 or actions < 1:
        raise ValueError(f"mean: expected shape (problems, {horizon * actions}), got {shape(m)}")
    cdef npy_intp problems = PyArray_DIMS(m)[0]
    s = plan_state(std, "std", m)
    cdef plan_candidates_args args
    memset(&args, 0, sizeof(args))
    args.mean, args.std = PyArray_DATA(m), PyArray_DATA(s)
    if lower is not None:
        low, high = plan_bound(lower, "lower", m), plan_bound(upper, "upper", m)
        args.lower, args.upper = PyArray_DATA(low), PyArray_DATA(high)
    if factor is not None:
        f = checked(factor, "factor")
        if PyArray_TYPE(f) != PyArray_TYPE(m) or shape(f) != (horizon, horizon) or horizon > FASTOPT_CEM_SHORT:
            raise ValueError(f"factor: expected an array of {m.dtype} and shape {(horizon, horizon)}, at most "
                             f"{FASTOPT_CEM_SHORT}, got {f.dtype} and {shape(f)}")
        f = c_ordered(f)
        args.factor = PyArray_DATA(f)
    kept = checked(stored, "stored")
    if PyArray_TYPE(kept) != PyArray_TYPE(m) or PyArray_NDIM(kept) != 4 or shape(kept)[2:] != (horizon, actions) or \
            PyArray_DIMS(kept)[0] != problems:
        raise ValueError(f"stored: expected an array of {m.dtype} and shape {(problems, 'stored', horizon, actions)}, "
                         f"got {kept.dtype} and {shape(kept)}")
    kept = c_ordered(kept)
    args.stored, args.stored_rows = PyArray_DATA(kept), PyArray_DIMS(kept)[1]
    seeds = plan_numbers(seeds, "seeds", NPY_UINT64, (problems,))
    args.seeds, args.stream, args.domain = <const uint64_t*>PyArray_DATA(<ndarray>seeds), stream, DOMAIN_PLAN
    if rows is not None:
        numbers = plan_numbers(rows, "rows", NPY_INT64, (problems, count))
        args.rows = <const int64_t*>PyArray_DATA(numbers)
    args.rows_each, args.drawn, args.horizon, args.actions = count, drawn, horizon, actions
    args.truncated = truncated
    cdef npy_intp[4] dimensions = [problems, count, horizon, actions]
    out = PyArray_EMPTY(4, dimensions, PyArray_TYPE(m), 0)
    args.out = PyArray_DATA(out)
    cem_run(fastopt_kernels.plan.plan_candidates[element_type(m)], &args, problems * count, cem_padded(horizon * actions))
    return out


def plan_weigh(scores, int64_t wanted, int rule, double temperature):
    """Return (rows, weights, best): for each problem, a row of scores, the candidates that weigh, how much, and the best
    one's row. Rule 0: the `wanted` best, equal weights; 1: theirs exp(-temperature * (score - best)); 2: all,
    exp(-(score - best) / temperature). With fewer than two finite scores all weights are 0 and the best is -1."""
    cdef ndarray s = checked(scores, "scores")
    if PyArray_TYPE(s) != NPY_DOUBLE or PyArray_NDIM(s) != 2 or not contiguous_order(s) & NPY_ARRAY_C_CONTIGUOUS:
        raise TypeError(f"scores: expected a C-contiguous array of float64, (problems, candidates), got {s.dtype} and {shape(s)}")
    cdef npy_intp problems = PyArray_DIMS(s)[0], n = PyArray_DIMS(s)[1]
    cdef npy_intp[2] dimensions = [problems, n if rule == FASTOPT_PLAN_MPPI else min(wanted, n)]
    cdef ndarray rows = PyArray_EMPTY(2, dimensions, NPY_INT64, 0), weights = PyArray_EMPTY(2, dimensions, NPY_DOUBLE, 0)
    cdef ndarray best = PyArray_EMPTY(1, &problems, NPY_INT64, 0)
    cdef plan_choice choice = plan_choice(
        rows=<int64_t*>PyArray_DATA(rows), weights=<double*>PyArray_DATA(weights), best=<int64_t*>PyArray_DATA(best),
        scores=<const double*>PyArray_DATA(s), n=n, wanted=dimensions[1], rule=rule, temperature=temperature,
        work=<double*>malloc(max(1, problems * n) * sizeof(double)))
    if choice.work == NULL:
        raise MemoryError
    # A score takes about four times as long as a random number.
    run(fastopt_plan_weigh, &choice, problems, max(1, RANDOM_GRAIN // (4 * max(1, n))))
    free(choice.work)
    return rows, weights, best


def plan_refit(candidates, weights, mean, std, lower, upper, mean_lr, std_lr, double min_std, double max_std):
    """Return (mean, std) of each problem, refitted to its weighted candidates, (problems, count, horizon, actions)."""
    cdef ndarray m = c_ordered(checked(mean, "mean")), s = plan_state(std, "std", m), low, high, new_mean, new_std
    cdef ndarray x = c_ordered(checked(candidates, "candidates"))
    cdef npy_intp problems = PyArray_DIMS(m)[0], n = PyArray_DIMS(m)[1], count = PyArray_DIMS(x)[1]
    if PyArray_TYPE(x) != PyArray_TYPE(m) or PyArray_DIMS(x)[0] != problems or PyArray_SIZE(x) != problems * count * n:
        raise ValueError(f"candidates: expected {m.dtype} and {(problems, count, n)} elements, got {x.dtype} and {shape(x)}")
    weights = plan_numbers(weights, "weights", NPY_DOUBLE, (problems, count))
    mean_lr = plan_numbers(mean_lr, "mean_lr", NPY_DOUBLE, (n,))
    std_lr = plan_numbers(std_lr, "std_lr", NPY_DOUBLE, (n,))
    new_mean, new_std = PyArray_NewLikeArray(m, NPY_CORDER, NULL, 0), PyArray_NewLikeArray(m, NPY_CORDER, NULL, 0)
    cdef plan_refit_args args = plan_refit_args(
        mean=PyArray_DATA(new_mean), std=PyArray_DATA(new_std), rows=PyArray_DATA(x),
        weights=<const double*>PyArray_DATA(<ndarray>weights), before_mean=PyArray_DATA(m), before_std=PyArray_DATA(s),
        lower=NULL, upper=NULL, mean_lr=<const double*>PyArray_DATA(<ndarray>mean_lr),
        std_lr=<const double*>PyArray_DATA(<ndarray>std_lr), count=count, dimensions=n, min_std=min_std, max_std=max_std)
    if lower is not None:
        low, high = plan_bound(lower, "lower", m), plan_bound(upper, "upper", m)
        args.lower, args.upper = PyArray_DATA(low), PyArray_DATA(high)
    run(fastopt_kernels.plan.plan_refit[element_type(m)], &args, problems, max(1, RANDOM_GRAIN // max(1, count * n)))
    return new_mean, new_std
