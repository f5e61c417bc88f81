# Leaky ReLU, dropout, random numbers and sums. An op on arrays that are not contiguous in one common order works on
# C-contiguous copies, and its result is copied to where it belongs.

# The work worth a second thread, in elements (fastopt_job.grain): about 10 microseconds of each kernel in cache.
cdef enum:
    ELEMENTWISE_GRAIN = 1 << 16
    RANDOM_GRAIN = 1 << 14
    OPTIMIZER_GRAIN = 1 << 14
    SUM_GRAIN = 16  # blocks of FASTOPT_SUM_BLOCK

# From this size on an output that is not also an input is written around the cache (kernels/stream.hpp).
cdef enum:
    NONTEMPORAL_BYTES = 1 << 24


cdef inline void run_jobs(fastopt_job* jobs, Py_ssize_t count, int64_t elements) noexcept:
    if elements < 2048:  # over in a microsecond, before another thread could have taken the GIL
        fastopt_run(jobs, count)
    else:
        with nogil:
            fastopt_run(jobs, count)


cdef inline void run(fastopt_kernel kernel, const void* args, int64_t size, int64_t grain) noexcept:
    cdef fastopt_job job
    job.kernel = kernel
    job.args = args
    job.size = size
    job.grain = grain
    run_jobs(&job, 1, size * (ELEMENTWISE_GRAIN // grain))


cdef inline int element_type(ndarray a) noexcept:
    return 0 if PyArray_TYPE(a) == NPY_FLOAT else 1


cdef inline bint around_cache(ndarray y, ndarray x) noexcept:
    return PyArray_NBYTES(y) >= NONTEMPORAL_BYTES and PyArray_DATA(y) != PyArray_DATA(x)


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
    cdef leaky_relu_args args
    cdef ndarray xa = checked(x, "x")
    args.negative_slope = checked_slope(negative_slope)
    cdef ndarray y = output_for(out, xa, "x")
    if not contiguous_order(xa) & contiguous_order(y):
        return copied_into(y, leaky_relu(c_copy(xa), negative_slope, None))
    args.y = PyArray_DATA(y)
    args.x = PyArray_DATA(xa)
    args.nontemporal = around_cache(y, xa)
    run(fastopt_kernels.leaky_relu[element_type(xa)], &args, PyArray_SIZE(xa), ELEMENTWISE_GRAIN)
    return y


def leaky_relu_backward(grad, x, negative_slope, out):
    cdef leaky_relu_backward_args args
    cdef ndarray xa = checked(x, "x")
    cdef ndarray g = checked_like(grad, "grad", xa, "x")
    args.negative_slope = checked_slope(negative_slope)
    cdef ndarray dx = output_for(out, g, "grad")
    if out is not None:
        distinct(dx, "out", xa, "x", same_allowed=True)
    if not contiguous_order(xa) & contiguous_order(g) & contiguous_order(dx):
        return copied_into(dx, leaky_relu_backward(c_copy(g), c_copy(xa), negative_slope, None))
    args.dx = PyArray_DATA(dx)
    args.grad = PyArray_DATA(g)
    args.x = PyArray_DATA(xa)
    args.nontemporal = around_cache(dx, g) and around_cache(dx, xa)
    run(fastopt_kernels.leaky_relu_backward[element_type(xa)], &args, PyArray_SIZE(xa), ELEMENTWISE_GRAIN)
    return dx


def count_inactive(ndarray x, int64_t rows, int64_t columns):
    """Per column of C-contiguous x, taken as (rows, columns): how many values are <= 0."""
    cdef count_inactive_args args
    counts = np.zeros(columns, np.int64)
    args.counts = <int64_t*>PyArray_DATA(<ndarray>counts)
    args.x = PyArray_DATA(x)
    args.columns = columns
    run(fastopt_kernels.count_inactive[element_type(x)], &args, rows, max(1, ELEMENTWISE_GRAIN // max(1, columns)))
    return counts


cdef inline void set_address(random_address* address, uint64_t seed, uint64_t stream, uint32_t domain) noexcept:
    address.seed = seed
    address.stream = stream
    address.domain = domain


def fill_random_raw(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain, uint64_t offset):
    """Fill C-contiguous uint32 `out` with words offset, offset + 1, ... of a stream."""
    cdef random_raw_args args
    set_address(&args.address, seed, stream, domain)
    args.out = <uint32_t*>PyArray_DATA(out)
    args.offset = offset
    run(fastopt_kernels.random_raw[0], &args, PyArray_SIZE(out), RANDOM_GRAIN)


def fill_random_uniform(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain, uint64_t offset):
    """Fill C-contiguous float `out` with uniforms offset, offset + 1, ... of a stream."""
    cdef random_uniform_args args
    set_address(&args.address, seed, stream, domain)
    args.out = PyArray_DATA(out)
    args.offset = offset
    run(fastopt_kernels.random_uniform[element_type(out)], &args, PyArray_SIZE(out), RANDOM_GRAIN)


def fill_random_normal(ndarray out, uint64_t seed, uint64_t stream, uint32_t domain, uint64_t offset):
    """Fill C-contiguous float `out` with standard normal numbers offset, offset + 1, ... of a stream."""
    cdef random_normal_args args
    set_address(&args.address, seed, stream, domain)
    args.out = PyArray_DATA(out)
    args.offset = offset
    run(fastopt_kernels.random_normal[element_type(out)], &args, PyArray_SIZE(out), RANDOM_GRAIN)


def dropout(x, str name, out, double p, uint64_t seed, uint64_t stream, uint32_t domain):
    """Forward and backward are one function: `name` is what errors call x; 0 <= p <= 1 has been checked."""
    cdef dropout_args args
    cdef ndarray xa = checked(x, name)
    cdef ndarray y = output_for(out, xa, name)
    if p == 0:
        return copied_into(y, xa)
    if p == 1:
        y.fill(0)
        return y
    # The address of an element is its C-order index, so both arrays must be in that order.
    if not contiguous_order(xa) & contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS:
        return copied_into(y, dropout(c_copy(xa), name, None, p, seed, stream, domain))
    set_address(&args.address, seed, stream, domain)
    fastopt_dropout_scalars(p, &args.threshold, &args.scale)
    args.y = PyArray_DATA(y)
    args.x = PyArray_DATA(xa)
    args.nontemporal = around_cache(y, xa)
    run(fastopt_kernels.dropout[element_type(xa)], &args, PyArray_SIZE(xa), RANDOM_GRAIN)
    return y


cdef double checked_fused(ndarray x, object bias, object negative_slope) except? -1:
    """Check what the fused layer asks of x, bias and slope beyond being arrays and a number; return the slope."""
    if PyArray_NDIM(x) == 0:
        raise ValueError("x: expected at least one dimension, the last of which is the layer's width, got shape ()")
    cdef ndarray b = checked(bias, "bias")
    if PyArray_TYPE(b) != PyArray_TYPE(x):
        raise TypeError(f"bias: expected {x.dtype} like x, got {b.dtype}; bias.astype(np.{x.dtype}) converts it")
    if PyArray_NDIM(b) != 1 or PyArray_DIMS(b)[0] != PyArray_DIMS(x)[PyArray_NDIM(x) - 1]:
        raise ValueError(f"bias: expected shape {shape(x)[-1:]}, one for each column of x, got {shape(b)}")
    return checked_positive_slope(negative_slope)


cdef double checked_positive_slope(object negative_slope) except? -1:
    cdef double slope = checked_slope(negative_slope)
    if slope < 0:
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
    cdef bias_leaky_relu_dropout_args args
    cdef ndarray xa = <ndarray>x, b = <ndarray>bias
    args.negative_slope = checked_fused(xa, b, negative_slope)
    if p == 1 or PyArray_SIZE(xa) == 0:
        y.fill(0)
        return y
    if not contiguous_order(xa) & contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS:
        values = c_copy(xa)
        return copied_into(y, bias_leaky_relu_dropout(values, bias, negative_slope, values, p, seed, stream, domain))
    if not contiguous_order(b):
        b = c_copy(b)
    set_address(&args.address, seed, stream, domain)
    args.threshold = 0
    args.scale = 1
    if p > 0:
        fastopt_dropout_scalars(p, &args.threshold, &args.scale)
    args.y = PyArray_DATA(y)
    args.x = PyArray_DATA(xa)
    args.bias = PyArray_DATA(b)
    args.columns = PyArray_DIMS(b)[0]
    args.nontemporal = around_cache(y, xa)
    run(fastopt_kernels.bias_leaky_relu_dropout[element_type(xa)], &args, PyArray_SIZE(xa), RANDOM_GRAIN)
    return y


def bias_leaky_relu_dropout_backward(grad, y, double p, negative_slope, out):
    """0 <= p <= 1 has been checked. Returns dx and dbias."""
    cdef bias_leaky_relu_dropout_backward_args args
    cdef add_row_blocks_args total
    cdef uint32_t threshold
    cdef ndarray ya = checked(y, "y")
    cdef ndarray g = checked_like(grad, "grad", ya, "y")
    if PyArray_NDIM(ya) == 0:
        raise ValueError("y: expected at least one dimension, the last of which is the layer's width, got shape ()")
    args.negative_slope = checked_positive_slope(negative_slope)
    cdef ndarray dx = output_for(out, g, "grad")
    if out is not None:
        distinct(dx, "out", ya, "y", same_allowed=True)
    args.columns = PyArray_DIMS(ya)[PyArray_NDIM(ya) - 1]
    if p == 1 or PyArray_SIZE(ya) == 0:
        dx.fill(0)
        return dx, np.zeros(args.columns, dx.dtype)
    if not contiguous_order(ya) & contiguous_order(g) & contiguous_order(dx) & NPY_ARRAY_C_CONTIGUOUS:
        values, dbias = bias_leaky_relu_dropout_backward(c_copy(g), c_copy(ya), p, negative_slope, None)
        return copied_into(dx, values), dbias
    args.scale = 1
    if p > 0:
        fastopt_dropout_scalars(p, &threshold, &args.scale)
    args.rows = PyArray_SIZE(ya) // args.columns
    cdef int64_t blocks = (args.rows + FASTOPT_ROW_BLOCK - 1) // FASTOPT_ROW_BLOCK
    cdef int64_t tiles = (args.columns + FASTOPT_COLUMN_TILE - 1) // FASTOPT_COLUMN_TILE
    cdef ndarray block_sums = np.empty((blocks, args.columns))
    args.dx = PyArray_DATA(dx)
    args.block_sums = <double*>PyArray_DATA(block_sums)
    args.grad = PyArray_DATA(g)
    args.y = PyArray_DATA(ya)
    args.nontemporal = around_cache(dx, g) and around_cache(dx, ya)
    run(fastopt_kernels.bias_leaky_relu_dropout_backward[element_type(ya)], &args, blocks * tiles,
        max(1, ELEMENTWISE_GRAIN // (FASTOPT_ROW_BLOCK * min(args.columns, FASTOPT_COLUMN_TILE))))
    dbias = np.empty(args.columns, dx.dtype)
    total.out = PyArray_DATA(<ndarray>dbias)
    total.block_sums = args.block_sums
    total.blocks = blocks
    total.columns = args.columns
    run(fastopt_kernels.add_row_blocks[element_type(ya)], &total, args.columns, max(64, ELEMENTWISE_GRAIN // blocks))
    return dx, dbias


def sum_squares(x, str name):
    """Sum of x**2 in float64, in the fixed order of kernels/reduce.hpp."""
    cdef sum_squares_args args
    cdef ndarray xa = checked(x, name)
    cdef int64_t blocks
    if not contiguous_order(xa) & NPY_ARRAY_C_CONTIGUOUS:
        xa = c_copy(xa)
    blocks = (PyArray_SIZE(xa) + FASTOPT_SUM_BLOCK - 1) // FASTOPT_SUM_BLOCK
    cdef ndarray sums = np.empty(blocks)
    args.block_sums = <double*>PyArray_DATA(sums)
    args.x = PyArray_DATA(xa)
    args.size = PyArray_SIZE(xa)
    run(fastopt_kernels.sum_squares[element_type(xa)], &args, blocks, SUM_GRAIN)
    return fastopt_add_up(args.block_sums, blocks)


cdef ndarray as_sums(object sums):
    return np.array(sums, np.float64)


def l2_penalty(sums, double weight_decay):
    """weight_decay / 2 times the sum of the arrays' sums of squares."""
    cdef ndarray a = as_sums(sums)
    return fastopt_penalty(weight_decay, <const double*>PyArray_DATA(a), PyArray_SIZE(a))


def norm(sums):
    """The root of the sum of the arrays' sums of squares."""
    cdef ndarray a = as_sums(sums)
    return fastopt_norm(1, <const double*>PyArray_DATA(a), PyArray_SIZE(a))


def clip_factor(double norm, double max_norm):
    return fastopt_clip(norm, max_norm)


# The (inputs, outputs) that kernels/stream.hpp has.
cdef object _streams = {(1, 0), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 3), (4, 4), (5, 4), (5, 5), (6, 5)}


def stream(list outs, list ins, bint nontemporal, int64_t grain=ELEMENTWISE_GRAIN):
    """Move the bytes of an op without its arithmetic: outs[k] takes ins[k], the other inputs are read. For benchmarks."""
    cdef stream_args args
    cdef int k
    if (len(ins), len(outs)) not in _streams:
        raise ValueError(f"ins, outs: expected as many as one of {sorted(_streams)}, got {(len(ins), len(outs))}")
    cdef ndarray first = checked(ins[0], "ins[0]")
    for k in range(len(ins)):
        args.in_[k] = PyArray_DATA(checked_like(ins[k], f"ins[{k}]", first, "ins[0]"))
    for k in range(len(outs)):
        args.out[k] = PyArray_DATA(checked_like(outs[k], f"outs[{k}]", first, "ins[0]"))
        writable(outs[k], f"outs[{k}]")
    if not all((<ndarray>a).flags.carray for a in outs) or not all((<ndarray>a).flags.c_contiguous for a in ins):
        raise ValueError("ins, outs: expected C-contiguous arrays")
    args.inputs = len(ins)
    args.outputs = len(outs)
    args.nontemporal = nontemporal
    run(fastopt_kernels.stream[element_type(first)], &args, PyArray_SIZE(first), grain)
