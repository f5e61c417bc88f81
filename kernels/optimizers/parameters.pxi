# What an optimiser has taken hold of: the parameters, their states, and where they all are in memory.

cdef struct parameter:
    void* data
    int64_t size
    int layout              # the flags of its layout
    int order               # of its states, and of what the kernel sees: its own when contiguous, else C
    int group
    bint given              # whether this step has a gradient for it
    bint rests              # whether this step leaves its states alone
    const void* grad        # of the last step, known not to overlap anything that is written
    const int64_t* rows     # that this step's gradient is of, or NULL
    int64_t row_count

cdef struct memory_range:
    uintptr_t low
    uintptr_t high
    Py_ssize_t owner


cdef str label(str kind, str name):
    return f"{kind}/{name}" if name else kind


cdef inline int layout_of(ndarray a) noexcept:
    return PyArray_FLAGS(a) & (NPY_ARRAY_ALIGNED | NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS)


cdef inline bint as_taken(const parameter* taken, ndarray a, ndarray view) noexcept:
    """Whether the caller's array has the memory, dtype, shape and strides of the view that was made of it at first."""
    return PyArray_DATA(a) == taken.data and layout_of(a) == taken.layout and PyArray_TYPE(a) == PyArray_TYPE(view) \
        and not PyArray_ISBYTESWAPPED(a) and same_shape(a, view) and (contiguous_layout(taken.layout) != 0 or same_memory(a, view))


cdef void* data_or_null(dict states, str kind, Py_ssize_t k):
    return PyArray_DATA(<ndarray>states[kind][k]) if kind in states else NULL


