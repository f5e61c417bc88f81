# Perceptrons: layers of (weight, bias), one after the other, and what acts by them.

cpdef enum:
    MOST_LAYERS = 32

cdef enum:
    PRODUCT_GRAIN = 1 << 18  # products of numbers
    FEW_NUMBERS = 1 << 12  # of a hidden layer that is kept on the stack


cdef struct network:
    dense_args layers[MOST_LAYERS]
    Py_ssize_t count
    int64_t widest  # of all outputs


cdef int activation_code(object name) except -1:
    if isinstance(name, str) and name == "tanh":
        return FASTOPT_TANH
    if isinstance(name, str) and name == "leaky_relu":
        return FASTOPT_LEAKY_RELU
    raise ValueError(f'activation: expected "tanh" or "leaky_relu", got {name!r}')


cdef list listed(object given, str name, str expected):
    """What stands in a sequence, which is asked for it once: it may be one that makes its items."""
    if not isinstance(given, (list, tuple, _Sequence)):
        raise TypeError(f"{name}: expected a sequence of {expected}, got {type(given).__name__}")
    return list(given)


cdef list one_for_each(object given, str name, str expected, Py_ssize_t count):
    cdef list found = listed(given, name, expected)
    if len(found) != count:
        raise ValueError(f"{name}: expected {count} {expected}, one for each layer, got {len(found)}")
    return found


cdef tuple pair_of(object given, str name, Py_ssize_t k):
    """(weight, bias) of layer k."""
    cdef tuple found = tuple(given) if isinstance(given, (list, tuple, _Sequence)) else ()
    if len(found) != 2:
        got = f"{len(found)} items" if found else type(given).__name__
        raise TypeError(f"{name}[{k}]: expected a pair (weight, bias), got {got}")
    return found


# Names of weights and biases, made once: they take longer than the checks that may tell them.
cdef dict LAYER_NAMES = {
    name: [f"{name}[{k // 2}][{k % 2}]" for k in range(2 * MOST_LAYERS)] for name in ("layers", "actor", "critic", "out")}


cdef list read_layers(network* net, object layers, str name, ndarray x, object activation, object negative_slope, list keep):
    """Fill in the layers, but for the arrays that go through them; `keep` takes what they point to. Returned are the weights
    and biases as they were given."""
    cdef list found = listed(layers, name, "(weight, bias)"), given = [], names = LAYER_NAMES[name]
    cdef Py_ssize_t k
    cdef ndarray weight, bias
    cdef int64_t inputs = columns_of(x)
    cdef int kind = PyArray_TYPE(x), code = activation_code(activation)
    cdef double slope = checked_positive_slope(negative_slope)
    net.widest = 0
    net.count = len(found)
    if not 1 <= net.count <= MOST_LAYERS:
        raise ValueError(f"{name}: expected 1 to {MOST_LAYERS} layers, got {net.count}")
    for k in range(net.count):
        given_weight, given_bias = pair_of(found[k], name, k)
        weight, bias = checked(given_weight, <str>names[2 * k]), checked(given_bias, <str>names[2 * k + 1])
        given.append(weight)
        given.append(bias)
        for j in range(2):
            if PyArray_TYPE(<ndarray>given[2 * k + j]) != kind:
                raise TypeError(f"{names[2 * k + j]}: expected {x.dtype} like what goes into it, got {given[2 * k + j].dtype}; "
                                "give all of one dtype")
        if PyArray_NDIM(weight) != 2 or PyArray_DIMS(weight)[0] == 0 or PyArray_DIMS(weight)[1] != inputs:
            raise ValueError(f"{name}[{k}][0]: expected shape (outputs, {inputs}) for {inputs} inputs, got {shape(weight)}")
        inputs = PyArray_DIMS(weight)[0]
        if PyArray_NDIM(bias) != 1 or PyArray_DIMS(bias)[0] != inputs:
            raise ValueError(f"{name}[{k}][1]: expected shape ({inputs},) for weights of {shape(weight)}, got {shape(bias)}")
        weight, bias = c_ordered(weight), c_ordered(bias)
        keep.append(weight)
        keep.append(bias)
        net.layers[k] = dense_args(
            y=NULL, x=NULL, weight=PyArray_DATA(weight), bias=PyArray_DATA(bias), inputs=PyArray_DIMS(weight)[1],
            outputs=inputs, activation=code if k < net.count - 1 else 0, negative_slope=slope)
        net.widest = max(net.widest, inputs)
    return given


