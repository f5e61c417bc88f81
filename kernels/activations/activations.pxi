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


def count_inactive(ndarray x, int64_t rows, int64_t columns):
    """Per column of C-contiguous x, taken as (rows, columns): how many values are <= 0."""
    counts = np.zeros(columns, np.int64)
    cdef count_inactive_args args = count_inactive_args(
        counts=<int64_t*>PyArray_DATA(<ndarray>counts), x=PyArray_DATA(x), columns=columns)
    run(fastopt_kernels.activations.count_inactive[element_type(x)], &args, rows,
        max(1, ELEMENTWISE_GRAIN // max(1, columns)))
    return counts
