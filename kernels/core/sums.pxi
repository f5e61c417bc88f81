# Sums in float64, in the fixed order of kernels/core/reduce.hpp.


cdef inline int64_t sum_blocks(ndarray x) noexcept:
    return (PyArray_SIZE(x) + FASTOPT_SUM_BLOCK - 1) // FASTOPT_SUM_BLOCK


cdef ndarray room_for_sums(ndarray x):
    """What sum_with needs for x; None where that is little."""
    cdef npy_intp blocks = sum_blocks(x)
    return PyArray_EMPTY(1, &blocks, NPY_DOUBLE, 0) if blocks > SUM_GRAIN else None


cdef double sum_with(ndarray x, fastopt_kernel kernel, double mean, ndarray room) noexcept:
    """The sum over a C-contiguous array by a kernel of block sums; `mean` is for deviations from it. Cannot fail."""
    cdef double few[SUM_GRAIN]
    cdef double* sums = &few[0] if room is None else <double*>PyArray_DATA(room)
    cdef int64_t blocks = sum_blocks(x)
    cdef sum_args args = sum_args(block_sums=sums, x=PyArray_DATA(x), size=PyArray_SIZE(x), mean=mean)
    run(kernel, &args, blocks, SUM_GRAIN)
    return fastopt_add_up(sums, blocks)


cdef double sum_of(ndarray x, fastopt_kernel kernel, double mean) except? -1:
    return sum_with(x, kernel, mean, room_for_sums(x))


cdef double mean_with(ndarray x, ndarray room) noexcept:
    cdef double total = sum_with(x, fastopt_kernels.core.sum_values[element_type(x)], 0, room)
    return fastopt_mean(&total, 1, PyArray_SIZE(x))


cdef double mean_of(ndarray x) except? -1:
    return mean_with(x, room_for_sums(x))


def sum_squares(x, str name):
    """Sum of x**2."""
    cdef ndarray xa = c_ordered(checked(x, name))
    return sum_of(xa, fastopt_kernels.core.sum_squares[element_type(xa)], 0)


cdef void add_row_blocks(ndarray out, const double* block_sums, int64_t blocks) noexcept:
    """out = the sums of columns, from those of the blocks of rows."""
    cdef add_row_blocks_args args = add_row_blocks_args(
        out=PyArray_DATA(out), block_sums=block_sums, blocks=blocks, columns=PyArray_SIZE(out))
    run_work(fastopt_kernels.core.add_row_blocks[element_type(out)], &args, args.columns,
             max(64, ELEMENTWISE_GRAIN // blocks), <double>blocks * <double>args.columns / ELEMENTWISE_GRAIN)
