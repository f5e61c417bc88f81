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


@cython.final
cdef class _GaussianGradients:
    """The gradients by mean and log_std of arrays that have been checked; and these as a kernel takes them."""
    cdef ndarray mean, log_std, actions, dmean, dlog_std, mean_target, log_std_target, sums
    cdef double* column_sums  # NULL unless one log_std is for all
    cdef void* of_rows  # the gradient by log_std, NULL where there are sums
    cdef int64_t blocks

    def __cinit__(self, ndarray mean, ndarray log_std, ndarray actions, out_mean, out_log_std):
        self.dmean = output_named(out_mean, "out[0]", mean, "mean")
        self.dlog_std = output_named(out_log_std, "out[1]", log_std, "log_std")
        self.mean_target, self.log_std_target = c_target(self.dmean), c_target(self.dlog_std)
        self.mean, self.log_std, self.actions = c_ordered(mean), c_ordered(log_std), c_ordered(actions)
        self.blocks = row_blocks(rows_of(mean))
        cdef npy_intp size = self.blocks * columns_of(mean)
        if PyArray_NDIM(log_std) == 1:
            self.sums = PyArray_EMPTY(1, &size, NPY_DOUBLE, 0)
            self.column_sums, self.of_rows = <double*>PyArray_DATA(self.sums), NULL
        else:
            self.column_sums, self.of_rows = NULL, PyArray_DATA(self.log_std_target)

    cdef void finish(self) noexcept:
        """What is left to do after the kernel. Cannot fail."""
        if self.column_sums != NULL:
            add_row_blocks(self.log_std_target, self.column_sums, self.blocks)
        if self.mean_target is not self.dmean:
            copied_into(self.dmean, self.mean_target)
        if self.log_std_target is not self.dlog_std:
            copied_into(self.dlog_std, self.log_std_target)


def gaussian_policy_gradient(mean, log_std, actions, advantages, double entropy_coef, valid, out):
    cdef ndarray x = checked_rows(mean, "mean")
    cdef ndarray spread = checked_log_std(log_std, "log_std", x, "mean")
    cdef ndarray taken = checked_like(actions, "actions", x, "mean")
    cdef ndarray adv = checked_batch(advantages, "advantages", x, "mean")
    not_empty(x, "mean")
    cdef ndarray counted = checked_valid(valid, adv)
    out_mean, out_log_std = (None, None) if out is None else out
    cdef _GaussianGradients gradients = _GaussianGradients(x, spread, taken, out_mean, out_log_std)
    if out is not None:
        distinct(gradients.dmean, "out[0]", gradients.dlog_std, "out[1]")
        for y, y_name in ((gradients.dmean, "out[0]"), (gradients.dlog_std, "out[1]")):
            for a, a_name in ((x, "mean"), (spread, "log_std"), (taken, "actions"), (adv, "advantages"), (valid, "valid")):
                if a is not None:
                    distinct(y, y_name, a, a_name)
    adv = c_ordered(adv)
    cdef ndarray losses = one_a_row(x)
    cdef ndarray room = room_for_sums(losses)
    cdef object loss = number_to_be()
    cdef tuple result = (loss, gradients.dmean, gradients.dlog_std)
    cdef gaussian_policy_gradient_args args = gaussian_policy_gradient_args(
        dmean=PyArray_DATA(gradients.mean_target), dlog_std=gradients.of_rows, column_sums=gradients.column_sums,
        losses=PyArray_DATA(losses), mean=PyArray_DATA(gradients.mean), log_std=PyArray_DATA(gradients.log_std),
        actions=PyArray_DATA(gradients.actions), advantages=PyArray_DATA(adv), valid=flags_of(counted), rows=rows_of(x),
        columns=columns_of(x), stride=stride_of(spread), scale=0, log_prob_constant=0, entropy_coef=0, entropy_constant=0,
        entropy_scale=0)
    cdef int64_t count = some_valid(fastopt_gaussian_gradient_scalars(&args, entropy_coef))
    run_row_blocks(fastopt_kernels.policy.gaussian_policy_gradient[element_type(x)], &args, args.rows, args.columns)
    gradients.finish()
    set_number(loss, mean_with(losses, room, count))
    return result


def gaussian_ppo_loss(mean, log_std, actions, tuple batch, valid, tuple numbers, out, stats_type):
    cdef ndarray x = checked_rows(mean, "mean")
    cdef ndarray spread = checked_log_std(log_std, "log_std", x, "mean")
    cdef ndarray taken = checked_like(actions, "actions", x, "mean")
    not_empty(x, "mean")
    out_mean, out_log_std, out_values = (None, None, None) if out is None else out
    cdef _PPOBatch terms = _PPOBatch(x, "mean", batch, valid, numbers, out_values, "out[2]", stats_type)
    cdef _GaussianGradients gradients = _GaussianGradients(x, spread, taken, out_mean, out_log_std)
    if out is not None:
        terms.takes(x, "mean")
        terms.takes(spread, "log_std")
        terms.takes(taken, "actions")
        apart([gradients.dmean, gradients.dlog_std, terms.dvalues], ["out[0]", "out[1]", "out[2]"], terms.given, terms.names)
    cdef tuple result = (terms.loss, gradients.dmean, gradients.dlog_std, terms.dvalues, terms.stats)
    cdef gaussian_ppo_loss_args args = gaussian_ppo_loss_args(
        dmean=PyArray_DATA(gradients.mean_target), dlog_std=gradients.of_rows, column_sums=gradients.column_sums,
        mean=PyArray_DATA(gradients.mean), log_std=PyArray_DATA(gradients.log_std),
        actions=PyArray_DATA(gradients.actions), rows=rows_of(x), columns=columns_of(x), stride=stride_of(spread),
        log_prob_constant=fastopt_gaussian_log_prob_constant(columns_of(x)),
        entropy_constant=fastopt_gaussian_entropy_constant(columns_of(x)), ppo=terms.args)
    run_row_blocks(fastopt_kernels.policy.gaussian_ppo_loss[element_type(x)], &args, args.rows, args.columns)
    gradients.finish()
    terms.finish(args.rows)
    return result
