# One step over all the parameters of an optimiser in one call. Pointers are taken once and compared at each step.

cdef enum:
    OPTIMIZER_GRAIN = 1 << 14

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


cdef str label(str kind, str name):
    return f"{kind}/{name}" if name else kind


cdef ndarray ordered_copy(ndarray a, int order):
    return PyArray_NewCopy(a, NPY_CORDER if order & NPY_ARRAY_C_CONTIGUOUS else NPY_FORTRANORDER)


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
    cdef list _arrays, _written     # all that a step writes: (name, array)
    cdef Py_ssize_t _count, _range_count
    cdef parameter* _parameters
    cdef optimizer_args* _args
    cdef step_scalars* _scalars
    cdef fastopt_job* _jobs
    cdef memory_range* _ranges      # of _written, sorted
    cdef bint _interleaved          # ranges overlap although no elements do
    cdef bint _stepping

    def __cinit__(self, *args, **kwargs):
        self._names = []

    def __dealloc__(self):
        free(self._parameters)
        free(self._args)
        free(self._scalars)
        free(self._jobs)
        free(self._ranges)

    def _bind(self, params, list groups, list group_of, list names, list arrays, tuple state_names):
        """Take hold of the parameters and make their states. Called once, by __init__."""
        cdef Py_ssize_t k
        cdef ndarray array, first
        if self._count:
            raise RuntimeError("an optimiser is initialised once")
        if not arrays:
            raise ValueError("params: expected at least one array, got none")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"params: two arrays have the path {twice!r}; rename a key")
        first = checked(arrays[0], label("params", names[0]))
        for k in range(len(arrays)):
            array = checked(arrays[k], label("params", names[k]))
            if PyArray_TYPE(array) != PyArray_TYPE(first):
                raise TypeError(f"{label('params', names[k])}: expected {first.dtype} like {label('params', names[0])}, "
                                f"got {array.dtype}; use one dtype, or an optimiser for each")
            writable(array, label("params", names[k]))
        self.params = params
        self.param_groups = groups
        self._names = names
        self._arrays = arrays
        self._steps = np.zeros(len(arrays), np.int64)
        self._states = {
            state: [np.zeros(a.shape, a.dtype, "F" if contiguous_order(a) == NPY_ARRAY_F_CONTIGUOUS else "C") for a in arrays]
            for state in state_names
        }
        self._parameters = <parameter*>calloc(len(arrays), sizeof(parameter))
        self._args = <optimizer_args*>calloc(len(arrays), sizeof(optimizer_args))
        self._scalars = <step_scalars*>calloc(len(arrays), sizeof(step_scalars))
        self._jobs = <fastopt_job*>calloc(len(arrays), sizeof(fastopt_job))
        self._ranges = <memory_range*>calloc(len(arrays) * (1 + len(state_names)), sizeof(memory_range))
        if not (self._parameters and self._args and self._scalars and self._jobs and self._ranges):
            raise MemoryError
        for k in range(len(arrays)):
            array = arrays[k]
            self._parameters[k].data = PyArray_DATA(array)
            self._parameters[k].size = PyArray_SIZE(array)
            self._parameters[k].order = contiguous_order(array) or NPY_ARRAY_C_CONTIGUOUS
            self._parameters[k].group = group_of[k]
            self.take_states(k)
        self.list_written()
        self._count = len(arrays)

    cdef int take_states(self, Py_ssize_t k) except -1:
        """Put the pointers of parameter k's states into its record."""
        raise NotImplementedError

    cdef fastopt_kernel kernel(self, int element_type) noexcept:
        return NULL

    cdef int compute_scalars(self, step_scalars* out, tuple hyper, double t, double grad_multiplier) except -1:
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
                distinct(grad, label("grads", name), <ndarray>array, written)
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
            distinct(grad, label("grads", name), <ndarray>array, written)
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

    def _step(self, grads, double grad_multiplier):
        cdef list held = [], copies = []
        cdef Py_ssize_t k, jobs = 0, previous = -1
        cdef int64_t size = 0
        cdef int64_t* steps = <int64_t*>PyArray_DATA(self._steps)
        cdef int kind, order
        cdef ndarray grad, param
        cdef fastopt_kernel kernel
        if self._stepping:
            raise RuntimeError("step: this optimiser is in the middle of a step in another thread")
        if not self.pair(self.params, grads, held) or len(held) != self._count:
            for _ in same_structure(grads, self.params, "grads"):
                pass
            raise ValueError("params: no longer the nest of arrays that the optimiser was made with; make a new optimiser")
        kind = element_type(<ndarray>self._arrays[0])
        kernel = self.kernel(kind)
        for k in range(self._count):
            if held[k] is None:
                continue
            param = <ndarray>self._arrays[k]
            if not PyArray_CheckExact(held[k]) or PyArray_TYPE(<ndarray>held[k]) != PyArray_TYPE(param) \
                    or PyArray_ISBYTESWAPPED(<ndarray>held[k]) or not same_shape(<ndarray>held[k], param):
                checked_like(held[k], label("grads", self._names[k]), param, label("params", self._names[k]))
            grad = <ndarray>held[k]
            if not PyArray_ISWRITEABLE(param):
                writable(param, label("params", self._names[k]))
            order = self._parameters[k].order
            if PyArray_DATA(grad) != self._parameters[k].grad or not contiguous_order(grad):
                self.check_overlap(grad, self._names[k])
                self._parameters[k].grad = PyArray_DATA(grad)
            if not contiguous_order(grad) & order:
                grad = ordered_copy(grad, order)
                held[k] = grad
            self._args[k].grad = PyArray_DATA(grad)
            self._args[k].param = self._parameters[k].data
            if not contiguous_order(param) & order:
                copies.append((param, ordered_copy(param, order)))
                self._args[k].param = PyArray_DATA(<ndarray>copies[-1][1])
            if previous < 0 or self._parameters[k].group != self._parameters[previous].group or steps[k] != steps[previous]:
                self.compute_scalars(&self._scalars[k], self.param_groups[self._parameters[k].group].scalars,
                                     <double>(steps[k] + 1), grad_multiplier)
                previous = k
            self._args[k].scalars = &self._scalars[previous]
            self._jobs[jobs].kernel = kernel
            self._jobs[jobs].args = &self._args[k]
            self._jobs[jobs].size = self._parameters[k].size
            self._jobs[jobs].grain = OPTIMIZER_GRAIN
            size += self._parameters[k].size
            jobs += 1
        if size * 8 < OPTIMIZER_GRAIN:
            fastopt_run(self._jobs, jobs)
        else:
            self._stepping = True
            with nogil:
                fastopt_run(self._jobs, jobs)
            self._stepping = False
        for param, result in copies:
            PyArray_CopyInto(param, <ndarray>result)
        for k in range(self._count):
            if held[k] is not None:
                steps[k] += 1
        self.step_count += 1


