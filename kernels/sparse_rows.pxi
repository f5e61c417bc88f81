# Gradients that have only some rows of a 2-D parameter.

cdef object _SparseRows = SparseRows


cdef tuple coalesced(object sparse, str name, ndarray like, str like_name):
    """(row numbers, ascending and distinct; their gradients, C-contiguous): repeated rows are added in their order.

    `like` is the parameter, or None when there is none to compare with.
    """
    cdef sum_rows_args args
    cdef ndarray values = checked(sparse.values, f"{name}.values")
    indices = sparse.indices
    if not PyArray_CheckExact(indices) and type(indices) is not _memmap or indices.dtype.kind not in "iu" or indices.ndim != 1:
        got = f"{indices.dtype} of shape {indices.shape}" if PyArray_CheckExact(indices) else type(indices).__name__
        raise TypeError(f"{name}.indices: expected a 1-D array of integers, got {got}")
    count = len(indices)
    if like is not None:
        if PyArray_NDIM(like) != 2:
            raise ValueError(f"{name}: expected a 2-D parameter for SparseRows, got {like_name} of shape {shape(like)}")
        if PyArray_TYPE(values) != PyArray_TYPE(like):
            raise TypeError(f"{name}.values: expected {like.dtype} like {like_name}, got {values.dtype}; "
                            f"{name}.values.astype(np.{like.dtype}) converts it")
        if count and not (indices.min() >= 0 and indices.max() < PyArray_DIMS(like)[0]):
            wrong = indices[(indices < 0) | (indices >= PyArray_DIMS(like)[0])][0]
            raise ValueError(f"{name}.indices: expected row numbers from 0 to {PyArray_DIMS(like)[0] - 1} of {like_name}, "
                             f"got {wrong}")
    wanted = (count, PyArray_DIMS(like)[1]) if like is not None else (count, *shape(values)[1:2])
    if shape(values) != wanted or len(wanted) != 2:
        raise ValueError(f"{name}.values: expected shape {wanted}, a row for each index, got {shape(values)}")
    if not contiguous_order(values) & NPY_ARRAY_C_CONTIGUOUS:
        values = c_copy(values)
    rows = np.array(indices, np.int64)  # a copy, whose numbers stay as checked whatever is written
    if count < 2 or (np.diff(rows) > 0).all():
        return rows, values
    order = np.argsort(rows, kind="stable").astype(np.int64, copy=False)
    rows = rows[order]
    starts = np.append(np.flatnonzero(np.append(True, np.diff(rows) != 0)), count).astype(np.int64, copy=False)
    rows = rows[starts[:len(starts) - 1]]
    sums = np.empty((len(rows), wanted[1]), values.dtype)
    args.out = PyArray_DATA(<ndarray>sums)
    args.values = PyArray_DATA(values)
    args.order = <const int64_t*>PyArray_DATA(<ndarray>order)
    args.starts = <const int64_t*>PyArray_DATA(<ndarray>starts)
    args.width = wanted[1]
    run(fastopt_kernels.sum_rows[element_type(values)], &args, len(rows), max(1, OPTIMIZER_GRAIN // max(1, wanted[1])))
    return rows, sums