cdef class Parameters(OptimizerState):
    """The parameters that an optimiser has taken hold of. Lists have an entry a parameter, in the order of `params`."""

    cdef readonly bint _maximize
    cdef double _max_grad_norm      # infinity when there is none
    cdef double _ema_decay
    cdef bint _averaged             # whether there is one
    cdef bint _skip_nonfinite
    cdef int _form                  # of the states: FASTOPT_WHOLE, FASTOPT_BFLOAT16 or FASTOPT_8BIT
    cdef const fastopt_rule* _rule
    cdef tuple _state_names         # in the order of the rule
    cdef list _arrays               # the caller's own, which are compared at each step with
    cdef list _views                # the same as they were at first, which is what a step works on
    cdef list _written              # all that a step writes: (name, array)
    cdef list _hyper                # of each group, as they were when the step began
    cdef Py_ssize_t _range_count
    cdef parameter* _parameters
    cdef optimizer_args* _args
    cdef optimizer_rows_args* _rows_args
    cdef rule_scalars* _scalars
    cdef fastopt_job* _jobs
    cdef sum_args* _norm_args
    cdef memory_range* _ranges      # of _written, sorted
    cdef bint _interleaved          # ranges overlap although no elements do

    def __dealloc__(self):
        free(self._parameters)
        free(self._args)
        free(self._rows_args)
        free(self._scalars)
        free(self._jobs)
        free(self._norm_args)
        free(self._ranges)

    def _bind(self, params, groups, list group_of, list names, list arrays, tuple state_names, *, str rule,
              bint maximize, double max_grad_norm, bint skip_nonfinite, ema_decay, state_dtype):
        """Take hold of the parameters and make their states. Called once, by __init__."""
        if self._parameters != NULL:
            raise RuntimeError("an optimiser is initialised once")
        if not arrays:
            raise ValueError("params: expected at least one array, got none")
        self._maximize = maximize
        self._max_grad_norm = max_grad_norm
        self._skip_nonfinite = skip_nonfinite
        self._averaged = ema_decay is not None
        self._ema_decay = ema_decay if self._averaged else 0
        self._form = {None: FASTOPT_WHOLE, "bfloat16": FASTOPT_BFLOAT16, "8bit": FASTOPT_8BIT}[state_dtype]
        self._rule = rule_named(rule)
        self._state_names = state_names
        self.take_parameters(params, groups, group_of, names, arrays, None)

    cdef int take_parameters(self, params, groups, list group_of, list names, list arrays, Parameters before) except -1:
        """Fill in all that depends on the parameters: those of `before`, with their states and counts, and the arrays.

        `names` are of both, `group_of` is of the arrays.
        """
        cdef Py_ssize_t k, known = 0 if before is None else before._count, count = known + len(arrays)
        cdef ndarray array, first
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"params: two arrays have the path {twice!r}; rename a key")
        first = checked(arrays[0], label("params", names[0])) if known == 0 else <ndarray>before._views[0]
        for k in range(known, count):
            array = checked(arrays[k - known], label("params", names[k]))
            if PyArray_TYPE(array) != PyArray_TYPE(first):
                raise TypeError(f"{label('params', names[k])}: expected {_dtype(first)} like {label('params', names[0])}, "
                                f"got {array.dtype}; use one dtype, or an optimiser for each")
            writable(array, label("params", names[k]))
        if len(group_of) != count - known or not all(isinstance(group, Group) for group in groups):
            raise ValueError("params: expected the same arrays each time that they are looked at, got another number of them")
        self.params = params
        self.param_groups = groups
        self._groups = tuple(groups)
        self._hyper = [None] * len(groups)
        self._names = names
        self._group_of = group_of if before is None else before._group_of + group_of
        self._arrays = arrays if before is None else before._arrays + arrays
        self._views = views_of(arrays) if before is None else before._views + views_of(arrays)
        self._steps = <int64_t*>calloc(count, sizeof(int64_t))
        self._steps_before = <int64_t*>calloc(count, sizeof(int64_t))
        self._parameters = <parameter*>calloc(count, sizeof(parameter))
        self._args = <optimizer_args*>calloc(count, sizeof(optimizer_args))
        self._rows_args = <optimizer_rows_args*>calloc(count, sizeof(optimizer_rows_args))
        self._scalars = <rule_scalars*>calloc(count, sizeof(rule_scalars))
        self._jobs = <fastopt_job*>calloc(count, sizeof(fastopt_job))
        self._norm_args = <sum_args*>calloc(count, sizeof(sum_args))
        self._ranges = <memory_range*>calloc(count * 8, sizeof(memory_range))
        if not (self._steps and self._steps_before and self._parameters and self._args and self._rows_args and self._scalars and self._jobs
                and self._norm_args and self._ranges):
            raise MemoryError
        for k in range(known):
            self._steps[k], self._steps_before[k] = before._steps[k], before._steps_before[k]
            self._parameters[k] = before._parameters[k]
            self._parameters[k].grad = NULL  # which may overlap a new parameter
        for k in range(known, count):
            array = <ndarray>self._arrays[k]
            self._parameters[k].data = PyArray_DATA(array)
            self._parameters[k].size = PyArray_SIZE(array)
            self._parameters[k].layout = layout_of(array)
            self._parameters[k].group = group_of[k - known]
            # The blocks and addresses of small states count in C order.
            self._parameters[k].order = NPY_ARRAY_C_CONTIGUOUS if self._form else \
                contiguous_order(array) or NPY_ARRAY_C_CONTIGUOUS
        for state in self._state_names:
            self.make_state(state, before)
        if self._averaged:
            self.make_zeros("ema", first.dtype, 512, before)
            made = self._own["ema"][known:]
            for average, array_ in zip(made, arrays):
                average[...] = array_
            self._averages = handed_out(made) if before is None else before._averages + handed_out(made)
        for k in range(count):
            self.take_states(k)
        for group in self._groups:
            rule_scalars_of(self._rule, &self._scalars[0], (<Group>group)._held[1], element_type(first), 1, 1)
        self.list_written()
        self._count = count
        return 0

    cdef int make_state(self, str state, Parameters before) except -1:
        cdef Py_ssize_t k
        code = np.dtype((self._views[0].dtype, np.uint16, np.uint8)[self._form])
        self.make_zeros(state, code, 1024 * (1 + len(self._own)), before)
        if self._form == FASTOPT_8BIT:
            exponents = self._own[f"{state}_exponent"] = []
            for k in range(len(self._views)):
                if before is not None and k < before._count:
                    exponents.append(before._own[f"{state}_exponent"][k])
                else:
                    exponents.append(zeros((-(-self._views[k].size // FASTOPT_STATE_BLOCK),), np.dtype(np.uint8)))
        return 0

    cdef int make_zeros(self, str state, dtype, int apart, Parameters before) except -1:
        cdef Py_ssize_t k
        cdef list made = []
        for k in range(len(self._views)):
            if before is not None and k < before._count:
                made.append(before._own[state][k])
            else:
                made.append(zeros_apart(<ndarray>self._views[k], dtype, self._parameters[k].order, apart))
        self._own[state] = made
        return 0

    def _extend(self, before, params, groups, list group_of, list names, list arrays):
        """Take hold of further parameters, or on an error of none. False when `before` are no longer the groups."""
        cdef Parameters larger
        self.enter("add_param_group", "add_param_group()")
        try:
            if self.param_groups is not before:
                return False
            larger = Parameters.__new__(Parameters)
            larger._form, larger._rule, larger._state_names = self._form, self._rule, self._state_names
            larger._averaged, larger._ema_decay = self._averaged, self._ema_decay
            larger.take_parameters(params, groups, group_of, names, arrays, self)
            self.exchange(larger)
            return True
        finally:
            self.leave()

    cdef void exchange(self, Parameters other) noexcept:
        """Swap all that depends on the parameters. No call is made and nothing can fail."""
        self.params, other.params = other.params, self.params
        self.param_groups, other.param_groups = other.param_groups, self.param_groups
        self._groups, other._groups = other._groups, self._groups
        self._hyper, other._hyper = other._hyper, self._hyper
        self._names, other._names = other._names, self._names
        self._group_of, other._group_of = other._group_of, self._group_of
        self._arrays, other._arrays = other._arrays, self._arrays
        self._views, other._views = other._views, self._views
        self._own, other._own = other._own, self._own
        self._averages, other._averages = other._averages, self._averages
        self._written, other._written = other._written, self._written
        self._count, other._count = other._count, self._count
        self._steps, other._steps = other._steps, self._steps
        self._steps_before, other._steps_before = other._steps_before, self._steps_before
        self._parameters, other._parameters = other._parameters, self._parameters
        self._args, other._args = other._args, self._args
        self._rows_args, other._rows_args = other._rows_args, self._rows_args
        self._scalars, other._scalars = other._scalars, self._scalars
        self._jobs, other._jobs = other._jobs, self._jobs
        self._norm_args, other._norm_args = other._norm_args, self._norm_args
        self._ranges, other._ranges = other._ranges, self._ranges
        self._range_count, other._range_count = other._range_count, self._range_count
        self._interleaved, other._interleaved = other._interleaved, self._interleaved

    cdef int take_states(self, Py_ssize_t k) except -1:
        """Put the pointers of parameter k's states into its record."""
        cdef optimizer_args* args = &self._args[k]
        for number, name in enumerate(self._state_names):
            args.step.states[<int>number] = data_or_null(self._own, name, k)
            args.exponents[<int>number] = <uint8_t*>data_or_null(self._own, f"{name}_exponent", k)
        args.step.ema = data_or_null(self._own, "ema", k)
        args.step.ema_rate = fastopt_average_rate(self._ema_decay)
        return 0

    cdef int list_written(self) except -1:
        """Sort what a step writes by address, and refuse parameters that overlap."""
        cdef Py_ssize_t k, other
        cdef uintptr_t low, high
        cdef list found = []
        self._written = []
        for kind, arrays in (("params", self._views), *self._own.items()):
            for name, array in zip(self._names, arrays):
                self._written.append((label(kind, name), array))
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
            for k in range(len(self._views)):
                for other in range(len(self._written)):
                    # Of two parameters the later one is named; a state may be handed in as a parameter too.
                    if (other < k or other >= len(self._views)) \
                            and share_memory(<ndarray>self._views[k], <ndarray>self._written[other][1]):
                        raise ValueError(
                            f"{label('params', self._names[k])}: expected memory of its own, got an array that overlaps "
                            f"{self._written[other][0]}; list a tied weight once and add up its gradients")
        return 0
