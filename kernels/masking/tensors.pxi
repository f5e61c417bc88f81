# The same ops on tensors of PyTorch, whose memory is seen as arrays: layouts, checks and bits are those of arrays.


cdef ndarray array_of_tensor(tensor, str name):
    """An array over the memory of a tensor, for as long as the tensor is held."""
    cdef dl_tensor x
    cdef list keep = []
    cdef npy_intp strides[MOST_DIMENSIONS]
    cdef int k
    if not reach(tensor, &x, keep) or not has_floats(&x):
        raise TypeError(f"{name}: expected a dense tensor of float32 or float64 in the processor's memory")
    if x.strides != NULL:
        for k in range(x.ndim):
            strides[k] = x.strides[k] * (x.bits // 8)
    return PyArray_New(ndarray, x.ndim, <npy_intp*>x.shape, NPY_FLOAT if x.bits == 32 else NPY_DOUBLE,
                       NULL if x.strides == NULL else strides, x.data if x.data != NULL else <void*>&_nowhere, 0,
                       NPY_ARRAY_CARRAY, None)


cdef double _nowhere = 0  # where the elements of an empty tensor are


cdef inline bint has_floats(const dl_tensor* x) noexcept:
    return (x.device_type == DL_CPU and x.code == DL_FLOAT and (x.bits == 32 or x.bits == 64)
            and (x.data != NULL or size_of(x) == 0))


cdef tuple _plain_types = ()    # of tensors whose memory is their own
cdef tuple _onlookers = ()      # functions of torch, each true where something wants to see an op before it is run
cdef object _forward_mode = None


def run_at_once(tuple plain_types, tuple onlookers, forward_mode):
    """Set by what it is decided whether a kernel may run at once. The last is torch's module for forward mode, of which a
    level is entered by Python alone."""
    global _plain_types, _onlookers, _forward_mode
    _plain_types, _onlookers, _forward_mode = plain_types, onlookers, forward_mode


def takes_tensor(x):
    """Whether a kernel may run at once on a tensor: float32 or float64 in the processor's memory, and nothing looks on."""
    cdef dl_tensor t
    if type(x) not in _plain_types:
        return False
    for looks_on in _onlookers:
        if looks_on():
            return False
    # The memory of a negated view holds the numbers with the other sign.
    return <int>_forward_mode._current_level < 0 and reach(x, &t, []) and has_floats(&t) and not x.is_neg()


cdef enum:
    ADDRESS_BITS = 62  # random_ draws 63, randint one number fewer: what both draw alike


def drawn_address(list idle, make):
    """An address from torch's default generator, drawn in place: half a microsecond, where a new tensor takes two.

    `idle` has tuples (random_ of an int64 tensor, an array over its memory) that no thread is using; `make` makes one.
    """
    cdef tuple kept
    try:
        kept = idle.pop()
    except IndexError:
        kept = make()
    kept[0]()
    cdef int64_t number = (<int64_t*>PyArray_DATA(<ndarray?>kept[1]))[0]
    idle.append(kept)
    return number & ((<int64_t>1 << ADDRESS_BITS) - 1)


def tensor_overlaps_itself(x):
    """Whether two elements of a tensor that kernels take may share memory."""
    return overlaps_itself(array_of_tensor(x, "input"))


def tensors_apart(x, bias):
    """Refuse a bias in the memory that is to be written."""
    if share_memory(array_of_tensor(x, "input"), array_of_tensor(bias, "bias")):
        raise ValueError("bias: expected memory apart from input, got tensors that overlap; pass bias.clone()")


def tensor_dropout(y, x, double p, uint64_t seed, uint32_t domain):
    """Forward and backward, of which y takes the result; it may be x."""
    cdef dl_tensor to, of
    cdef list keep = []
    if not (0 < p < 1 and reach(x, &of, keep) and has_floats(&of) and c_contiguous(&of)
            and reach(y, &to, keep) and same_layout(&of, &to)) or is_zero(p):
        dropout(array_of_tensor(x, "input"), "input", array_of_tensor(y, "output"), p, seed, 0, domain)
        return
    cdef int64_t size = size_of(&of)
    cdef dropout_args args = dropout_args(
        y=to.data, x=of.data, address=address_of(seed, 0, domain), threshold=0, scale=1,
        nontemporal=size * (of.bits // 8) >= FASTOPT_NONTEMPORAL_BYTES and to.data != of.data)
    fastopt_dropout_scalars(p, &args.threshold, &args.scale)
    run(fastopt_kernels.masking.dropout[of.bits == 64], &args, size, RANDOM_GRAIN)


def tensor_leaky_relu(y, x, double negative_slope):
    activation(fastopt_kernels.activations.leaky_relu, array_of_tensor(x, "input"), negative_slope, array_of_tensor(y, "output"))


def tensor_leaky_relu_backward(dx, grad, x, double negative_slope):
    """`x` may be the result of the forward call where the slope is at least 0: its signs are those of x."""
    activation_backward(fastopt_kernels.activations.leaky_relu_backward, array_of_tensor(grad, "grad"),
                        array_of_tensor(x, "input"), "input", negative_slope, array_of_tensor(dx, "output"))


def tensor_bias_leaky_relu_dropout(y, x, bias, double negative_slope, double p, uint64_t seed, uint32_t domain):
    cdef ndarray xa = array_of_tensor(x, "input"), b = array_of_tensor(bias, "bias")
    cdef ndarray ya = bias_leaky_relu_dropout_output(xa, b, negative_slope, array_of_tensor(y, "output"))
    bias_leaky_relu_dropout(xa, b, negative_slope, ya, p, seed, 0, domain)


def tensor_bias_leaky_relu_dropout_backward(dx, dbias, grad, y, double p, double negative_slope):
    cdef ndarray sums = array_of_tensor(dbias, "bias")
    _, values = bias_leaky_relu_dropout_backward(array_of_tensor(grad, "grad"), array_of_tensor(y, "output"), p, negative_slope,
                                                 array_of_tensor(dx, "output"))
    copied_into(sums, values)
