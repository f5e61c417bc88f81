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


def gae(rewards, values, next_values, terminated, truncated, double gamma, double lam):
    cdef ndarray r = checked_rewards(rewards)
    cdef ndarray v = c_ordered(checked_like(values, "values", r, "rewards"))
    cdef ndarray following = c_ordered(checked_like(next_values, "next_values", r, "rewards"))
    cdef ndarray ends = checked_flags(terminated, "terminated", r, "rewards")
    cdef ndarray cuts = checked_flags(truncated, "truncated", r, "rewards")
    r = c_ordered(r)
    cdef ndarray advantages = np.empty(shape(r), r.dtype), returns = np.empty(shape(r), r.dtype)
    cdef int64_t time = PyArray_DIMS(r)[0]
    cdef gae_args args = gae_args(
        advantages=PyArray_DATA(advantages), returns=PyArray_DATA(returns), rewards=PyArray_DATA(r),
        values=PyArray_DATA(v), next_values=PyArray_DATA(following), terminated=<const uint8_t*>PyArray_DATA(ends),
        truncated=<const uint8_t*>PyArray_DATA(cuts), time=time, environments=PyArray_SIZE(r) // max(1, time),
        gamma=0, gamma_lam=0)
    fastopt_gae_scalars(&args, gamma, lam)
    run_environments(fastopt_kernels.policy.gae[element_type(r)], &args, time, args.environments)
    return advantages, returns


def normalize_advantage(advantages, eps, out):
    cdef double least = eps if type(eps) is float else 0
    if not (isfinite(least) and least > 0):
        least = finite_number("eps", eps, above=0)
    cdef ndarray x = checked(advantages, "advantages")
    cdef ndarray y = output_for(out, x, "advantages")
    not_empty(x, "advantages")
    cdef ndarray target = c_target(y)
    x = c_ordered(x)
    cdef double mean = mean_of(x)
    cdef double squares = sum_of(x, fastopt_kernels.core.sum_squared_deviations[element_type(x)], mean)
    cdef standardize_args args = standardize_args(
        y=PyArray_DATA(target), x=PyArray_DATA(x), mean=mean,
        scale=fastopt_standardize_scale(&squares, 1, PyArray_SIZE(x), least))
    run(fastopt_kernels.policy.standardize[element_type(x)], &args, PyArray_SIZE(x), ELEMENTWISE_GRAIN)
    return y if target is y else copied_into(y, target)
