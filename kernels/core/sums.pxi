# Sums in float64, in the fixed order of kernels/core/reduce.hpp.


cdef inline int64_t sum_blocks(ndarray x) noexcept:
    return (PyArray_SIZE(x) + FASTOPT_SUM_BLOCK - 1) // FASTOPT_SUM_BLOCK


cdef ndarray room_for_sums(ndarray x):
    """What sum_about needs for x; None where that is little."""
    cdef npy_intp blocks = sum_blocks(x)
    return PyArray_EMPTY(1, &blocks, NPY_DOUBLE, 0) if blocks > SUM_GRAIN else None


cdef double sum_about(ndarray x, fastopt_kernel kernel, double mean, ndarray room) noexcept:
    """The sum over a C-contiguous array by a kernel of block sums; `mean` is for deviations from it. Cannot fail."""
    cdef double few[SUM_GRAIN]
    cdef double* sums = &few[0] if room is None else <double*>PyArray_DATA(room)
    cdef int64_t blocks = sum_blocks(x)
    cdef sum_args args = sum_args(block_sums=sums, x=PyArray_DATA(x), size=PyArray_SIZE(x), mean=mean)
    run(kernel, &args, blocks, SUM_GRAIN)
    return fastopt_add_up(sums, blocks)


cdef double mean_with(ndarray x, ndarray room, int64_t count) noexcept:
    """The mean over `count` elements: what others there are is 0."""
    cdef double total = sum_about(x, fastopt_kernels.core.sum_values[element_type(x)], 0, room)
    return fastopt_mean(&total, 1, count)


cdef double mean_of(ndarray x) except? -1:
    return mean_with(x, room_for_sums(x), PyArray_SIZE(x))


cdef inline fastopt_kernel squares_kernel(ndarray x) noexcept:
    return fastopt_kernels.core.sum_squares_bfloat16[0] if are_codes(x) else fastopt_kernels.core.sum_squares[element_type(x)]


cdef double squares_of(list arrays, double* sums) except -1:
    """sums[k] = the sum of (x * scale)**2 over arrays[k], which are C-contiguous; returned is the scale, 1 but at the ends of
    the range: see fastopt_square_scale."""
    cdef ndarray x
    cdef Py_ssize_t k, count = len(arrays)
    for k in range(count):
        x = <ndarray>arrays[k]
        sums[k] = sum_about(x, squares_kernel(x), 0, room_for_sums(x))
    return scale_of(arrays, count, sums, count)


cdef double scale_of(list arrays, Py_ssize_t count, double* sums, Py_ssize_t sums_count) except -1:
    """The scale for the first `count` arrays, of which some may be None; sums without a scale that have lost what matters
    are replaced."""
    cdef Py_ssize_t k
    cdef list given = []
    if not fastopt_lost_squares(fastopt_add_up(sums, sums_count)):
        return 1
    for k in range(count):
        if arrays[k] is not None:
            given.append(c_ordered(widened(<ndarray>arrays[k])))
    return scaled_squares(given, sums)


cdef double scaled_squares(list arrays, double* sums) noexcept:
    """The sums of scaled squares of C-contiguous arrays; returned is the scale."""
    cdef double largest = largest_of(arrays), scale = fastopt_square_scale(largest)
    cdef Py_ssize_t k
    cdef int element
    cdef const void* data
    cdef int64_t size
    for k in range(len(arrays) if scale != 1 else 0):
        data, size = PyArray_DATA(<ndarray>arrays[k]), PyArray_SIZE(<ndarray>arrays[k])
        element = element_type(<ndarray>arrays[k])
        with nogil:
            sums[k] = fastopt_scaled_squares(data, size, element, scale)
    return scale


cdef double largest_of(list arrays) noexcept:
    """The largest magnitude in C-contiguous arrays."""
    cdef double largest = 0
    cdef int element
    cdef const void* data
    cdef int64_t size
    for array in arrays:
        data, size, element = PyArray_DATA(<ndarray>array), PyArray_SIZE(<ndarray>array), element_type(<ndarray>array)
        with nogil:
            largest = fastopt_largest_magnitude(data, size, element, largest)
    return largest


cdef inline int64_t row_blocks(int64_t rows) noexcept:
    return (rows + FASTOPT_ROW_BLOCK - 1) // FASTOPT_ROW_BLOCK


cdef void add_row_blocks(ndarray out, const double* block_sums, int64_t blocks) noexcept:
    """out = the sums of columns, from those of the blocks of rows."""
    cdef add_row_blocks_args args = add_row_blocks_args(
        out=PyArray_DATA(out), block_sums=block_sums, blocks=blocks, columns=PyArray_SIZE(out))
    run_work(fastopt_kernels.core.add_row_blocks[element_type(out)], &args, args.columns,
             max(64, ELEMENTWISE_GRAIN // blocks), <double>blocks * <double>args.columns / ELEMENTWISE_GRAIN)
