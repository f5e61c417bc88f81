# Categorical policies. Actions are always copied, so that they stay as checked whatever another thread writes.


cdef ndarray checked_choices(object x, ndarray logits):
    """A copy of the actions of a categorical policy as int64, all of them actions that there are."""
    cdef int64_t k, n = columns_of(logits)
    cdef uint64_t worst = 0
    cdef const int64_t* action
    if not PyArray_CheckExact(x) and type(x) is not _memmap:
        raise TypeError(_wrong_kind(x, "actions").replace("np.float32", "np.int64"))
    if x.dtype.kind not in "iu":
        raise TypeError(f"actions: expected integers, got {x.dtype}; actions.astype(np.int64) converts them")
    if shape(x) != batch_shape(logits):
        raise ValueError(f"actions: expected shape {batch_shape(logits)}, one for each row of logits, got {shape(x)}")
    cdef ndarray a = np.array(x, np.int64, order="C")
    action = <const int64_t*>PyArray_DATA(a)
    for k in range(PyArray_SIZE(a)):
        worst = max(worst, <uint64_t>action[k])
    if worst >= <uint64_t>n:
        flat = x.ravel()
        raise ValueError(f"actions: expected numbers from 0 to {n - 1}, one of the {n} columns of logits, got "
                         f"{flat[(flat < 0) | (flat >= n)][0]}")
    return a


def categorical_kl(old_logits, new_logits, bint per_sample):
    cdef ndarray old = checked_rows(old_logits, "old_logits")
    cdef ndarray new = c_ordered(checked_like(new_logits, "new_logits", old, "old_logits"))
    if not per_sample:
        not_empty(old, "old_logits")
    old = c_ordered(old)
    cdef ndarray kl = one_a_row(old)
    cdef categorical_kl_args args = categorical_kl_args(
        kl=PyArray_DATA(kl), old_logits=PyArray_DATA(old), new_logits=PyArray_DATA(new), columns=columns_of(old))
    run_rows(fastopt_kernels.policy.categorical_kl[element_type(old)], &args, old)
    return per_sample_or_mean(kl, per_sample)


def categorical_log_prob(logits, actions):
    cdef ndarray x = checked_rows(logits, "logits")
    cdef ndarray choices = checked_choices(actions, x)
    x = c_ordered(x)
    cdef ndarray log_prob = one_a_row(x)
    cdef categorical_log_prob_args args = categorical_log_prob_args(
        log_prob=PyArray_DATA(log_prob), logits=PyArray_DATA(x), actions=<const int64_t*>PyArray_DATA(choices),
        columns=columns_of(x))
    run_rows(fastopt_kernels.policy.categorical_log_prob[element_type(x)], &args, x)
    return log_prob


def categorical_entropy(logits):
    cdef ndarray x = c_ordered(checked_rows(logits, "logits"))
    cdef ndarray entropy = one_a_row(x)
    cdef categorical_entropy_args args = categorical_entropy_args(
        entropy=PyArray_DATA(entropy), logits=PyArray_DATA(x), columns=columns_of(x))
    run_rows(fastopt_kernels.policy.categorical_entropy[element_type(x)], &args, x)
    return entropy


def check_logits(logits):
    checked_rows(logits, "logits")


def categorical_sample(logits, uint64_t seed, uint64_t stream, uint32_t domain):
    cdef ndarray x = c_ordered(checked_rows(logits, "logits"))
    cdef ndarray actions = np.empty(batch_shape(x), np.int64)
    cdef categorical_sample_args args = categorical_sample_args(
        actions=<int64_t*>PyArray_DATA(actions), logits=PyArray_DATA(x), columns=columns_of(x),
        address=address_of(seed, stream, domain))
    run_rows(fastopt_kernels.policy.categorical_sample[element_type(x)], &args, x)
    return actions


def categorical_policy_gradient(logits, actions, advantages, double entropy_coef, out):
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
    cdef categorical_policy_gradient_args args = categorical_policy_gradient_args(
        dlogits=PyArray_DATA(target), losses=PyArray_DATA(losses), logits=PyArray_DATA(x),
        actions=<const int64_t*>PyArray_DATA(choices), advantages=PyArray_DATA(adv), columns=columns_of(x),
        scale=0, entropy_coef=0, entropy_scale=0)
    fastopt_categorical_gradient_scalars(&args, rows_of(x), entropy_coef)
    run_rows(fastopt_kernels.policy.categorical_policy_gradient[element_type(x)], &args, x)
    if target is not dlogits:
        copied_into(dlogits, target)
    return mean_of(losses), dlogits