cdef list names_of_layers(Py_ssize_t count, str name):
    """Of what `read_layers` returns."""
    return (<list>LAYER_NAMES[name])[:2 * count]


cdef inline void run_products(fastopt_kernel kernel, const void* args, int64_t size, int64_t others) noexcept:
    """A kernel whose work is `others` products for each of `size`; each range packs the second matrix anew."""
    run_work(kernel, args, size, max(64, PRODUCT_GRAIN // max(1, others)), <double>size * <double>others / PRODUCT_GRAIN)


cdef void run_network(network* net, int kind, int64_t rows) noexcept:
    cdef Py_ssize_t k
    for k in range(net.count):
        run_products(fastopt_kernels.policy.dense[kind], &net.layers[k], rows, net.layers[k].inputs * net.layers[k].outputs)


cdef ndarray checked_observations(object x, str name):
    cdef ndarray a = checked(x, name)
    if PyArray_NDIM(a) != 2 or PyArray_DIMS(a)[1] == 0:
        raise ValueError(f"{name}: expected shape (batch, inputs) with at least one input, got {shape(a)}")
    return a


cdef ndarray checked_of(object x, str name, ndarray like, str like_name, tuple wanted):
    """x itself, when it is an array of this shape and the dtype of `like`."""
    cdef ndarray a = checked(x, name)
    if PyArray_TYPE(a) != PyArray_TYPE(like):
        raise TypeError(f"{name}: expected {like.dtype} like {like_name}, got {a.dtype}; "
                        f"{name}.astype(np.{like.dtype}) converts it")
    if shape(a) != wanted:
        raise ValueError(f"{name}: expected shape {wanted}, got {shape(a)}")
    return a


cdef ndarray output_of(object given, str name, ndarray like, tuple wanted):
    """The same, when a kernel can write to it."""
    cdef ndarray y = checked_of(given, name, like, "x", wanted)
    if not contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS:
        raise ValueError(f"{name}: expected a C-contiguous array, got strides {(<object>y).strides}")
    return y


def perceptron(x, layers, activation, negative_slope, out):
    cdef network net
    cdef ndarray given = checked_observations(x, "x"), a = c_ordered(given), y
    cdef list keep = [], outputs = [], names = [], into
    cdef list arrays = read_layers(&net, layers, "layers", a, activation, negative_slope, keep)
    cdef const void* before = PyArray_DATA(a)
    cdef Py_ssize_t k
    if out is not None:
        into = one_for_each(out, "out", "arrays", net.count)
    for k in range(net.count):
        wanted = PyArray_DIMS(a)[0], net.layers[k].outputs
        if out is None:
            y = np.empty(wanted, a.dtype)
        else:
            names.append(f"out[{k}]")
            y = output_of(into[k], names[k], a, wanted)
        outputs.append(y)
        net.layers[k].x, net.layers[k].y = before, PyArray_DATA(y)
        before = net.layers[k].y
    if out is not None:
        apart(outputs, names, [given, *arrays], ["x", *names_of_layers(net.count, "layers")])
    run_network(&net, element_type(a), PyArray_DIMS(a)[0])
    return outputs


def perceptron_backward(grad, x, outputs, layers, activation, negative_slope, out):
    cdef network net
    cdef ndarray given = checked_observations(x, "x"), a = c_ordered(given), dz, dx, y, dweight, dbias
    cdef list keep = [], inputs = [a], gradients, results = [], written = [], names = [], into
    cdef list arrays = read_layers(&net, layers, "layers", a, activation, negative_slope, keep)
    cdef list array_names
    cdef Py_ssize_t k
    cdef int64_t rows = PyArray_DIMS(a)[0]
    cdef int kind = element_type(a)
    cdef dense_backward_args back
    cdef dense_gradient_args gradient
    not_empty(a, "x")
    dz = checked_of(grad, "grad", a, "x", (rows, net.layers[net.count - 1].outputs))
    array_names = ["x", "grad"] if out is None else [*names_of_layers(net.count, "layers"), "x", "grad"]
    arrays += (given, dz)
    dz = c_ordered(dz)
    outputs = one_for_each(outputs, "outputs", "arrays", net.count)
    for k in range(net.count - 1):
        array_names.append(f"outputs[{k}]")
        arrays.append(checked_of(outputs[k], array_names[len(array_names) - 1], a, "x", (rows, net.layers[k].outputs)))
        inputs.append(c_ordered(arrays[len(arrays) - 1]))
    gradients = [dz]
    for k in range(net.count - 1, 0, -1):
        gradients.append(PyArray_EMPTY(2, PyArray_DIMS(<ndarray>inputs[k]), PyArray_TYPE(a), 0))
    if out is not None:
        into = one_for_each(out, "out", "pairs", net.count)
        names = names_of_layers(net.count, "out")
    for k in range(net.count):
        wanted = net.layers[k].outputs, net.layers[k].inputs
        if out is None:
            dweight, dbias = np.empty(wanted, a.dtype), np.empty(wanted[0], a.dtype)
        else:
            into_weight, into_bias = pair_of(into[k], "out", k)
            dweight = output_of(into_weight, names[2 * k], a, wanted)
            dbias = output_of(into_bias, names[2 * k + 1], a, wanted[:1])
        results.append((dweight, dbias))
        written += (dweight, dbias)
    if out is not None:
        apart(written, names, arrays, array_names)
    for k in range(net.count - 1, -1, -1):
        y, dweight, dbias = inputs[k], results[k][0], results[k][1]
        gradient = dense_gradient_args(
            dweight=PyArray_DATA(dweight), dbias=PyArray_DATA(dbias), dz=PyArray_DATA(dz), x=PyArray_DATA(y), rows=rows,
            inputs=net.layers[k].inputs, outputs=net.layers[k].outputs)
        run_products(fastopt_kernels.policy.dense_gradient[kind], &gradient, gradient.outputs, rows * gradient.inputs)
        if k > 0:
            dx = gradients[net.count - k]
            back = dense_backward_args(
                dx=PyArray_DATA(dx), dz=PyArray_DATA(dz), weight=net.layers[k].weight, x=PyArray_DATA(y),
                inputs=net.layers[k].inputs, outputs=net.layers[k].outputs, activation=net.layers[k - 1].activation,
                negative_slope=net.layers[k].negative_slope)
            run_products(fastopt_kernels.policy.dense_backward[kind], &back, rows, back.inputs * back.outputs)
            dz = dx
    return results


cdef int run_hidden(network* net, ndarray x, void* y, void* room) noexcept:
    """All layers, of which the last writes to y and the others in turns to the two halves of `room`."""
    cdef Py_ssize_t k
    cdef const void* before = PyArray_DATA(x)
    cdef char* half = <char*>room
    cdef int64_t bytes = PyArray_DIMS(x)[0] * net.widest * PyArray_ITEMSIZE(x)
    for k in range(net.count):
        net.layers[k].x = before
        net.layers[k].y = y if k == net.count - 1 else half + (k & 1) * bytes
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

    cdef int run(self) except -1:
        cdef double few[2 * FEW_NUMBERS]
        cdef void* room = &few[0]
        cdef int64_t widest = max(self.actor.widest, self.critic.widest)
        if 2 * PyArray_DIMS(self.x)[0] * widest > 2 * FEW_NUMBERS:
            more = np.empty(2 * PyArray_DIMS(self.x)[0] * widest)
            room = PyArray_DATA(<ndarray>more)
        run_hidden(&self.actor, self.x, PyArray_DATA(self.scores), room)
        run_hidden(&self.critic, self.x, PyArray_DATA(self.values), room)
        return 0


cdef _Acting acting(observations, actor, critic, noise, activation, negative_slope):
    cdef _Acting a = _Acting()
    cdef npy_intp sizes[2]
    a.keep = []
    a.x = c_ordered(checked_observations(observations, "observations"))
    a.kind = element_type(a.x)
    read_layers(&a.actor, actor, "actor", a.x, activation, negative_slope, a.keep)
    read_layers(&a.critic, critic, "critic", a.x, activation, negative_slope, a.keep)
    if a.critic.layers[a.critic.count - 1].outputs != 1:
        raise ValueError(f"critic: expected one output, got {a.critic.layers[a.critic.count - 1].outputs}")
    sizes[0], sizes[1] = PyArray_DIMS(a.x)[0], a.actor.layers[a.actor.count - 1].outputs
    a.scores = PyArray_EMPTY(2, sizes, PyArray_TYPE(a.x), 0)
    a.noise = c_ordered(checked_like(noise, "noise", a.scores, "the actor's outputs"))
    a.values = PyArray_EMPTY(1, sizes, PyArray_TYPE(a.x), 0)
    a.log_prob = PyArray_EMPTY(1, sizes, PyArray_TYPE(a.x), 0)
    return a


def categorical_act(observations, actor, critic, noise, list choices, activation, negative_slope):
    cdef _Acting a = acting(observations, actor, critic, noise, activation, negative_slope)
    cdef int64_t rows = PyArray_DIMS(a.scores)[0], columns = PyArray_DIMS(a.scores)[1], first = 0, list_ = 0
    cdef ndarray actions
    cdef categorical_race_args args
    cdef int64_t itemsize = PyArray_ITEMSIZE(a.x)
    if choices is None:
        actions = np.empty(rows, np.int64)
        choices = [columns]
    else:
        if sum(choices) != columns:
            raise ValueError(f"choices: expected numbers of which {columns} is the sum, got {choices}")
        actions = np.empty((rows, len(choices)), np.int64)
    a.run()
    args = categorical_race_args(
        actions=<int64_t*>PyArray_DATA(actions), log_prob=PyArray_DATA(a.log_prob), logits=NULL, noise=NULL, columns=0,
        stride=columns, list=0, lists=len(choices))
    for number in choices:
        args.logits = <char*>PyArray_DATA(a.scores) + first * itemsize
        args.noise = <char*>PyArray_DATA(a.noise) + first * itemsize
        args.columns, args.list = number, list_
        run(fastopt_kernels.policy.categorical_race[a.kind], &args, rows, ROW_GRAIN)
        first += args.columns
        list_ += 1
    return actions, a.log_prob, a.values


def gaussian_act(observations, actor, critic, log_std, noise, activation, negative_slope):
    cdef _Acting a = acting(observations, actor, critic, noise, activation, negative_slope)
    cdef int64_t rows = PyArray_DIMS(a.scores)[0], columns = PyArray_DIMS(a.scores)[1]
    cdef ndarray std = c_ordered(checked_of(log_std, "log_std", a.x, "observations", (columns,)))
    cdef ndarray actions = PyArray_EMPTY(2, PyArray_DIMS(a.scores), PyArray_TYPE(a.x), 0)
    a.run()
    cdef gaussian_shift_args shift = gaussian_shift_args(
        actions=PyArray_DATA(actions), mean=PyArray_DATA(a.scores), log_std=PyArray_DATA(std),
        noise=PyArray_DATA(a.noise), columns=columns)
    run(fastopt_kernels.policy.gaussian_shift[a.kind], &shift, rows * columns, ROW_GRAIN)
    cdef gaussian_log_prob_args args = gaussian_log_prob_args(
        log_prob=PyArray_DATA(a.log_prob), mean=PyArray_DATA(a.scores), log_std=PyArray_DATA(std),
        actions=PyArray_DATA(actions), columns=columns, stride=0, constant=fastopt_gaussian_log_prob_constant(columns))
    run_rows(fastopt_kernels.policy.gaussian_log_prob[a.kind], &args, a.scores)
    return actions, a.log_prob, a.values
