# Categorical policies. Actions are always copied, so that they stay as checked whatever another thread writes.


cdef inline uint64_t largest_unsigned(const int64_t* numbers, int64_t count) noexcept nogil:
    cdef uint64_t worst = 0
    cdef int64_t k
    for k in range(count):
        worst = max(worst, <uint64_t>numbers[k])
    return worst


cdef ndarray integers_of(object x, tuple expected, str of_what):
    """A copy of the actions of categorical policies as int64, in that shape."""
    if not PyArray_CheckExact(x) and type(x) is not _memmap:
        raise TypeError(_wrong_kind(x, "actions").replace("np.float32", "np.int64"))
    if x.dtype.kind not in "iu":
        raise TypeError(f"actions: expected integers, got {x.dtype}; actions.astype(np.int64) converts them")
    if shape(x) != expected:
        raise ValueError(f"actions: expected shape {expected}, {of_what}, got {shape(x)}")
    return np.array(x, np.int64, order="C")


cdef ndarray checked_choices(object x, ndarray logits):
    """A copy of the actions of a categorical policy as int64, all of them actions that there are."""
    cdef int64_t n = columns_of(logits)
    cdef uint64_t worst
    cdef ndarray a = integers_of(x, batch_shape(logits), "one for each row of logits")
    cdef const int64_t* action = <const int64_t*>PyArray_DATA(a)
    cdef int64_t count = PyArray_SIZE(a)
    if count < 1 << 14:  # over in microseconds: see run_jobs_of
        worst = largest_unsigned(action, count)
    else:
        with nogil:
            worst = largest_unsigned(action, count)
    if worst >= <uint64_t>n:
        flat = x.ravel()
        raise ValueError(f"actions: expected numbers from 0 to {n - 1}, one of the {n} columns of logits, got "
                         f"{flat[(flat < 0) | (flat >= n)][0]}")
    return a


cdef enum:
    WIDE_ROW = 1 << 16  # columns from which on threads share a row
    WIDE_PIECE = 1 << 13  # columns that a thread takes at once


cdef tuple shared_softmax(ndarray x, softmax_args* args):
    """Fill in `args`: where there are fewer rows than threads, and wide ones, the threads do together what does not
    depend on an order. Returned is what holds it."""
    cdef int64_t rows = rows_of(x), columns = columns_of(x)
    args.largest = args.e = NULL
    if columns < WIDE_ROW or rows >= fastopt_get_num_threads():
        return None
    cdef npy_intp pieces = (columns + WIDE_PIECE - 1) // WIDE_PIECE
    cdef npy_intp of_pieces = rows * pieces, of_rows = rows
    cdef int element = element_type(x), dtype = PyArray_TYPE(x)
    cdef ndarray parts = PyArray_EMPTY(1, &of_pieces, dtype, 0), largest = PyArray_EMPTY(1, &of_rows, dtype, 0)
    cdef ndarray e = PyArray_EMPTY(PyArray_NDIM(x), PyArray_DIMS(x), dtype, 0)
    args.largest, args.e = PyArray_DATA(largest), PyArray_DATA(e)
    cdef row_largest_args first = row_largest_args(
        largest=PyArray_DATA(parts), x=PyArray_DATA(x), rows=rows, columns=columns, piece=WIDE_PIECE)
    run_work(fastopt_kernels.policy.row_largest[element], &first, of_pieces, 1, <double>PyArray_SIZE(x) / ELEMENTWISE_GRAIN)
    cdef row_largest_args second = row_largest_args(
        largest=PyArray_DATA(largest), x=PyArray_DATA(parts), rows=rows, columns=pieces, piece=pieces)
    run_work(fastopt_kernels.policy.row_largest[element], &second, rows, 1, <double>of_pieces / ELEMENTWISE_GRAIN)
    cdef row_exponentials_args powers = row_exponentials_args(
        e=PyArray_DATA(e), x=PyArray_DATA(x), largest=PyArray_DATA(largest), columns=columns)
    run(fastopt_kernels.policy.row_exponentials[element], &powers, PyArray_SIZE(x), ROW_GRAIN)
    return largest, e


