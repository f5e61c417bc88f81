# Activations. An op on arrays that are not contiguous in one common order works on C-contiguous copies, and its result is
# copied to where it belongs.


cdef double checked_number(object number, str name) except? -1:
    """A finite number: what finite_number returns, without its call for most."""
    cdef double value = number if type(number) is float else NAN
    return value if isfinite(value) else finite_number(name, number)


cdef inline ndarray activation(const fastopt_kernel* kernels, object x, double parameter, object out):
    cdef ndarray xa = checked(x, "x")
    cdef ndarray y = output_for(out, xa, "x"), work = y
    if not contiguous_order(xa) & contiguous_order(y):
        xa = work = c_copy(xa)
    cdef activation_args args = activation_args(
        y=PyArray_DATA(work), x=PyArray_DATA(xa), parameter=parameter, nontemporal=around_cache(work, xa))
    run(kernels[element_type(xa)], &args, PyArray_SIZE(xa), ELEMENTWISE_GRAIN)
    return y if work is y else copied_into(y, work)


cdef inline ndarray activation_backward(const fastopt_kernel* kernels, object grad, object x, str x_name,
                                        double parameter, object out):
    cdef ndarray xa = checked(x, x_name)
    cdef ndarray g = checked_like(grad, "grad", xa, x_name)
    cdef ndarray dx = output_for(out, g, "grad"), work = dx
    if out is not None:
        distinct(dx, "out", xa, x_name, same_allowed=True)
    if not contiguous_order(xa) & contiguous_order(g) & contiguous_order(dx):
        xa = c_copy(xa)
        g = work = c_copy(g)
    cdef activation_backward_args args = activation_backward_args(
        dx=PyArray_DATA(work), grad=PyArray_DATA(g), x=PyArray_DATA(xa), parameter=parameter,
        nontemporal=around_cache(work, g) and around_cache(work, xa))
    run(kernels[element_type(xa)], &args, PyArray_SIZE(xa), ELEMENTWISE_GRAIN)
    return dx if work is dx else copied_into(dx, work)


def leaky_relu(x, negative_slope, out):
    return activation(fastopt_kernels.activations.leaky_relu, x, checked_number(negative_slope, "negative_slope"), out)


def leaky_relu_backward(grad, x, negative_slope, out):
    return activation_backward(fastopt_kernels.activations.leaky_relu_backward, grad, x, "x",
                               checked_number(negative_slope, "negative_slope"), out)


def tanh(x, out):
    return activation(fastopt_kernels.activations.tanh, x, 0, out)


def tanh_backward(grad, y, out):
    return activation_backward(fastopt_kernels.activations.tanh_backward, grad, y, "y", 0, out)


cdef ndarray checked_layer(object x, str name):
    """x itself, when it is an array of rows, of which a scalar is none."""
    cdef ndarray a = checked(x, name)
    if PyArray_NDIM(a) == 0:
        raise ValueError(f"{name}: expected at least one dimension, the last of which is the layer's width, got shape ()")
    return a


cdef ndarray checked_bias(object bias, ndarray x):
    """bias itself, when it has one number for each column of x."""
    checked_layer(x, "x")
    cdef ndarray b = checked(bias, "bias")
    if PyArray_TYPE(b) != PyArray_TYPE(x):
        raise TypeError(f"bias: expected {x.dtype} like x, got {b.dtype}; bias.astype(np.{x.dtype}) converts it")
    if PyArray_NDIM(b) != 1 or PyArray_DIMS(b)[0] != PyArray_DIMS(x)[PyArray_NDIM(x) - 1]:
        raise ValueError(f"bias: expected shape {(PyArray_DIMS(x)[PyArray_NDIM(x) - 1],)}, one for each column of x, got {shape(b)}")
    return b


def bias_tanh(x, bias, out):
    cdef ndarray xa = checked(x, "x"), b = checked_bias(bias, xa)
    cdef ndarray y = output_for(out, xa, "x"), work = y
    distinct(y, "out", b, "bias")
    if PyArray_SIZE(xa) == 0:
        return y
    if not contiguous_order(xa) & contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS:
        xa = work = c_copy(xa)
    if not contiguous_order(b):
        b = c_copy(b)
    cdef bias_tanh_args args = bias_tanh_args(
        y=PyArray_DATA(work), x=PyArray_DATA(xa), bias=PyArray_DATA(b), columns=PyArray_DIMS(b)[0],
        nontemporal=around_cache(work, xa))
    run(fastopt_kernels.activations.bias_tanh[element_type(xa)], &args, PyArray_SIZE(xa), RANDOM_GRAIN)
    return y if work is y else copied_into(y, work)


def bias_tanh_backward(grad, y, out):
    cdef ndarray ya = checked_layer(y, "y"), g = checked_like(grad, "grad", ya, "y")
    cdef ndarray dx = output_for(out, g, "grad"), work = dx
    if out is not None:
        distinct(dx, "out", ya, "y", same_allowed=True)
    cdef int64_t columns = PyArray_DIMS(ya)[PyArray_NDIM(ya) - 1]
    cdef ndarray dbias = np.zeros(columns, dx.dtype)
    cdef tuple result = (dx, dbias)
    if PyArray_SIZE(ya) == 0:
        return result
    if not contiguous_order(ya) & contiguous_order(g) & contiguous_order(dx) & NPY_ARRAY_C_CONTIGUOUS:
        ya = c_copy(ya)
        g = work = c_copy(g)
    cdef int64_t rows = PyArray_SIZE(ya) // columns, blocks = row_blocks(rows)
    cdef ndarray block_sums = np.empty((blocks, columns))
    cdef bias_tanh_backward_args args = bias_tanh_backward_args(
        dx=PyArray_DATA(work), block_sums=<double*>PyArray_DATA(block_sums), grad=PyArray_DATA(g), y=PyArray_DATA(ya),
        rows=rows, columns=columns, nontemporal=around_cache(work, g) and around_cache(work, ya))
    run_layer_gradient(fastopt_kernels.activations.bias_tanh_backward[element_type(ya)], &args, rows, columns)
    add_row_blocks(dbias, args.block_sums, blocks)
    if work is not dx:
        copied_into(dx, work)
    return result


cdef inline void run_layer_gradient(fastopt_kernel kernel, const void* args, int64_t rows, int64_t columns) noexcept:
    """A kernel whose range is over blocks of rows times tiles of columns."""
    run(kernel, args, row_blocks(rows) * ((columns + FASTOPT_COLUMN_TILE - 1) // FASTOPT_COLUMN_TILE),
        max(1, ELEMENTWISE_GRAIN // (FASTOPT_ROW_BLOCK * min(columns, FASTOPT_COLUMN_TILE))))


def count_inactive(ndarray x, int64_t rows, int64_t columns):
    """Per column of C-contiguous x, taken as (rows, columns): how many values are <= 0."""
    counts = np.zeros(columns, np.int64)
    cdef count_inactive_args args = count_inactive_args(
        counts=<int64_t*>PyArray_DATA(<ndarray>counts), x=PyArray_DATA(x), columns=columns)
    run(fastopt_kernels.activations.count_inactive[element_type(x)], &args, rows,
        max(1, ELEMENTWISE_GRAIN // max(1, columns)))
    return counts
