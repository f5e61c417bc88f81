# What the ops on rows of a batch share. Arrays that are not C-contiguous are worked on as copies.

cdef enum:
    ROW_GRAIN = 1 << 14  # elements


cdef inline int64_t columns_of(ndarray a) noexcept:
    return PyArray_DIMS(a)[PyArray_NDIM(a) - 1]


cdef inline int64_t rows_of(ndarray a) noexcept:
    return PyArray_SIZE(a) // columns_of(a)


cdef inline void run_rows(fastopt_kernel kernel, const void* args, ndarray x) noexcept:
    cdef int64_t rows = rows_of(x), columns = columns_of(x), least = 64
    # So few rows, each so much work, are worked on one by one: see FASTOPT_FEW_ROWS.
    if columns >= ROW_GRAIN // FASTOPT_FEW_ROWS and rows <= FASTOPT_FEW_ROWS * fastopt_get_num_threads():
        least = 1
    run_work(kernel, args, rows, max(least, ROW_GRAIN // columns), <double>PyArray_SIZE(x) / ROW_GRAIN)


cdef inline void run_row_blocks(fastopt_kernel kernel, const void* args, int64_t rows, int64_t columns) noexcept:
    """The same for a kernel whose range is over blocks of FASTOPT_ROW_BLOCK rows."""
    run_work(kernel, args, row_blocks(rows), max(1, ROW_GRAIN // (FASTOPT_ROW_BLOCK * columns)),
             <double>rows * <double>columns / ROW_GRAIN)


cdef ndarray c_target(ndarray y):
    """y itself where a kernel can write to it, else an array whose values are to be copied there."""
    return y if contiguous_order(y) & NPY_ARRAY_C_CONTIGUOUS else np.empty(shape(y), y.dtype)


cdef ndarray checked_rows(object x, str name):
    cdef ndarray a = checked(x, name)
    if PyArray_NDIM(a) == 0 or columns_of(a) == 0:
        raise ValueError(f"{name}: expected shape (..., actions) with at least one action, got {shape(a)}")
    return a


cdef int not_empty(ndarray a, str name) except -1:
    if PyArray_SIZE(a) == 0:
        raise ValueError(f"{name}: expected a batch of at least one, got shape {shape(a)}")
    return 0


cdef ndarray checked_batch(object x, str name, ndarray like, str like_name):
    """x itself, when it has one value for each row of `like`."""
    cdef ndarray a = checked(x, name)
    if PyArray_TYPE(a) != PyArray_TYPE(like):
        raise TypeError(f"{name}: expected {like.dtype} like {like_name}, got {a.dtype}; "
                        f"{name}.astype(np.{like.dtype}) converts it")
    if shape(a) != batch_shape(like):
        raise ValueError(f"{name}: expected shape {batch_shape(like)}, one for each row of {like_name}, got {shape(a)}")
    return a


cdef ndarray one_a_row(ndarray x):
    return PyArray_EMPTY(PyArray_NDIM(x) - 1, PyArray_DIMS(x), PyArray_TYPE(x), 0)


cdef object per_sample_or_mean(ndarray values, bint per_sample):
    return values if per_sample else mean_of(values)


cdef ndarray checked_valid(object valid, ndarray batch):
    """The mask of what counts, which has the shape of the advantages, or None."""
    return None if valid is None else checked_flags(valid, "valid", batch, "advantages")


cdef const uint8_t* flags_of(ndarray flags) noexcept:
    return NULL if flags is None else <const uint8_t*>PyArray_DATA(flags)


cdef int64_t some_valid(int64_t count) except -1:
    if count == 0:
        raise ValueError("valid: expected at least one that is True, got none")
    return count


cdef ndarray output_named(object out, str name, ndarray like, str like_name):
    if out is None:
        return PyArray_NewLikeArray(like, NPY_KEEPORDER, NULL, 0)
    cdef ndarray y = checked_like(out, name, like, like_name)
    writable(y, name)
    return y
