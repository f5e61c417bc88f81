# The losses of PPO.


@cython.final
cdef class _PPOBatch:
    """What the losses of PPO take besides the policy, checked; and what they return besides the policy's gradients."""
    cdef ppo_args args
    cdef int64_t valid
    cdef double entropy_coef, value_coef
    cdef ndarray dvalues, target
    cdef object loss, stats
    cdef list given, names  # the arrays that no output may overlap
    cdef list kept  # what the record points to

    def __cinit__(self, ndarray x, str x_name, tuple batch, valid, tuple numbers, out, str out_name, stats_type):
        cdef ndarray advantages, old_log_prob, values, returns, old_values = None, flags
        cdef int64_t rows = rows_of(x)
        cdef npy_intp size = row_blocks(rows) * FASTOPT_PPO_SUMS
        clip_range, clip_range_vf, self.entropy_coef, self.value_coef = numbers
        advantages = checked_batch(batch[0], "advantages", x, x_name)
        old_log_prob = checked_batch(batch[1], "old_log_prob", x, x_name)
        values = checked_batch(batch[2], "values", x, x_name)
        returns = checked_batch(batch[3], "returns", x, x_name)
        self.given, self.names = [advantages, old_log_prob, values, returns], ["advantages", "old_log_prob", "values", "returns"]
        if batch[4] is not None:
            old_values = checked_batch(batch[4], "old_values", x, x_name)
            self.takes(old_values, "old_values")
        flags = checked_valid(valid, advantages)
        if flags is not None:
            self.takes(valid, "valid")
        self.dvalues = output_named(out, out_name, values, "values")
        self.target = c_target(self.dvalues)
        advantages, old_log_prob = c_ordered(advantages), c_ordered(old_log_prob)
        values, returns = c_ordered(values), c_ordered(returns)
        cdef ndarray sums = PyArray_EMPTY(1, &size, NPY_DOUBLE, 0)
        self.kept = [advantages, old_log_prob, values, returns, flags, sums]
        self.args = ppo_args(
            dvalues=PyArray_DATA(self.target), sums=<double*>PyArray_DATA(sums), advantages=PyArray_DATA(advantages),
            old_log_prob=PyArray_DATA(old_log_prob), values=PyArray_DATA(values), returns=PyArray_DATA(returns),
            old_values=NULL, valid=flags_of(flags), scale=0, low=0, high=0, clip_range=0, clip_range_vf=0,
            entropy_scale=0, value_scale=0)
        if clip_range_vf is not None:
            old_values = c_ordered(old_values)
            self.kept.append(old_values)
            self.args.old_values = PyArray_DATA(old_values)
        self.valid = some_valid(fastopt_ppo_scalars(&self.args, rows, clip_range, 0 if clip_range_vf is None else clip_range_vf,
                                                    self.entropy_coef, self.value_coef))
        self.loss = number_to_be()
        self.stats = stats_type(number_to_be(), number_to_be(), number_to_be(), number_to_be(), number_to_be())

    cdef int takes(self, ndarray x, str name) except -1:
        self.given.append(x)
        self.names.append(name)
        return 0

    cdef void finish(self, int64_t rows) noexcept:
        """Fill in the numbers, from the sums that a kernel has left. Cannot fail."""
        cdef double results[FASTOPT_PPO_RESULTS]
        cdef int k
        fastopt_ppo_results(results, self.args.sums, rows, self.valid, self.entropy_coef, self.value_coef)
        set_number(self.loss, results[0])
        for k in range(FASTOPT_PPO_RESULTS - 1):
            set_number(<object>(<tuple>self.stats)[k], results[k + 1])
        if self.target is not self.dvalues:
            copied_into(self.dvalues, self.target)


cdef ndarray checked_columns(list lists, object actions, ndarray widths):
    """A copy of the actions of several lists of logits, as numbers of columns of all of them."""
    cdef ndarray first = <ndarray>lists[0]
    cdef int64_t count = len(lists), k, row, begin = 0, width
    cdef ndarray a = integers_of(actions, batch_shape(first) + (count,), "one for each row of each of the logits")
    cdef int64_t* action = <int64_t*>PyArray_DATA(a)
    for k in range(count):
        width = (<int64_t*>PyArray_DATA(widths))[k]
        for row in range(rows_of(first)):
            if <uint64_t>action[row * count + k] >= <uint64_t>width:
                raise ValueError(f"actions: expected numbers from 0 to {width - 1} in column {k}, one of the {width} columns of "
                                 f"logits[{k}], got {action[row * count + k]}")
            action[row * count + k] += begin
        begin += width
    return a


