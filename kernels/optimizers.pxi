# One step over all the parameters of an optimiser in one call. Pointers are taken once and compared at each step.

cdef enum:
    DOMAIN_ROUNDING = 4
    PAGE = 4096

cdef union step_scalars:
    adam_scalars adam
    sgd_scalars sgd

cdef struct parameter:
    void* data
    int64_t size
    int order               # of its states, and of what the kernel sees: its own when contiguous, else C
    int group
    const void* grad        # of the last step, known not to overlap anything that is written

cdef struct memory_range:
    uintptr_t low
    uintptr_t high
    Py_ssize_t owner

cdef enum small_states:
    PLAIN, BFLOAT16, EIGHT_BIT


cdef str label(str kind, str name):
    return f"{kind}/{name}" if name else kind


cdef ndarray ordered_copy(ndarray a, int order):
    return PyArray_NewCopy(a, NPY_CORDER if order & NPY_ARRAY_C_CONTIGUOUS else NPY_FORTRANORDER)


cdef void* data_or_null(dict states, str kind, Py_ssize_t k):
    return PyArray_DATA(<ndarray>states[kind][k]) if kind in states else NULL


cdef ndarray zeros_apart(ndarray param, dtype, int order, int apart):
    """Zeros in the shape of param, whose place in a page is `apart` bytes after that of param.

    A load that follows a store to the same place in another page waits for it: with arrays some 64 bytes apart, an Adam
    step in cache takes 0.43 ns an element, with 1,024 bytes 0.29 (Zen 4).
    """
    cdef str memory_order = "C" if order & NPY_ARRAY_C_CONTIGUOUS else "F"
    cdef int64_t size = PyArray_SIZE(param) * dtype.itemsize
    if size < 4 * PAGE:
        return np.zeros(shape(param), dtype, memory_order)
    buffer = np.zeros(size + PAGE, np.uint8)
    cdef uintptr_t place = (<uintptr_t>PyArray_DATA(param) // 64 * 64 + apart) % PAGE
    cdef uintptr_t start = (place - <uintptr_t>PyArray_DATA(<ndarray>buffer)) % PAGE
    return buffer[start:start + size].view(dtype).reshape(shape(param), order=memory_order)


cdef class Optimizer:
    """The arrays, states and step counts of an optimiser, and its step. Subclasses say what a step computes.

    `names`, `arrays` and `group_of` have one entry a parameter, in the order in which `params` holds them. A group is
    any object whose attribute `scalars` is the tuple of its checked hyper-parameters.
    """

    cdef readonly object params
    cdef readonly list param_groups
    cdef readonly ndarray _steps
    cdef readonly list _names
    cdef readonly dict _states      # name of the state -> one array a parameter
    cdef public int64_t step_count
    cdef public int64_t skipped_steps
    cdef readonly object grad_norm
    cdef public uint64_t _rounding_key
    cdef readonly bint _maximize
    cdef double _max_grad_norm      # infinity when there is none
    cdef double _ema_decay
    cdef bint _skip_nonfinite
    cdef small_states _small
    cdef list _arrays, _written     # all that a step writes: (name, array)
    cdef Py_ssize_t _count, _range_count
    cdef parameter* _parameters
    cdef small_state_args* _args
    cdef optimizer_rows_args* _rows_args
    cdef step_scalars* _scalars
    cdef fastopt_job* _jobs
    cdef sum_squares_args* _norm_args
    cdef memory_range* _ranges      # of _written, sorted
    cdef bint _interleaved          # ranges overlap although no elements do
    cdef bint _apart                # the gradients that `parameter.grad` points to overlap none of each other
    cdef bint _stepping

    def __cinit__(self, *args, **kwargs):
        self._names = []

    def __dealloc__(self):
        free(self._parameters)
        free(self._args)
        free(self._rows_args)
        free(self._scalars)
        free(self._jobs)
        free(self._norm_args)
        free(self._ranges)

    def _bind(self, params, list groups, list group_of, list names, list arrays, tuple state_names, *, bint maximize,
              double max_grad_norm, bint skip_nonfinite, ema_decay, state_dtype):
        """Take hold of the parameters and make their states. Called once, by __init__."""
        cdef Py_ssize_t k, count = len(arrays)
        cdef ndarray array, first
        if self._count:
            raise RuntimeError("an optimiser is initialised once")
        if not arrays:
            raise ValueError("params: expected at least one array, got none")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"params: two arrays have the path {twice!r}; rename a key")
        first = checked(arrays[0], label("params", names[0]))
        for k in range(count):
            array = checked(arrays[k], label("params", names[k]))
            if PyArray_TYPE(array) != PyArray_TYPE(first):
                raise TypeError(f"{label('params', names[k])}: expected {first.dtype} like {label('params', names[0])}, "
                                f"got {array.dtype}; use one dtype, or an optimiser for each")
            writable(array, label("params", names[k]))
        self.params = params
        self.param_groups = groups
        self._names = names
        self._arrays = arrays
        self._maximize = maximize
        self._max_grad_norm = max_grad_norm
        self._skip_nonfinite = skip_nonfinite
        self._ema_decay = 0 if ema_decay is None else ema_decay
        self._small = {None: PLAIN, "bfloat16": BFLOAT16, "8bit": EIGHT_BIT}[state_dtype]
        self._steps = np.zeros(count, np.int64)
        self._parameters = <parameter*>calloc(count, sizeof(parameter))
        self._args = <small_state_args*>calloc(count, sizeof(small_state_args))
        self._rows_args = <optimizer_rows_args*>calloc(count, sizeof(optimizer_rows_args))
        self._scalars = <step_scalars*>calloc(count, sizeof(step_scalars))
        self._jobs = <fastopt_job*>calloc(count, sizeof(fastopt_job))
        self._norm_args = <sum_squares_args*>calloc(count, sizeof(sum_squares_args))
        self._ranges = <memory_range*>calloc(count * 8, sizeof(memory_range))
        if not (self._parameters and self._args and self._rows_args and self._scalars and self._jobs and self._norm_args
                and self._ranges):
            raise MemoryError
        for k in range(count):
            array = arrays[k]
            self._parameters[k].data = PyArray_DATA(array)
            self._parameters[k].size = PyArray_SIZE(array)
            self._parameters[k].group = group_of[k]
            # The blocks and addresses of small states count in C order.
            self._parameters[k].order = NPY_ARRAY_C_CONTIGUOUS if self._small else \
                contiguous_order(array) or NPY_ARRAY_C_CONTIGUOUS
        self._states = {}
        for state in state_names:
            self.make_state(state)
        if ema_decay is not None:
            self._states["ema"] = [zeros_apart(a, a.dtype, self._parameters[k].order, 512) for k, a in enumerate(arrays)]
            for average, array_ in zip(self._states["ema"], arrays):
                average[...] = array_
        for k in range(count):
            self.take_states(k)
        self.list_written()
        self._count = count

    cdef int make_state(self, str state) except -1:
        cdef Py_ssize_t k
        code = np.dtype({PLAIN: self._arrays[0].dtype, BFLOAT16: np.uint16, EIGHT_BIT: np.uint8}[self._small])
        apart = 1024 * (1 + len(self._states))
        self._states[state] = [zeros_apart(a, code, self._parameters[k].order, apart) for k, a in enumerate(self._arrays)]
        if self._small == EIGHT_BIT:
            blocks = [-(-a.size // FASTOPT_STATE_BLOCK) for a in self._arrays]
            self._states[f"{state}_exponent"] = [np.zeros(n, np.uint8) for n in blocks]
        return 0

    cdef int take_states(self, Py_ssize_t k) except -1:
        """Put the pointers of parameter k's states into its record."""
        cdef small_state_args* args = &self._args[k]
        cdef str momentum = "exp_avg" if "exp_avg" in self._states else "momentum_buffer"
        args.step.momentum = data_or_null(self._states, momentum, k)
        args.step.exp_avg_sq = data_or_null(self._states, "exp_avg_sq", k)
        args.step.max_exp_avg_sq = data_or_null(self._states, "max_exp_avg_sq", k)
        args.step.ema = data_or_null(self._states, "ema", k)
        args.step.ema_rate = 1 - self._ema_decay
        args.exponents[0] = <uint8_t*>data_or_null(self._states, f"{momentum}_exponent", k)
        args.exponents[1] = <uint8_t*>data_or_null(self._states, "exp_avg_sq_exponent", k)
        args.exponents[2] = <uint8_t*>data_or_null(self._states, "max_exp_avg_sq_exponent", k)
        return 0

    cdef const fastopt_kernel* kernel(self, bint rows) noexcept:
        """The kernels for both element types: of single rows, or for the state dtype."""
        return NULL

    cdef int compute_scalars(self, step_scalars* out, tuple hyper, double t, double grad_scale) except -1:
        raise NotImplementedError

    cdef double weight_decay(self, tuple hyper):
        raise NotImplementedError

    cdef int list_written(self) except -1:
        """Sort what a step writes by address, and refuse parameters that overlap."""
        cdef Py_ssize_t k, other
        cdef uintptr_t low, high
        cdef list found = []
        self._written = [(label("params", name), array) for name, array in zip(self._names, self._arrays)]
        for state, arrays in self._states.items():
            self._written += [(label(state, name), array) for name, array in zip(self._names, arrays)]
        for k in range(len(self._written)):
            bounds(<ndarray>self._written[k][1], &low, &high)
            if high > low:
                found.append((low, high, k))
        found.sort()
        self._range_count = len(found)
        self._interleaved = False
        for k in range(self._range_count):
            self._ranges[k].low, self._ranges[k].high, self._ranges[k].owner = found[k]
            if k > 0 and self._ranges[k - 1].high > self._ranges[k].low:
                self._interleaved = True
        if self._interleaved:
            for k in range(len(self._arrays)):
                for other in range(k):
                    if share_memory(<ndarray>self._arrays[k], <ndarray>self._arrays[other]):
                        raise ValueError(
                            f"{label('params', self._names[k])}: expected memory of its own, got an array that overlaps "
                            f"{label('params', self._names[other])}; list a tied weight once and add up its gradients")
        return 0

    cdef int check_overlap(self, ndarray grad, str name) except -1:
        """Refuse a gradient that shares memory with anything that the step writes."""
        cdef uintptr_t low, high
        cdef Py_ssize_t first = 0, last = self._range_count, middle
        if self._interleaved:
            for written, array in self._written:
                distinct(<ndarray>array, written, grad, label("grads", name))
            return 0
        bounds(grad, &low, &high)
        while first < last:  # to the first range that ends above the gradient's beginning
            middle = (first + last) // 2
            if self._ranges[middle].high > low:
                last = middle
            else:
                first = middle + 1
        while first < self._range_count and self._ranges[first].low < high:
            written, array = self._written[self._ranges[first].owner]
            distinct(<ndarray>array, written, grad, label("grads", name))
            first += 1
        return 0

    cdef bint pair(self, object params, object grads, list held) except -1:
        """Append each parameter's gradient to `held`, in order. False when the structures differ."""
        cdef Py_ssize_t k
        if isinstance(params, dict):
            if not isinstance(grads, dict) or len(<dict>grads) != len(<dict>params):
                return False
            for key, value in (<dict>params).items():
                if key not in <dict>grads or not self.pair(value, (<dict>grads)[key], held):
                    return False
        elif isinstance(params, (list, tuple)):
            if not isinstance(grads, (list, tuple)) or len(grads) != len(params):
                return False
            for k in range(len(params)):
                if not self.pair(params[k], grads[k], held):
                    return False
        else:
            k = len(held)
            if k >= self._count:
                return False
            if params is not self._arrays[k] or PyArray_DATA(<ndarray>params) != self._parameters[k].data \
                    or PyArray_SIZE(<ndarray>params) != self._parameters[k].size:
                raise ValueError(f"{label('params', self._names[k])}: no longer the array that the optimiser was made with; "
                                 "write into it (param[...] = values) instead of replacing it, or make a new optimiser")
            held.append(grads)
        return True

    cdef tuple sparse_gradient(self, object grad, Py_ssize_t k):
        """The rows of SparseRows and their gradients, for an optimiser that can take them."""
        cdef str name = label("grads", self._names[k])
        if self._small or "ema" in self._states or "max_exp_avg_sq" in self._states:
            raise ValueError(f"{name}: SparseRows need an optimiser without state_dtype, ema_decay and amsgrad: they leave "
                             "the other rows as they are, and these would not")
        if self.weight_decay(self.param_groups[self._parameters[k].group].scalars) != 0:
            raise ValueError(f"{name}: SparseRows need weight_decay = 0: only the rows given move; put the parameter in a "
                             "group of its own")
        if not self._parameters[k].order & NPY_ARRAY_C_CONTIGUOUS:
            raise ValueError(f"{name}: SparseRows need a parameter in C order, got {label('params', self._names[k])} in "
                             "Fortran order; make the optimiser with np.ascontiguousarray(param)")
        return coalesced(grad, name, <ndarray>self._arrays[k], label("params", self._names[k]))

    cdef void make_rows_job(self, fastopt_job* job, Py_ssize_t k, ndarray rows):
        """Turn the job of parameter k into one of its given rows."""
        cdef optimizer_rows_args* args = &self._rows_args[k]
        args.step = self._args[k].step
        args.step.zero_grad = False
        args.rows = <const int64_t*>PyArray_DATA(rows)
        args.width = PyArray_DIMS(<ndarray>self._arrays[k])[1]
        job.kernel = self.kernel(True)[element_type(<ndarray>self._arrays[k])]
        job.args = args
        job.size = PyArray_SIZE(rows)
        job.grain = max(1, 4 * OPTIMIZER_GRAIN // max(1, args.width))  # waiting for memory more than working

    cdef bint takes_norm(self) noexcept:
        return self._skip_nonfinite or isfinite(self._max_grad_norm)

    cdef double norm(self, list held, double multiplier) except? -1:
        """The norm of all gradients, times the multiplier: array by array, each in C order."""
        cdef Py_ssize_t k, jobs = 0
        cdef int64_t blocks = 0
        cdef list keep = []
        cdef ndarray grad
        cdef int kind = element_type(<ndarray>self._arrays[0])
        for k in range(self._count):
            if held[k] is None:
                continue
            grad = <ndarray>held[k]
            if not contiguous_order(grad) & NPY_ARRAY_C_CONTIGUOUS:
                grad = c_copy(grad)
                keep.append(grad)
            self._norm_args[jobs].x = PyArray_DATA(grad)
            self._norm_args[jobs].size = PyArray_SIZE(grad)
            self._jobs[jobs].kernel = fastopt_kernels.sum_squares[kind]
            self._jobs[jobs].args = &self._norm_args[jobs]
            self._jobs[jobs].size = (PyArray_SIZE(grad) + FASTOPT_SUM_BLOCK - 1) // FASTOPT_SUM_BLOCK
            self._jobs[jobs].grain = SUM_GRAIN
            blocks += self._jobs[jobs].size
            jobs += 1
        cdef ndarray sums = np.empty(jobs + blocks)
        cdef double* array_sums = <double*>PyArray_DATA(sums)
        cdef double* block_sums = array_sums + jobs
        for k in range(jobs):
            self._norm_args[k].block_sums = block_sums
            block_sums += self._jobs[k].size
        run_jobs(self._jobs, jobs, blocks * FASTOPT_SUM_BLOCK)
        for k in range(jobs):
            array_sums[k] = fastopt_add_up(self._norm_args[k].block_sums, self._jobs[k].size)
        return fastopt_norm(multiplier, array_sums, jobs)

    def _step(self, grads, double grad_multiplier, bint zero_grads):
        # The scratch of a step is the object's own, and NumPy gives the GIL away in copies.
        if self._stepping:
            raise RuntimeError("step: this optimiser is in the middle of a step in another thread")
        self._stepping = True
        try:
            self.take_step(grads, grad_multiplier, zero_grads)
        finally:
            self._stepping = False

    cdef int take_step(self, grads, double grad_multiplier, bint zero_grads) except -1:
        cdef list originals = []        # the gradients as they came
        cdef list held = originals      # and as the kernel sees them: copies where the order differs
        cdef list copies = []
        cdef dict rows = {}             # of the sparse gradients: parameter -> row numbers
        cdef Py_ssize_t k, jobs = 0, previous = -1
        cdef int64_t size = 0
        cdef int64_t* steps = <int64_t*>PyArray_DATA(self._steps)
        cdef int order
        cdef fastopt_kernel kernel
        cdef ndarray grad, param, work
        cdef double grad_scale = -grad_multiplier if self._maximize else grad_multiplier, norm = 0
        if not self.pair(self.params, grads, originals) or len(held) != self._count:
            for _ in same_structure(grads, self.params, "grads"):
                pass
            raise ValueError("params: no longer the nest of arrays that the optimiser was made with; make a new optimiser")
        for k in range(self._count):
            if held[k] is None:
                self._parameters[k].grad = NULL  # the next one is compared with the others again
                continue
            param = <ndarray>self._arrays[k]
            if not PyArray_ISWRITEABLE(param):
                writable(param, label("params", self._names[k]))
            order = self._parameters[k].order
            if type(held[k]) is _SparseRows:
                held = held[:] if held is originals else held
                rows[k], held[k] = self.sparse_gradient(originals[k], k)
                originals[k] = originals[k].values
                self.check_overlap(<ndarray>originals[k], self._names[k])
                self._apart = False
                continue
            if not PyArray_CheckExact(held[k]) or PyArray_TYPE(<ndarray>held[k]) != PyArray_TYPE(param) \
                    or PyArray_ISBYTESWAPPED(<ndarray>held[k]) or not same_shape(<ndarray>held[k], param):
                checked_like(held[k], label("grads", self._names[k]), param, label("params", self._names[k]))
            grad = <ndarray>held[k]
            if zero_grads and not PyArray_ISWRITEABLE(grad):
                writable(grad, label("grads", self._names[k]))
            if PyArray_DATA(grad) != self._parameters[k].grad or not contiguous_order(grad):
                self.check_overlap(grad, self._names[k])
                self._parameters[k].grad = PyArray_DATA(grad) if contiguous_order(grad) else NULL
                self._apart = False
            if not contiguous_order(grad) & order:
                held = held[:] if held is originals else held
                held[k] = ordered_copy(grad, order)
        if zero_grads and not self._apart:
            disjoint([g for g in originals if g is not None],
                     [label("grads", name) for name, g in zip(self._names, originals) if g is not None])
            self._apart = True

        if self.takes_norm():
            norm = self.norm(held, grad_multiplier)
            if self._skip_nonfinite and not isfinite(norm):
                self.grad_norm = norm
                self.skipped_steps += 1
                if zero_grads:
                    for original in originals:
                        if original is not None:
                            original.fill(0)
                return 0
            if isfinite(self._max_grad_norm):
                grad_scale *= fastopt_clip(norm, self._max_grad_norm)

        kernel = self.kernel(False)[element_type(<ndarray>self._arrays[0])]
        for k in range(self._count):
            if held[k] is None:
                continue
            param = <ndarray>self._arrays[k]
            self._args[k].step.grad = PyArray_DATA(<ndarray>held[k])
            self._args[k].step.param = self._parameters[k].data
            self._args[k].step.zero_grad = zero_grads
            if not contiguous_order(param) & self._parameters[k].order:
                work = ordered_copy(param, self._parameters[k].order)
                copies.append((param, work))
                self._args[k].step.param = PyArray_DATA(work)
            if previous < 0 or self._parameters[k].group != self._parameters[previous].group or steps[k] != steps[previous]:
                self.compute_scalars(&self._scalars[k], self.param_groups[self._parameters[k].group].scalars,
                                     <double>(steps[k] + 1), grad_scale)
                previous = k
            self._args[k].step.scalars = &self._scalars[previous]
            if self._small:
                self._args[k].step_number = <uint32_t>(steps[k] + 1)
                set_address(&self._args[k].rounding, self._rounding_key, k, DOMAIN_ROUNDING)
            self._jobs[jobs].kernel = kernel
            self._jobs[jobs].args = &self._args[k]
            self._jobs[jobs].size = self._parameters[k].size
            self._jobs[jobs].grain = OPTIMIZER_GRAIN
            if rows and k in rows:
                self.make_rows_job(&self._jobs[jobs], k, <ndarray>rows[k])
            size += self._parameters[k].size
            jobs += 1
        run_jobs(self._jobs, jobs, size)
        for param, result in copies:
            PyArray_CopyInto(param, <ndarray>result)
        for k in range(self._count):
            if held[k] is not None:
                steps[k] += 1
                if zero_grads and (held[k] is not originals[k] or k in rows):
                    originals[k].fill(0)
        self.step_count += 1
        if self.takes_norm():
            self.grad_norm = norm
        return 0


cdef class AdamOptimizer(Optimizer):
    """A group's scalars are (lr, beta1, beta2, eps, weight_decay)."""

    cdef public bint _decoupled_weight_decay

    cdef const fastopt_kernel* kernel(self, bint rows) noexcept:
        if rows:
            return fastopt_optimizers.adam_rows
        if self._small == BFLOAT16:
            return fastopt_optimizers.adam_bfloat16
        if self._small == EIGHT_BIT:
            return fastopt_optimizers.adam_8bit
        return fastopt_optimizers.adam

    cdef int compute_scalars(self, step_scalars* out, tuple hyper, double t, double grad_scale) except -1:
        lr, beta1, beta2, eps, weight_decay = hyper
        return set_adam_scalars(&out.adam, <ndarray>self._arrays[0], t, lr, beta1, beta2, eps, weight_decay,
                                self._decoupled_weight_decay, grad_scale)

    cdef double weight_decay(self, tuple hyper):
        return hyper[4]


cdef class SGDOptimizer(Optimizer):
    """A group's scalars are (lr, momentum, dampening, weight_decay, nesterov)."""

    cdef const fastopt_kernel* kernel(self, bint rows) noexcept:
        if rows:
            return fastopt_optimizers.sgd_rows
        if self._small == BFLOAT16:
            return fastopt_optimizers.sgd_bfloat16
        if self._small == EIGHT_BIT:
            return fastopt_optimizers.sgd_8bit
        return fastopt_optimizers.sgd

    cdef int compute_scalars(self, step_scalars* out, tuple hyper, double t, double grad_scale) except -1:
        lr, momentum, dampening, weight_decay, nesterov = hyper
        fastopt_sgd_scalars(&out.sgd, t, lr, momentum, dampening, weight_decay, nesterov, grad_scale)
        return 0

    cdef double weight_decay(self, tuple hyper):
        return hyper[3]


cdef int set_adam_scalars(adam_scalars* out, ndarray param, double t, double lr, double beta1, double beta2, double eps,
                          double weight_decay, bint decoupled, double grad_scale) except -1:
    fastopt_adam_scalars(out, t, lr, beta1, beta2, eps, weight_decay, decoupled, grad_scale)
    if (<float>out.eps if PyArray_TYPE(param) == NPY_FLOAT else out.eps) == 0:
        raise ValueError(f"eps: expected a number that is not 0 in {param.dtype}, got {eps}")
    return 0


cdef int update_one(fastopt_kernel kernel, const void* scalars, list arrays, list names) except -1:
    """Run one step on arrays = [param, grad, momentum, exp_avg_sq], the latter two when there are such."""
    cdef small_state_args record
    cdef optimizer_args* args = &record.step
    cdef Py_ssize_t k, other
    cdef int order = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS
    cdef ndarray param = checked(arrays[0], "param")
    for k in range(1, len(arrays)):
        checked_like(arrays[k], names[k], param, "param")
    for k in range(len(arrays)):
        if k != 1:
            writable(<ndarray>arrays[k], names[k])
        for other in range(k):
            distinct(<ndarray>arrays[k], names[k], <ndarray>arrays[other], names[other])
        order &= contiguous_order(<ndarray>arrays[k])
    cdef list work = arrays if order else [c_copy(<ndarray>a) for a in arrays]
    memset(&record, 0, sizeof(record))
    args.param = PyArray_DATA(<ndarray>work[0])
    args.grad = PyArray_DATA(<ndarray>work[1])
    args.momentum = PyArray_DATA(<ndarray>work[2]) if len(work) > 2 else NULL
    args.exp_avg_sq = PyArray_DATA(<ndarray>work[3]) if len(work) > 3 else NULL
    args.scalars = scalars
    run(kernel, &record, PyArray_SIZE(param), OPTIMIZER_GRAIN)
    if not order:
        for k in range(len(arrays)):
            if k != 1:
                PyArray_CopyInto(<ndarray>arrays[k], <ndarray>work[k])
    return 0


def adam_step(param, grad, exp_avg, exp_avg_sq, int64_t step, tuple hyper, bint decoupled, double grad_scale):
    cdef adam_scalars scalars
    lr, beta1, beta2, eps, weight_decay = hyper
    set_adam_scalars(&scalars, checked(param, "param"), <double>step, lr, beta1, beta2, eps, weight_decay, decoupled,
                     grad_scale)
    update_one(fastopt_optimizers.adam[element_type(<ndarray>param)], &scalars, [param, grad, exp_avg, exp_avg_sq],
               ["param", "grad", "exp_avg", "exp_avg_sq"])


def sgd_step(param, grad, momentum_buffer, int64_t step, tuple hyper, double grad_scale):
    cdef sgd_scalars scalars
    lr, momentum, dampening, weight_decay, nesterov = hyper
    fastopt_sgd_scalars(&scalars, <double>step, lr, momentum, dampening, weight_decay, nesterov, grad_scale)
    update_one(fastopt_optimizers.sgd[element_type(checked(param, "param"))], &scalars,
               [param, grad] if momentum_buffer is None else [param, grad, momentum_buffer],
               ["param", "grad", "momentum_buffer"])


def ema_update(average, value, double rate):
    """average += rate * (value - average), in place."""
    cdef ema_args args
    cdef ndarray target = checked(average, "average"), source = checked_like(value, "value", target, "average"), work
    writable(target, "average")
    distinct(target, "average", source, "value")
    if not contiguous_order(target) & contiguous_order(source):
        work = c_copy(target)
        ema_update(work, c_copy(source), rate)
        copied_into(target, work)
        return
    args.average = PyArray_DATA(target)
    args.value = PyArray_DATA(source)
    args.rate = rate
    run(fastopt_optimizers.ema[element_type(target)], &args, PyArray_SIZE(target), ELEMENTWISE_GRAIN)


def check_disjoint(list arrays, list names):
    """Raise unless all are arrays that can be written in place, none overlapping another."""
    for array, name in zip(arrays, names):
        checked(array, name)
    disjoint(arrays, names)


def scale(x, double factor):
    """x *= factor, in place; x has been checked."""
    cdef scale_args args
    cdef ndarray a = <ndarray>x, work
    if not contiguous_order(a):
        work = c_copy(a)
        scale(work, factor)
        copied_into(a, work)
        return
    args.x = PyArray_DATA(a)
    args.factor = factor
    run(fastopt_optimizers.scale[element_type(a)], &args, PyArray_SIZE(a), ELEMENTWISE_GRAIN)


def coalesce(sparse, str name):
    """The distinct rows of SparseRows and their gradients, repeated ones added up."""
    return coalesced(sparse, name, None, None)
