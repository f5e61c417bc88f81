# Returns and advantages, of shape (time,) or (time, environments).


cdef ndarray checked_flags(object x, str name, ndarray like, str like_name):
    if not PyArray_CheckExact(x) and type(x) is not _memmap:
        raise TypeError(_wrong_kind(x, name).replace("np.float32", "bool"))
    cdef ndarray a = <ndarray>x
    if PyArray_TYPE(a) != NPY_BOOL:
        raise TypeError(f"{name}: expected bool, got {a.dtype}; {name}.astype(bool) converts it")
    if not same_shape(a, like):
        raise ValueError(f"{name}: expected shape {shape(like)} like {like_name}, got {shape(a)}")
    return c_ordered(a)


cdef ndarray checked_rewards(object rewards):
    cdef ndarray a = checked(rewards, "rewards")
    if PyArray_NDIM(a) == 0:
        raise ValueError("rewards: expected shape (time,) or (time, environments), got ()")
    return a


cdef void run_environments(fastopt_kernel kernel, const void* args, int64_t time, int64_t environments) noexcept:
    run_work(kernel, args, environments, max(16, ROW_GRAIN // max(1, time) // 16 * 16),
             <double>time * <double>environments / ROW_GRAIN)


def discounted_returns(rewards, terminated, truncated, double gamma, next_values):
    cdef ndarray r = checked_rewards(rewards)
    cdef ndarray ends = checked_flags(terminated, "terminated", r, "rewards")
    cdef ndarray cuts = checked_flags(truncated, "truncated", r, "rewards")
    cdef ndarray following = None
    if next_values is not None:
        following = c_ordered(checked_like(next_values, "next_values", r, "rewards"))
    r = c_ordered(r)
    cdef ndarray returns = np.empty(shape(r), r.dtype)
    cdef int64_t time = PyArray_DIMS(r)[0]
    cdef discounted_returns_args args = discounted_returns_args(
        returns=PyArray_DATA(returns), rewards=PyArray_DATA(r), terminated=<const uint8_t*>PyArray_DATA(ends),
        truncated=<const uint8_t*>PyArray_DATA(cuts), next_values=NULL, time=time, environments=PyArray_SIZE(r) // max(1, time), gamma=gamma)
    if following is not None:
        args.next_values = PyArray_DATA(following)
    run_environments(fastopt_kernels.policy.discounted_returns[element_type(r)], &args, time, args.environments)
    return returns


def gae(rewards, values, next_values, terminated, truncated, double gamma, double lam, valid):
    cdef ndarray r = checked_rewards(rewards)
    cdef ndarray v = c_ordered(checked_like(values, "values", r, "rewards"))
    cdef ndarray following = c_ordered(checked_like(next_values, "next_values", r, "rewards"))
    cdef ndarray ends = checked_flags(terminated, "terminated", r, "rewards")
    cdef ndarray cuts = checked_flags(truncated, "truncated", r, "rewards")
    cdef ndarray counted = None if valid is None else checked_flags(valid, "valid", r, "rewards")
    r = c_ordered(r)
    cdef ndarray advantages = np.empty(shape(r), r.dtype), returns = np.empty(shape(r), r.dtype)
    cdef int64_t time = PyArray_DIMS(r)[0]
    cdef gae_args args = gae_args(
        advantages=PyArray_DATA(advantages), returns=PyArray_DATA(returns), rewards=PyArray_DATA(r),
        values=PyArray_DATA(v), next_values=PyArray_DATA(following), terminated=<const uint8_t*>PyArray_DATA(ends),
        truncated=<const uint8_t*>PyArray_DATA(cuts), valid=flags_of(counted), time=time,
        environments=PyArray_SIZE(r) // max(1, time), gamma=gamma, gamma_lam=fastopt_gamma_lam(gamma, lam))
    run_environments(fastopt_kernels.policy.gae[element_type(r)], &args, time, args.environments)
    return advantages, returns


def vtrace(log_ratios, rewards, values, next_values, terminated, truncated, double gamma, double lam, double rho_clip,
           double c_clip):
    cdef ndarray r = checked_rewards(rewards)
    cdef ndarray ratios = c_ordered(checked_like(log_ratios, "log_ratios", r, "rewards"))
    cdef ndarray v = c_ordered(checked_like(values, "values", r, "rewards"))
    cdef ndarray following = c_ordered(checked_like(next_values, "next_values", r, "rewards"))
    cdef ndarray ends = checked_flags(terminated, "terminated", r, "rewards")
    cdef ndarray cuts = checked_flags(truncated, "truncated", r, "rewards")
    r = c_ordered(r)
    cdef ndarray targets = np.empty(shape(r), r.dtype), advantages = np.empty(shape(r), r.dtype)
    cdef int64_t time = PyArray_DIMS(r)[0]
    cdef vtrace_args args = vtrace_args(
        targets=PyArray_DATA(targets), advantages=PyArray_DATA(advantages), log_ratios=PyArray_DATA(ratios),
        rewards=PyArray_DATA(r), values=PyArray_DATA(v), next_values=PyArray_DATA(following),
        terminated=<const uint8_t*>PyArray_DATA(ends), truncated=<const uint8_t*>PyArray_DATA(cuts), time=time,
        environments=PyArray_SIZE(r) // max(1, time), gamma=gamma, gamma_lam=fastopt_gamma_lam(gamma, lam),
        rho_clip=rho_clip, c_clip=c_clip)
    run_environments(fastopt_kernels.policy.vtrace[element_type(r)], &args, time, args.environments)
    return targets, advantages


cdef double standardize_scalars_of(ndarray x, standardize_args* args, int64_t ddof, double eps, double scale) except? -1:
    """Fill in the scalars for the numbers of x, which have been multiplied by `scale`; return their sum of squares."""
    cdef int element = element_type(x)
    cdef ndarray room = room_for_sums(x)
    cdef double first = fastopt_first(PyArray_DATA(x), element)
    cdef double sum = sum_about(x, fastopt_kernels.core.sum_values[element], first, room)
    fastopt_standardize_mean(args, first, sum, PyArray_SIZE(x))
    cdef double squares = sum_about(x, fastopt_kernels.core.sum_squared_deviations[element], args.mean, room)
    fastopt_standardize_scale(args, squares, PyArray_SIZE(x), ddof, eps, scale)
    return squares


def normalize_advantage(advantages, eps, int64_t ddof, out):
    cdef double least = eps if type(eps) is float else 0
    if not (isfinite(least) and least > 0):
        least = finite_number("eps", eps, above=0)
    cdef ndarray x = checked(advantages, "advantages")
    cdef ndarray y = output_for(out, x, "advantages")
    not_empty(x, "advantages")
    if PyArray_SIZE(x) <= ddof:
        raise ValueError(f"advantages: expected more than ddof = {ddof} elements, got shape {shape(x)}")
    cdef ndarray target = c_target(y)
    x = c_ordered(x)
    cdef standardize_args args = standardize_args(
        y=PyArray_DATA(target), x=PyArray_DATA(x), mean=0, rest=0, scale=0)
    cdef double squares = standardize_scalars_of(x, &args, ddof, least, 1), scale = 1
    cdef scale_args multiplied
    if PyArray_TYPE(x) == NPY_DOUBLE and (fastopt_lost_squares(squares) or not isfinite(squares)):
        scale = fastopt_square_scale(largest_of([x]))
    if scale > 1 or scale < 1 and not isfinite(squares):  # equal numbers of any size are right as they are
        x = c_copy(x)
        multiplied = scale_args(x=PyArray_DATA(x), factor=scale)
        run(fastopt_kernels.optimizers.scale[element_type(x)], &multiplied, PyArray_SIZE(x), ELEMENTWISE_GRAIN)
        args.x = multiplied.x
        standardize_scalars_of(x, &args, ddof, least, scale)
    run(fastopt_kernels.policy.standardize[element_type(x)], &args, PyArray_SIZE(x), ELEMENTWISE_GRAIN)
    return y if target is y else copied_into(y, target)