cdef const char* beside_each_other(list arrays, int64_t columns) noexcept:
    """Where arrays begin that together are the columns of one C-contiguous array; NULL if they are not."""
    cdef const char* end = NULL
    cdef ndarray a
    cdef npy_intp stride
    cdef int k
    for a in arrays:
        if (end != NULL and PyArray_DATA(a) != <const void*>end) or not PyArray_FLAGS(a) & NPY_ARRAY_ALIGNED:
            return NULL
        stride = PyArray_ITEMSIZE(a)
        for k in range(PyArray_NDIM(a) - 1, -1, -1):
            if PyArray_DIMS(a)[k] > 1 and PyArray_STRIDES(a)[k] != stride:
                return NULL
            stride *= columns if k == PyArray_NDIM(a) - 1 else PyArray_DIMS(a)[k]
        end = <const char*>PyArray_DATA(a) + columns_of(a) * PyArray_ITEMSIZE(a)
    return <const char*>PyArray_DATA(<ndarray>arrays[0])


cdef list columns_as(list lists, ndarray together):
    """Views of the columns of an array that are as wide as those of `lists`."""
    cdef int64_t begin = 0
    cdef list parts = []
    for x in lists:
        parts.append(together[..., begin:begin + columns_of(<ndarray>x)])
        begin += columns_of(<ndarray>x)
    return parts


def categorical_ppo_loss(logits, actions, tuple batch, valid, tuple numbers, out, stats_type):
    cdef bint several = isinstance(logits, (list, tuple))
    cdef list lists, outs = None, parts = None, names = [], out_names = []
    cdef ndarray x, first, choices, together
    cdef int64_t columns = 0
    cdef Py_ssize_t k, count
    if several and not logits:
        raise ValueError("logits: expected at least one array, got none")
    lists = list(logits) if several else [logits]
    count = len(lists)
    for k in range(count):
        names.append(f"logits[{k}]" if several else "logits")
        x = checked_rows(lists[k], names[k])
        if k > 0 and (PyArray_TYPE(x) != PyArray_TYPE(first) or batch_shape(x) != batch_shape(first)):
            raise ValueError(f"{names[k]}: expected {first.dtype} and shape {(*batch_shape(first), '...')} like logits[0], got "
                             f"{x.dtype} and {shape(x)}".replace("'", ""))
        if k == 0:
            first = x
        columns += columns_of(x)
    cdef npy_intp of_lists = count
    cdef ndarray widths = PyArray_EMPTY(1, &of_lists, NPY_INT64, 0)
    for k in range(count):
        (<int64_t*>PyArray_DATA(widths))[k] = columns_of(<ndarray>lists[k])
    choices = checked_columns(lists, actions, widths) if several else checked_choices(actions, first)
    not_empty(first, names[0])
    out_logits, out_values = (None, None) if out is None else out
    cdef _PPOBatch terms = _PPOBatch(first, names[0], batch, valid, numbers, out_values, "out[1]", stats_type)

    # The gradient: where it goes, and where the kernel writes it.
    cdef const void* source = beside_each_other(lists, columns)
    cdef void* target = NULL
    if out_logits is not None:
        if several and not (isinstance(out_logits, (list, tuple)) and len(out_logits) == count):
            raise TypeError(f"out[0]: expected a list of {count} arrays like logits, got {type(out_logits).__name__}")
        outs = list(out_logits) if several else [out_logits]
        for k in range(count):
            out_names.append(f"out[0][{k}]" if several else "out[0]")
            output_named(outs[k], out_names[k], <ndarray>lists[k], names[k])
            for j in range(count):
                distinct(<ndarray>outs[k], out_names[k], <ndarray>lists[j], names[j], same_allowed=j == k)
        target = <void*>beside_each_other(outs, columns)
        apart([*outs, terms.dvalues], [*out_names, "out[1]"], terms.given, terms.names)
    elif out_values is not None:
        apart([terms.dvalues], ["out[1]"], terms.given, terms.names)
    if out_values is not None:
        for k in range(count):
            distinct(terms.dvalues, "out[1]", <ndarray>lists[k], names[k])
    if source == NULL:
        joined = np.empty((*batch_shape(first), columns), first.dtype)
        for x, part in zip(lists, columns_as(lists, joined)):
            copied_into(<ndarray>part, x)
        source = PyArray_DATA(<ndarray>joined)
    if target == NULL:
        together = np.empty((*batch_shape(first), columns), first.dtype)
        target = PyArray_DATA(together)
        parts = columns_as(lists, together) if several else [together]
        if outs is None:
            outs = parts
    result = terms.loss, outs if several else outs[0], terms.dvalues, terms.stats

    cdef categorical_ppo_loss_args args = categorical_ppo_loss_args(
        dlogits=target, logits=source, actions=<const int64_t*>PyArray_DATA(choices),
        widths=<const int64_t*>PyArray_DATA(widths), rows=rows_of(first), columns=columns, lists=count, ppo=terms.args)
    run_row_blocks(fastopt_kernels.policy.categorical_ppo_loss[element_type(first)], &args, args.rows, columns)
    if parts is not None and outs is not parts:
        for k in range(count):
            copied_into(<ndarray>outs[k], <ndarray>parts[k])
    terms.finish(args.rows)
    return result