cdef class AdamOptimizer(Optimizer):
    """A group's scalars are (lr, beta1, beta2, eps, weight_decay)."""

    cdef public bint _maximize, _decoupled_weight_decay

    cdef int take_states(self, Py_ssize_t k) except -1:
        self._args[k].momentum = PyArray_DATA(<ndarray>self._states["exp_avg"][k])
        self._args[k].exp_avg_sq = PyArray_DATA(<ndarray>self._states["exp_avg_sq"][k])
        return 0

    cdef fastopt_kernel kernel(self, int element_type) noexcept:
        return fastopt_kernels.adam[element_type]

    cdef int compute_scalars(self, step_scalars* out, tuple hyper, double t, double grad_multiplier) except -1:
        lr, beta1, beta2, eps, weight_decay = hyper
        return set_adam_scalars(&out.adam, <ndarray>self._arrays[0], t, lr, beta1, beta2, eps, weight_decay,
                                self._decoupled_weight_decay, self._maximize, grad_multiplier)


cdef class SGDOptimizer(Optimizer):
    """A group's scalars are (lr, momentum, dampening, weight_decay, nesterov)."""

    cdef public bint _maximize

    cdef int take_states(self, Py_ssize_t k) except -1:
        if "momentum_buffer" in self._states:
            self._args[k].momentum = PyArray_DATA(<ndarray>self._states["momentum_buffer"][k])
        return 0

    cdef fastopt_kernel kernel(self, int element_type) noexcept:
        return fastopt_kernels.sgd[element_type]

    cdef int compute_scalars(self, step_scalars* out, tuple hyper, double t, double grad_multiplier) except -1:
        lr, momentum, dampening, weight_decay, nesterov = hyper
        fastopt_sgd_scalars(&out.sgd, t, lr, momentum, dampening, weight_decay, nesterov, self._maximize, grad_multiplier)
        return 0


cdef int set_adam_scalars(adam_scalars* out, ndarray param, double t, double lr, double beta1, double beta2, double eps,
                          double weight_decay, bint decoupled, bint maximize, double grad_multiplier) except -1:
    fastopt_adam_scalars(out, t, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, grad_multiplier)
    if (<float>out.eps if PyArray_TYPE(param) == NPY_FLOAT else out.eps) == 0:
        raise ValueError(f"eps: expected a number that is not 0 in {param.dtype}, got {eps}")
    return 0


cdef int update_one(fastopt_kernel kernel, optimizer_args* args, list arrays, list names) except -1:
    """Run one step on arrays = [param, grad, momentum, exp_avg_sq], the latter two when there are such."""
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
    args.param = PyArray_DATA(<ndarray>work[0])
    args.grad = PyArray_DATA(<ndarray>work[1])
    args.momentum = PyArray_DATA(<ndarray>work[2]) if len(work) > 2 else NULL
    args.exp_avg_sq = PyArray_DATA(<ndarray>work[3]) if len(work) > 3 else NULL
    run(kernel, args, PyArray_SIZE(param), OPTIMIZER_GRAIN)
    if not order:
        for k in range(len(arrays)):
            if k != 1:
                PyArray_CopyInto(<ndarray>arrays[k], <ndarray>work[k])
    return 0


def adam_step(param, grad, exp_avg, exp_avg_sq, int64_t step, tuple hyper, bint decoupled, bint maximize,
              double grad_multiplier):
    cdef optimizer_args args
    cdef adam_scalars scalars
    lr, beta1, beta2, eps, weight_decay = hyper
    set_adam_scalars(&scalars, checked(param, "param"), <double>step, lr, beta1, beta2, eps, weight_decay, decoupled,
                     maximize, grad_multiplier)
    args.scalars = &scalars
    update_one(fastopt_kernels.adam[element_type(<ndarray>param)], &args, [param, grad, exp_avg, exp_avg_sq],
               ["param", "grad", "exp_avg", "exp_avg_sq"])


def sgd_step(param, grad, momentum_buffer, int64_t step, tuple hyper, bint maximize, double grad_multiplier):
    cdef optimizer_args args
    cdef sgd_scalars scalars
    lr, momentum, dampening, weight_decay, nesterov = hyper
    fastopt_sgd_scalars(&scalars, <double>step, lr, momentum, dampening, weight_decay, nesterov, maximize, grad_multiplier)
    args.scalars = &scalars
    update_one(fastopt_kernels.sgd[element_type(checked(param, "param"))], &args,
               [param, grad] if momentum_buffer is None else [param, grad, momentum_buffer],
               ["param", "grad", "momentum_buffer"])
