# Tensors of PyTorch, whose memory is used in place. Nothing is compiled against PyTorch: from 2.10 on it lends a table of C
# functions (DLPackExchangeAPI of DLPack 1.3), which takes 42 ns for what the methods of a tensor take 300.

cdef enum:
    DL_CPU = 1
    DL_INT = 0
    DL_UINT = 1
    DL_FLOAT = 2
    DL_BFLOAT = 4

cdef struct dl_tensor:  # DLTensor
    void* data
    int32_t device_type
    int32_t device
    int32_t ndim
    uint8_t code
    uint8_t bits
    uint16_t lanes
    int64_t* shape
    int64_t* strides        # in elements; NULL when C-contiguous
    uint64_t byte_offset

cdef struct dl_exchange:  # DLPackExchangeAPI
    uint32_t major
    uint32_t minor
    dl_exchange* older
    void* allocate
    void* managed_from_object
    void* managed_to_object
    int (*view_of_object)(void*, dl_tensor*) noexcept  # 0, or an error is set
    void* current_stream

cdef dl_exchange* _exchange = NULL
cdef object _described = None  # the other way: a tensor -> (address, device type, code, bits, an int64 array of shape and strides)


def reach_tensors(table, described):
    """Set how tensors are reached: by the capsule of a type's __dlpack_c_exchange_api__, by a function when it is None."""
    global _exchange, _described
    cdef dl_exchange* found = NULL
    if table is not None:
        found = <dl_exchange*>PyCapsule_GetPointer(table, "dlpack_exchange_api")
        while found != NULL and found.major != 1:
            found = found.older
    _exchange, _described = found, described


cdef bint reach(object tensor, dl_tensor* out, list keep) except -1:
    """Describe a tensor; False for one that has no plain memory, such as a sparse one. `keep` takes what the description lives
    in, if anything."""
    cdef ndarray sizes
    if _exchange != NULL:
        if _exchange.view_of_object(<void*>tensor, out) != 0:
            PyErr_Clear()
            return False
        out.data = <char*>out.data + out.byte_offset
        return True
    address, out.device_type, out.code, out.bits, sizes = _described(tensor)
    keep.append(sizes)
    out.data = <void*><uintptr_t>address
    out.ndim = <int32_t>(PyArray_SIZE(sizes) // 2)
    out.shape = <int64_t*>PyArray_DATA(sizes)
    out.strides = out.shape + out.ndim
    out.lanes = 1
    out.byte_offset = 0
    return True


cdef int64_t size_of(const dl_tensor* x) noexcept:
    cdef int64_t size = 1
    cdef int k
    for k in range(x.ndim):
        size *= x.shape[k]
    return size


cdef bint c_contiguous(const dl_tensor* x) noexcept:
    cdef int64_t step = 1
    cdef int k
    if x.strides == NULL or size_of(x) == 0:
        return True
    for k in range(x.ndim - 1, -1, -1):
        if x.shape[k] != 1 and x.strides[k] != step:
            return False
        step *= x.shape[k]
    return True


cdef bint dense(const dl_tensor* x) noexcept:
    """Whether the elements fill a piece of memory, in whatever order of the dimensions."""
    cdef int64_t step = 1, size = size_of(x)
    cdef int k
    if c_contiguous(x):
        return True
    while step < size:
        for k in range(x.ndim):
            if x.shape[k] != 1 and x.strides[k] == step:
                step *= x.shape[k]
                break
        else:
            return False
    return True


cdef bint same_type(const dl_tensor* a, const dl_tensor* b) noexcept:
    return a.code == b.code and a.bits == b.bits


cdef bint same_layout(const dl_tensor* a, const dl_tensor* b) noexcept:
    """Whether two tensors are of one shape, in memory of the processor, with their elements in one order."""
    cdef int k
    if a.device_type != DL_CPU or b.device_type != DL_CPU or a.ndim != b.ndim:
        return False
    for k in range(a.ndim):
        if a.shape[k] != b.shape[k]:
            return False
    if a.strides == NULL or b.strides == NULL:
        return c_contiguous(a) and c_contiguous(b)
    for k in range(a.ndim):
        if a.shape[k] != 1 and a.strides[k] != b.strides[k]:
            return False
    return True


cdef bint kernels_take(const dl_tensor* x) noexcept:
    cdef bint known = x.bits == 16 if x.code == DL_BFLOAT else x.code == DL_FLOAT and (x.bits == 32 or x.bits == 64)
    return x.device_type == DL_CPU and known and dense(x)


cdef ndarray flat_view(const dl_tensor* x):
    """The elements of a dense tensor in the order of memory, for as long as the tensor is held; of bfloat16 the codes."""
    cdef npy_intp size = size_of(x)
    cdef int kind = NPY_UINT16 if x.bits == 16 else NPY_FLOAT if x.bits == 32 else NPY_DOUBLE
    return PyArray_New(ndarray, 1, &size, kind, NULL, x.data, 0, NPY_ARRAY_CARRAY, None)
