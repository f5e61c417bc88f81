# Perceptrons: layers of (weight, bias), one after the other, forward and backward.

cpdef enum:
    MOST_LAYERS = 32

cdef enum:
    PRODUCT_GRAIN = 1 << 18  # products of numbers


cdef struct network:
    dense_args layers[MOST_LAYERS]
    Py_ssize_t count
    int64_t widest  # of all outputs


cdef struct layer_gradients:
    void* dweight
    void* dbias


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
    name: [f"{name}[{k // 2}][{k % 2}]" for k in range(2 * MOST_LAYERS)]
    for name in ("layers", "actor", "critic", "out", "actor_grads", "critic_grads")}


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


cdef ndarray output_of(object given, str name, ndarray like, str like_name, tuple wanted):
    """The same, when a kernel can write to it."""
    cdef ndarray y = checked_of(given, name, like, like_name, wanted)
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
            y = output_of(into[k], names[k], a, "x", wanted)
        outputs.append(y)
        net.layers[k].x, net.layers[k].y = before, PyArray_DATA(y)
        before = net.layers[k].y
    if out is not None:
        apart(outputs, names, [given, *arrays], ["x", *names_of_layers(net.count, "layers")])
    run_network(&net, element_type(a), PyArray_DIMS(a)[0])
    return outputs


cdef void run_network_backward(network* net, layer_gradients* into, const void* x, const void* dz, void* room, int kind,
                               int64_t rows) noexcept:
    """Fill in the gradients of all layers from that of the last one's outputs; what goes back through them goes to the two
    halves of `room` in turns."""
    cdef dense_backward_args back
    cdef dense_gradient_args gradient
    cdef Py_ssize_t k
    cdef int64_t half = rows * net.widest * (sizeof(float) if kind == 0 else sizeof(double))
    cdef const void* before
    for k in range(net.count - 1, -1, -1):
        before = x if k == 0 else net.layers[k - 1].y
        gradient = dense_gradient_args(
            dweight=into[k].dweight, dbias=into[k].dbias, dz=dz, x=before, rows=rows, inputs=net.layers[k].inputs,
            outputs=net.layers[k].outputs)
        run_products(fastopt_kernels.policy.dense_gradient[kind], &gradient, gradient.outputs, rows * gradient.inputs)
        if k > 0:
            back = dense_backward_args(
                dx=<char*>room + (k & 1) * half, dz=dz, weight=net.layers[k].weight, x=before, inputs=net.layers[k].inputs,
                outputs=net.layers[k].outputs, activation=net.layers[k - 1].activation,
                negative_slope=net.layers[k].negative_slope)
            run_products(fastopt_kernels.policy.dense_backward[kind], &back, rows, back.inputs * back.outputs)
            dz = back.dx


cdef list read_gradients(layer_gradients* into, network* net, object given, str name, ndarray like, str like_name):
    """Fill in where the gradients of the layers go; returned are their arrays."""
    cdef list pairs = one_for_each(given, name, "pairs", net.count), names = LAYER_NAMES[name], found = []
    cdef Py_ssize_t k
    for k in range(net.count):
        wanted = net.layers[k].outputs, net.layers[k].inputs
        weight, bias = pair_of(pairs[k], name, k)
        found.append(output_of(weight, names[2 * k], like, like_name, wanted))
        found.append(output_of(bias, names[2 * k + 1], like, like_name, wanted[:1]))
    point_to(into, found)
    return found


cdef int point_to(layer_gradients* into, list arrays) except -1:
    cdef Py_ssize_t k
    for k in range(len(arrays) // 2):
        into[k] = layer_gradients(
            dweight=PyArray_DATA(<ndarray>arrays[2 * k]), dbias=PyArray_DATA(<ndarray>arrays[2 * k + 1]))
    return 0


cdef ndarray room_for_two(int64_t rows, int64_t widest, ndarray like):
    cdef npy_intp size = 2 * rows * widest
    return PyArray_EMPTY(1, &size, PyArray_TYPE(like), 0)


def perceptron_backward(grad, x, outputs, layers, activation, negative_slope, out):
    cdef network net
    cdef layer_gradients into[MOST_LAYERS]
    cdef ndarray given = checked_observations(x, "x"), a = c_ordered(given), dz, y
    cdef list keep = [], written = []
    cdef list arrays = read_layers(&net, layers, "layers", a, activation, negative_slope, keep)
    cdef list names
    cdef Py_ssize_t k
    cdef int64_t rows = PyArray_DIMS(a)[0]
    not_empty(a, "x")
    dz = checked_of(grad, "grad", a, "x", (rows, net.layers[net.count - 1].outputs))
    names = ["x", "grad"] if out is None else [*names_of_layers(net.count, "layers"), "x", "grad"]
    arrays += (given, dz)
    dz = c_ordered(dz)
    outputs = one_for_each(outputs, "outputs", "arrays", net.count)
    for k in range(net.count - 1):
        names.append(f"outputs[{k}]")
        arrays.append(checked_of(outputs[k], names[len(names) - 1], a, "x", (rows, net.layers[k].outputs)))
        y = c_ordered(arrays[len(arrays) - 1])
        keep.append(y)
        net.layers[k].y = PyArray_DATA(y)
    if out is None:
        for k in range(net.count):
            wanted = net.layers[k].outputs, net.layers[k].inputs
            written += (np.empty(wanted, a.dtype), np.empty(wanted[0], a.dtype))
        point_to(into, written)
    else:
        written = read_gradients(into, &net, out, "out", a, "x")
        apart(written, names_of_layers(net.count, "out"), arrays, names)
    results = list(zip(written[::2], written[1::2]))
    cdef ndarray room = room_for_two(rows, net.widest, a)
    run_network_backward(&net, into, PyArray_DATA(a), PyArray_DATA(dz), PyArray_DATA(room), element_type(a), rows)
    return results
