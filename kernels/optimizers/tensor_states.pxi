# States of few bits beside torch's parameters: of each a dict of tensors, "codes" and with 8 bits "exponents", and one of them
# all, "rounding", whose "numbers" are the key and the stream of the chances and the steps that have used them.

cdef struct small_states:
    int form                # FASTOPT_WHOLE where there are none
    uint8_t* exponents[3]
    int64_t exponent_count[3]
    int64_t* rounding


cdef inline int64_t blocks_of(const dl_tensor* x) noexcept:
    return (size_of(x) + FASTOPT_STATE_BLOCK - 1) // FASTOPT_STATE_BLOCK


cdef bint take_small_state(owner, small_states* small, dl_tensor* codes, Py_ssize_t k, str name, value, list keep) except -1:
    """Fill in the codes of state k and their exponents; False where they are no plain memory."""
    cdef dl_tensor exponents
    cdef int form
    if not isinstance(value, dict) or "codes" not in <dict>value:
        raise TypeError(f'state[{name!r}]: expected a dict with "codes", as state_dtype makes it, got {type(value).__name__}')
    form = FASTOPT_8BIT if "exponents" in <dict>value else FASTOPT_BFLOAT16
    if small.form not in (FASTOPT_WHOLE, form):
        raise TypeError(f"state[{name!r}]: expected codes of one state_dtype in all states of a parameter, got another")
    small.form = form
    if not reach((<dict>value)["codes"], codes, keep):
        return False
    if form == FASTOPT_8BIT:
        if not reach((<dict>value)["exponents"], &exponents, keep):
            return False
        if codes.ndim != 1 and exponents.ndim == codes.ndim or exponents.ndim == 1 and size_of(&exponents) != blocks_of(codes):
            owner._gather_exponents(name, value)  # of a state dict, which has one for each element
            keep.append(dict(value))
            if not reach((<dict>value)["codes"], codes, keep) or not reach((<dict>value)["exponents"], &exponents, keep):
                return False
        if exponents.device_type != DL_CPU or exponents.code != DL_UINT or exponents.bits != 8 or not c_contiguous(&exponents):
            raise TypeError(f"state[{name!r}]: expected exponents of uint8 in C order, got others")
        small.exponents[k] = <uint8_t*>exponents.data
        small.exponent_count[k] = size_of(&exponents)
    return True


cdef int take_rounding(small_states* small, value, list keep) except -1:
    cdef dl_tensor numbers
    if not isinstance(value, dict) or "numbers" not in <dict>value or not reach((<dict>value)["numbers"], &numbers, keep) \
            or numbers.device_type != DL_CPU or numbers.code != DL_INT or numbers.bits != 64 or size_of(&numbers) != 3 \
            or not c_contiguous(&numbers) or numbers.data == NULL:
        raise TypeError(f'state["rounding"]: expected {{"numbers": a tensor of three int64}}, got {value!r}')
    small.rounding = <int64_t*>numbers.data
    return 0


cdef bint small_state_fits(const small_states* small, Py_ssize_t k, const dl_tensor* codes, const dl_tensor* param) except -1:
    """Whether the codes of state k are in the order of a parameter in C order."""
    cdef int i
    if param.code == DL_BFLOAT:
        raise TypeError("params: expected float32 or float64 with state_dtype, got bfloat16, whose states are of few bits already")
    cdef bint fits = codes.device_type == DL_CPU and codes.ndim == param.ndim and c_contiguous(codes)
    if small.form == FASTOPT_8BIT:
        fits = fits and codes.code == DL_UINT and codes.bits == 8 \
            and small.exponent_count[k] == blocks_of(param)
    else:
        fits = fits and codes.code == DL_BFLOAT and codes.bits == 16
    if fits:
        for i in range(param.ndim):
            fits = fits and codes.shape[i] == param.shape[i]
    if not fits:
        raise TypeError("state: expected codes in C order and of the shape of their parameter, uint8 with an exponent for each 256 "
                        "or bfloat16, got others")
    return c_contiguous(param)
