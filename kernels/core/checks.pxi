# What is checked before a kernel is entered, and the errors that say what was expected, what came, and where.

cdef enum:
    MOST_DIMENSIONS = 64  # NumPy's

cdef object _memmap = np.memmap
from collections.abc import Iterator as _Iterator, MappingView as _MappingView, Sequence as _Sequence


cdef ndarray checked(object x, str name):
    """x itself, when it is a plain array of float32 or float64."""
    cdef ndarray a = checked_or_codes(x, name)
    if are_codes(a):
        raise TypeError(f"{name}: expected float32 or float64, got uint16; {name}.astype(np.float32) converts integers, "
                        f"({name}.astype(np.uint32) << 16).view(np.float32) codes of bfloat16")
    return a


cdef inline bint are_codes(ndarray a) noexcept:
    """Whether it holds bfloat16, as uint16."""
    return PyArray_TYPE(a) == NPY_UINT16 and not PyArray_ISBYTESWAPPED(a)


cdef ndarray widened(ndarray a):
    return np.asarray(a.astype(np.uint32) << np.uint32(16)).view(np.float32) if are_codes(a) else a


cdef ndarray checked_or_codes(object x, str name):
    """The same, or an array of codes of bfloat16."""
    if not PyArray_CheckExact(x) and type(x) is not _memmap:
        raise TypeError(_wrong_kind(x, name))
    cdef ndarray a = <ndarray>x
    if PyArray_ISBYTESWAPPED(a) or PyArray_TYPE(a) not in (NPY_FLOAT, NPY_DOUBLE, NPY_UINT16):
        raise TypeError(f"{name}: expected float32 or float64 in native byte order, got {_dtype(a)}; "
                        f"{name}.astype(np.{'float64' if PyArray_ITEMSIZE(a) == 8 else 'float32'}) converts it")
    return a


cdef ndarray checked_like(object x, str name, ndarray like, str like_name):
    """x itself, when it is an array of the dtype and shape of `like`."""
    cdef ndarray a = checked_or_codes(x, name)
    if PyArray_TYPE(a) != PyArray_TYPE(like):
        raise TypeError(f"{name}: expected {like.dtype} like {like_name}, got {a.dtype}; " + (
            "give all as numbers, or to a step of one array all as codes of bfloat16, x.view(np.uint16) of ml_dtypes.bfloat16"
            if are_codes(a) or are_codes(like) else f"{name}.astype(np.{like.dtype}) converts it"))
    if not same_shape(a, like):
        raise ValueError(f"{name}: expected shape {shape(like)} like {like_name}, got {shape(a)}")
    return a


cdef inline bint same_shape(ndarray a, ndarray b) noexcept:
    cdef int k
    if PyArray_NDIM(a) != PyArray_NDIM(b):
        return False
    for k in range(PyArray_NDIM(a)):
        if PyArray_DIMS(a)[k] != PyArray_DIMS(b)[k]:
            return False
    return True


cdef tuple shape(ndarray a):
    return (<object>a).shape


cdef tuple batch_shape(ndarray a):
    """The shape without the last dimension."""
    return shape(a)[:PyArray_NDIM(a) - 1]


cdef object _dtype(ndarray a):
    return repr((<object>a).dtype.str) if PyArray_ISBYTESWAPPED(a) else (<object>a).dtype


cdef str _wrong_kind(object x, str name):
    kind = type(x)
    module = (kind.__module__ or "").partition(".")[0]
    if module == "torch":
        mend = f"pass {name}.detach().numpy(), which shares its memory"
    elif isinstance(x, np.ma.MaskedArray):
        mend = f"pass {name}.filled(value)"
    elif isinstance(x, np.ndarray):
        mend = f"pass np.asarray({name})"
    elif module in ("pandas", "polars"):
        mend = f"pass {name}.to_numpy()"
    elif isinstance(x, (_Iterator, _MappingView)):
        mend = f"pass list({name})"
    elif name.startswith("params"):
        mend = "make an array of it first, and keep that"
    else:
        mend = f"pass np.asarray({name}, dtype=np.float32)"
    where = "" if kind.__module__ == "builtins" else kind.__module__ + "."
    return f"{name}: expected a numpy.ndarray, got {where}{kind.__qualname__}; {mend}"


cdef int writable(ndarray a, str name) except -1:
    if not PyArray_ISWRITEABLE(a):
        raise ValueError(f"{name}: expected a writeable array, got a read-only one; pass {name}.copy()")
    if not contiguous_order(a) and overlaps_itself(a):
        raise ValueError(f"{name}: expected an array whose elements are distinct in memory, got one with strides "
                         f"{(<object>a).strides} for shape {shape(a)}; pass {name}.copy()")
    return 0


