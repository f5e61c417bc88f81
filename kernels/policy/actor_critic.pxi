# Two perceptrons, an actor and a critic: acting by them, and a minibatch there and back.

cdef enum:
    FEW_NUMBERS = 1 << 12  # of a hidden layer that is kept on the stack


cdef int run_alone(network* net, ndarray x, void* y) except -1:
    """All layers, of which the last writes to y; nobody sees the others' outputs."""
    cdef double few[2 * FEW_NUMBERS]
    cdef char* room = <char*>&few[0]
    cdef Py_ssize_t k
    cdef int64_t half = PyArray_DIMS(x)[0] * net.widest
    cdef const void* before = PyArray_DATA(x)
    if half > FEW_NUMBERS:
        more = room_for_two(PyArray_DIMS(x)[0], net.widest, x)
        room = <char*>PyArray_DATA(more)
    for k in range(net.count):
        net.layers[k].x = before
        net.layers[k].y = y if k == net.count - 1 else room + (k & 1) * half * PyArray_ITEMSIZE(x)
        before = net.layers[k].y
    run_network(net, element_type(x), PyArray_DIMS(x)[0])
    return 0


cdef class _Acting:
    """What goes through the two networks of a policy: checked, with the room for it."""
    cdef network actor
    cdef network critic
    cdef list keep
    cdef ndarray x
    cdef ndarray values
    cdef ndarray scores  # logits or means
    cdef ndarray noise
    cdef ndarray log_prob
    cdef int kind

    cdef int take(self, object noise) except -1:
        cdef npy_intp sizes[2]
        sizes[0], sizes[1] = PyArray_DIMS(self.x)[0], self.actor.layers[self.actor.count - 1].outputs
        self.kind = element_type(self.x)
        self.scores = PyArray_EMPTY(2, sizes, PyArray_TYPE(self.x), 0)
        self.noise = c_ordered(checked_like(noise, "noise", self.scores, "the actor's outputs"))
        self.values = PyArray_EMPTY(1, sizes, PyArray_TYPE(self.x), 0)
        self.log_prob = PyArray_EMPTY(1, sizes, PyArray_TYPE(self.x), 0)
        return 0

    cdef int run(self) except -1:
        run_alone(&self.actor, self.x, PyArray_DATA(self.scores))
        run_alone(&self.critic, self.x, PyArray_DATA(self.values))
        return 0

    cdef tuple race(self, list choices):
        cdef int64_t rows = PyArray_DIMS(self.scores)[0], columns = PyArray_DIMS(self.scores)[1], first = 0, list_ = 0
        cdef ndarray actions
        cdef categorical_race_args args
        cdef int64_t itemsize = PyArray_ITEMSIZE(self.x)
        if choices is None:
            actions = np.empty(rows, np.int64)
            choices = [columns]
        else:
            if not choices or min(choices) < 1 or sum(choices) != columns:
                raise ValueError(f"choices: expected numbers from 1 of which {columns} is the sum, got {choices}")
            actions = np.empty((rows, len(choices)), np.int64)
        self.run()
        args = categorical_race_args(
            actions=<int64_t*>PyArray_DATA(actions), log_prob=PyArray_DATA(self.log_prob), logits=NULL, noise=NULL, columns=0,
            stride=columns, list=0, lists=len(choices))
        for number in choices:
            args.logits = <char*>PyArray_DATA(self.scores) + first * itemsize
            args.noise = <char*>PyArray_DATA(self.noise) + first * itemsize
            args.columns, args.list = number, list_
            run(fastopt_kernels.policy.categorical_race[self.kind], &args, rows, ROW_GRAIN)
            first += args.columns
            list_ += 1
        return actions, self.log_prob, self.values

    cdef tuple shift(self, object log_std):
        cdef int64_t rows = PyArray_DIMS(self.scores)[0], columns = PyArray_DIMS(self.scores)[1]
        cdef ndarray std = c_ordered(checked_of(log_std, "log_std", self.x, "observations", (columns,)))
        cdef ndarray actions = PyArray_EMPTY(2, PyArray_DIMS(self.scores), PyArray_TYPE(self.x), 0)
        self.run()
        cdef gaussian_shift_args shift = gaussian_shift_args(
            actions=PyArray_DATA(actions), mean=PyArray_DATA(self.scores), log_std=PyArray_DATA(std),
            noise=PyArray_DATA(self.noise), columns=columns)
        run(fastopt_kernels.policy.gaussian_shift[self.kind], &shift, rows * columns, ROW_GRAIN)
        cdef gaussian_log_prob_args args = gaussian_log_prob_args(
            log_prob=PyArray_DATA(self.log_prob), mean=PyArray_DATA(self.scores), log_std=PyArray_DATA(std),
            actions=PyArray_DATA(actions), columns=columns, stride=0, constant=fastopt_gaussian_log_prob_constant(columns))
        run_rows(fastopt_kernels.policy.gaussian_log_prob[self.kind], &args, self.scores)
        return actions, self.log_prob, self.values


