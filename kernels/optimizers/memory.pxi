# The memory of states: allocated, placed, handed out as views.

cdef enum:
    PAGE = 4096


@cython.auto_pickle(False)
cdef class Zeros:
    """Memory that begins as zeros. Arrays over it are views: nobody can resize or free it while one is there."""

    cdef ndarray _bytes

    def __cinit__(self, int64_t size):
        self._bytes = np.zeros(size, np.uint8)


cdef ndarray array_over(object base, char* data, dtype, tuple dimensions, int order):
    """An array in the memory of `base`, contiguous in that order."""
    cdef npy_intp lengths[MOST_DIMENSIONS]
    cdef int k, count = len(dimensions)
    for k in range(count):
        lengths[k] = dimensions[k]
    cdef int flags = NPY_ARRAY_CARRAY if order & NPY_ARRAY_C_CONTIGUOUS else NPY_ARRAY_FARRAY
    cdef ndarray a = PyArray_New(ndarray, count, lengths, dtype.num, NULL, data, 0, flags, None)
    set_array_base(a, base)
    return a


cdef ndarray view_of(ndarray a, object base):
    """The elements of a in an array of its own, which changes of a's shape, strides, dtype or flags do not reach."""
    cdef ndarray view = PyArray_New(ndarray, PyArray_NDIM(a), PyArray_DIMS(a), PyArray_TYPE(a), PyArray_STRIDES(a),
                                    PyArray_DATA(a), 0, PyArray_FLAGS(a) & NPY_ARRAY_WRITEABLE, None)
    set_array_base(view, base)
    return view


cdef ndarray zeros(tuple dimensions, dtype, int order=NPY_ARRAY_C_CONTIGUOUS):
    cdef int64_t size = dtype.itemsize
    for length in dimensions:
        size *= length
    cdef Zeros memory = Zeros(size)
    return array_over(memory, <char*>PyArray_DATA(memory._bytes), dtype, dimensions, order)


cdef ndarray zeros_apart(ndarray param, dtype, int order, int apart):
    """Zeros in the shape of param, whose place in a page is `apart` bytes after that of param.

    A load that follows a store to the same place in another page waits for it: with arrays some 64 bytes apart, an Adam
    step in cache takes 0.43 ns an element, with 1,024 bytes 0.29 (Zen 4).
    """
    cdef int64_t size = PyArray_SIZE(param) * dtype.itemsize
    if size < 4 * PAGE:
        return zeros(shape(param), dtype, order)
    cdef Zeros memory = Zeros(size + PAGE)
    cdef uintptr_t place = (<uintptr_t>PyArray_DATA(param) // 64 * 64 + apart) % PAGE
    cdef uintptr_t start = (place - <uintptr_t>PyArray_DATA(memory._bytes)) % PAGE
    return array_over(memory, <char*>PyArray_DATA(memory._bytes) + start, dtype, shape(param), order)


# Lists are filled by append: where memory runs out in a comprehension, Cython 3.3 gives up its element twice.

cdef list handed_out(list arrays):
    """Views of arrays that are views themselves."""
    cdef list views = []
    for a in arrays:
        views.append(view_of(<ndarray>a, get_array_base(<ndarray>a)))
    return views


cdef list views_of(list arrays):
    """Views of the caller's arrays."""
    cdef list views = []
    for a in arrays:
        views.append(view_of(<ndarray>a, a))
    return views


cdef list c_copies(list arrays):
    cdef list copies = []
    for a in arrays:
        copies.append(c_copy(<ndarray>a))
    return copies


cdef ndarray ordered_copy(ndarray a, int order):
    return PyArray_NewCopy(a, NPY_CORDER if order & NPY_ARRAY_C_CONTIGUOUS else NPY_FORTRANORDER)