cdef inline int contiguous_order(ndarray a) noexcept:
    """Bit 0: C-contiguous, bit 1: Fortran-contiguous; 0 when neither, or when not aligned for its type."""
    return contiguous_layout(PyArray_FLAGS(a))


cdef inline int contiguous_layout(int flags) noexcept:
    if not flags & NPY_ARRAY_ALIGNED:
        return 0
    return flags & (NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS)


cdef bint overlaps_itself(ndarray a):
    """Whether two elements may share memory: by strides alone, which is exact for every view that slicing makes."""
    cdef int64_t extent = PyArray_ITEMSIZE(a)
    if PyArray_SIZE(a) == 0:
        return False
    for stride, length in sorted((abs(s), n) for s, n in zip((<object>a).strides, shape(a)) if n > 1):
        if stride < extent:
            return True
        extent += stride * (length - 1)
    return False


cdef void bounds(ndarray a, uintptr_t* low, uintptr_t* high) noexcept:
    """The bytes [low, high) that hold the elements of a."""
    cdef int k
    cdef int64_t reach
    low[0] = <uintptr_t>PyArray_DATA(a)
    high[0] = low[0]
    if PyArray_SIZE(a) == 0:
        return
    high[0] += PyArray_ITEMSIZE(a)
    for k in range(PyArray_NDIM(a)):
        reach = PyArray_STRIDES(a)[k] * (PyArray_DIMS(a)[k] - 1)
        if reach > 0:
            high[0] += reach
        else:
            low[0] += reach


cdef enum:
    FEW_PIECES = 64


cdef struct memory_piece:
    uintptr_t low
    uintptr_t high
    bint written


cdef inline int by_address(const void* a, const void* b) noexcept nogil:
    cdef uintptr_t one = (<memory_piece*>a).low, other = (<memory_piece*>b).low
    return (one > other) - (one < other)


cdef bint pieces_meet(memory_piece* pieces, Py_ssize_t count) noexcept:
    """Whether one that is written has bytes of another; they are put in order. None is empty."""
    cdef Py_ssize_t k
    cdef uintptr_t any_high = 0, written_high = 0
    qsort(pieces, count, sizeof(memory_piece), by_address)
    for k in range(count):
        if pieces[k].low < (any_high if pieces[k].written else written_high):
            return True
        any_high = max(any_high, pieces[k].high)
        if pieces[k].written:
            written_high = max(written_high, pieces[k].high)
    return False


cdef inline Py_ssize_t take_piece(memory_piece* piece, ndarray a, bint written) noexcept:
    """The memory of an array; returned is 1, or 0 if it has none."""
    bounds(a, &piece.low, &piece.high)
    piece.written = written
    return piece.high > piece.low


cdef bint share_memory(ndarray a, ndarray b):
    cdef uintptr_t a_low, a_high, b_low, b_high
    bounds(a, &a_low, &a_high)
    bounds(b, &b_low, &b_high)
    if a_high <= b_low or b_high <= a_low:
        return False
    if PyArray_SIZE(a) == 0 or PyArray_SIZE(b) == 0:
        return False
    if contiguous_order(a) and contiguous_order(b):
        return True
    try:
        return np.shares_memory(a, b, max_work=100_000)
    except np.exceptions.TooHardError:
        return True


cdef bint same_memory(ndarray a, ndarray b) noexcept:
    """Whether a and b, of one shape and dtype, are the same elements at the same places."""
    cdef int k
    if PyArray_DATA(a) != PyArray_DATA(b):
        return False
    for k in range(PyArray_NDIM(a)):
        if PyArray_DIMS(a)[k] > 1 and PyArray_STRIDES(a)[k] != PyArray_STRIDES(b)[k]:
            return False
    return True


cdef int distinct(ndarray a, str a_name, ndarray b, str b_name, bint same_allowed=False) except -1:
    """Refuse two arrays that overlap, of which a is written; the very same array may be allowed."""
    if same_allowed and same_memory(a, b):
        return 0
    if share_memory(a, b):
        raise ValueError(f"{b_name}: expected memory apart from {a_name}, got arrays that overlap"
                         f"{' in part' if same_allowed else ''}; pass {b_name}.copy()")
    return 0