def categorical_kl(old_logits, new_logits, bint per_sample):
    cdef ndarray old = checked_rows(old_logits, "old_logits")
    cdef ndarray new = c_ordered(checked_like(new_logits, "new_logits", old, "old_logits"))
    if not per_sample:
        not_empty(old, "old_logits")
    old = c_ordered(old)
    cdef ndarray kl = one_a_row(old)
    cdef categorical_kl_args args = categorical_kl_args(
        kl=PyArray_DATA(kl), old_logits=PyArray_DATA(old), new_logits=PyArray_DATA(new), columns=columns_of(old),
        old_softmax=softmax_args(largest=NULL, e=NULL), new_softmax=softmax_args(largest=NULL, e=NULL))
    kept = shared_softmax(old, &args.old_softmax), shared_softmax(new, &args.new_softmax)
    run_rows(fastopt_kernels.policy.categorical_kl[element_type(old)], &args, old)
    return per_sample_or_mean(kl, per_sample)


def categorical_log_prob(logits, actions):
    cdef ndarray x = checked_rows(logits, "logits")
    cdef ndarray choices = checked_choices(actions, x)
    x = c_ordered(x)
    cdef ndarray log_prob = one_a_row(x)
    cdef categorical_log_prob_args args = categorical_log_prob_args(
        log_prob=PyArray_DATA(log_prob), logits=PyArray_DATA(x), actions=<const int64_t*>PyArray_DATA(choices),
        columns=columns_of(x), softmax=softmax_args(largest=NULL, e=NULL))
    kept = shared_softmax(x, &args.softmax)
    run_rows(fastopt_kernels.policy.categorical_log_prob[element_type(x)], &args, x)
    return log_prob


def categorical_entropy(logits):
    cdef ndarray x = c_ordered(checked_rows(logits, "logits"))
    cdef ndarray entropy = one_a_row(x)
    cdef categorical_entropy_args args = categorical_entropy_args(
        entropy=PyArray_DATA(entropy), logits=PyArray_DATA(x), columns=columns_of(x),
        softmax=softmax_args(largest=NULL, e=NULL))
    kept = shared_softmax(x, &args.softmax)
    run_rows(fastopt_kernels.policy.categorical_entropy[element_type(x)], &args, x)
    return entropy


def check_logits(logits):
    checked_rows(logits, "logits")


def categorical_sample(logits, uint64_t seed, uint64_t stream, uint32_t domain):
    cdef ndarray x = c_ordered(checked_rows(logits, "logits"))
    cdef ndarray actions = np.empty(batch_shape(x), np.int64)
    cdef categorical_sample_args args = categorical_sample_args(
        actions=<int64_t*>PyArray_DATA(actions), logits=PyArray_DATA(x), columns=columns_of(x),
        address=address_of(seed, stream, domain), softmax=softmax_args(largest=NULL, e=NULL))
    kept = shared_softmax(x, &args.softmax)
    run_rows(fastopt_kernels.policy.categorical_sample[element_type(x)], &args, x)
    return actions


def categorical_policy_gradient(logits, actions, advantages, double entropy_coef, valid, out):
    cdef ndarray x = checked_rows(logits, "logits")
    cdef ndarray choices = checked_choices(actions, x)
    cdef ndarray adv = checked_batch(advantages, "advantages", x, "logits")
    not_empty(x, "logits")
    cdef ndarray counted = checked_valid(valid, adv)
    cdef ndarray dlogits = output_for(out, x, "logits")
    if out is not None:
        distinct(dlogits, "out", adv, "advantages")
        if counted is not None:
            distinct(dlogits, "out", valid, "valid")
    cdef ndarray target = c_target(dlogits)
    x = c_ordered(x)
    adv = c_ordered(adv)
    cdef ndarray losses = one_a_row(x)
    cdef ndarray room = room_for_sums(losses)
    cdef object loss = number_to_be()
    cdef tuple result = (loss, dlogits)
    cdef categorical_policy_gradient_args args = categorical_policy_gradient_args(
        dlogits=PyArray_DATA(target), losses=PyArray_DATA(losses), logits=PyArray_DATA(x),
        actions=<const int64_t*>PyArray_DATA(choices), advantages=PyArray_DATA(adv), valid=flags_of(counted),
        columns=columns_of(x), scale=0, entropy_coef=0, entropy_scale=0, softmax=softmax_args(largest=NULL, e=NULL))
    kept = shared_softmax(x, &args.softmax)
    cdef int64_t count = some_valid(fastopt_categorical_gradient_scalars(&args, rows_of(x), entropy_coef))
    run_rows(fastopt_kernels.policy.categorical_policy_gradient[element_type(x)], &args, x)
    if target is not dlogits:
        copied_into(dlogits, target)
    set_number(loss, mean_with(losses, room, count))
    return result
