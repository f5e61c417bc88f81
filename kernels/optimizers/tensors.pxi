# One step over the tensors of a torch optimiser in one call. No address is kept from one step to the next: each is asked for
# again, so that memory may move in between; but for an owner that repeats a step.

cdef enum:
    PARAM = 0
    GRAD = 1
    STATES = 2

cdef struct tensors_of_parameter:
    dl_tensor parts[6]      # PARAM, GRAD, the states and, behind them, the average if there is one
    small_states small      # what is beside the states where they are of few bits
    dl_tensor step          # its count of steps, one float; its data is NULL where Python has the number
    const void* of_param    # addresses in the last step, whose overlaps are known
    const void* of_grad
    const void* of_state
    int64_t size
    const int64_t* rows     # that a sparse gradient is of, or NULL
    int64_t t               # the number of this step
    int group
    int count               # of parts
    bint averaged


cdef class TensorStep:
    """A step by a rule of kernels/optimizers/optimizers.h over torch's parameters, gradients and states.

    The owner is asked for what is rare: `_numbers(group)` when a group has changed: (the rule's numbers, whether to ascend, the
    names of the states in the rule's order, the place of the first of them: 1 without a momentum before the others);
    `_made(param, name)` for a state that is missing; `_plain(tensors, copies)` for tensors that no kernel takes as they are;
    `_norm_of(grads)` where they are shards; `_rounding_of(number)` for what rounds the small states of parameter `number` of
    all; `_gather_exponents(name, state)` where a state dict's were put in their place.
    """

    cdef const fastopt_rule* _rule
    cdef tuple _keys                # of a group, by which the rule goes
    cdef bint _counts               # whether each parameter has its number of steps among the states
    cdef bint _small                # whether states are of few bits
    cdef bint _eps_as_given         # whether Adam's eps goes without the bias correction of the root beside it
    cdef object _parameter_type     # those of plain tensors, whose memory is their own
    cdef object _tensor_type
    cdef object _raise_versions
    cdef list _seen                 # of each group: (the values of its keys, what _numbers made of them)
    cdef Py_ssize_t _room
    cdef Py_ssize_t _count          # parameters with a gradient in this step
    cdef tensors_of_parameter* _tensors
    cdef optimizer_args* _args
    cdef optimizer_rows_args* _rows_args
    cdef rule_scalars* _scalars
    cdef fastopt_job* _jobs
    cdef memory_piece* _pieces
    cdef Py_ssize_t _known          # parameters whose overlaps are known
    cdef bint _overlap
    cdef bint _busy
    cdef int64_t _forks
    cdef public bint repeatable     # whether the tensors of the last step are kept for `repeat`
    cdef tuple _last                # (parameters, gradients, numbers of groups, what else the records point into), or None

    def __init__(self, str rule, tuple keys, tuple plain_types, raise_versions, *, bint counts, bint eps_as_given,
                 bint small_states):
        self._rule = rule_named(rule)
        self._keys, (self._parameter_type, self._tensor_type), self._raise_versions = keys, plain_types, raise_versions
        self._counts, self._eps_as_given, self._small = counts, eps_as_given, small_states
        self._seen = []

    def __dealloc__(self):
        free(self._tensors)
        self.free_room()

    cdef void free_room(self) noexcept:
        free(self._args)
        free(self._rows_args)
        free(self._scalars)
        free(self._jobs)
        free(self._pieces)
        self._args, self._rows_args, self._scalars, self._jobs, self._pieces = NULL, NULL, NULL, NULL, NULL

    def step(self, owner, list groups, state, double multiplier, double max_norm, bint skip_nonfinite, ema_decay):
        """Take a step: all of it, or on an error nothing. Returned is the gradients' norm, None where it was not needed."""
        if self._busy and self._forks == fastopt_forks():
            raise RuntimeError("step: this optimiser is in the middle of a step, in another thread or in what a step has called")
        self._busy, self._forks = True, fastopt_forks()
        try:
            return self.take_step(owner, groups, state, multiplier, max_norm, skip_nonfinite, ema_decay)
        finally:
            self._busy = False

    def repeat(self, double max_norm):
        """The last step once more, by an owner who knows that nothing has changed but the numbers in the gradients and that
        no other thread is at them: to ask for the tensors again is most of a small step. False where it cannot be."""
        cdef Py_ssize_t k
        cdef double multiplier = 1
        cdef tuple last = self._last
        if last is None or self._busy:
            return False
        self._last = None  # unless all of this goes well
        for k in range(self._count):
            self._tensors[k].t = self._tensors[k].t + 1 if self._counts else 2
        if isfinite(max_norm):
            multiplier = fastopt_clipped_scale(1, self.norm(<list>last[1], 1, []), max_norm)
        self.fill_jobs(<list>last[2], multiplier, -1)
        self._raise_versions(last[0])
        self.write(apart=True)
        self._last = last
        return True

    cdef object take_step(self, owner, list groups, state, double multiplier, double max_norm, bint skip_nonfinite, ema_decay):
        cdef list keep = []     # what the records point into
        cdef list params = []
        cdef list grads = []
        cdef list numbers = []  # of each group
        cdef list entries = []  # (parameter, its states) that are new
        cdef list made = []     # (a parameter's states, name, value) that are new
        cdef list counted = []  # (a parameter's states, its number of steps) where that is a number of Python's
        cdef list copies = []   # (tensor, the copy that the kernel writes)
        cdef Py_ssize_t k, place = 0, number_of_all = -1
        cdef dict group, own
        cdef tensors_of_parameter* r
        cdef double norm
        cdef bint kept, shards = False, scaled = multiplier != 1
        cdef object number = None
        self._count, self._last = 0, None
        for k in range(len(groups)):
            group = <dict>groups[k]
            numbers.append(self.numbers_of(owner, k, group))
            # A parameter without states has no entry, as in torch, and is not looked for.
            kept = self._counts or self._small or ema_decay is not None or <tuple>(<tuple>numbers[k])[2] != ()
            for p in <list>group["params"]:
                number_of_all += 1
                grad = p.grad
                if grad is None:
                    continue
                own = states_of(state, p, &place) if kept else None
                if own is None:
                    own = {}
                    if kept:
                        entries.append((p, own))
                self.make_room()
                r = &self._tensors[self._count]
                r.group = <int>k
                r.small.form, r.small.rounding = FASTOPT_WHOLE, NULL
                if self._small:  # also while a group has no states: those that it may have later are rounded by its steps
                    rounding = own.get("rounding")
                    if rounding is None:
                        rounding = owner._rounding_of(number_of_all)
                        made.append((own, "rounding", rounding))
                    keep.append(rounding)
                    take_rounding(&r.small, rounding, keep)
                if self.take_tensors(owner, r, p, grad, own, group, (<tuple>numbers[k])[2], ema_decay is not None, keep, made, copies, counted):
                    shards = True
                params.append(p)
                grads.append(grad)
                self._count += 1
        if skip_nonfinite or isfinite(max_norm):
            norm = multiplier * <double>owner._norm_of(grads) if shards else self.norm(grads, multiplier, keep)
            number = norm
            if skip_nonfinite and not isfinite(norm):
                return number
            if isfinite(max_norm):
                multiplier = fastopt_clipped_scale(multiplier, norm, max_norm)
        cdef bint apart = not self.overlaps()
        if not apart:  # what the job of one parameter writes, that of another may read
            for k in range(self._count):
                if self._tensors[k].rows != NULL:
                    continue
                grad = grads[k].clone()
                keep.append(grad)
                if not reach(grad, &self._tensors[k].parts[GRAD], keep) or not self.alike(&self._tensors[k]):
                    raise RuntimeError("params: expected memory of their own, got parameters that overlap others or gradients")
        self.fill_jobs(numbers, multiplier, -1 if ema_decay is None else <double>ema_decay)
        self._raise_versions(params)
        for p, own in entries:
            state[p] = own
        for own, name, value in made:
            own[name] = value
        # Nothing is written before here.
        self.write(apart)
        for own, t in counted:
            own["step"] = t
        for tensor, copy in copies:
            tensor.copy_(copy)
        if self.repeatable and apart and not (scaled or shards or counted or copies or self._small or skip_nonfinite or ema_decay is not None):
            self._last = params, grads, numbers, keep
        return number

    cdef void write(self, bint apart) noexcept:
        """Run the jobs, and count the steps."""
        cdef Py_ssize_t k
        cdef tensors_of_parameter* r
        if apart:
            run_jobs(self._jobs, self._count)
        else:
            for k in range(self._count):
                run_jobs(&self._jobs[k], 1)
        for k in range(self._count):
            r = &self._tensors[k]
            if r.small.rounding != NULL:
                r.small.rounding[2] += 1
            if r.step.data != NULL and r.step.bits == 32:
                (<float*>r.step.data)[0] = <float>r.t
            elif r.step.data != NULL:
                (<double*>r.step.data)[0] = <double>r.t

    cdef tuple numbers_of(self, owner, Py_ssize_t index, dict group):
        """What the owner makes of a group's values; asked for again only when one of them is another object."""
        cdef tuple seen, values, kept
        cdef Py_ssize_t k
        cdef bint same = index < len(self._seen)
        if same:
            seen = <tuple>self._seen[index]
            values = <tuple>seen[0]
            for k in range(len(self._keys)):
                if group.get(self._keys[k]) is not values[k]:
                    same = False
                    break
            if same:
                return <tuple>seen[1]
        found = tuple(owner._numbers(group))
        kept = tuple([group.get(key) for key in self._keys])
        for value in kept:  # what may change in place is looked at each time
            if not unchanging(value):
                return found
        if index == len(self._seen):
            self._seen.append((kept, found))
        elif index < len(self._seen):
            self._seen[index] = (kept, found)
        return found

    cdef int make_room(self) except -1:
        """Room for one more parameter."""
        cdef Py_ssize_t room
        cdef void* moved
        if self._count < self._room:
            return 0
        room = max(16, 2 * self._room)
        self._known = 0
        moved = realloc(self._tensors, room * sizeof(tensors_of_parameter))
        if moved == NULL:
            raise MemoryError
        self._tensors = <tensors_of_parameter*>moved
        self._room = 0  # of what follows, until all of it is there
        self.free_room()
        self._args = <optimizer_args*>calloc(room, sizeof(optimizer_args))
        self._rows_args = <optimizer_rows_args*>calloc(room, sizeof(optimizer_rows_args))
        self._scalars = <rule_scalars*>calloc(room, sizeof(rule_scalars))
        self._jobs = <fastopt_job*>calloc(room, sizeof(fastopt_job))
        self._pieces = <memory_piece*>calloc(6 * room, sizeof(memory_piece))
        if not (self._args and self._rows_args and self._scalars and self._jobs and self._pieces):
            raise MemoryError
        memset(&self._tensors[self._count], 0, (room - self._count) * sizeof(tensors_of_parameter))
        self._room = room
        return 0

    cdef inline bint plain(self, tensor) noexcept:
        return <object>type(tensor) is self._parameter_type or <object>type(tensor) is self._tensor_type

    cdef bint take_tensors(self, owner, tensors_of_parameter* r, p, grad, dict own, dict group, tuple names, bint averaged, list keep,
                           list made, list copies, list counted) except -1:
        """Fill in a record; return whether the tensors are shards of larger ones."""
        cdef Py_ssize_t k, first_made = len(made)
        cdef bint known = self.plain(p) and self.plain(grad), shard = False
        r.rows = NULL
        r.averaged = averaged
        r.count = <int>(STATES + len(names) + averaged)
        r.step.data = NULL
        r.t = 2
        if self._counts:
            self.count_step(owner, r, p, own, keep, made, counted)
            first_made = len(made)
        for k in range(len(names) + averaged):
            name = names[k] if k < len(names) else "ema"
            value = own.get(name)
            if value is None:
                value = owner._made(p, name)
                made.append((own, name, value))
            keep.append(value)  # another thread may load other states meanwhile
            if self._small and k < len(names):
                known = take_small_state(owner, &r.small, &r.parts[STATES + k], k, name, value, keep) and known and self.plain((<dict>value)["codes"])
            else:
                known = known and self.plain(value) and reach(value, &r.parts[STATES + k], keep)
        if not self._counts and len(made) > first_made:
            r.t = 1  # of a momentum that begins
        known = known and reach(grad, &r.parts[GRAD], keep) and reach(p, &r.parts[PARAM], keep) and self.alike(r)
        # Memory that has -x for x, an imaginary part of a conjugate. What autograd makes of it is dense in one element alone,
        # and to ask for each gradient would be felt.
        if known and size_of(&r.parts[GRAD]) == 1 and (grad.is_neg() or p.is_neg()):
            known = False
        if not known:
            shard = self.take_others(owner, r, p, grad, own, group, names, keep, made, copies)
        r.size = size_of(&r.parts[PARAM])
        return shard

    cdef bint take_others(self, owner, tensors_of_parameter* r, p, grad, dict own, dict group, tuple names, list keep, list made,
                          list copies) except -1:
        """The same by what the owner makes of tensors that no kernel takes as they are."""
        cdef Py_ssize_t k
        cdef list tensors = [p, grad]
        cdef dict new = {name: value for states, name, value in made if states is own}
        for name in names if not r.averaged else (*names, "ema"):
            tensors.append(new[name] if name in new else own[name])
        tensors, shard, rows = owner._plain(tensors, group, copies)
        keep.append((tensors, rows))
        if rows is not None:
            r.rows = <const int64_t*>PyArray_DATA(<ndarray?>rows)
        cdef bint reached = True
        for k in range(r.count):
            if self._small and STATES <= k < STATES + len(names):
                reached = reached and take_small_state(owner, &r.small, &r.parts[k], k - STATES, names[k - STATES], tensors[k], keep)
            else:
                reached = reached and reach(tensors[k], &r.parts[k], keep)
        if not reached or not self.alike(r):
            raise TypeError("params: expected dense tensors of float32, float64 or bfloat16 in the processor's memory")
        return shard

    cdef int count_step(self, owner, tensors_of_parameter* r, p, dict own, list keep, list made, list counted) except -1:
        """Read the number of steps that a parameter has taken."""
        cdef object number = own.get("step")
        if number is None:
            number = owner._made(p, "step")
            made.append((own, "step", number))
        keep.append(number)
        if isinstance(number, (int, float)):
            r.t = <int64_t>number + 1
            counted.append((own, type(number)(r.t)))
            return 0
        if not reach(number, &r.step, keep) or r.step.device_type != DL_CPU or r.step.code != DL_FLOAT or size_of(&r.step) != 1 or r.step.data == NULL:
            raise TypeError(f"state['step']: expected a tensor of one float in the processor's memory, got {number!r}")
        cdef double t
        if r.step.bits == 32:
            t = (<float*>r.step.data)[0]
        elif r.step.bits == 64:
            t = (<double*>r.step.data)[0]
        else:
            raise TypeError(f"state['step']: expected float32 or float64, got {number.dtype}")
        if not 0 <= t < 1e18:
            raise ValueError(f"state['step']: expected the number of steps taken, got {t}")
        r.t = <int64_t>t + 1
        return 0

    cdef bint alike(self, const tensors_of_parameter* r) except -1:
        """Whether a kernel takes the tensors as they are: dense, of one type and layout, and with memory. The average of a
        bfloat16 parameter is of float32, in which it moves."""
        cdef int k
        cdef const dl_tensor* param = &r.parts[PARAM]
        for k in range(r.count):
            if r.small.form != FASTOPT_WHOLE and STATES <= k < r.count - r.averaged:
                if not small_state_fits(&r.small, k - STATES, &r.parts[k], param):
                    return False
            elif k == PARAM or k == GRAD and r.rows != NULL:
                if not kernels_take(&r.parts[k]):
                    return False
            elif not same_layout(param, &r.parts[k]):
                return False
            elif r.averaged and k == r.count - 1 and param.code == DL_BFLOAT:
                if r.parts[k].code != DL_FLOAT or r.parts[k].bits != 32:
                    return False
            elif not same_type(param, &r.parts[k]):
                return False
            if r.parts[k].data == NULL and size_of(&r.parts[k]) > 0:
                raise RuntimeError("params: expected tensors with memory, got one that has none")
        return True

    cdef double norm(self, list grads, double multiplier, list keep) except? -1:
        """The norm of all gradients, times the multiplier: tensor by tensor, each in C order."""
        cdef Py_ssize_t k
        cdef dl_tensor* grad
        cdef dl_tensor in_order
        cdef double few[SUM_GRAIN]
        cdef double* blocks
        cdef sum_args args
        cdef ndarray room = np.empty(self._count) if self._count > 64 else None
        cdef double sums_of_few[64]
        cdef double* sums = &sums_of_few[0] if room is None else <double*>PyArray_DATA(room)
        cdef double scale = 1
        cdef int64_t number
        for k in range(self._count):
            grad = &self._tensors[k].parts[GRAD]
            if not c_contiguous(grad):
                ordered = grads[k].contiguous()
                keep.append(ordered)
                if not reach(ordered, &in_order, keep):
                    raise TypeError("grads: expected dense tensors")
                grad = &in_order
            args.x, args.size, args.mean = grad.data, size_of(grad), 0
            number = (args.size + FASTOPT_SUM_BLOCK - 1) // FASTOPT_SUM_BLOCK
            blocks = &few[0]
            if number > SUM_GRAIN:
                more = np.empty(number)
                blocks = <double*>PyArray_DATA(<ndarray>more)
            args.block_sums = blocks
            run(fastopt_kernels.core.sum_squares_bfloat16[0] if grad.code == DL_BFLOAT
                else fastopt_kernels.core.sum_squares[grad.bits == 64], &args, number, SUM_GRAIN)
            sums[k] = fastopt_add_up(blocks, number)
        if fastopt_lost_squares(fastopt_add_up(sums, self._count)):
            scale = scaled_squares([widened(flat_view(&self._tensors[k].parts[GRAD])) for k in range(self._count)], sums)
        return fastopt_norm(multiplier, sums, self._count, scale)

    cdef bint overlaps(self) noexcept:
        """Whether anything that a job writes is part of what another reads or writes. Known while the addresses stay."""
        cdef Py_ssize_t k, pieces = 0
        cdef int part
        cdef tensors_of_parameter* r
        cdef bint known = self._known == self._count
        cdef const void* state
        for k in range(self._count):
            r = &self._tensors[k]
            state = r.parts[STATES].data if r.count > STATES else NULL
            known = known and r.of_param == r.parts[PARAM].data and r.of_grad == r.parts[GRAD].data and r.of_state == state
            r.of_param, r.of_grad, r.of_state = r.parts[PARAM].data, r.parts[GRAD].data, state
        if known:
            return self._overlap
        for k in range(self._count):
            r = &self._tensors[k]
            for part in range(r.count):
                self._pieces[pieces].low = <uintptr_t>r.parts[part].data
                self._pieces[pieces].high = <uintptr_t>r.parts[part].data + size_of(&r.parts[part]) * (r.parts[part].bits // 8)
                self._pieces[pieces].written = part != GRAD
                pieces += self._pieces[pieces].high > self._pieces[pieces].low
        self._overlap = pieces_meet(self._pieces, pieces)
        self._known = self._count
        return self._overlap

    cdef int fill_jobs(self, list numbers, double multiplier, double ema_decay) except -1:
        """Fill in a job for each parameter; no state is reached here, so that nothing has changed when an error is raised."""
        cdef Py_ssize_t k, previous = -1
        cdef int part, kind, form
        cdef tensors_of_parameter* r
        cdef tensors_of_parameter* before = NULL
        cdef tuple of_group
        for k in range(self._count):
            r = &self._tensors[k]
            kind = r.parts[PARAM].bits == 64
            form = FASTOPT_BFLOAT16_PARAMS if r.parts[PARAM].code == DL_BFLOAT else r.small.form
            if before == NULL or before.group != r.group or before.t != r.t or before.parts[PARAM].bits != r.parts[PARAM].bits:
                of_group = <tuple>numbers[r.group]  # which those after it share
                hyper = of_group[0]
                if self._eps_as_given:
                    lr, beta1, beta2, eps, *others = hyper
                    hyper = (lr, beta1, beta2, eps / sqrt(1 - fastopt_power(beta2, r.t)), *others)
                rule_scalars_of(self._rule, &self._scalars[k], <tuple>hyper, kind, r.t, -multiplier if of_group[1] else multiplier)
                previous, before = k, r
            memset(&self._args[k], 0, sizeof(optimizer_args))
            self._args[k].step.param = r.parts[PARAM].data
            self._args[k].step.grad = r.parts[GRAD].data
            for part in range(STATES, r.count - r.averaged):
                self._args[k].step.states[part - STATES + <int>of_group[3]] = r.parts[part].data
                self._args[k].exponents[part - STATES + <int>of_group[3]] = r.small.exponents[part - STATES]
            if r.small.form != FASTOPT_WHOLE:
                self._args[k].step_number = <uint32_t>(r.small.rounding[2] + 1)
                self._args[k].rounding = address_of(<uint64_t>r.small.rounding[0], <uint64_t>r.small.rounding[1], DOMAIN_ROUNDING)
            if r.averaged:
                self._args[k].step.ema = r.parts[r.count - 1].data
                self._args[k].step.ema_rate = fastopt_average_rate(ema_decay)
            self._args[k].step.scalars = &self._scalars[previous]
            self._jobs[k].kernel = fastopt_rule_kernels(self._rule, form)[kind]
            self._jobs[k].args = &self._args[k]
            self._jobs[k].size = r.size
            self._jobs[k].grain = OPTIMIZER_GRAIN
            if r.rows != NULL:
                self._rows_args[k] = optimizer_rows_args(step=self._args[k].step, rows=r.rows, width=r.parts[PARAM].shape[1])
                self._jobs[k].kernel = fastopt_rule_kernels(self._rule, FASTOPT_ROWS)[kind]
                self._jobs[k].args = &self._rows_args[k]
                self._jobs[k].size = r.parts[GRAD].shape[0]
                self._jobs[k].grain = max(1, OPTIMIZER_GRAIN // 2 // max(1, self._rows_args[k].width))
        return 0


cdef inline bint unchanging(value):
    return value is None or isinstance(value, (bool, int, float)) or type(value) is tuple and all(map(unchanging, value))


cdef dict states_of(state, p, Py_ssize_t* place):
    """The states of a parameter, or None. They stand in the order of the parameters, as a rule, and are looked for there first:
    the hash of a tensor is a function in Python."""
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t here = place[0]
    while isinstance(state, dict) and PyDict_Next(state, &here, &key, &value):
        if <void*>key == <void*>p:
            place[0] = here
            return <dict?><object>value
    return state.get(p)


def distinct_rows(sparse, str name, like):
    """(distinct row numbers, their gradients) of SparseRows of a parameter like this array."""
    return coalesced(sparse, name, <ndarray?>like, "params")