cdef int disjoint(list arrays, list names) except -1:
    """Refuse arrays that are to be written and of which one shares memory with another."""
    cdef uintptr_t low, high
    cdef Py_ssize_t k
    cdef list found = []
    for k in range(len(arrays)):
        writable(<ndarray>arrays[k], names[k])
        bounds(<ndarray>arrays[k], &low, &high)
        found.append((low, high, k))
    found.sort()
    reach = 0
    for position, (first, end, j) in enumerate(found):
        if first < reach:
            for _, _, i in found[:position]:
                if share_memory(<ndarray>arrays[i], <ndarray>arrays[j]):
                    raise ValueError(f"{names[j]}: expected memory of its own to be written, got an array that overlaps "
                                     f"{names[i]}; pass {names[j]}.copy()")
        reach = max(reach, end)
    return 0


cdef int apart(list outs, list out_names, list given, list names) except -1:
    """Refuse arrays that are to be written and of which one shares memory with another, or with one that is given."""
    cdef memory_piece few[FEW_PIECES]
    cdef Py_ssize_t j, k, count = 0
    if len(outs) + len(given) <= FEW_PIECES:  # for speed alone
        for k in range(len(outs)):
            writable(<ndarray>outs[k], out_names[k])
            count += take_piece(&few[count], <ndarray>outs[k], True)
        for k in range(len(given)):
            count += take_piece(&few[count], <ndarray>given[k], False)
        if not pieces_meet(few, count):
            return 0
    disjoint(outs, out_names)
    for k in range(len(outs)):
        for j in range(len(given)):
            distinct(<ndarray>outs[k], out_names[k], <ndarray>given[j], names[j])
    return 0


cdef ndarray output_for(object out, ndarray x, str x_name):
    """`out` when it can take a result like x, in place or apart; a new array when None."""
    cdef ndarray y
    if out is None:
        return PyArray_NewLikeArray(x, NPY_KEEPORDER, NULL, 0)
    y = checked_like(out, "out", x, x_name)
    writable(y, "out")
    distinct(y, "out", x, x_name, same_allowed=True)
    return y


cdef ndarray c_copy(ndarray a):
    return PyArray_NewCopy(a, NPY_CORDER)


cdef ndarray c_ordered(ndarray a):
    return a if contiguous_order(a) & NPY_ARRAY_C_CONTIGUOUS else c_copy(a)


cdef inline void copy_elements(ndarray out, ndarray values) noexcept nogil:
    fastopt_copy(PyArray_DATA(out), <const int64_t*>PyArray_STRIDES(out), PyArray_DATA(values),
                 <const int64_t*>PyArray_STRIDES(values), <const int64_t*>PyArray_DIMS(out), PyArray_NDIM(out),
                 PyArray_ITEMSIZE(out))


cdef ndarray copied_into(ndarray out, ndarray values):
    """`out`, with the values of an array of its shape and dtype. Cannot fail."""
    if PyArray_SIZE(out) < 1 << 14:  # over in microseconds: see run_jobs_of
        copy_elements(out, values)
    else:
        with nogil:
            copy_elements(out, values)
    return out


cdef inline void zero_elements(ndarray a) noexcept nogil:
    cdef double zero = 0
    cdef int64_t strides[MOST_DIMENSIONS]
    if PyArray_FLAGS(a) & (NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS):
        memset(PyArray_DATA(a), 0, PyArray_NBYTES(a))
    else:
        memset(strides, 0, sizeof(strides))
        fastopt_copy(PyArray_DATA(a), <const int64_t*>PyArray_STRIDES(a), &zero, strides,
                     <const int64_t*>PyArray_DIMS(a), PyArray_NDIM(a), PyArray_ITEMSIZE(a))


cdef void set_to_zero(ndarray a) noexcept:
    """a[...] = 0 for an array of floats. Cannot fail, which a.fill(0) can."""
    if PyArray_SIZE(a) < 1 << 14:  # over in microseconds: see run_jobs_of
        zero_elements(a)
    else:
        with nogil:
            zero_elements(a)


cdef inline object number_to_be():
    """A float whose value is filled in by set_number: what is returned is made before anything is written, so that
    nothing can fail after it."""
    return PyFloat_FromDouble(-1)


cdef inline void set_number(object number, double value) noexcept:
    (<PyFloatObject*>number).ob_fval = value


def check_array(x, str name):
    """Raise unless x is an array that the ops take."""
    checked(x, name)


def make_output(x, str x_name, out):
    """`out`, checked to take a result like x, or a new array when it is None."""
    return output_for(out, checked(x, x_name), x_name)