cdef _Acting acting(observations, actor, critic, noise, activation, negative_slope):
    cdef _Acting a = _Acting()
    a.keep = []
    a.x = c_ordered(checked_observations(observations, "observations"))
    read_layers(&a.actor, actor, "actor", a.x, activation, negative_slope, a.keep)
    read_layers(&a.critic, critic, "critic", a.x, activation, negative_slope, a.keep)
    one_value(&a.critic)
    a.take(noise)
    return a


cdef int one_value(network* critic) except -1:
    if critic.layers[critic.count - 1].outputs != 1:
        raise ValueError(f"critic: expected one output, got {critic.layers[critic.count - 1].outputs}")
    return 0


def categorical_act(observations, actor, critic, noise, list choices, activation, negative_slope):
    return acting(observations, actor, critic, noise, activation, negative_slope).race(choices)


def gaussian_act(observations, actor, critic, log_std, noise, activation, negative_slope):
    return acting(observations, actor, critic, noise, activation, negative_slope).shift(log_std)


cdef class _Room:
    """Of batches of one size: outputs of all layers, and gradients of the last ones."""
    cdef network actor
    cdef network critic
    cdef int64_t rows
    cdef ndarray hidden
    cdef tuple arrays  # scores, values, their gradients


@cython.final
cdef class ActorCritic:
    """The two networks of a policy and their gradients, checked once: a minibatch costs little more than its kernels.

    `forward` returns scores and values of a batch, and arrays for their gradients, from which `backward` fills in those of
    the layers. These belong to the object: the next batch of that size takes them again. One thread at a time.
    """
    cdef network actor
    cdef network critic
    cdef layer_gradients actor_grads[MOST_LAYERS]
    cdef layer_gradients critic_grads[MOST_LAYERS]
    cdef list keep
    cdef ndarray like  # of their inputs
    cdef dict rooms
    cdef _Room room  # of the last batch, until it has gone backward
    cdef ndarray back  # room for what goes back
    cdef bint busy
    cdef int64_t forks

    def __cinit__(self, actor, critic, actor_grads, critic_grads, activation, negative_slope):
        cdef list given, names, written
        actor = listed(actor, "actor", "(weight, bias)")
        if not actor:
            raise ValueError("actor: expected at least one layer, got none")
        cdef ndarray first = checked(pair_of(actor[0], "actor", 0)[0], "actor[0][0]")
        if PyArray_NDIM(first) != 2 or PyArray_SIZE(first) == 0:
            raise ValueError(f"actor[0][0]: expected shape (outputs, inputs), got {shape(first)}")
        self.like = np.empty((0, PyArray_DIMS(first)[1]), first.dtype)
        self.keep, self.rooms, self.back = [], {}, self.like
        given = read_layers(&self.actor, actor, "actor", self.like, activation, negative_slope, self.keep)
        given += read_layers(&self.critic, critic, "critic", self.like, activation, negative_slope, self.keep)
        one_value(&self.critic)
        names = names_of_layers(self.actor.count, "actor") + names_of_layers(self.critic.count, "critic")
        for array, kept, name in zip(given, self.keep, names):
            if kept is not array:  # a copy would not see what a step does
                raise ValueError(f"{name}: expected a C-contiguous array, got strides {array.strides}")
        written = read_gradients(self.actor_grads, &self.actor, actor_grads, "actor_grads", self.like, "actor[0][0]")
        written += read_gradients(self.critic_grads, &self.critic, critic_grads, "critic_grads", self.like, "actor[0][0]")
        apart(written, names_of_layers(self.actor.count, "actor_grads") + names_of_layers(self.critic.count, "critic_grads"),
              given, names)
        self.keep += written

    cdef ndarray inputs(self, object observations):
        cdef ndarray a = checked_observations(observations, "observations")
        return c_ordered(checked_of(a, "observations", self.like, "actor[0][0]", (PyArray_DIMS(a)[0], PyArray_DIMS(self.like)[1])))

    cdef _Room room_of(self, int64_t rows):
        cdef _Room room = self.rooms.get(rows)
        return self.new_room(rows) if room is None else room

    cdef _Room new_room(self, int64_t rows):
        cdef _Room room = _Room()
        cdef list arrays = []
        cdef int64_t hidden = outputs_of_hidden(&self.actor) + outputs_of_hidden(&self.critic)
        cdef char* to
        room.actor, room.critic, room.rows = self.actor, self.critic, rows
        room.hidden = np.empty(rows * hidden, self.like.dtype)
        for outputs in (self.actor.layers[self.actor.count - 1].outputs, 1) * 2:
            arrays.append(np.empty((rows, outputs), self.like.dtype))
        to = <char*>PyArray_DATA(room.hidden)
        to = lay_out(&room.actor, to, PyArray_DATA(<ndarray>arrays[0]), rows, PyArray_ITEMSIZE(self.like))
        lay_out(&room.critic, to, PyArray_DATA(<ndarray>arrays[1]), rows, PyArray_ITEMSIZE(self.like))
        arrays[1], arrays[3] = arrays[1][:, 0], arrays[3][:, 0]
        room.arrays = tuple(arrays)
        self.rooms[rows] = room
        return room

    cdef int enter(self) except -1:
        if self.busy and self.forks == fastopt_forks():
            raise RuntimeError("these networks are in the middle of a batch in another thread")
        self.busy, self.forks = True, fastopt_forks()
        return 0

    def forward(self, observations):
        """(scores, values, dscores, dvalues), of which the latter two are to be filled in."""
        cdef ndarray x = self.inputs(observations)
        not_empty(x, "observations")
        cdef _Room room = self.room_of(PyArray_DIMS(x)[0])
        self.enter()
        room.actor.layers[0].x = room.critic.layers[0].x = PyArray_DATA(x)
        run_network(&room.actor, element_type(x), room.rows)
        run_network(&room.critic, element_type(x), room.rows)
        self.room, self.busy = room, False
        return room.arrays

    def backward(self, observations):
        """Fill in the gradients of all layers, from those of the scores and values of the last batch, which is given again."""
        cdef ndarray x = self.inputs(observations)
        cdef _Room room = self.room
        cdef int kind = element_type(x)
        cdef int64_t widest = max(self.actor.widest, self.critic.widest)
        if room is None or room.rows != PyArray_DIMS(x)[0]:
            raise RuntimeError("backward: expected the batch that has gone forward last, got another")
        if PyArray_SIZE(self.back) < 2 * room.rows * widest:
            self.back = room_for_two(room.rows, widest, x)
        self.enter()
        self.room = None
        run_network_backward(&room.actor, self.actor_grads, PyArray_DATA(x), PyArray_DATA(<ndarray>room.arrays[2]),
                             PyArray_DATA(self.back), kind, room.rows)
        run_network_backward(&room.critic, self.critic_grads, PyArray_DATA(x), PyArray_DATA(<ndarray>room.arrays[3]),
                             PyArray_DATA(self.back), kind, room.rows)
        self.busy = False

    def values(self, observations):
        """Of the critic alone, in an array of their own."""
        cdef ndarray x = self.inputs(observations)
        cdef ndarray found = PyArray_EMPTY(1, PyArray_DIMS(x), PyArray_TYPE(x), 0)
        cdef network critic = self.critic
        run_alone(&critic, x, PyArray_DATA(found))
        return found

    cdef _Acting acting(self, object observations, object noise):
        cdef _Acting a = _Acting()
        a.keep, a.x = self.keep, self.inputs(observations)
        a.actor, a.critic = self.actor, self.critic
        a.take(noise)
        return a

    def categorical_act(self, observations, noise, list choices):
        return self.acting(observations, noise).race(choices)

    def gaussian_act(self, observations, log_std, noise):
        return self.acting(observations, noise).shift(log_std)


cdef int64_t outputs_of_hidden(network* net) noexcept:
    cdef Py_ssize_t k
    cdef int64_t found = 0
    for k in range(net.count - 1):
        found += net.layers[k].outputs
    return found


cdef char* lay_out(network* net, char* hidden, void* last, int64_t rows, int64_t itemsize) noexcept:
    """Where the outputs of each layer go; returned is the end of those of the hidden ones."""
    cdef Py_ssize_t k
    for k in range(net.count):
        net.layers[k].y = last if k == net.count - 1 else hidden
        if k < net.count - 1:
            hidden += rows * net.layers[k].outputs * itemsize
            net.layers[k + 1].x = net.layers[k].y
    return hidden
