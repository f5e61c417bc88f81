# Dropout and the fused layer. The address of an element is its C-order index, so arrays must be in that order: others are
# worked on as copies.


cdef inline bint is_zero(double p) noexcept:
    """Where a subnormal number counts as zero to the processor too, it is none here."""
    return (<uint64_t*>&p)[0] << 1 == 0


def dropout(x, str name, out, double p, uint64_t seed, uint64_t stream, uint32_t domain):
    """Forward and backward are one function: `name` is what errors call x; 0 <= p <= 1 has been checked."""
    cdef ndarray xa = checked(x, name)
    cdef ndarray y = output_for(out, xa, name)
    if is_zero(p):
        return copied_into(y, xa)
    if p == 1:
        set_to_zero(y)
        return y
    if not contiguous_order(xa) & contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS:
        return copied_into(y, dropout(c_copy(xa), name, None, p, seed, stream, domain))
    cdef dropout_args args = dropout_args(
        y=PyArray_DATA(y), x=PyArray_DATA(xa), address=address_of(seed, stream, domain), threshold=0, scale=1,
        nontemporal=around_cache(y, xa))
    fastopt_dropout_scalars(p, &args.threshold, &args.scale)
    run(fastopt_kernels.masking.dropout[element_type(xa)], &args, PyArray_SIZE(xa), RANDOM_GRAIN)
    return y


cdef double checked_fused(ndarray x, object bias, object negative_slope) except? -1:
    """Check what the fused layer asks of x, bias and slope beyond being arrays and a number; return the slope."""
    checked_bias(bias, x)
    return checked_positive_slope(negative_slope)


cdef double checked_positive_slope(object negative_slope) except? -1:
    cdef double slope = checked_number(negative_slope, "negative_slope")
    if signbit(slope):
        finite_number("negative_slope", slope, 0)
    return slope


def bias_leaky_relu_dropout_output(x, bias, negative_slope, out):
    """`out` or a new array for y, when all the arguments are right."""
    checked_fused(checked(x, "x"), bias, negative_slope)
    cdef ndarray y = output_for(out, x, "x")
    distinct(y, "out", bias, "bias")
    return y


def bias_leaky_relu_dropout(x, bias, negative_slope, ndarray y, double p, uint64_t seed, uint64_t stream, uint32_t domain):
    """`y` comes from the function above; 0 <= p <= 1 has been checked."""
    cdef ndarray xa = <ndarray>x, b = <ndarray>bias
    cdef double slope = checked_fused(xa, b, negative_slope)
    if p == 1 or PyArray_SIZE(xa) == 0:
        set_to_zero(y)
        return y
    if not contiguous_order(xa) & contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS:
        values = c_copy(xa)
        return copied_into(y, bias_leaky_relu_dropout(values, bias, negative_slope, values, p, seed, stream, domain))
    if not contiguous_order(b):
        b = c_copy(b)
    cdef bias_leaky_relu_dropout_args args = bias_leaky_relu_dropout_args(
        y=PyArray_DATA(y), x=PyArray_DATA(xa), bias=PyArray_DATA(b), columns=PyArray_DIMS(b)[0],
        address=address_of(seed, stream, domain), threshold=0, scale=1, negative_slope=slope,
        nontemporal=around_cache(y, xa))
    if not is_zero(p):
        fastopt_dropout_scalars(p, &args.threshold, &args.scale)
    run(fastopt_kernels.masking.bias_leaky_relu_dropout[element_type(xa)], &args, PyArray_SIZE(xa), RANDOM_GRAIN)
    return y


def bias_leaky_relu_dropout_backward(grad, y, double p, negative_slope, out):
    """0 <= p <= 1 has been checked. Returns dx and dbias."""
    cdef uint32_t threshold
    cdef ndarray ya = checked_layer(y, "y")
    cdef ndarray g = checked_like(grad, "grad", ya, "y")
    cdef double slope = checked_positive_slope(negative_slope)
    cdef ndarray dx = output_for(out, g, "grad")
    if out is not None:
        distinct(dx, "out", ya, "y", same_allowed=True)
    cdef int64_t columns = PyArray_DIMS(ya)[PyArray_NDIM(ya) - 1]
    cdef tuple result
    if p == 1 or PyArray_SIZE(ya) == 0:
        result = (dx, np.zeros(columns, dx.dtype))
        set_to_zero(dx)
        return result
    if not contiguous_order(ya) & contiguous_order(g) & contiguous_order(dx) & NPY_ARRAY_C_CONTIGUOUS:
        values, dbias = bias_leaky_relu_dropout_backward(c_copy(g), c_copy(ya), p, negative_slope, None)
        result = (dx, dbias)
        copied_into(dx, values)
        return result
    cdef int64_t rows = PyArray_SIZE(ya) // columns, blocks = row_blocks(rows)
    cdef ndarray block_sums = np.empty((blocks, columns)), sums = np.empty(columns, dx.dtype)
    result = (dx, sums)
    cdef bias_leaky_relu_dropout_backward_args args = bias_leaky_relu_dropout_backward_args(
        dx=PyArray_DATA(dx), block_sums=<double*>PyArray_DATA(block_sums), grad=PyArray_DATA(g), y=PyArray_DATA(ya),
        rows=rows, columns=columns, scale=1, negative_slope=slope,
        nontemporal=around_cache(dx, g) and around_cache(dx, ya))
    if not is_zero(p):
        fastopt_dropout_scalars(p, &threshold, &args.scale)
    run_layer_gradient(fastopt_kernels.masking.bias_leaky_relu_dropout_backward[element_type(ya)], &args, rows, columns)
    add_row_blocks(sums, args.block_sums, blocks)
    return result
