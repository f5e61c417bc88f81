# What an optimiser keeps from one step to the next: who is at work on it, and how it is read and replaced as a whole.

cdef struct transfer:
    void* out
    const void* values
    size_t bytes


@cython.auto_pickle(False)
cdef class Group:
    """The hyper-parameters of a group: by name, and as the rule takes them. One pair, which is only ever replaced whole."""

    cdef readonly tuple _held  # (a dict that nobody changes, the numbers in the order of the rule, a dict of what else is kept)

    def _replace(self, tuple old, tuple new):
        """Put `new` into the place of `old`; False when another thread was quicker and `old` is no longer there."""
        if self._held is not old:
            return False
        self._held = new
        return True


cdef class OptimizerState:
    """The parameters, groups, states and counts of an optimiser."""

    cdef readonly object params
    cdef readonly object param_groups
    cdef readonly list _names
    cdef readonly list _group_of    # the number of each parameter's group
    cdef readonly int64_t step_count
    cdef readonly int64_t skipped_steps
    cdef readonly object grad_norm
    cdef public uint64_t _rounding_key
    cdef tuple _groups              # those of param_groups
    cdef dict _own                  # name of the state -> one array a parameter; only views of them are handed out
    cdef readonly list _averages    # views of those in it, the same each time; None when there are none
    cdef int64_t* _steps
    cdef int64_t* _steps_before     # of them, those before the first in which the states moved
    cdef Py_ssize_t _count
    cdef str _going_on              # the call that is at work, or None
    cdef unsigned long _thread      # its thread
    cdef int64_t _forks             # fastopt_forks() then
    cdef bint _changing             # whether it writes

    def __cinit__(self, *args, **kwargs):
        self._names = []
        self._group_of = []
        self._own = {}
        self._groups = ()

    def __dealloc__(self):
        free(self._steps)
        free(self._steps_before)

    # A call that reads or writes several fields is alone with them: NumPy gives the GIL away in copies, kernels give it
    # away, and a dict compares its keys by the user's code.

    cdef int enter(self, str what, str going_on, bint changing=True) except -1:
        """Begin such a call, which ends with leave(). Where one is at work already this one is refused."""
        if self._going_on is not None and self._forks != fastopt_forks():
            if self._changing:
                raise RuntimeError(f"{what}: this process was forked while another thread was in the middle of "
                                   f"{self._going_on}, of which this optimiser is left half done here; make a new one")
            self._going_on = None  # it was only read
        if self._going_on is not None:
            if self._thread == <unsigned long>PyThread_get_thread_ident():
                raise RuntimeError(f"{what}: re-entry: this optimiser is in the middle of {self._going_on} in this very thread, "
                                   "which called back; wait until that has returned")
            raise RuntimeError(f"{what}: this optimiser is in the middle of {self._going_on} in another thread")
        if self._count == 0:
            raise ValueError(f"{what}: expected an optimiser with parameters, got one that was never initialised")
        self._going_on = going_on
        self._changing = changing
        self._thread = <unsigned long>PyThread_get_thread_ident()
        self._forks = fastopt_forks()
        return 0

    cdef void leave(self) noexcept:
        self._going_on = None

    @property
    def _states(self):
        """The states by name, an array a parameter: fresh views, whose shape and flags are the caller's to change."""
        return {kind: handed_out(arrays) for kind, arrays in self._own.items()}

    def _snapshot(self, str what, bint copied):
        """(counts and key, what the groups hold, the paths, the group of each, the step numbers, those before the states',
        the states): all of one moment; views unless copied."""
        cdef Py_ssize_t k
        self.enter(what, what + "()", changing=False)
        try:
            states = {kind: c_copies(arrays) if copied else handed_out(arrays) for kind, arrays in self._own.items()}
            groups, steps, before = [], [], []
            for group in self._groups:
                groups.append((<Group>group)._held)
            for k in range(self._count):
                steps.append(self._steps[k])
                before.append(self._steps_before[k])
            return (self.step_count, self.skipped_steps, self._rounding_key), groups, self._names, self._group_of, \
                steps, before, states
        finally:
            self.leave()

    def _install(self, tuple counts, list groups, list steps, list before, dict states):
        """Take over what _snapshot returned, but for paths and groups: all of it, or on an error nothing."""
        cdef Py_ssize_t k, count = 0
        cdef int64_t step_count, skipped_steps
        cdef uint64_t rounding_key
        cdef ndarray own, values
        cdef list keep = []
        cdef list held = list(groups)
        cdef transfer* all
        cdef int64_t* numbers
        self.enter("load_state_dict", "load_state_dict()")
        all = <transfer*>calloc(len(self._own) * self._count, sizeof(transfer))
        numbers = <int64_t*>calloc(2 * self._count, sizeof(int64_t))
        try:
            if all == NULL or numbers == NULL:
                raise MemoryError
            step_count, skipped_steps, rounding_key = counts
            if len(held) != len(self._groups) or len(steps) != self._count or len(before) != self._count:
                raise ValueError("state: expected as many groups and step numbers as this optimiser has")
            for k in range(len(held)):
                if type(held[k]) is not tuple:
                    raise TypeError("state: expected each group as _held")
            for k in range(self._count):
                numbers[k] = steps[k]
                numbers[self._count + k] = before[k]
            for kind, arrays in self._own.items():
                for k in range(self._count):
                    own = <ndarray>arrays[k]
                    values = np.array(states[kind][k], own.dtype, order="C" if PyArray_IS_C_CONTIGUOUS(own) else "F")
                    if not same_shape(values, own):
                        raise ValueError(f"state[{label(kind, self._names[k])!r}]: expected shape {shape(own)}, got {shape(values)}")
                    keep.append(values)
                    all[count] = transfer(PyArray_DATA(own), PyArray_DATA(values), PyArray_NBYTES(own))
                    count += 1
            # Nothing is written before here, and nothing can fail or be interrupted after it.
            with nogil:
                for k in range(count):
                    memcpy(all[k].out, all[k].values, all[k].bytes)
                memcpy(self._steps, numbers, self._count * sizeof(int64_t))
                memcpy(self._steps_before, numbers + self._count, self._count * sizeof(int64_t))
            self.step_count, self.skipped_steps, self._rounding_key = step_count, skipped_steps, rounding_key
            self.install_groups(held)
        finally:
            free(all)
            free(numbers)
            self.leave()

    cdef void install_groups(self, list held) noexcept:
        """Give each group its entry of `held`, which takes the old ones."""
        cdef Py_ssize_t k
        for k in range(len(held)):
            group = <Group>self._groups[k]
            held[k], group._held = group._held, held[k]

    def _replace_groups(self, str what, list old, list new):
        """Put `new` into the place of `old`, for all groups at once; False when `old` is no longer there."""
        cdef Py_ssize_t k
        self.enter(what, f"a change of {what}")
        try:
            if len(self._groups) != len(old):
                return False
            for k in range(len(self._groups)):
                if (<Group>self._groups[k])._held is not old[k] or type(new[k]) is not tuple:
                    return False
            self.install_groups(new)
            return True
        finally:
            self.leave()
