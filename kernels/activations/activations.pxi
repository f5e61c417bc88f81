# Activations. An op on arrays that are not contiguous in one common order works on C-contiguous copies, and its result is
# copied to where it belongs.


cdef double checked_slope(object negative_slope) except? -1:
    cdef double slope
    if type(negative_slope) is float:
        slope = negative_slope
    else:
        slope = finite_number("negative_slope", negative_slope)
    if not isfinite(slope):
        finite_number("negative_slope", negative_slope)
    return slope


def leaky_relu(x, negative_slope, out):
    cdef ndarray xa = checked(x, "x")
    cdef double slope = checked_slope(negative_slope)
    cdef ndarray y = output_for(out, xa, "x")
    if not contiguous_order(xa) & contiguous_order(y):
        return copied_into(y, leaky_relu(c_copy(xa), negative_slope, None))
    cdef leaky_relu_args args = leaky_relu_args(
        y=PyArray_DATA(y), x=PyArray_DATA(xa), negative_slope=slope, nontemporal=around_cache(y, xa))
    run(fastopt_kernels.activations.leaky_relu[element_type(xa)], &args, PyArray_SIZE(xa), ELEMENTWISE_GRAIN)
    return y


def leaky_relu_backward(grad, x, negative_slope, out):
    cdef ndarray xa = checked(x, "x")
    cdef ndarray g = checked_like(grad, "grad", xa, "x")
    cdef double slope = checked_slope(negative_slope)
    cdef ndarray dx = output_for(out, g, "grad")
    if out is not None:
        distinct(dx, "out", xa, "x", same_allowed=True)
    if not contiguous_order(xa) & contiguous_order(g) & contiguous_order(dx):
        return copied_into(dx, leaky_relu_backward(c_copy(g), c_copy(xa), negative_slope, None))
    cdef leaky_relu_backward_args args = leaky_relu_backward_args(
        dx=PyArray_DATA(dx), grad=PyArray_DATA(g), x=PyArray_DATA(xa), negative_slope=slope,
        nontemporal=around_cache(dx, g) and around_cache(dx, xa))
    run(fastopt_kernels.activations.leaky_relu_backward[element_type(xa)], &args, PyArray_SIZE(xa), ELEMENTWISE_GRAIN)
    return dx


def count_inactive(ndarray x, int64_t rows, int64_t columns):
    """Per column of C-contiguous x, taken as (rows, columns): how many values are <= 0."""
    counts = np.zeros(columns, np.int64)
    cdef count_inactive_args args = count_inactive_args(
        counts=<int64_t*>PyArray_DATA(<ndarray>counts), x=PyArray_DATA(x), columns=columns)
    run(fastopt_kernels.activations.count_inactive[element_type(x)], &args, rows,
        max(1, ELEMENTWISE_GRAIN // max(1, columns)))
    return counts
