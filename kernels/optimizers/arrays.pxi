# The functions on single arrays: one step of a rule, averages, clipping.


def step(str rule, list arrays, list names, int64_t step, tuple hyper, double grad_scale, tuple places=(0, 1, 2)):
    """One step of the rule on arrays = [param, grad, *states], of which all but grad are written; all may be codes of bfloat16.

    `places` are those of the states in the order of the rule, for one that does without some of them.
    """
    cdef const fastopt_rule* found = rule_named(rule)
    cdef rule_scalars scalars
    cdef optimizer_args args
    cdef Py_ssize_t k, other, count = len(arrays)
    cdef int order = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS
    cdef ndarray array, param = checked_or_codes(arrays[0], names[0])
    cdef int kind = 0 if are_codes(param) else element_type(param)
    cdef int form = FASTOPT_BFLOAT16_PARAMS if are_codes(param) else FASTOPT_WHOLE
    rule_scalars_of(found, &scalars, hyper, kind, step, grad_scale)
    for k in range(1, count):
        checked_like(arrays[k], names[k], param, names[0])
    for k in range(count):
        array = <ndarray>arrays[k]
        if k != 1:
            writable(array, names[k])
        for other in range(k):
            distinct(array, names[k], <ndarray>arrays[other], names[other])
        order &= contiguous_order(array)
    cdef list own = arrays if order else views_of(arrays)
    cdef list work = arrays if order else c_copies(own)
    memset(&args, 0, sizeof(args))
    args.step.param = PyArray_DATA(<ndarray>work[0])
    args.step.grad = PyArray_DATA(<ndarray>work[1])
    for k in range(2, count):
        args.step.states[<int>places[k - 2]] = PyArray_DATA(<ndarray>work[k])
    args.step.scalars = &scalars
    run(fastopt_rule_kernels(found, form)[kind], &args, PyArray_SIZE(param), OPTIMIZER_GRAIN)
    if not order:
        for k in range(count):
            if k != 1:
                copied_into(<ndarray>own[k], <ndarray>work[k])


def ema_update(average, value, double decay):
    """Move the average towards the value, in place."""
    cdef ndarray target = checked(average, "average"), source = checked_like(value, "value", target, "average"), work
    writable(target, "average")
    distinct(target, "average", source, "value")
    if not contiguous_order(target) & contiguous_order(source):
        work = c_copy(target)
        ema_update(work, c_copy(source), decay)
        copied_into(target, work)
        return
    cdef ema_args args = ema_args(average=PyArray_DATA(target), value=PyArray_DATA(source), rate=fastopt_average_rate(decay))
    run(fastopt_kernels.optimizers.ema[element_type(target)], &args, PyArray_SIZE(target), ELEMENTWISE_GRAIN)


def check_disjoint(list arrays, list names):
    """Raise unless all are arrays that can be written in place, none overlapping another."""
    for array, name in zip(arrays, names):
        checked(array, name)
    disjoint(arrays, names)


def scale(list arrays, double factor):
    """x *= factor, in place, for all of the arrays, which have been checked, or on an error for none."""
    cdef Py_ssize_t k, count = len(arrays)
    cdef list copies = []           # (array, the copy that the kernel writes)
    cdef ndarray a, work
    cdef fastopt_job* jobs = <fastopt_job*>calloc(count, sizeof(fastopt_job))
    cdef scale_args* args = <scale_args*>calloc(count, sizeof(scale_args))
    try:
        if count and (jobs == NULL or args == NULL):
            raise MemoryError
        for k in range(count):
            a = work = <ndarray>arrays[k]
            if not contiguous_order(a):
                work = c_copy(a)
                copies.append((view_of(a, a), work))
            args[k] = scale_args(x=PyArray_DATA(work), factor=factor)
            jobs[k] = fastopt_job(kernel=fastopt_kernels.optimizers.scale[element_type(a)], args=&args[k],
                                  size=PyArray_SIZE(work), grain=ELEMENTWISE_GRAIN, first_chunk=0)
        # Nothing is written before here, and nothing can fail or be interrupted after it.
        run_jobs(jobs, count)
        for array, result in copies:
            copied_into(<ndarray>array, <ndarray>result)
    finally:
        free(jobs)
        free(args)


def coalesce(sparse, str name):
    """The distinct rows of SparseRows and their gradients, repeated ones added up."""
    return coalesced(sparse, name, None, None)


cdef list all_checked(list arrays, list names):
    cdef list found = []
    for array, name in zip(arrays, names):
        found.append(c_ordered(checked(array, name)))
    return found


def l2_penalty(list arrays, list names, double weight_decay):
    """weight_decay / 2 times the sum of the squares of all arrays."""
    cdef list all = all_checked(arrays, names)
    cdef ndarray room = np.empty(len(all))
    cdef double* sums = <double*>PyArray_DATA(room)
    cdef double scale = squares_of(all, sums)
    return fastopt_penalty(weight_decay, sums, len(all), scale)


def norm(list arrays, list names):
    """The root of the sum of the squares of all arrays, of which some may be codes of bfloat16."""
    cdef list all = []
    for array, name in zip(arrays, names):
        all.append(c_ordered(checked_or_codes(array, name)))
    cdef ndarray room = np.empty(len(all))
    cdef double* sums = <double*>PyArray_DATA(room)
    cdef double scale = squares_of(all, sums)
    return fastopt_norm(1, sums, len(all), scale)


def clip_factor(double norm, double max_norm):
    return fastopt_clip(norm, max_norm)


def tensor_arrays(list tensors, tuple plain_types):
    """Views of the tensors' memory as arrays; None where one has no dense memory of floats, or shares it with another."""
    cdef dl_tensor described
    cdef npy_intp strides[MOST_DIMENSIONS]
    cdef list arrays = [], keep = [None]
    cdef int k
    cdef ndarray a
    for tensor in tensors:
        if type(tensor) not in plain_types or not reach(tensor, &described, keep) or not kernels_take(&described) \
                or described.code == DL_BFLOAT or described.ndim > MOST_DIMENSIONS or described.data == NULL and size_of(&described) > 0:
            return None
        if c_contiguous(&described):
            a = flat_view(&described)
        else:
            for k in range(described.ndim):
                strides[k] = described.strides[k] * (described.bits // 8)
            a = PyArray_New(ndarray, described.ndim, <npy_intp*>described.shape, NPY_FLOAT if described.bits == 32 else NPY_DOUBLE,
                            strides, described.data, 0, NPY_ARRAY_ALIGNED | NPY_ARRAY_WRITEABLE, None)
        set_array_base(a, tensor)
        arrays.append(a)
    try:
        disjoint(arrays, ["grads"] * len(arrays))
    except ValueError:
        return None
    return arrays
