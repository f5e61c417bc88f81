# Diagonal Gaussian policies: a log_std for each row, or one for all.


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


def gaussian_kl(old_mean, old_log_std, new_mean, new_log_std, bint per_sample):
    cdef ndarray old = checked_rows(old_mean, "old_mean")
    cdef ndarray old_spread = c_ordered(checked_log_std(old_log_std, "old_log_std", old, "old_mean"))
    cdef ndarray new = c_ordered(checked_like(new_mean, "new_mean", old, "old_mean"))
    cdef ndarray new_spread = c_ordered(checked_log_std(new_log_std, "new_log_std", old, "old_mean"))
    if not per_sample:
        not_empty(old, "old_mean")
    old = c_ordered(old)
    cdef ndarray kl = one_a_row(old)
    cdef gaussian_kl_args args = gaussian_kl_args(
        kl=PyArray_DATA(kl), old_mean=PyArray_DATA(old), old_log_std=PyArray_DATA(old_spread),
        new_mean=PyArray_DATA(new), new_log_std=PyArray_DATA(new_spread), columns=columns_of(old),
        old_stride=stride_of(old_spread), new_stride=stride_of(new_spread))
    run_rows(fastopt_kernels.policy.gaussian_kl[element_type(old)], &args, old)
    return per_sample_or_mean(kl, per_sample)


def gaussian_log_prob(mean, log_std, actions):
    cdef ndarray x = checked_rows(mean, "mean")
    cdef ndarray spread = c_ordered(checked_log_std(log_std, "log_std", x, "mean"))
    cdef ndarray taken = c_ordered(checked_like(actions, "actions", x, "mean"))
    x = c_ordered(x)
    cdef ndarray log_prob = one_a_row(x)
    cdef gaussian_log_prob_args args = gaussian_log_prob_args(
        log_prob=PyArray_DATA(log_prob), mean=PyArray_DATA(x), log_std=PyArray_DATA(spread), actions=PyArray_DATA(taken),
        columns=columns_of(x), stride=stride_of(spread), constant=fastopt_gaussian_log_prob_constant(columns_of(x)))
    run_rows(fastopt_kernels.policy.gaussian_log_prob[element_type(x)], &args, x)
    return log_prob


def gaussian_entropy(log_std):
    cdef ndarray x = c_ordered(checked_rows(log_std, "log_std"))
    cdef ndarray entropy = one_a_row(x)
    cdef gaussian_entropy_args args = gaussian_entropy_args(
        entropy=PyArray_DATA(entropy), log_std=PyArray_DATA(x), columns=columns_of(x),
        constant=fastopt_gaussian_entropy_constant(columns_of(x)))
    run_rows(fastopt_kernels.policy.gaussian_entropy[element_type(x)], &args, x)
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
    cdef ndarray y = gaussian_output(mean, log_std, out)
    cdef ndarray x = c_ordered(mean)
    cdef ndarray spread = c_ordered(log_std)
    cdef ndarray target = c_target(y)
    cdef gaussian_sample_args args = gaussian_sample_args(
        actions=PyArray_DATA(target), mean=PyArray_DATA(x), log_std=PyArray_DATA(spread), columns=columns_of(x),
        stride=stride_of(spread), address=address_of(seed, stream, domain))
    run(fastopt_kernels.policy.gaussian_sample[element_type(x)], &args, PyArray_SIZE(x), RANDOM_GRAIN)
    return y if target is y else copied_into(y, target)


def gaussian_policy_gradient(mean, log_std, actions, advantages, double entropy_coef, out):
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
    cdef ndarray room = room_for_sums(losses)
    cdef object loss = number_to_be()
    cdef tuple result = (loss, dmean, dlog_std)
    cdef int64_t blocks = (rows_of(x) + FASTOPT_ROW_BLOCK - 1) // FASTOPT_ROW_BLOCK
    cdef bint shared = PyArray_NDIM(spread) == 1
    cdef npy_intp size_of_sums = blocks * columns_of(x) if shared else 0
    cdef ndarray sums = PyArray_EMPTY(1, &size_of_sums, NPY_DOUBLE, 0)
    cdef gaussian_policy_gradient_args args = gaussian_policy_gradient_args(
        dmean=PyArray_DATA(mean_target), dlog_std=NULL, column_sums=NULL, losses=PyArray_DATA(losses),
        mean=PyArray_DATA(x), log_std=PyArray_DATA(spread), actions=PyArray_DATA(taken), advantages=PyArray_DATA(adv), rows=rows_of(x),
        columns=columns_of(x), stride=stride_of(spread), scale=0, log_prob_constant=0, entropy_coef=0,
        entropy_constant=0, entropy_scale=0)
    if shared:
        args.column_sums = <double*>PyArray_DATA(sums)
    else:
        args.dlog_std = PyArray_DATA(log_std_target)
    fastopt_gaussian_gradient_scalars(&args, entropy_coef)
    run_row_blocks(fastopt_kernels.policy.gaussian_policy_gradient[element_type(x)], &args, rows_of(x), columns_of(x))
    if shared:
        add_row_blocks(log_std_target, args.column_sums, blocks)
    if mean_target is not dmean:
        copied_into(dmean, mean_target)
    if log_std_target is not dlog_std:
        copied_into(dlog_std, log_std_target)
    set_number(loss, mean_with(losses, room, rows_of(x)))
    return result
