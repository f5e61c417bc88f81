# Sums in float64, in the fixed order of kernels/core/reduce.hpp.


cdef double sum_of(ndarray x, fastopt_kernel kernel, double mean) except? -1:
    """The sum over a C-contiguous array by a kernel of block sums; `mean` is for deviations from it."""
    cdef double few[SUM_GRAIN]
    cdef double* sums = &few[0]
    cdef int64_t blocks = (PyArray_SIZE(x) + FASTOPT_SUM_BLOCK - 1) // FASTOPT_SUM_BLOCK
    cdef ndarray many
    if blocks > SUM_GRAIN:
        many = PyArray_EMPTY(1, <npy_intp*>&blocks, NPY_DOUBLE, 0)
        sums = <double*>PyArray_DATA(many)
    cdef sum_args args = sum_args(block_sums=sums, x=PyArray_DATA(x), size=PyArray_SIZE(x), mean=mean)
    run(kernel, &args, blocks, SUM_GRAIN)
    return fastopt_add_up(sums, blocks)


cdef double mean_of(ndarray x) except? -1:
    cdef double total = sum_of(x, fastopt_kernels.core.sum_values[element_type(x)], 0)
    return fastopt_mean(&total, 1, PyArray_SIZE(x))


def sum_squares(x, str name):
    """Sum of x**2."""
    cdef ndarray xa = c_ordered(checked(x, name))
    return sum_of(xa, fastopt_kernels.core.sum_squares[element_type(xa)], 0)


cdef void add_row_blocks(ndarray out, const double* block_sums, int64_t blocks) noexcept:
    """out = the sums of columns, from those of the blocks of rows."""
    cdef add_row_blocks_args args = add_row_blocks_args(
        out=PyArray_DATA(out), block_sums=block_sums, blocks=blocks, columns=PyArray_SIZE(out))
    run(fastopt_kernels.core.add_row_blocks[element_type(out)], &args, args.columns, max(64, ELEMENTWISE_GRAIN // blocks))
