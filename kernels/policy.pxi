# Policies and advantages. Arrays that are not C-contiguous are worked on as copies; actions are always copied, so that
# they stay as checked whatever another thread writes.

cdef enum:
    ROW_GRAIN = 1 << 14  # elements


cdef inline int64_t columns_of(ndarray a) noexcept:
    return PyArray_DIMS(a)[PyArray_NDIM(a) - 1]


cdef inline int64_t rows_of(ndarray a) noexcept:
    return PyArray_SIZE(a) // columns_of(a)


cdef inline void run_rows(fastopt_kernel kernel, const void* args, ndarray x) noexcept:
    run(kernel, args, rows_of(x), max(64, ROW_GRAIN // columns_of(x)))


cdef ndarray c_ordered(ndarray a):
    return a if contiguous_order(a) & NPY_ARRAY_C_CONTIGUOUS else c_copy(a)


cdef ndarray c_target(ndarray y):
    """y itself where a kernel can write to it, else an array whose values are to be copied there."""
    return y if contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS else np.empty(shape(y), y.dtype)


cdef ndarray checked_rows(object x, str name):
    cdef ndarray a = checked(x, name)
    if PyArray_NDIM(a) == 0 or columns_of(a) == 0:
        raise ValueError(f"{name}: expected shape (..., actions) with at least one action, got {shape(a)}")
    return a


cdef int not_empty(ndarray a, str name) except -1:
    if PyArray_SIZE(a) == 0:
        raise ValueError(f"{name}: expected a batch of at least one, got shape {shape(a)}")
    return 0


cdef ndarray checked_log_std(object x, str name, ndarray mean, str mean_name):
    cdef ndarray a = checked(x, name)
    if PyArray_NDIM(a) == 1 and PyArray_NDIM(mean) > 1 and PyArray_TYPE(a) == PyArray_TYPE(mean):
        if columns_of(a) != columns_of(mean):
            raise ValueError(f"{name}: expected shape {shape(mean)} like {mean_name}, or ({columns_of(mean)},) for all, "
                             f"got {shape(a)}")
        return a
    return checked_like(a, name, mean, mean_name)


cdef inline int64_t stride_of(ndarray log_std) noexcept:
    return 0 if PyArray_NDIM(log_std) == 1 else columns_of(log_std)


cdef ndarray checked_batch(object x, str name, ndarray like, str like_name):
    """x itself, when it has one value for each row of `like`."""
    cdef ndarray a = checked(x, name)
    if PyArray_TYPE(a) != PyArray_TYPE(like):
        raise TypeError(f"{name}: expected {like.dtype} like {like_name}, got {a.dtype}; "
                        f"{name}.astype(np.{like.dtype}) converts it")
    if shape(a) != shape(like)[:-1]:
        raise ValueError(f"{name}: expected shape {shape(like)[:-1]}, one for each row of {like_name}, got {shape(a)}")
    return a


cdef ndarray checked_choices(object x, ndarray logits):
    """A copy of the actions of a categorical policy as int64, all of them actions that there are."""
    cdef int64_t k, n = columns_of(logits)
    cdef uint64_t worst = 0
    cdef const int64_t* action
    if not PyArray_CheckExact(x) and type(x) is not _memmap:
        raise TypeError(_wrong_kind(x, "actions").replace("np.float32", "np.int64"))
    if x.dtype.kind not in "iu":
        raise TypeError(f"actions: expected integers, got {x.dtype}; actions.astype(np.int64) converts them")
    if shape(x) != shape(logits)[:-1]:
        raise ValueError(f"actions: expected shape {shape(logits)[:-1]}, one for each row of logits, got {shape(x)}")
    cdef ndarray a = np.array(x, np.int64, order="C")
    action = <const int64_t*>PyArray_DATA(a)
    for k in range(PyArray_SIZE(a)):
        worst = max(worst, <uint64_t>action[k])
    if worst >= <uint64_t>n:
        flat = x.ravel()
        raise ValueError(f"actions: expected numbers from 0 to {n - 1}, one of the {n} columns of logits, got "
                         f"{flat[(flat < 0) | (flat >= n)][0]}")
    return a


cdef ndarray checked_flags(object x, str name, ndarray like, str like_name):
    if not PyArray_CheckExact(x) and type(x) is not _memmap:
        raise TypeError(_wrong_kind(x, name).replace("np.float32", "bool"))
    cdef ndarray a = <ndarray>x
    if PyArray_TYPE(a) != NPY_BOOL:
        raise TypeError(f"{name}: expected bool, got {a.dtype}; {name}.astype(bool) converts it")
    if not same_shape(a, like):
        raise ValueError(f"{name}: expected shape {shape(like)} like {like_name}, got {shape(a)}")
    return c_ordered(a)


cdef ndarray one_a_row(ndarray x):
    return PyArray_EMPTY(PyArray_NDIM(x) - 1, PyArray_DIMS(x), PyArray_TYPE(x), 0)


cdef double sum_of(ndarray x, fastopt_kernel kernel, double mean):
    """The sum over a C-contiguous array by a kernel of block sums, in float64 and the order of kernels/reduce.hpp."""
    cdef sum_args args
    cdef double few[SUM_GRAIN]
    cdef int64_t blocks = (PyArray_SIZE(x) + FASTOPT_SUM_BLOCK - 1) // FASTOPT_SUM_BLOCK
    cdef ndarray many
    args.block_sums = &few[0]
    if blocks > SUM_GRAIN:
        many = PyArray_EMPTY(1, <npy_intp*>&blocks, NPY_DOUBLE, 0)
        args.block_sums = <double*>PyArray_DATA(many)
    args.x = PyArray_DATA(x)
    args.size = PyArray_SIZE(x)
    args.mean = mean
    run(kernel, &args, blocks, SUM_GRAIN)
    return fastopt_add_up(args.block_sums, blocks)


cdef double mean_of(ndarray x):
    cdef double total = sum_of(x, fastopt_kernels.sum_values[element_type(x)], 0)
    return fastopt_mean(&total, 1, PyArray_SIZE(x))


cdef object per_sample_or_mean(ndarray values, bint per_sample):
    return values if per_sample else mean_of(values)


# ---- categorical -----------------------------------------------------------------------------------------------------


def categorical_kl(old_logits, new_logits, bint per_sample):
    cdef categorical_kl_args args
    cdef ndarray old = checked_rows(old_logits, "old_logits")
    cdef ndarray new = c_ordered(checked_like(new_logits, "new_logits", old, "old_logits"))
    if not per_sample:
        not_empty(old, "old_logits")
    old = c_ordered(old)
    cdef ndarray kl = one_a_row(old)
    args.kl = PyArray_DATA(kl)
    args.old_logits = PyArray_DATA(old)
    args.new_logits = PyArray_DATA(new)
    args.columns = columns_of(old)
    run_rows(fastopt_kernels.categorical_kl[element_type(old)], &args, old)
    return per_sample_or_mean(kl, per_sample)


def categorical_log_prob(logits, actions):
    cdef categorical_log_prob_args args
    cdef ndarray x = checked_rows(logits, "logits")
    cdef ndarray choices = checked_choices(actions, x)
    x = c_ordered(x)
    cdef ndarray log_prob = one_a_row(x)
    args.log_prob = PyArray_DATA(log_prob)
    args.logits = PyArray_DATA(x)
    args.actions = <const int64_t*>PyArray_DATA(choices)
    args.columns = columns_of(x)
    run_rows(fastopt_kernels.categorical_log_prob[element_type(x)], &args, x)
    return log_prob


def categorical_entropy(logits):
    cdef categorical_entropy_args args
    cdef ndarray x = c_ordered(checked_rows(logits, "logits"))
    cdef ndarray entropy = one_a_row(x)
    args.entropy = PyArray_DATA(entropy)
    args.logits = PyArray_DATA(x)
    args.columns = columns_of(x)
    run_rows(fastopt_kernels.categorical_entropy[element_type(x)], &args, x)
    return entropy


def check_logits(logits):
    checked_rows(logits, "logits")


def categorical_sample(logits, uint64_t seed, uint64_t stream, uint32_t domain):
    cdef categorical_sample_args args
    cdef ndarray x = c_ordered(checked_rows(logits, "logits"))
    cdef ndarray actions = np.empty(shape(x)[:-1], np.int64)
    args.actions = <int64_t*>PyArray_DATA(actions)
    args.logits = PyArray_DATA(x)
    args.columns = columns_of(x)
    set_address(&args.address, seed, stream, domain)
    run_rows(fastopt_kernels.categorical_sample[element_type(x)], &args, x)
    return actions


def categorical_policy_gradient(logits, actions, advantages, double entropy_coef, out):
    cdef categorical_policy_gradient_args args
    cdef ndarray x = checked_rows(logits, "logits")
    cdef ndarray choices = checked_choices(actions, x)
    cdef ndarray adv = checked_batch(advantages, "advantages", x, "logits")
    not_empty(x, "logits")
    cdef ndarray dlogits = output_for(out, x, "logits")
    if out is not None:
        distinct(dlogits, "out", adv, "advantages")
    cdef ndarray target = c_target(dlogits)
    x = c_ordered(x)
    adv = c_ordered(adv)
    cdef ndarray losses = one_a_row(x)
    args.dlogits = PyArray_DATA(target)
    args.losses = PyArray_DATA(losses)
    args.logits = PyArray_DATA(x)
    args.actions = <const int64_t*>PyArray_DATA(choices)
    args.advantages = PyArray_DATA(adv)
    args.columns = columns_of(x)
    fastopt_categorical_gradient_scalars(&args, rows_of(x), entropy_coef)
    run_rows(fastopt_kernels.categorical_policy_gradient[element_type(x)], &args, x)
    if target is not dlogits:
        copied_into(dlogits, target)
    return mean_of(losses), dlogits


# ---- Gaussian --------------------------------------------------------------------------------------------------------


def gaussian_kl(old_mean, old_log_std, new_mean, new_log_std, bint per_sample):
    cdef gaussian_kl_args args
    cdef ndarray old = checked_rows(old_mean, "old_mean")
    cdef ndarray old_spread = c_ordered(checked_log_std(old_log_std, "old_log_std", old, "old_mean"))
    cdef ndarray new = c_ordered(checked_like(new_mean, "new_mean", old, "old_mean"))
    cdef ndarray new_spread = c_ordered(checked_log_std(new_log_std, "new_log_std", old, "old_mean"))
    if not per_sample:
        not_empty(old, "old_mean")
    old = c_ordered(old)
    cdef ndarray kl = one_a_row(old)
    args.kl = PyArray_DATA(kl)
    args.old_mean = PyArray_DATA(old)
    args.old_log_std = PyArray_DATA(old_spread)
    args.new_mean = PyArray_DATA(new)
    args.new_log_std = PyArray_DATA(new_spread)
    args.columns = columns_of(old)
    args.old_stride = stride_of(old_spread)
    args.new_stride = stride_of(new_spread)
    run_rows(fastopt_kernels.gaussian_kl[element_type(old)], &args, old)
    return per_sample_or_mean(kl, per_sample)


def gaussian_log_prob(mean, log_std, actions):
    cdef gaussian_log_prob_args args
    cdef ndarray x = checked_rows(mean, "mean")
    cdef ndarray spread = c_ordered(checked_log_std(log_std, "log_std", x, "mean"))
    cdef ndarray taken = c_ordered(checked_like(actions, "actions", x, "mean"))
    x = c_ordered(x)
    cdef ndarray log_prob = one_a_row(x)
    args.log_prob = PyArray_DATA(log_prob)
    args.mean = PyArray_DATA(x)
    args.log_std = PyArray_DATA(spread)
    args.actions = PyArray_DATA(taken)
    args.columns = columns_of(x)
    args.stride = stride_of(spread)
    args.constant = fastopt_gaussian_log_prob_constant(args.columns)
    run_rows(fastopt_kernels.gaussian_log_prob[element_type(x)], &args, x)
    return log_prob


def gaussian_entropy(log_std):
    cdef gaussian_entropy_args args
    cdef ndarray x = c_ordered(checked_rows(log_std, "log_std"))
    cdef ndarray entropy = one_a_row(x)
    args.entropy = PyArray_DATA(entropy)
    args.log_std = PyArray_DATA(x)
    args.columns = columns_of(x)
    args.constant = fastopt_gaussian_entropy_constant(args.columns)
    run_rows(fastopt_kernels.gaussian_entropy[element_type(x)], &args, x)
    return entropy


def gaussian_output(mean, log_std, out):
    """`out`, checked to take a sample, or a new array when it is None."""
    cdef ndarray x = checked_rows(mean, "mean")
    cdef ndarray spread = checked_log_std(log_std, "log_std", x, "mean")
    cdef ndarray y = output_for(out, x, "mean")
    if out is not None:
        distinct(y, "out", spread, "log_std")
    return y


def gaussian_sample(mean, log_std, out, uint64_t seed, uint64_t stream, uint32_t domain):
    cdef gaussian_sample_args args
    cdef ndarray y = gaussian_output(mean, log_std, out)
    cdef ndarray x = c_ordered(mean)
    cdef ndarray spread = c_ordered(log_std)
    cdef ndarray target = c_target(y)
    args.actions = PyArray_DATA(target)
    args.mean = PyArray_DATA(x)
    args.log_std = PyArray_DATA(spread)
    args.columns = columns_of(x)
    args.stride = stride_of(spread)
    set_address(&args.address, seed, stream, domain)
    run(fastopt_kernels.gaussian_sample[element_type(x)], &args, PyArray_SIZE(x), RANDOM_GRAIN)
    return y if target is y else copied_into(y, target)


def gaussian_policy_gradient(mean, log_std, actions, advantages, double entropy_coef, out):
    cdef gaussian_policy_gradient_args args
    cdef add_row_blocks_args total
    cdef ndarray x = checked_rows(mean, "mean")
    cdef ndarray spread = checked_log_std(log_std, "log_std", x, "mean")
    cdef ndarray taken = checked_like(actions, "actions", x, "mean")
    cdef ndarray adv = checked_batch(advantages, "advantages", x, "mean")
    not_empty(x, "mean")
    out_mean, out_log_std = (None, None) if out is None else out
    cdef ndarray dmean = output_named(out_mean, "out[0]", x, "mean")
    cdef ndarray dlog_std = output_named(out_log_std, "out[1]", spread, "log_std")
    if out is not None:
        distinct(dmean, "out[0]", dlog_std, "out[1]")
        for y, y_name in ((dmean, "out[0]"), (dlog_std, "out[1]")):
            for a, a_name in ((x, "mean"), (spread, "log_std"), (taken, "actions"), (adv, "advantages")):
                distinct(y, y_name, a, a_name)
    cdef ndarray mean_target = c_target(dmean), log_std_target = c_target(dlog_std)
    x = c_ordered(x)
    spread = c_ordered(spread)
    taken = c_ordered(taken)
    adv = c_ordered(adv)
    cdef ndarray losses = one_a_row(x)
    cdef int64_t blocks = (rows_of(x) + FASTOPT_ROW_BLOCK - 1) // FASTOPT_ROW_BLOCK
    cdef bint shared = PyArray_NDIM(spread) == 1
    cdef npy_intp size_of_sums = blocks * columns_of(x) if shared else 0
    cdef ndarray sums = PyArray_EMPTY(1, &size_of_sums, NPY_DOUBLE, 0)
    args.dmean = PyArray_DATA(mean_target)
    args.dlog_std = NULL if shared else PyArray_DATA(log_std_target)
    args.column_sums = <double*>PyArray_DATA(sums) if shared else NULL
    args.losses = PyArray_DATA(losses)
    args.mean = PyArray_DATA(x)
    args.log_std = PyArray_DATA(spread)
    args.actions = PyArray_DATA(taken)
    args.advantages = PyArray_DATA(adv)
    args.rows = rows_of(x)
    args.columns = columns_of(x)
    args.stride = stride_of(spread)
    fastopt_gaussian_gradient_scalars(&args, entropy_coef)
    run(fastopt_kernels.gaussian_policy_gradient[element_type(x)], &args, blocks,
        max(1, ROW_GRAIN // (FASTOPT_ROW_BLOCK * columns_of(x))))
    if shared:
        total.out = PyArray_DATA(log_std_target)
        total.block_sums = args.column_sums
        total.blocks = blocks
        total.columns = args.columns
        run(fastopt_kernels.add_row_blocks[element_type(x)], &total, args.columns, max(64, ELEMENTWISE_GRAIN // blocks))
    if mean_target is not dmean:
        copied_into(dmean, mean_target)
    if log_std_target is not dlog_std:
        copied_into(dlog_std, log_std_target)
    return mean_of(losses), dmean, dlog_std


cdef ndarray output_named(object out, str name, ndarray like, str like_name):
    if out is None:
        return PyArray_NewLikeArray(like, NPY_KEEPORDER, NULL, 0)
    cdef ndarray y = checked_like(out, name, like, like_name)
    writable(y, name)
    return y


# ---- returns and advantages ------------------------------------------------------------------------------------------


cdef ndarray checked_rewards(object rewards):
    cdef ndarray a = checked(rewards, "rewards")
    if PyArray_NDIM(a) == 0:
        raise ValueError("rewards: expected shape (time,) or (time, environments), got ()")
    return a


cdef void run_environments(fastopt_kernel kernel, const void* args, int64_t time, int64_t environments) noexcept:
    run(kernel, args, environments, max(16, ROW_GRAIN // max(1, time) // 16 * 16))


def discounted_returns(rewards, terminated, truncated, double gamma, next_values):
    cdef discounted_returns_args args
    cdef ndarray r = checked_rewards(rewards)
    cdef ndarray ends = checked_flags(terminated, "terminated", r, "rewards")
    cdef ndarray cuts = checked_flags(truncated, "truncated", r, "rewards")
    cdef ndarray following = None
    if next_values is not None:
        following = c_ordered(checked_like(next_values, "next_values", r, "rewards"))
    r = c_ordered(r)
    cdef ndarray returns = np.empty(shape(r), r.dtype)
    args.returns = PyArray_DATA(returns)
    args.rewards = PyArray_DATA(r)
    args.terminated = <const uint8_t*>PyArray_DATA(ends)
    args.truncated = <const uint8_t*>PyArray_DATA(cuts)
    args.next_values = NULL if following is None else PyArray_DATA(following)
    args.time = PyArray_DIMS(r)[0]
    args.environments = PyArray_SIZE(r) // max(1, args.time)
    args.gamma = gamma
    run_environments(fastopt_kernels.discounted_returns[element_type(r)], &args, args.time, args.environments)
    return returns


def gae(rewards, values, next_values, terminated, truncated, double gamma, double lam):
    cdef gae_args args
    cdef ndarray r = checked_rewards(rewards)
    cdef ndarray v = c_ordered(checked_like(values, "values", r, "rewards"))
    cdef ndarray following = c_ordered(checked_like(next_values, "next_values", r, "rewards"))
    cdef ndarray ends = checked_flags(terminated, "terminated", r, "rewards")
    cdef ndarray cuts = checked_flags(truncated, "truncated", r, "rewards")
    r = c_ordered(r)
    cdef ndarray advantages = np.empty(shape(r), r.dtype), returns = np.empty(shape(r), r.dtype)
    args.advantages = PyArray_DATA(advantages)
    args.returns = PyArray_DATA(returns)
    args.rewards = PyArray_DATA(r)
    args.values = PyArray_DATA(v)
    args.next_values = PyArray_DATA(following)
    args.terminated = <const uint8_t*>PyArray_DATA(ends)
    args.truncated = <const uint8_t*>PyArray_DATA(cuts)
    args.time = PyArray_DIMS(r)[0]
    args.environments = PyArray_SIZE(r) // max(1, args.time)
    args.gamma = gamma
    args.gamma_lam = gamma * lam
    run_environments(fastopt_kernels.gae[element_type(r)], &args, args.time, args.environments)
    return advantages, returns


def normalize_advantage(advantages, eps, out):
    cdef standardize_args args
    cdef double least = eps if type(eps) is float else 0, squares
    if not (isfinite(least) and least > 0):
        least = finite_number("eps", eps, above=0)
    cdef ndarray x = checked(advantages, "advantages")
    cdef ndarray y = output_for(out, x, "advantages")
    not_empty(x, "advantages")
    cdef ndarray target = c_target(y)
    x = c_ordered(x)
    args.mean = mean_of(x)
    squares = sum_of(x, fastopt_kernels.sum_squared_deviations[element_type(x)], args.mean)
    args.scale = fastopt_standardize_scale(&squares, 1, PyArray_SIZE(x), least)
    args.y = PyArray_DATA(target)
    args.x = PyArray_DATA(x)
    run(fastopt_kernels.standardize[element_type(x)], &args, PyArray_SIZE(x), ELEMENTWISE_GRAIN)
    return y if target is y else copied_into(y, target)
