# One step over all the parameters of an optimiser in one call. Pointers are taken once and compared at each step.

cdef enum:
    DOMAIN_ROUNDING = 4
    DEEPEST = 900  # of nests; Python's own limit of recursion is 1,000 by default


cdef class Optimizer(Parameters):
    """An optimiser's step by a rule of kernels/optimizers/optimizers.h."""

    cdef bint _apart                # the gradients that `parameter.grad` points to overlap none of each other

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

    cdef bint pair(self, object params, object grads, list held, int depth=0) except -1:
        """Append each parameter's gradient to `held`, in order. False when the structures differ."""
        cdef Py_ssize_t k = len(held)
        if k < self._count and params is self._arrays[k]:
            held.append(grads)
            return True
        if depth > DEEPEST:  # a nest that contains itself
            return False
        if isinstance(params, dict):
            if not isinstance(grads, dict) or len(<dict>grads) != len(<dict>params):
                return False
            for key, value in (<dict>params).items():
                if key not in <dict>grads or not self.pair(value, (<dict>grads)[key], held, depth + 1):
                    return False
        elif isinstance(params, (list, tuple)):
            if not isinstance(grads, (list, tuple)) or len(grads) != len(params):
                return False
            for k in range(len(params)):
                if not self.pair(params[k], grads[k], held, depth + 1):
                    return False
        elif k >= self._count:
            return False
        else:
            self.other_parameter(k)
        return True

    cdef int other_parameter(self, Py_ssize_t k) except -1:
        raise ValueError(f"{label('params', self._names[k])}: no longer the array that the optimiser was made with; "
                         "write into it (param[...] = values) instead of replacing it, or make a new optimiser")

    cdef int changed_parameter(self, Py_ssize_t k) except -1:
        """The error for a parameter whose memory, dtype, shape or strides were changed in place."""
        cdef ndarray param = <ndarray>self._arrays[k], view = <ndarray>self._views[k]
        if PyArray_DATA(param) != PyArray_DATA(view) or PyArray_SIZE(param) != self._parameters[k].size:
            self.other_parameter(k)
        raise ValueError(
            f"{label('params', self._names[k])}: expected {_dtype(view)} of shape {shape(view)} and strides "
            f"{(<object>view).strides} as when the optimiser was made, got {_dtype(param)}, {shape(param)} and "
            f"{(<object>param).strides}; change a view of it instead, or make a new optimiser")

    cdef tuple sparse_gradient(self, object grad, Py_ssize_t k):
        """The rows of SparseRows and their gradients, for an optimiser that can take them."""
        cdef str name = label("grads", self._names[k])
        if self._form != FASTOPT_WHOLE or "ema" in self._own or len(self._state_names) > 2:
            raise ValueError(f"{name}: SparseRows need an optimiser without state_dtype, ema_decay and amsgrad (of "
                             "RMSprop centered): they leave the other rows as they are, and these would not")
        if (<dict>(<tuple>self._hyper[self._parameters[k].group])[0])["weight_decay"] != 0:
            raise ValueError(f"{name}: SparseRows need weight_decay = 0: only the rows given move; put the parameter in a "
                             "group of its own, or give weight_decay as a function")
        if not self._parameters[k].order & NPY_ARRAY_C_CONTIGUOUS:
            raise ValueError(f"{name}: SparseRows need a parameter in C order, got {label('params', self._names[k])} in "
                             "Fortran order; make the optimiser with np.ascontiguousarray(param)")
        return coalesced(grad, name, <ndarray>self._views[k], label("params", self._names[k]))

    cdef void make_rows_job(self, fastopt_job* job, Py_ssize_t k) noexcept:
        """Turn the job of parameter k into one of its given rows."""
        cdef optimizer_rows_args* args = &self._rows_args[k]
        args.step = self._args[k].step
        args.step.zero_grad = False
        args.rows = self._parameters[k].rows
        args.width = PyArray_DIMS(<ndarray>self._views[k])[1]
        job.kernel = fastopt_rule_kernels(self._rule, FASTOPT_ROWS)[element_type(<ndarray>self._views[k])]
        job.args = args
        job.size = self._parameters[k].row_count
        job.grain = max(1, OPTIMIZER_GRAIN // 2 // max(1, args.width))  # each row of them waits for memory

    cdef bint takes_norm(self) noexcept:
        return self._skip_nonfinite or isfinite(self._max_grad_norm)

    cdef double norm(self, list held, double multiplier) except? -1:
        """The norm of all gradients, times the multiplier: array by array, each in C order."""
        cdef Py_ssize_t k, jobs = 0
        cdef int64_t blocks = 0
        cdef list keep = []
        cdef ndarray grad
        cdef int kind = element_type(<ndarray>self._views[0])
        for k in range(self._count):
            if held[k] is None:
                continue
            grad = <ndarray>held[k]
            if not contiguous_order(grad) & NPY_ARRAY_C_CONTIGUOUS:
                grad = c_copy(grad)
                keep.append(grad)
            self._norm_args[jobs].x = PyArray_DATA(grad)
            self._norm_args[jobs].size = PyArray_SIZE(grad)
            self._jobs[jobs].kernel = fastopt_kernels.core.sum_squares[kind]
            self._jobs[jobs].args = &self._norm_args[jobs]
            self._jobs[jobs].size = sum_blocks(grad)
            self._jobs[jobs].grain = SUM_GRAIN
            blocks += self._jobs[jobs].size
            jobs += 1
        cdef ndarray sums = np.empty(jobs + blocks)
        cdef double* array_sums = <double*>PyArray_DATA(sums)
        cdef double* block_sums = array_sums + jobs
        for k in range(jobs):
            self._norm_args[k].block_sums = block_sums
            block_sums += self._jobs[k].size
        run_jobs(self._jobs, jobs)
        for k in range(jobs):
            array_sums[k] = fastopt_add_up(self._norm_args[k].block_sums, self._jobs[k].size)
        cdef double scale = scale_of(held, self._count, array_sums, jobs)
        return fastopt_norm(multiplier, array_sums, jobs, scale)

    def _step(self, grads, double grad_multiplier, bint zero_grads):
        self.enter("step", "a step")  # whose scratch is the object's own
        try:
            self.take_step(grads, grad_multiplier, zero_grads)
        finally:
            self.leave()

    cdef int take_step(self, grads, double grad_multiplier, bint zero_grads) except -1:
        cdef Py_ssize_t k
        cdef list originals = []        # the gradients as they came
        cdef list copies = []           # (parameter, the copy that the kernel writes)
        cdef list to_zero = [] if zero_grads else None  # the gradients that no kernel sets to zero
        cdef object number = number_to_be() if self.takes_norm() else self.grad_norm
        for k in range(len(self._groups)):  # one set of them, whatever another thread sets meanwhile
            self._hyper[k] = (<Group>self._groups[k])._held
        cdef list held = self.checked_gradients(grads, originals, to_zero, zero_grads)
        cdef double grad_scale = -grad_multiplier if self._maximize else grad_multiplier, norm = 0
        if self.takes_norm():
            norm = self.norm(held, grad_multiplier)
            if self._skip_nonfinite and not isfinite(norm):
                set_number(number, norm)
                self.skip(originals, number, zero_grads)
                return 0
            if isfinite(self._max_grad_norm):
                grad_scale = fastopt_clipped_scale(grad_scale, norm, self._max_grad_norm)
            set_number(number, norm)
        cdef Py_ssize_t jobs = self.fill_jobs(held, copies, grad_scale, zero_grads)
        # Nothing is written before here, and nothing can fail or be interrupted after it.
        run_jobs(self._jobs, jobs)
        for param, result in copies:
            copied_into(<ndarray>param, <ndarray>result)
        if zero_grads:
            for grad in to_zero:
                set_to_zero(<ndarray>grad)
        for k in range(self._count):
            if self._parameters[k].given:
                self._steps_before[k] += self._parameters[k].rests and self._steps_before[k] == self._steps[k]
                self._steps[k] += 1
        self.step_count += 1
        self.grad_norm = number
        return 0

    @cython.boundscheck(False)  # the lists are ours, and one entry a parameter long
    cdef list checked_gradients(self, grads, list originals, list to_zero, bint zero_grads):
        """Fill in the lists; return the gradients as the kernels see them: copies where the order differs.

        Behind them stand the row numbers of the sparse ones, which the kernels read too.
        """
        cdef list held = originals
        cdef Py_ssize_t k
        cdef int order
        cdef ndarray grad, param, view
        if not self.pair(self.params, grads, originals) or len(held) != self._count:
            try:
                for _ in same_structure(grads, self.params, "grads"):
                    pass
            except RecursionError:
                pass
            raise ValueError("params: no longer the nest of arrays that the optimiser was made with; make a new optimiser")
        # The nests are the caller's, and what looked at them may have called the caller. From here on all is ours.
        for k in range(self._count):
            param, view = <ndarray>self._arrays[k], <ndarray>self._views[k]
            if not as_taken(&self._parameters[k], param, view):
                self.changed_parameter(k)
            self._parameters[k].rows = NULL
            given = originals[k]
            self._parameters[k].given = given is not None
            if given is None:
                self._parameters[k].grad = NULL  # the next one is compared with the others again
                continue
            if not PyArray_ISWRITEABLE(param):
                writable(param, label("params", self._names[k]))
            order = self._parameters[k].order
            if type(given) is _SparseRows:
                held = held[:] if held is originals else held
                rows, held[k] = self.sparse_gradient(given, k)
                held.append(rows)
                self._parameters[k].rows = <const int64_t*>PyArray_DATA(<ndarray>rows)
                self._parameters[k].row_count = PyArray_SIZE(<ndarray>rows)
                originals[k] = given.values
                self.check_overlap(<ndarray>originals[k], self._names[k])
                self._apart = False
                if zero_grads:
                    to_zero.append(view_of(<ndarray>originals[k], originals[k]))
                continue
            if not PyArray_CheckExact(given) or PyArray_TYPE(<ndarray>given) != PyArray_TYPE(view) \
                    or PyArray_ISBYTESWAPPED(<ndarray>given) or not same_shape(<ndarray>given, view):
                checked_like(given, label("grads", self._names[k]), view, label("params", self._names[k]))
            grad = <ndarray>given
            if zero_grads and not PyArray_ISWRITEABLE(grad):
                writable(grad, label("grads", self._names[k]))
            if PyArray_DATA(grad) != self._parameters[k].grad or not contiguous_order(grad):
                self.check_overlap(grad, self._names[k])
                self._parameters[k].grad = PyArray_DATA(grad) if contiguous_order(grad) else NULL
                self._apart = False
            if not contiguous_order(grad) & order:
                held = held[:] if held is originals else held
                held[k] = ordered_copy(grad, order)
                if zero_grads:
                    to_zero.append(view_of(grad, grad))
        if zero_grads and not self._apart:
            written, names = [], []
            for k in range(self._count):
                if originals[k] is not None:
                    written.append(originals[k])
                    names.append(label("grads", self._names[k]))
            disjoint(written, names)
            self._apart = True
        return held

    cdef void skip(self, list originals, number, bint zero_grads) noexcept:
        if zero_grads:
            for original in originals:
                if original is not None:
                    set_to_zero(<ndarray>original)
        self.skipped_steps += 1
        self.grad_norm = number

    @cython.boundscheck(False)
    cdef Py_ssize_t fill_jobs(self, list held, list copies, double grad_scale, bint zero_grads) except -1:
        """Fill in a job for each parameter that has a gradient, and `copies`; return how many."""
        cdef Py_ssize_t k, jobs = 0, previous = -1
        cdef int64_t* steps = self._steps
        cdef int64_t* before = self._steps_before
        cdef bint rests = False
        cdef ndarray view, work
        cdef fastopt_kernel kernel = fastopt_rule_kernels(self._rule, self._form)[element_type(<ndarray>self._views[0])]
        for k in range(self._count):
            if not self._parameters[k].given:
                continue
            self._args[k].step.grad = PyArray_DATA(<ndarray>held[k])
            self._args[k].step.param = self._parameters[k].data
            self._args[k].step.zero_grad = zero_grads
            if not contiguous_layout(self._parameters[k].layout) & self._parameters[k].order:
                view = <ndarray>self._views[k]
                work = ordered_copy(view, self._parameters[k].order)
                copies.append((view, work))
                self._args[k].step.param = PyArray_DATA(work)
            if previous < 0 or self._parameters[k].group != self._parameters[previous].group or steps[k] != steps[previous] \
                    or before[k] != before[previous]:
                rests = rule_scalars_of(
                    self._rule, &self._scalars[k], <tuple>(<tuple>self._hyper[self._parameters[k].group])[1],
                    element_type(<ndarray>self._views[k]), steps[k] - before[k] + 1, grad_scale)
                previous = k
            self._parameters[k].rests = rests
            self._args[k].step.scalars = &self._scalars[previous]
            if self._form != FASTOPT_WHOLE:
                self._args[k].step_number = <uint32_t>(steps[k] + 1)
                self._args[k].rounding = address_of(self._rounding_key, k, DOMAIN_ROUNDING)
            self._jobs[jobs].kernel = kernel
            self._jobs[jobs].args = &self._args[k]
            self._jobs[jobs].size = self._parameters[k].size
            self._jobs[jobs].grain = OPTIMIZER_GRAIN
            if self._parameters[k].rows != NULL:
                self.make_rows_job(&self._jobs[jobs], k)
            jobs += 1
        return jobs
